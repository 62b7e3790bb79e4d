//! Every verb beside the design that the registry replaces, in one run: read the pairs, not the times.
//!
//! A time is that of one call, or one pair of calls, on each of the threads.
#![allow(missing_docs)]

mod common;

use std::hint::black_box;
use std::time::Duration;

use common::peer::Locked;
use common::{Wire, conn_id, scattered, server_id, together, wire};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use switchboard::{Claim, Membership, Registry};

const THREADS: [usize; 2] = [1, 2];

fn bench(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    threads: usize,
    run: impl Fn(u64) -> Duration,
) {
    group.bench_function(format!("{name}/{threads} threads"), |bencher| {
        bencher.iter_custom(&run);
    });
}

struct Filled {
    ids: Vec<String>,
    ours: Registry<Wire>,
    locked: Locked,
    claims: Vec<Claim<Wire>>,
    members: Vec<Membership<Wire>>,
}

fn filled(servers: usize, phones: usize) -> Filled {
    let ids: Vec<_> = (0..servers).map(server_id).collect();
    let (ours, locked) = (Registry::new(), Locked::default());
    let (mut claims, mut members) = (Vec::new(), Vec::new());
    for id in &ids {
        claims.push(ours.claim_server(id, wire("b")).unwrap());
        locked.claim(id, wire("b"));
        for phone in 0..phones {
            members.push(ours.register_phone(id, wire(conn_id(phone))).unwrap());
            locked.register(id, wire(conn_id(phone)));
        }
    }
    Filled {
        ids,
        ours,
        locked,
        claims,
        members,
    }
}

fn lookups(c: &mut Criterion) {
    for servers in [1, 10_000] {
        let filled = filled(servers, 1);
        let Filled {
            ids, ours, locked, ..
        } = &filled;
        let id = |n| &ids[scattered(n, servers)];
        let mut group = c.benchmark_group(format!("binary_for, {servers} server-ids"));
        for threads in THREADS {
            bench(&mut group, "switchboard", threads, |iters| {
                together(
                    threads,
                    iters,
                    |_| (),
                    |(), n| drop(black_box(ours.binary_for(id(n)))),
                )
            });
            bench(&mut group, "RwLock", threads, |iters| {
                together(
                    threads,
                    iters,
                    |_| (),
                    |(), n| drop(black_box(locked.binary_for(id(n)))),
                )
            });
        }
        group.finish();
    }
}

/// The same index, grown claim by claim and built with the room, long after the last claim.
fn lookups_in_a_quiet_hour(c: &mut Criterion) {
    let mut group = c.benchmark_group("binary_for, quiet hour");
    // Where the index has just begun to double: claims that did not finish that would leave it half done.
    for servers in [1_000, 16_000] {
        let ids: Vec<_> = (0..servers).map(server_id).collect();
        let grown: Registry<Wire> = Registry::new();
        let roomy: Registry<Wire> = Registry::builder().capacity(servers).build();
        for (name, registry) in [("grown", grown), ("with capacity", roomy)] {
            let claims: Vec<_> = ids
                .iter()
                .map(|id| registry.claim_server(id, wire("b")).unwrap())
                .collect();
            bench(
                &mut group,
                &format!("{name}, {servers} server-ids"),
                1,
                |iters| {
                    let id = |n| &ids[scattered(n, servers)];
                    together(
                        1,
                        iters,
                        |_| (),
                        |(), n| drop(black_box(registry.binary_for(id(n)))),
                    )
                },
            );
            drop(claims);
        }
    }
    group.finish();
}

fn by_handle(c: &mut Criterion) {
    let filled = filled(1, 16);
    let (id, membership, claim) = (&filled.ids[0], &filled.members[7], &filled.claims[0]);
    let mut group = c.benchmark_group("by handle, 16 phones");
    for threads in THREADS {
        bench(&mut group, "Membership::binary", threads, |iters| {
            together(
                threads,
                iters,
                |_| (),
                |(), _| drop(black_box(membership.binary())),
            )
        });
        bench(&mut group, "Claim::phone", threads, |iters| {
            let name = membership.conn_id();
            together(
                threads,
                iters,
                |_| (),
                |(), _| drop(black_box(claim.phone(name))),
            )
        });
        bench(&mut group, "RwLock lookup", threads, |iters| {
            together(
                threads,
                iters,
                |_| (),
                |(), _| drop(black_box(filled.locked.binary_for(id))),
            )
        });
    }
    group.finish();
}

