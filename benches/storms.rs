//! Bulk operations: enumerations, mass disconnects, graces that end together, and mass reconnects.
#![allow(missing_docs)]

mod common;

use std::hint::black_box;
use std::time::{Duration, Instant};

use common::criteria::{Group, config};
use common::peers::{Peer, Records, Switchboard, each_peer};
use common::threads::{together, while_disturbed};
use common::{Filled, conn_id, server_id, shuffle, visitor, wire};
use criterion::{Criterion, criterion_group, criterion_main};

fn enumerations(c: &mut Criterion) {
    fn peer<P: Peer>(group: &mut Group<'_>, churn: bool, call: impl Fn(&P) + Sync) {
        let Some(filled) = group.fill::<P>(10_000, 1) else {
            return;
        };
        group.bench::<P>(if churn { 2 } else { 1 }, |iters| {
            let (filled, conn) = (&filled, visitor(0));
            let alone = || together(1, iters, |_| (), |(), _| call(&filled.peer));
            if churn {
                while_disturbed(|n| filled.churn(n, &conn), alone)
            } else {
                alone()
            }
        });
    }

    fn counts<P: Peer>(group: &mut Group<'_>, churn: bool) {
        peer::<P>(group, churn, |peer| {
            black_box(peer.counts());
        });
    }

    fn servers<P: Peer>(group: &mut Group<'_>, churn: bool) {
        peer::<P>(group, churn, |peer| {
            black_box(peer.servers());
        });
    }

    for (beside, churn) in [("", false), (" beside churn", true)] {
        let mut group = Group::new(c, format!("counts{beside}, 10000 server-ids"));
        each_peer!(counts(&mut group, churn));
        group.finish();
        let mut group = Group::new(c, format!("servers{beside}, 10000 server-ids"));
        each_peer!(servers(&mut group, churn));
        group.finish();
    }
}

/// The time of `storm` on the value that `calm` creates. The value is dropped after the clock has stopped.
fn repeatedly<T>(iters: u64, calm: impl Fn() -> T, storm: impl Fn(&T)) -> Duration {
    let storms = (0..iters).map(|_| {
        let calm = calm();
        let start = Instant::now();
        storm(&calm);
        start.elapsed()
    });
    storms.sum()
}

/// Evicts a server-id and drops its phones, of which no other references exist.
///
/// The phones register in another order than their connections were created in. Otherwise a peer with one
/// `Vec` would free memory from front to back, which no relay does that has run for a while.
fn mass_disconnect(c: &mut Criterion) {
    fn peer<P: Peer>(group: &mut Group<'_>) {
        group.bench::<P>(1, |iters| {
            let calm = || {
                let filled = Filled::<P>::new(1, 0);
                let mut conns: Vec<_> = (0..100_000).map(|phone| wire(conn_id(phone))).collect();
                shuffle(&mut conns);
                filled.peer.register_all(filled.id(0), conns);
                filled
            };
            repeatedly(iters, calm, |filled| {
                drop(filled.peer.evict(filled.id(0)));
            })
        });
    }
    let mut group = Group::new(c, "mass disconnect, 100000 phones").few();
    each_peer!(peer(&mut group));
    group.finish();
}

/// An operation that only switchboard has: the grace of every server-id ends.
fn expiry(c: &mut Criterion) {
    let mut group = Group::new(c, "expire, 100000 graces").few();
    group.bench::<Switchboard>(1, |iters| {
        let calm = || {
            let peer = Switchboard::default();
            for id in (0..100_000).map(server_id) {
                let claim = peer.0.claim_server(&id, wire("b")).unwrap();
                claim.release_after(Duration::from_secs(1));
            }
            (peer, Instant::now() + Duration::from_secs(2))
        };
        repeatedly(iters, calm, |(peer, later)| drop(peer.0.expire(*later)))
    });
    group.finish();
}

/// Two threads register all phones under one server-id.
fn reconnect(c: &mut Criterion) {
    fn peer<P: Peer>(group: &mut Group<'_>, phones: usize) {
        // `Records` copies the list for each phone, which would take minutes.
        if phones > 10_000 && P::NAME == Records::NAME {
            return;
        }
        group.bench::<P>(2, |iters| {
            let storms = (0..iters).map(|_| {
                let filled = Filled::<P>::new(1, 0);
                let half = phones / 2;
                let own = |thread| (half * thread..).map(|phone| wire(conn_id(phone)));
                let own = |thread| own(thread).take(half).collect::<Vec<_>>();
                together(2, half as u64, own, |own, _| {
                    let conn = own.pop().expect("one connection per round");
                    assert!(filled.peer.register(filled.id(0), conn));
                })
            });
            storms.sum()
        });
    }
    for phones in [10_000, 100_000] {
        let mut group = Group::new(c, format!("reconnect storm, {phones} phones")).few();
        each_peer!(peer(&mut group, phones));
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = config();
    targets = enumerations, mass_disconnect, expiry, reconnect
}
criterion_main!(benches);
