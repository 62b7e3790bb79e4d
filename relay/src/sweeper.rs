//! The task that expires graces, and makes the rate limits forget those whose full burst is available again.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{interval, sleep_until};
use tracing::info;

use crate::admission::gate::Gate;
use crate::connection::displaced;
use crate::connection::push::Push;
use crate::connection::relay::Relay;

/// How often the rate limits forget those whose full burst is available again.
const TIDYING: Duration = Duration::from_secs(60);

/// Expires graces and closes the displaced connections, until the relay stops.
pub(crate) async fn sweep(relay: Arc<Relay>, gate: Arc<Gate>) {
    let mut tidying = interval(TIDYING);
    loop {
        for displaced in relay.registry.expire(Instant::now()) {
            displaced::close(&displaced);
            relay.metrics.grace_expiries.inc();
            info!(
                server_id = &*displaced.server_id,
                phones = displaced.phones.len(),
                "grace expired"
            );
        }
        // A grace that begins from here on is not missed, whoever begins it: the registry itself tells of an
        // earlier deadline, also after a panic.
        let deadline = relay.registry.next_deadline();
        tokio::select! {
            () = until(deadline) => {}
            _ = tidying.tick() => {
                gate.forget_idle();
                relay.push.iter().for_each(Push::forget_idle);
            }
            _ = relay.registry.earlier_deadline(deadline) => {}
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

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::connection::peer::Peer;
    use crate::operate::config::Config;

    fn peer(conn_id: &str) -> Arc<Peer> {
        Peer::new(conn_id.into(), 1000, 1, Arc::default())
    }

    #[tokio::test]
    async fn a_grace_that_nobody_announces_ends_in_time() {
        let config =
            Config::from_args(["switchboard-relay", "--grace", "20ms"]).expect("good flags");
        let relay = Relay::new(config).expect("no files");
        let gate = Gate::new(&relay, None).expect("there is no hook");
        let sweeper = tokio::spawn(sweep(Arc::clone(&relay), gate));
        // In the second round the sweeper sleeps on no deadline: it shares a thread with this test, and so it
        // goes back to sleep before this test sees the ending.
        for _ in 0..2 {
            let claim = relay.registry.claim_server("a", peer("b"));
            let claim = claim.expect("the server-id is free");
            let phone = peer("p");
            let registered = relay.registry.register_phone("a", Arc::clone(&phone));
            registered.expect("the binary is there").detach();
            drop(claim);
            let ending = timeout(TIDYING / 2, phone.ending()).await;
            assert_eq!(ending.expect("the grace ends").close.code, 1000);
        }
        relay.stopping.cancel();
        sweeper.await.expect("no panic");
    }
}
