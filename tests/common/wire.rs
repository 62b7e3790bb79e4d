//! A connection that records what the registry does to it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use switchboard::{Conn, Displaced, Phones, SendError};

/// A connection that records the calls made on it.
pub struct Wire {
    conn_id: String,
    /// Distinguishes connections with the same conn-id.
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

pub fn wire_with_on_drop(conn_id: &str, on_drop: impl Fn() + Send + Sync + 'static) -> Arc<Wire> {
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

/// Counts the live connections that it has made.
#[derive(Clone, Default)]
pub struct Living(Arc<AtomicUsize>);

impl Living {
    pub fn wire(&self, conn_id: &str) -> Arc<Wire> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let count = self.0.clone();
        wire_with_on_drop(conn_id, move || {
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
