//! Closing connections little by little before a shutdown.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::info;

use crate::connection::displaced;
use crate::connection::relay::Relay;

/// Closes the binary and the phones of each server-id with 1001, at a random time within `--drain`. So those who come
/// back do not all come at once, and a binary and its phones come back together.
///
/// No server-id is kept for a binary that comes back: the relay admits nobody any more.
pub(crate) async fn drain(relay: &Relay) {
    let limit = relay.config.drain;
    let began = Instant::now();
    let servers = relay.registry.servers();
    let mut times: Vec<(Instant, String)> = servers
        .map(|server| (began + random_part_of(limit), server.server_id().to_owned()))
        .collect();
    times.sort_unstable();
    info!(server_ids = times.len(), "draining");
    for (time, server_id) in times {
        sleep_until(time).await;
        if let Some(displaced) = relay.registry.evict_server(&server_id) {
            displaced::shut_down(&displaced);
        }
    }
}

fn random_part_of(limit: Duration) -> Duration {
    // Without a random number, in the middle.
    let part = getrandom::u32().unwrap_or(u32::MAX / 2);
    limit.mul_f64(f64::from(part) / f64::from(u32::MAX))
}
