//! The lookups that a relay makes for every frame: the binary that holds a server-id, and its phones.
//!
//! A time is that of one call on each thread. It includes fetching the name from memory, which is the same
//! for every peer.
#![allow(missing_docs)]

mod common;

use std::hint::black_box;

use common::criteria::{Group, config};
use common::handles::{Guarded, Handles};
use common::peers::papaya::Borrowed;
use common::peers::{Peer, Switchboard, each_peer};
use common::threads::{counts, together, while_disturbed};
use common::{Wire, conn_id, scattered, server_id, visitor, wire};
use criterion::{Criterion, criterion_group, criterion_main};
use switchboard::Registry;

fn by_server_id(c: &mut Criterion) {
    fn peer<P: Peer>(group: &mut Group<'_>, servers: usize) {
        let Some(filled) = group.fill::<P>(servers, 1) else {
            return;
        };
        for threads in counts() {
            group.bench::<P>(threads, |iters| {
                let filled = &filled;
                let look_up =
                    |(): &mut (), n| drop(black_box(filled.peer.binary_for(filled.id(n))));
                together(threads, iters, |_| (), look_up)
            });
        }
    }
    for servers in [1, 100, 10_000, 1_000_000] {
        let mut group = Group::new(c, format!("binary_for, {servers} server-ids"));
        each_peer!(peer(&mut group, servers));
        group.finish();
    }
}

fn unknown(c: &mut Criterion) {
    fn peer<P: Peer>(group: &mut Group<'_>, names: &[String]) {
        let Some(filled) = group.fill::<P>(10_000, 1) else {
            return;
        };
        for threads in counts() {
            group.bench::<P>(threads, |iters| {
                let peer = &filled.peer;
                let name = |n| &names[scattered(n, names.len())];
                let look_up = |(): &mut (), n| drop(black_box(peer.binary_for(name(n))));
                together(threads, iters, |_| (), look_up)
            });
        }
    }
    let names: Vec<_> = (1_000_000..1_010_000).map(server_id).collect();
    let mut group = Group::new(c, "binary_for, unknown beside 10000 server-ids");
    each_peer!(peer(&mut group, &names));
    group.finish();
}

/// papaya alone: the fastest lookup that a design with one atomic pointer per key allows, if the result may
/// not outlive the guard.
fn borrowed(c: &mut Criterion) {
    for servers in [1, 10_000] {
        let ids: Vec<_> = (0..servers).map(server_id).collect();
        let map = Borrowed::default();
        for id in &ids {
            map.claim(id, wire("b"));
        }
        let mut group = Group::new(c, format!("borrowed, {servers} server-ids"));
        for threads in counts() {
            group.bench_named("papaya", threads, |iters| {
                let look_up = |(): &mut (), n| {
                    let id = &ids[scattered(n, servers)];
                    map.with_binary(id, |binary| {
                        black_box(binary);
                    });
                };
                together(threads, iters, |_| (), look_up)
            });
        }
        group.finish();
    }
}

/// The same index, grown claim by claim or built with capacity, long after the last claim.
fn quiet_hour(c: &mut Criterion) {
    // At these sizes the index has just begun to double. Unless claims finish the resize, it would stay half
    // done.
    for servers in [1_000, 16_000] {
        let ids: Vec<_> = (0..servers).map(server_id).collect();
        let grown: Registry<Wire> = Registry::new();
        let roomy: Registry<Wire> = Registry::builder().capacity(servers).build();
        let mut group = Group::new(c, format!("binary_for, quiet hour, {servers} server-ids"));
        for (name, registry) in [("grown", grown), ("with capacity", roomy)] {
            for id in &ids {
                registry.claim_server(id, wire("b")).unwrap().detach();
            }
            group.bench_named(name, 1, |iters| {
                let id = |n| &ids[scattered(n, servers)];
                let look_up = |(): &mut (), n| drop(black_box(registry.binary_for(id(n))));
                together(1, iters, |_| (), look_up)
            });
        }
        group.finish();
    }
}

const BY_HANDLE: usize = 16;

