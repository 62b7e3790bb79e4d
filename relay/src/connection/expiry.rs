//! Closing a connection when its access expires.

use std::sync::Arc;

use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use super::peer::Peer;
use super::relay::Relay;
use super::who::about;
use crate::protocol::close::Close;

/// A timer that closes the connection, unless it is dropped before.
#[must_use]
pub(crate) struct Timer {
    _task: AbortOnDropHandle<()>,
}

/// Starts the timer of a connection whose access expires.
///
/// It is a task of its own, so that a connection whose access does not expire holds no more than the `None`.
pub(crate) fn start(relay: &Arc<Relay>, peer: &Arc<Peer>, at: Option<Instant>) -> Option<Timer> {
    let at = at?;
    let (relay, peer) = (Arc::clone(relay), Arc::clone(peer));
    let task = tokio::spawn(async move {
        sleep_until(at).await;
        // Its queued frames are dropped: a peer that reads slowly must not outstay its access.
        if peer.abort(Close::ACCESS_EXPIRED) {
            relay.metrics.refusals.access_expired.inc();
            about!(debug, peer, "access expired");
        }
    });
    Some(Timer {
        _task: AbortOnDropHandle::new(task),
    })
}
