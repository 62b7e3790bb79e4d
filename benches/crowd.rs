//! One thread after many: the peak number of threads that were alive at once makes writes slower, and must
//! not make lookups slower.
//!
//! A place that arc-swap keeps for a thread stays until the process ends. So the crowds only grow here, and
//! no other target runs in this process.
#![allow(missing_docs)]

mod common;

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;

use common::criteria::{Group, config};
use common::peers::{Locked, ParkingLot, Peer, Switchboard};
use common::threads::together;
use common::{Filled, visitor};
use criterion::{Criterion, criterion_group, criterion_main};

/// So many threads make a lookup each and are alive at once. They have ended when this returns.
fn gather<P: Peer>(filled: &Filled<P>, threads: usize) {
    let barrier = Barrier::new(threads);
    thread::scope(|scope| {
        let member = |n| {
            let barrier = &barrier;
            scope.spawn(move || {
                drop(black_box(filled.peer.binary_for(filled.id(n))));
                barrier.wait();
            })
        };
        let members: Vec<_> = (0..threads as u64).map(member).collect();
        // The scope alone would not wait for the destructors of thread-locals, which give the places back.
        for member in members {
            member.join().unwrap();
        }
    });
}

fn crowds(c: &mut Criterion) {
    fn lookup<P: Peer>(group: &mut Group<'_>, filled: &Filled<P>) {
        group.bench::<P>(1, |iters| {
            let look_up = |(): &mut (), n| drop(black_box(filled.peer.binary_for(filled.id(n))));
            together(1, iters, |_| (), look_up)
        });
    }

    fn pair<P: Peer>(group: &mut Group<'_>, filled: &Filled<P>) {
        group.bench::<P>(1, |iters| {
            together(1, iters, visitor, |conn, n| {
                filled.peer.visit(filled.id(n), conn);
            })
        });
    }

    let ours = Filled::<Switchboard>::new(100, 16);
    let lock = Filled::<Locked<ParkingLot>>::new(100, 16);
    for threads in [1, 8, 64, 256, 512] {
        gather(&ours, threads);
        gather(&lock, threads);
        let mut group = Group::new(c, format!("register + unregister, after {threads} threads"));
        pair(&mut group, &ours);
        pair(&mut group, &lock);
        group.finish();
        let mut group = Group::new(c, format!("binary_for, after {threads} threads"));
        lookup(&mut group, &ours);
        lookup(&mut group, &lock);
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = config();
    targets = crowds
}
criterion_main!(benches);
