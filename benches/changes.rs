//! Phones and binaries that come and go, alone and among lookups.
//!
//! A time is that of one pair of calls, or one refused call, on each of the threads.
#![allow(missing_docs)]

mod common;

use std::hint::black_box;
use std::time::Duration;

use common::criteria::{Group, config};
use common::peers::{Peer, Switchboard, each_peer};
use common::threads::{counts, together};
use common::{Wire, scattered, server_id, visitor, wire};
use criterion::{Criterion, criterion_group, criterion_main};
use switchboard::{Claim, Registry};

fn phones(c: &mut Criterion) {
    fn peer<P: Peer>(group: &mut Group<'_>, servers: usize, phones: usize) {
        let Some(filled) = group.fill::<P>(servers, phones) else {
            return;
        };
        for threads in counts() {
            group.bench::<P>(threads, |iters| {
                let filled = &filled;
                together(threads, iters, visitor, |conn, n| {
                    filled.peer.visit(filled.id(n), conn);
                })
            });
        }
    }
    for phones in [1, 16, 1_000, 100_000] {
        let servers = if phones > 1_000 { 1 } else { 100 };
        let mut group = Group::new(c, format!("register + unregister, {phones} phones"));
        each_peer!(peer(&mut group, servers, phones));
        group.finish();
    }
}

/// The server-ids of one thread, which nobody else touches.
fn own_ids(thread: usize) -> Vec<String> {
    let first = 1_000_000 + thread * 1_000;
    (first..first + 1_000).map(server_id).collect()
}

fn binaries(c: &mut Criterion) {
    fn peer<P: Peer>(group: &mut Group<'_>) {
        let Some(filled) = group.fill::<P>(10_000, 0) else {
            return;
        };
        for threads in counts() {
            group.bench::<P>(threads, |iters| {
                let peer = &filled.peer;
                let own = |thread| (own_ids(thread), wire("b"));
                together(threads, iters, own, |(ids, conn), n| {
                    peer.stay(&ids[scattered(n, ids.len())], conn);
                })
            });
        }
    }

    fn refused<P: Peer>(group: &mut Group<'_>) {
        let Some(filled) = group.fill::<P>(10_000, 0) else {
            return;
        };
        for threads in [1, 2] {
            group.bench::<P>(threads, |iters| {
                let filled = &filled;
                together(threads, iters, visitor, |conn, n| {
                    black_box(filled.peer.claim(filled.id(n), conn.clone()));
                })
            });
        }
    }

    let mut group = Group::new(c, "claim + release, beside 10000 server-ids");
    each_peer!(peer(&mut group));
    group.finish();
    let mut group = Group::new(c, "claim refused, 10000 server-ids");
    each_peer!(refused(&mut group));
    group.finish();
}

/// What only switchboard has: each thread keeps passing its own server-ids from one claim to the next.
fn successions(c: &mut Criterion) {
    type Next = fn(&Registry<Wire>, &str, Claim<Wire>) -> Claim<Wire>;

    fn ours(c: &mut Criterion, name: &str, next: Next) {
        let mut group = Group::new(c, format!("{name}, beside 10000 server-ids"));
        let Some(filled) = group.fill::<Switchboard>(10_000, 0) else {
            return;
        };
        for threads in [1, 2] {
            group.bench::<Switchboard>(threads, |iters| {
                let registry = &filled.peer.0;
                let own = |thread| {
                    own_ids(thread).into_iter().map(|id| {
                        let claim = registry.claim_server(&id, wire("b")).unwrap();
                        (id, Some(claim))
                    })
                };
                let own = |thread| own(thread).collect::<Vec<_>>();
                together(threads, iters, own, |own, n| {
                    let at = scattered(n, own.len());
                    let (id, claim) = &mut own[at];
                    *claim = claim.take().map(|claim| next(registry, id, claim));
                })
            });
        }
        group.finish();
    }

    ours(c, "release_after + reclaim", |registry, id, claim| {
        let conn = claim.conn().clone();
        claim.release_after(Duration::from_secs(3_600));
        registry.claim_server(id, conn).unwrap()
    });
    ours(c, "conflict + take_over", |registry, id, claim| {
        let conn = claim.conn().clone();
        let conflict = registry.claim_server(id, conn).unwrap_err();
        conflict.take_over().unwrap()
    });
}

/// Two lookups and two changes a round.
fn mix(c: &mut Criterion) {
    fn peer<P: Peer>(group: &mut Group<'_>) {
        let Some(filled) = group.fill::<P>(100, 16) else {
            return;
        };
        group.bench::<P>(2, |iters| {
            let filled = &filled;
            together(2, iters, visitor, |conn, n| {
                drop(black_box(filled.peer.binary_for(filled.id(n))));
                drop(black_box(filled.peer.phones_for(filled.id(!n))));
                filled.peer.visit(filled.id(n), conn);
            })
        });
    }
    let mut group = Group::new(c, "half lookups half changes, 16 phones");
    each_peer!(peer(&mut group));
    group.finish();
}

criterion_group! {
    name = benches;
    config = config();
    targets = phones, binaries, successions, mix
}
criterion_main!(benches);