fn snapshots(c: &mut Criterion) {
    for phones in [1, 16, 1_000] {
        let filled = filled(1, phones);
        let id = &filled.ids[0];
        let mut group = c.benchmark_group(format!("phones_for, {phones} phones"));
        for threads in THREADS {
            bench(&mut group, "switchboard", threads, |iters| {
                together(
                    threads,
                    iters,
                    |_| (),
                    |(), _| drop(black_box(filled.ours.phones_for(id))),
                )
            });
            bench(&mut group, "RwLock", threads, |iters| {
                together(
                    threads,
                    iters,
                    |_| (),
                    |(), _| drop(black_box(filled.locked.phones_for(id))),
                )
            });
        }
        group.finish();
    }
}

fn phones_come_and_go(c: &mut Criterion) {
    for phones in [1, 16, 1_000, 100_000] {
        let servers = std::env::var("SERVERS")
            .map_or(if phones > 1_000 { 1 } else { 100 }, |s| s.parse().unwrap());
        let filled = filled(servers, phones);
        let Filled {
            ids, ours, locked, ..
        } = &filled;
        let id = |n| &ids[scattered(n, servers)];
        let mut group = c.benchmark_group(format!("register + unregister, {phones} phones"));
        for threads in THREADS {
            bench(&mut group, "switchboard", threads, |iters| {
                together(
                    threads,
                    iters,
                    |thread| wire(conn_id(1_000_000 + thread)),
                    |conn, n| drop(ours.register_phone(id(n), conn.clone()).unwrap()),
                )
            });
            bench(&mut group, "RwLock", threads, |iters| {
                together(
                    threads,
                    iters,
                    |thread| wire(conn_id(1_000_000 + thread)),
                    |conn, n| {
                        locked.register(id(n), conn.clone());
                        locked.unregister(id(n), &conn.0);
                    },
                )
            });
        }
        group.finish();
    }
}

fn binaries_come_and_go(c: &mut Criterion) {
    let filled = filled(10_000, 0);
    let Filled { ours, locked, .. } = &filled;
    let fresh = |thread: usize| {
        let ids: Vec<_> = (0..1_000)
            .map(|n| server_id(1_000_000 + thread * 1_000 + n))
            .collect();
        (ids, wire("b"))
    };
    let mut group = c.benchmark_group("claim + release of a fresh server-id");
    for threads in THREADS {
        bench(&mut group, "switchboard", threads, |iters| {
            together(threads, iters, fresh, |(ids, conn), n| {
                drop(
                    ours.claim_server(&ids[scattered(n, 1_000)], conn.clone())
                        .unwrap(),
                );
            })
        });
        bench(&mut group, "RwLock", threads, |iters| {
            together(threads, iters, fresh, |(ids, conn), n| {
                let id = &ids[scattered(n, 1_000)];
                locked.claim(id, conn.clone());
                locked.release(id);
            })
        });
    }
    group.finish();
}

fn counts(c: &mut Criterion) {
    let filled = filled(10_000, 1);
    let mut group = c.benchmark_group("counts, 10,000 server-ids");
    bench(&mut group, "switchboard", 1, |iters| {
        together(
            1,
            iters,
            |_| (),
            |(), _| {
                black_box(filled.ours.counts());
            },
        )
    });
    bench(&mut group, "RwLock", 1, |iters| {
        together(
            1,
            iters,
            |_| (),
            |(), _| {
                black_box(filled.locked.counts());
            },
        )
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20);
    targets = lookups, lookups_in_a_quiet_hour, by_handle, snapshots, phones_come_and_go,
        binaries_come_and_go, counts
}
criterion_main!(benches);
