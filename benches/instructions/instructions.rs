//! Counts the instructions of the verbs under callgrind. `scripts/instructions` compares the counts with the
//! table in `instructions.txt`.
//!
//! A case is a thousand calls, including the drop of each result. The setup before them is not counted; it
//! also performs everything that a thread's first calls set up.
// The `library_benchmark` macro generates qualified paths.
#![allow(missing_docs, unreachable_pub, unused_qualifications)]

#[path = "../common/wires.rs"]
mod wires;

use std::hash::BuildHasher;
use std::hint::black_box;
use std::sync::Arc;

use foldhash::fast::FixedState;
use gungraun::prelude::*;
use switchboard::{Claim, DefaultHashBuilder, Membership, Phones, Registry};
use wires::{Wire, conn_id, server_id, wire};

const CALLS: usize = 1_000;

const PHONES: usize = 16;

/// The registry rehashes the result of a custom hasher under seeds of its own, which differ in every run.
/// With this much room, few server-ids rarely collide and take the same number of probes in every run.
const ROOM: usize = 100_000;

fn calls<T>(call: impl Fn(usize) -> T) {
    for n in 0..CALLS {
        drop(black_box(call(n)));
    }
}

/// Leaks the value, so that no case counts its drop.
fn leaked<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// A server-id with its binary and phones, and ids that are not registered.
struct Held<S> {
    registry: Registry<Wire, S>,
    server_id: String,
    claim: Claim<Wire>,
    members: Vec<Membership<Wire>>,
    unknown: String,
    newcomer: Arc<Wire>,
}

impl<S> Held<S> {
    /// A phone from the middle of the list.
    fn member(&self) -> &Membership<Wire> {
        &self.members[PHONES / 2]
    }
}

fn held_by<S: BuildHasher + 'static>(hasher: S) -> &'static Held<S> {
    let registry = Registry::builder().capacity(ROOM).hasher(hasher).build();
    let [server_id, unknown] = [1, 2].map(server_id);
    let claim = registry.claim_server(&server_id, wire("b")).unwrap();
    let members = (0..PHONES)
        .map(|n| registry.register_phone(&server_id, wire(conn_id(n))))
        .collect::<Result<_, _>>()
        .unwrap();
    assert!(registry.binary_for(&server_id).is_some());
    leaked(Held {
        registry,
        server_id,
        claim,
        members,
        unknown,
        newcomer: wire(conn_id(PHONES)),
    })
}

fn held() -> &'static Held<FixedState> {
    held_by(FixedState::with_seed(0))
}

/// With the hasher that relays use. Its seeds change the values that it computes, not the work.
fn held_by_default() -> &'static Held<DefaultHashBuilder> {
    held_by(DefaultHashBuilder::default())
}

fn snapshot() -> &'static Phones<Wire> {
    let held = held();
    leaked(held.registry.phones_for(&held.server_id))
}

struct Vacant {
    registry: Registry<Wire, FixedState>,
    server_ids: Vec<String>,
    conn: Arc<Wire>,
}

impl Vacant {
    fn claim_and_release(&self, n: usize) {
        let server_id = &self.server_ids[n];
        let claim = self.registry.claim_server(server_id, self.conn.clone());
        assert!(claim.unwrap().release());
    }
}

/// Every server-id has been claimed and released twice, so as many retired slots linger as ever do.
fn vacant() -> &'static Vacant {
    let hasher = FixedState::with_seed(0);
    let vacant = Vacant {
        registry: Registry::builder().capacity(ROOM).hasher(hasher).build(),
        server_ids: (0..CALLS).map(server_id).collect(),
        conn: wire("b"),
    };
    for _ in 0..2 {
        calls(|n| vacant.claim_and_release(n));
    }
    leaked(vacant)
}

#[library_benchmark(setup = held)]
fn binary_for(held: &Held<FixedState>) {
    calls(|_| held.registry.binary_for(&held.server_id));
}

#[library_benchmark(setup = held_by_default)]
fn binary_for_with_default_hasher(held: &Held<DefaultHashBuilder>) {
    calls(|_| held.registry.binary_for(&held.server_id));
}

#[library_benchmark(setup = held)]
fn binary_for_unknown(held: &Held<FixedState>) {
    calls(|_| held.registry.binary_for(&held.unknown));
}

#[library_benchmark(setup = held)]
fn phones_for(held: &Held<FixedState>) {
    calls(|_| held.registry.phones_for(&held.server_id));
}

#[library_benchmark(setup = held)]
fn phone_for(held: &Held<FixedState>) {
    let conn_id = held.member().conn_id();
    calls(|_| held.registry.phone_for(&held.server_id, conn_id));
}

#[library_benchmark(setup = held)]
fn server(held: &Held<FixedState>) {
    calls(|_| held.registry.server(&held.server_id));
}

#[library_benchmark(setup = held)]
fn counts(held: &Held<FixedState>) {
    calls(|_| held.registry.counts());
}

#[library_benchmark(setup = held)]
fn claim_phone(held: &Held<FixedState>) {
    let conn_id = held.member().conn_id();
    calls(|_| held.claim.phone(conn_id));
}

#[library_benchmark(setup = held)]
fn claim_phones(held: &Held<FixedState>) {
    calls(|_| held.claim.phones());
}

#[library_benchmark(setup = held)]
fn membership_binary(held: &Held<FixedState>) {
    calls(|_| held.member().binary());
}

#[library_benchmark(setup = held)]
fn route_binary(held: &Held<FixedState>) {
    let mut route = held.member().route();
    let _ = black_box(route.binary());
    for _ in 0..CALLS {
        let _ = black_box(route.binary());
    }
}

#[library_benchmark(setup = held)]
fn membership_is_registered(held: &Held<FixedState>) {
    calls(|_| held.member().is_registered());
}

#[library_benchmark(setup = snapshot)]
fn phones_iter(phones: &Phones<Wire>) {
    calls(|_| {
        for phone in black_box(phones) {
            black_box(phone);
        }
    });
}

#[library_benchmark(setup = held)]
fn register_and_unregister(held: &Held<FixedState>) {
    calls(|_| {
        let membership = held
            .registry
            .register_phone(&held.server_id, held.newcomer.clone());
        assert!(membership.unwrap().unregister());
    });
}

#[library_benchmark(setup = vacant)]
fn claim_and_release(vacant: &Vacant) {
    calls(|n| vacant.claim_and_release(n));
}

library_benchmark_group!(
    name = reads,
    benchmarks = [
        binary_for,
        binary_for_with_default_hasher,
        binary_for_unknown,
        phones_for,
        phone_for,
        server,
        counts,
        claim_phone,
        claim_phones,
        membership_binary,
        route_binary,
        membership_is_registered,
        phones_iter,
    ]
);

library_benchmark_group!(
    name = writes,
    benchmarks = [register_and_unregister, claim_and_release]
);

main!(library_benchmark_groups = [reads, writes]);
