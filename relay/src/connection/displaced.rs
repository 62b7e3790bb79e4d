//! Closing displaced connections.

use switchboard::{Cause, Displaced};

use super::peer::Peer;
use crate::protocol::close::Close;

/// Closes the connections that an operation took out of the registry.
pub(crate) fn close(displaced: &Displaced<Peer>) {
    let (binary, phones) = match displaced.cause {
        Cause::Reclaimed => (Close::NORMAL, Close::RECLAIMED),
        Cause::TakenOver => (Close::TAKEN_OVER, Close::RECLAIMED),
        Cause::Drained => (Close::SHUTTING_DOWN, Close::SHUTTING_DOWN),
        // Expired, evicted, or a cause that does not exist yet.
        _ => (Close::EXPIRED, Close::EXPIRED),
    };
    // Phones first: once the binary is closed, a phone that sends a frame is closed as undelivered.
    for phone in &displaced.phones {
        phone.end(phones.clone());
    }
    if let Some(peer) = &displaced.binary {
        peer.end(binary);
    }
}
