//! The task that expires graces, and makes the rate limit forget addresses whose full burst is available again.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{interval, sleep_until};
use tracing::info;

use crate::admission::gate::Gate;
use crate::connection::displaced;
use crate::connection::relay::Relay;

/// How often the rate limit forgets the addresses whose full burst is available again.
const TIDYING: Duration = Duration::from_secs(60);

/// Expires graces and closes the displaced connections, until the relay stops.
pub(crate) async fn sweep(relay: Arc<Relay>, gate: Arc<Gate>) {
    let mut tidying = interval(TIDYING);
    loop {
        for displaced in relay.registry.expire(Instant::now()) {
            displaced::close(&displaced);
            relay.metrics.grace_expiries.inc();
            info!(server_id = ?displaced.server_id, phones = displaced.phones.len(), "grace expired");
        }
        // A grace that begins from here on is not missed: `grace_began` stores a notification until this task waits for it.
        let deadline = relay.registry.next_deadline();
        tokio::select! {
            () = until(deadline) => {}
            _ = tidying.tick() => gate.forget_idle(),
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
