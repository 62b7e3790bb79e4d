//! What the bytes of a connection reveal about its peer.

use std::sync::atomic::{AtomicU64, Ordering};

/// Signs of life of a peer. The streams of the connection write it as bytes pass; the connection's task, and tasks that
/// probe the peer, read it.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Bytes received, except those of pongs: a stuck peer may send unsolicited pongs.
    received: AtomicU64,
    /// Bytes written after a write had blocked. The system had no room for them until the peer's system took others.
    taken: AtomicU64,
    /// The number of the incomplete message; 0 if there is none.
    unfinished: AtomicU64,
}

impl Seen {
    pub(crate) fn add_received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add_taken(&self, bytes: u64) {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn set_unfinished(&self, number: Option<u64>) {
        let number = number.unwrap_or(0);
        self.unfinished.store(number, Ordering::Relaxed);
    }

    /// A number that grows whenever the peer shows a sign of life other than a pong.
    pub(crate) fn progress(&self) -> u64 {
        self.received.load(Ordering::Relaxed) + self.taken()
    }

    /// A number that grows whenever the peer takes bytes that had to wait for it.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// The number of the incomplete message.
    pub(crate) fn unfinished(&self) -> Option<u64> {
        let number = self.unfinished.load(Ordering::Relaxed);
        (number > 0).then_some(number)
    }
}