/// Each lookup through a handle of ours, compared with the equivalent lookup by key of the other peers. Each
/// is a group below, and a case of the report's theme `handles`.
fn by_handle(c: &mut Criterion) {
    fn ours(group: &mut Group<'_>, call: impl Fn(&mut Handles) + Sync) {
        let guarded = Guarded::new(BY_HANDLE);
        for threads in [1, 2] {
            group.bench::<Switchboard>(threads, |iters| {
                let handles = |thread| guarded.handles(thread);
                together(threads, iters, handles, |handles, _| call(handles))
            });
        }
    }

    fn theirs<P: Peer>(group: &mut Group<'_>, call: impl Fn(&P, &str, &str) + Sync) {
        if P::NAME == Switchboard::NAME {
            return;
        }
        let Some(filled) = group.fill::<P>(1, BY_HANDLE) else {
            return;
        };
        let name = conn_id(BY_HANDLE / 2);
        for threads in [1, 2] {
            group.bench::<P>(threads, |iters| {
                let (peer, id) = (&filled.peer, filled.id(0));
                together(threads, iters, |_| (), |(), _| call(peer, id, &name))
            });
        }
    }

    fn binary<P: Peer>(group: &mut Group<'_>) {
        theirs::<P>(group, |peer, id, _| drop(black_box(peer.binary_for(id))));
    }

    fn phone<P: Peer>(group: &mut Group<'_>) {
        theirs::<P>(group, |peer, id, name| {
            drop(black_box(peer.phone_for(id, name)));
        });
    }

    fn phones<P: Peer>(group: &mut Group<'_>) {
        theirs::<P>(group, |peer, id, _| drop(black_box(peer.phones_for(id))));
    }

    let mut group = Group::new(c, "an empty round");
    group.bench_named("loop", 1, |iters| {
        together(
            1,
            iters,
            |_| (),
            |(), n| {
                black_box(n);
            },
        )
    });
    group.finish();

    let mut group = Group::new(c, "Membership::binary, 16 phones");
    ours(&mut group, |handles| {
        drop(black_box(handles.member.binary()));
    });
    each_peer!(binary(&mut group));
    group.finish();

    let mut group = Group::new(c, "Route::binary, 16 phones");
    ours(&mut group, |handles| {
        black_box(handles.route.binary());
    });
    each_peer!(binary(&mut group));
    group.finish();

    let mut group = Group::new(c, "Claim::phone, 16 phones");
    ours(&mut group, |handles| {
        let name = handles.member.conn_id();
        drop(black_box(handles.claim.phone(name)));
    });
    each_peer!(phone(&mut group));
    group.finish();

    let mut group = Group::new(c, "Claim::phones, 16 phones");
    ours(&mut group, |handles| {
        drop(black_box(handles.claim.phones()));
    });
    each_peer!(phones(&mut group));
    group.finish();
}

fn phones(c: &mut Criterion) {
    fn all<P: Peer>(group: &mut Group<'_>, phones: usize) {
        let Some(filled) = group.fill::<P>(1, phones) else {
            return;
        };
        for threads in [1, 2] {
            group.bench::<P>(threads, |iters| {
                let filled = &filled;
                let look_up =
                    |(): &mut (), n| drop(black_box(filled.peer.phones_for(filled.id(n))));
                together(threads, iters, |_| (), look_up)
            });
        }
    }

    fn one<P: Peer>(group: &mut Group<'_>, phones: usize) {
        let Some(filled) = group.fill::<P>(1, phones) else {
            return;
        };
        let names: Vec<_> = (0..phones).map(conn_id).collect();
        for threads in [1, 2] {
            group.bench::<P>(threads, |iters| {
                let filled = &filled;
                let look_up = |(): &mut (), n| {
                    let name = &names[scattered(n, phones)];
                    drop(black_box(filled.peer.phone_for(filled.id(0), name)));
                };
                together(threads, iters, |_| (), look_up)
            });
        }
    }

    for phones in [1, 16, 1_000, 100_000] {
        let mut group = Group::new(c, format!("phones_for, {phones} phones"));
        each_peer!(all(&mut group, phones));
        group.finish();
        let mut group = Group::new(c, format!("phone_for, {phones} phones"));
        each_peer!(one(&mut group, phones));
        group.finish();
    }
}

/// One thread looks up while another changes the same server-ids continuously.
fn beside_churn(c: &mut Criterion) {
    fn peer<P: Peer>(
        group: &mut Group<'_>,
        (servers, phones): (usize, usize),
        look_up: impl Fn(&P, &str) + Sync,
    ) {
        let Some(filled) = group.fill::<P>(servers, phones) else {
            return;
        };
        group.bench::<P>(2, |iters| {
            let (filled, conn) = (&filled, visitor(0));
            let reader = || {
                let look_up = |(): &mut (), n| look_up(&filled.peer, filled.id(n));
                together(1, iters, |_| (), look_up)
            };
            while_disturbed(|n| filled.churn(n, &conn), reader)
        });
    }

    fn binary<P: Peer>(group: &mut Group<'_>) {
        peer::<P>(group, (10_000, 1), |peer, id| {
            drop(black_box(peer.binary_for(id)));
        });
    }

    fn phones<P: Peer>(group: &mut Group<'_>) {
        peer::<P>(group, (100, 16), |peer, id| {
            drop(black_box(peer.phones_for(id)));
        });
    }

    let mut group = Group::new(c, "binary_for beside churn, 10000 server-ids");
    each_peer!(binary(&mut group));
    group.finish();
    let mut group = Group::new(c, "phones_for beside churn, 16 phones");
    each_peer!(phones(&mut group));
    group.finish();
}

criterion_group! {
    name = benches;
    config = config();
    targets = by_server_id, unknown, borrowed, quiet_hour, by_handle, phones, beside_churn
}
criterion_main!(benches);
