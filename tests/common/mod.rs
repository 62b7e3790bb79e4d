//! Shared test support: an observable connection, the sequential model, and the two checkers built on it. See
//! `README.md` in this folder.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "each test binary uses its own part"
)]

pub mod call;
pub mod driver;
pub mod game;
pub mod linearizability;
pub mod model;
pub mod player;
mod wire;

use std::time::{Duration, Instant};

use switchboard::Registry;

pub use wire::{Living, Wire, binary_id, ids, labelled, wire, wire_with_on_drop};

pub fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The instant `seconds` from now. These tests never sleep: they pass time in.
pub fn at(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

/// Asserts that the counts match an enumeration. Only valid while no call is in flight.
pub fn assert_counts_are_exact<S: std::hash::BuildHasher + 'static>(registry: &Registry<Wire, S>) {
    let mut seen = switchboard::Counts::default();
    for server in registry.servers() {
        seen.binaries += usize::from(server.binary().is_some());
        seen.phones += server.phones().len();
        let in_grace = matches!(server.status(), switchboard::Status::Grace { .. });
        seen.in_grace += usize::from(in_grace);
    }
    assert_eq!(registry.counts(), seen);
}

/// Asserts every invariant that holds while no call is in flight.
pub fn assert_at_rest(registry: &Registry<Wire>) {
    assert_counts_are_exact(registry);
    let deadlines: Vec<_> = registry
        .servers()
        .filter_map(|server| match server.status() {
            switchboard::Status::Grace { deadline } => Some(deadline),
            switchboard::Status::Held | switchboard::Status::Vacant => None,
        })
        // A grace without end has no entry in the queue.
        .filter(|deadline| *deadline < at(1_000_000_000))
        .collect();
    let earliest = deadlines.iter().min().copied();
    assert_eq!(registry.next_deadline(), earliest);
    let internals = registry.internals();
    assert_eq!(
        internals.deadlines,
        deadlines.len(),
        "the queue lacks a deadline, or holds a stale one"
    );
    assert!(
        internals.retired_slots <= internals.lingering_slots,
        "a retired slot will stay in the index forever: {internals:?}"
    );
}
