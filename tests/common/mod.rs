//! What the tests share: a connection that can be watched, and the sequential model.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses its own part"
)]

pub mod driver;
pub mod linear;
pub mod model;
pub mod player;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use switchboard::{Conn, Displaced, Phones, Registry, SendError};

/// A connection that remembers what was done to it.
pub struct Wire {
    conn_id: String,
    /// Tells connections with the same conn-id apart.
    pub label: u32,
    pub conn_id_reads: AtomicUsize,
    pub frames: Mutex<Vec<Bytes>>,
    pub closed: AtomicUsize,
    _on_drop: Option<OnDrop>,
}

struct OnDrop(Box<dyn Fn() + Send + Sync>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn new_wire(conn_id: &str, label: u32, on_drop: Option<OnDrop>) -> Arc<Wire> {
    Arc::new(Wire {
        conn_id: conn_id.to_owned(),
        label,
        conn_id_reads: AtomicUsize::new(0),
        frames: Mutex::default(),
        closed: AtomicUsize::new(0),
        _on_drop: on_drop,
    })
}

pub fn wire(conn_id: &str) -> Arc<Wire> {
    new_wire(conn_id, 0, None)
}

pub fn labelled(conn_id: &str, label: u32) -> Arc<Wire> {
    new_wire(conn_id, label, None)
}

pub fn wire_that(conn_id: &str, on_drop: impl Fn() + Send + Sync + 'static) -> Arc<Wire> {
    new_wire(conn_id, 0, Some(OnDrop(Box::new(on_drop))))
}

impl Conn for Wire {
    fn conn_id(&self) -> &str {
        self.conn_id_reads.fetch_add(1, Ordering::Relaxed);
        &self.conn_id
    }
    fn send(&self, frame: Bytes) -> Result<(), SendError> {
        if self.closed.load(Ordering::Relaxed) > 0 {
            return Err(SendError::Closed);
        }
        self.frames.lock().unwrap().push(frame);
        Ok(())
    }
    fn close(&self) {
        self.closed.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts the connections that are alive.
#[derive(Clone, Default)]
pub struct Living(Arc<AtomicUsize>);

impl Living {
    pub fn wire(&self, conn_id: &str) -> Arc<Wire> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let count = self.0.clone();
        wire_that(conn_id, move || {
            count.fetch_sub(1, Ordering::SeqCst);
        })
    }
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

pub fn ids<C: Conn + ?Sized>(phones: &Phones<C>) -> Vec<String> {
    let mut ids: Vec<_> = phones
        .iter()
        .map(|conn| conn.conn_id().to_owned())
        .collect();
    ids.sort();
    ids
}

pub fn binary_id<C: Conn + ?Sized>(displaced: &Displaced<C>) -> Option<&str> {
    displaced.binary.as_ref().map(Conn::conn_id)
}

pub fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// An instant that far from now. Nothing sleeps in these tests: time is passed in.
pub fn at(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

/// Counts and enumeration agree. Only when no call is in flight.
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

/// What is true whenever no call is in flight.
pub fn assert_at_rest(registry: &Registry<Wire>) {
    assert_counts_are_exact(registry);
    let deadlines: Vec<_> = registry
        .servers()
        .filter_map(|server| match server.status() {
            switchboard::Status::Grace { deadline } => Some(deadline),
            switchboard::Status::Held | switchboard::Status::Vacant => None,
        })
        // One that never ends stands in no queue.
        .filter(|deadline| *deadline < at(1_000_000_000))
        .collect();
    let earliest = deadlines.iter().min().copied();
    assert_eq!(registry.next_deadline(), earliest);
    let books = registry.books();
    assert_eq!(
        books.deadlines,
        deadlines.len(),
        "a deadline was left in the queue, or is missing"
    );
    assert!(
        books.empty_places <= books.lingering_places,
        "an empty place will stay in the index for good: {books:?}"
    );
}
