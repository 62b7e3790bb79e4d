//! The one task that ends graces.

use std::future::pending;
use std::sync::Arc;
use std::time::Instant;

use tokio::time::sleep_until;
use tracing::info;

use crate::close;
use crate::relay::Relay;

/// Closes whom an expired grace leaves behind, until the relay stops.
pub(crate) async fn sweep(relay: Arc<Relay>) {
    loop {
        for displaced in relay.registry.expire(Instant::now()) {
            info!(server_id = ?displaced.server_id, phones = displaced.phones.len(), "grace expired");
            close::displaced(&displaced);
        }
        // Of what begins meanwhile, `grace_began` knows: it keeps a notification that nobody waits for.
        let deadline = relay.registry.next_deadline();
        tokio::select! {
            () = until(deadline) => {}
            () = relay.grace_began.notified() => {}
            () = relay.stopping.cancelled() => return,
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => pending().await,
    }
}
