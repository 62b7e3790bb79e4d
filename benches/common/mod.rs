//! Shared by the benches: a connection that does nothing, threads that start together, and the peers.
#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    unreachable_pub,
    missing_docs
)]

pub mod args;
pub mod criteria;
pub mod handles;
pub mod output;
pub mod peers;
pub mod processor;
pub mod threads;
pub mod wires;

use std::sync::Arc;

use peers::Peer;
pub use wires::{Wire, conn_id, server_id, wire};

/// The phone that a thread registers in addition to the permanent ones.
pub fn visitor(thread: usize) -> Arc<Wire> {
    wire(conn_id(10_000_000 + thread))
}

/// Visits all of `0..len` in an order that no prefetcher predicts.
pub fn scattered(n: u64, len: usize) -> usize {
    let mixed = n.wrapping_mul(0xD134_2543_DE82_EF95) >> 20;
    usize::try_from(mixed).unwrap() % len
}

/// Puts the items into an order that is always the same and has nothing to do with the one before.
pub fn shuffle<T>(items: &mut [T]) {
    for at in (1..items.len()).rev() {
        items.swap(at, scattered(at as u64, at + 1));
    }
}

/// A peer whose server-ids are all held, each with the same number of phones.
pub struct Filled<P> {
    pub ids: Vec<String>,
    pub peer: P,
}

impl<P: Peer> Filled<P> {
    pub fn new(servers: usize, phones: usize) -> Self {
        let filled = Self {
            ids: (0..servers).map(server_id).collect(),
            peer: P::default(),
        };
        for id in &filled.ids {
            assert!(filled.peer.claim(id, wire("b")));
            let phones = (0..phones).map(|phone| wire(conn_id(phone)));
            filled.peer.register_all(id, phones.collect());
        }
        filled
    }

    pub fn id(&self, n: u64) -> &str {
        &self.ids[scattered(n, self.ids.len())]
    }

    /// One change of a server-id that others look up: a phone registers and leaves, or the binary is
    /// replaced.
    pub fn churn(&self, n: u64, conn: &Arc<Wire>) {
        let id = self.id(n);
        if n.is_multiple_of(2) {
            self.peer.visit(id, conn);
        } else {
            self.peer.release(id);
            self.peer.claim(id, conn.clone());
        }
    }
}
