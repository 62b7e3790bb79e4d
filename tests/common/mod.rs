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
pub mod follower;
pub mod game;
pub mod linearizability;
pub mod model;
pub mod player;
pub mod waiter;
mod wire;

use std::time::{Duration, Instant};

use switchboard::{Orphans, Registry};

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
    assert_eq!(registry.len(), registry.servers().count());
}

/// Asserts every invariant that holds while no call is in flight and nobody waits.
pub fn assert_at_rest(registry: &Registry<Wire>) {
    assert_at_rest_with(registry, Orphans::Keep);
}

/// The same for a registry that was built with these `orphans`.
pub fn assert_at_rest_with(registry: &Registry<Wire>, orphans: Orphans) {
    assert_counts_are_exact(registry);
    let mut deadlines = Vec::new();
    let mut to_displace = 0;
    for server in registry.servers() {
        match server.status() {
            switchboard::Status::Grace { deadline } => deadlines.push(deadline),
            switchboard::Status::Vacant if orphans == Orphans::Displace => to_displace += 1,
            switchboard::Status::Held | switchboard::Status::Vacant => {}
        }
    }
    // A grace without end has no entry in the queue.
    deadlines.retain(|deadline| *deadline < at(1_000_000_000));
    let (next, earliest) = (registry.next_deadline(), deadlines.iter().min().copied());
    if to_displace == 0 {
        assert_eq!(next, earliest);
    } else {
        assert!(next.is_some_and(|next| earliest.is_none_or(|earliest| next < earliest)));
    }
    let internals = registry.internals();
    assert_eq!(
        internals.deadlines,
        deadlines.len() + to_displace,
        "the queue lacks a deadline, or holds a stale one"
    );
    assert!(
        internals.retired_slots <= internals.lingering_slots,
        "a retired slot will stay in the index forever: {internals:?}"
    );
    assert_eq!(internals.watched, 0, "a wait left its server-id behind");
}
