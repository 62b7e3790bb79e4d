//! What the bytes of a connection say of its peer.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_tungstenite::tungstenite::protocol::CloseFrame;

/// Written by the streams of a connection as bytes pass, and read by its task and by those who probe it.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Bytes received, except those of pongs: a peer that is stuck may send pongs that nobody asked for.
    received: AtomicU64,
    /// Bytes written after a write had to wait. The system had no room for them until the peer's system took others.
    taken: AtomicU64,
    /// The number of the message that has begun and is not complete; 0 if there is none.
    unfinished: AtomicU64,
    /// The peer's close frame, if the library would have altered it.
    close: OnceLock<CloseFrame>,
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

    pub(crate) fn set_close(&self, close: CloseFrame) {
        // Nothing is read after the first one.
        let _ = self.close.set(close);
    }

    /// A number that grows whenever the peer shows that it is alive without answering a ping.
    pub(crate) fn progress(&self) -> u64 {
        self.received.load(Ordering::Relaxed) + self.taken()
    }

    /// A number that grows whenever the peer takes what it kept waiting.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// The number of the message that has begun and is not complete.
    pub(crate) fn unfinished(&self) -> Option<u64> {
        let number = self.unfinished.load(Ordering::Relaxed);
        (number > 0).then_some(number)
    }

    /// A close frame that was kept from the library, which would have answered 1002 to it.
    pub(crate) fn close(&self) -> Option<&CloseFrame> {
        self.close.get()
    }
}
