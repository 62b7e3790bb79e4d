//! A connection that does nothing, and ids as a relay sees them.

use std::sync::Arc;

use bytes::Bytes;
use switchboard::{Conn, SendError};

pub struct Wire(pub String);

impl Conn for Wire {
    fn conn_id(&self) -> &str {
        &self.0
    }
    fn send(&self, _: Bytes) -> Result<(), SendError> {
        Ok(())
    }
    fn close(&self) {}
}

pub fn wire(conn_id: impl Into<String>) -> Arc<Wire> {
    Arc::new(Wire(conn_id.into()))
}

/// Server-ids and conn-ids of the kind that a relay sees.
pub fn server_id(n: usize) -> String {
    format!(
        "{:016x}-laptop",
        (n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    )
}

pub fn conn_id(n: usize) -> String {
    format!(
        "client-{:08x}",
        (n as u64).wrapping_mul(0x9E37_79B9) & 0xffff_ffff
    )
}
