//! Closing displaced connections.

use switchboard::{Cause, Displaced};

use super::peer::Peer;
use crate::protocol::close::Close;

/// Closes the connections that an operation took out of the registry because the relay is shutting down.
pub(crate) fn shut_down(displaced: &Displaced<Peer>) {
    close_with(displaced, Close::SHUTTING_DOWN, &Close::SHUTTING_DOWN);
}

/// Closes the connections that an operator took out of the registry.
pub(crate) fn evict(displaced: &Displaced<Peer>, close: &Close) {
    close_with(displaced, close.clone(), close);
}

/// Closes the connections that an operation took out of the registry.
pub(crate) fn close(displaced: &Displaced<Peer>) {
    let (binary, phones) = match displaced.cause {
        Cause::Reclaimed => (Close::NORMAL, Close::RECLAIMED),
        Cause::TakenOver => (Close::TAKEN_OVER, Close::RECLAIMED),
        // Expired, evicted, or a cause that does not exist yet.
        _ => (Close::EXPIRED, Close::EXPIRED),
    };
    close_with(displaced, binary, &phones);
}

fn close_with(displaced: &Displaced<Peer>, binary: Close, phones: &Close) {
    // Phones first: once the binary is closed, a phone that sends a frame is closed as undelivered.
    for phone in &displaced.phones {
        phone.end(phones.clone());
    }
    if let Some(peer) = &displaced.binary {
        peer.end(binary);
    }
}
