//! Phones and binaries that come and go, alone and among lookups.
//!
//! A time is that of one pair of calls, or of one refused call, on each thread.
#![allow(missing_docs)]

mod common;

use std::hint::black_box;
use std::time::Duration;

use common::criteria::{Group, config};
use common::peers::{Peer, Switchboard, each_peer};
use common::threads::{counts, together};
use common::{Wire, conn_id, scattered, server_id, visitor, wire};
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
    for (servers, phones) in [
        (100, 1),
        (1, 16),
        (100, 16),
        (10_000, 16),
        (100, 1_000),
        (1, 100_000),
    ] {
        let name = format!("register + unregister, {phones} phones, {servers} server-ids");
        let mut group = Group::new(c, name);
        each_peer!(peer(&mut group, servers, phones));
        group.finish();
    }
}

/// An arbitrary phone, not the most recent one, leaves and returns.
fn old_phones(c: &mut Criterion) {
    fn peer<P: Peer>(group: &mut Group<'_>, servers: usize, phones: usize) {
        let Some(filled) = group.fill::<P>(servers, phones) else {
            return;
        };
        let conns: Vec<_> = (0..phones).map(|phone| wire(conn_id(phone))).collect();
        for threads in [1, 2] {
            group.bench::<P>(threads, |iters| {
                let (filled, conns) = (&filled, &conns);
                let own = |thread| thread;
                // No two threads change the same phone.
                together(threads, iters, own, |thread, n| {
                    let at = scattered(!n, phones / threads) * threads + *thread;
                    let (id, conn) = (filled.id(n), &conns[at]);
                    filled.peer.unregister(id, &conn.0);
                    filled.peer.register(id, conn.clone());
                })
            });
        }
    }
    for (servers, phones) in [(100, 16), (1, 100_000)] {
        let name =
            format!("unregister + register an old phone, {phones} phones, {servers} server-ids");
        let mut group = Group::new(c, name);
        each_peer!(peer(&mut group, servers, phones));
        group.finish();
    }
}

/// The server-ids of one thread; no other thread uses them.
fn own_ids(thread: usize, len: usize) -> Vec<String> {
    let first = (thread + 1) * 10_000_000;
    (first..first + len).map(server_id).collect()
}

/// So many that the registry has removed an id's slot long before the id returns.
const FRESH: usize = 50_000;
/// So few that the slot is still in the index.
const RETURNING: usize = 100;

fn binaries(c: &mut Criterion) {
    fn peer<P: Peer>(group: &mut Group<'_>, of: usize) {
        let Some(filled) = group.fill::<P>(10_000, 0) else {
            return;
        };
        for threads in counts() {
            // Created outside the threads, which would otherwise drop them while others still measure.
            let ids: Vec<_> = (0..threads).map(|thread| own_ids(thread, of)).collect();
            group.bench::<P>(threads, |iters| {
                let (peer, ids) = (&filled.peer, &ids);
                let own = |thread| (&ids[thread], 0, wire("b"));
                together(threads, iters, own, |(ids, next, conn), _| {
                    peer.stay(&ids[*next], conn);
                    *next = (*next + 1) % of;
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

    for (of, which) in [(FRESH, "fresh"), (RETURNING, "returning")] {
        let name = format!("claim + release, {which} beside 10000 server-ids");
        let mut group = Group::new(c, name);
        each_peer!(peer(&mut group, of));
        group.finish();
    }
    let mut group = Group::new(c, "claim refused, 10000 server-ids");
    each_peer!(refused(&mut group));
    group.finish();
}

/// Operations that only switchboard has: each thread passes its own server-ids from one claim to the next.
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
                    own_ids(thread, 1_000).into_iter().map(|id| {
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

/// Two lookups and two changes per round.
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
    targets = phones, old_phones, binaries, successions, mix
}
criterion_main!(benches);
