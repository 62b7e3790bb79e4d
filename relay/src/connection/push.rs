//! Push notifications: passes the requests of binaries to the operator's gateway.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use governor::{DefaultKeyedRateLimiter, Quota};
use reqwest::{Client, Url};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::peer::Peer;
use super::who::about;
use crate::operate::error::Error;
use crate::operate::metrics::PushWakes;
use crate::protocol::envelope::PushWake;
use crate::transport::http_client;

/// How many notifications of a server-id pass at once.
const BURST: NonZeroU32 = NonZeroU32::new(6).unwrap();

/// Then one more passes after each.
const INTERVAL: Duration = Duration::from_secs(10);

/// How many requests may be under way.
const UNDER_WAY: usize = 32;

/// How long the gateway may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The way to the gateway.
pub(crate) struct Push {
    gateway: Url,
    client: Client,
    rate: DefaultKeyedRateLimiter<String>,
    under_way: Arc<Semaphore>,
    wakes: PushWakes,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

/// What the gateway gets.
#[derive(Serialize)]
struct Body<'a> {
    server_id: &'a str,
    platform: &'a str,
    token: &'a str,
}

/// Why a notification was not sent.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("the gateway answered with status {0}")]
    Status(u16),
    #[error("the gateway did not answer within {} s", TIMEOUT.as_secs())]
    TimedOut,
    #[error("cannot reach the gateway: {0}")]
    Unreachable(String),
    #[error("the relay is shutting down")]
    ShuttingDown,
}

impl Push {
    /// Requests become tasks of `tasks`, and end when `stopping` is cancelled.
    pub(crate) fn new(
        gateway: Url,
        wakes: PushWakes,
        tasks: TaskTracker,
        stopping: CancellationToken,
    ) -> Result<Self, Error> {
        let quota = Quota::with_period(INTERVAL).map(|quota| quota.allow_burst(BURST));
        Ok(Self {
            client: http_client::new(&gateway, TIMEOUT, None)?,
            gateway,
            rate: DefaultKeyedRateLimiter::keyed(quota.expect("the interval is not 0")),
            under_way: Arc::new(Semaphore::new(UNDER_WAY)),
            wakes,
            tasks,
            stopping,
        })
    }

    /// Forgets the server-ids whose full burst is available again.
    pub(crate) fn forget_idle(&self) {
        self.rate.retain_recent();
        self.rate.shrink_to_fit();
    }

    /// Passes a request on, in a task of its own. Does not wait for it.
    pub(crate) fn wake(&self, binary: &Arc<Peer>, wake: &PushWake<'_>) {
        let wakes = &self.wakes;
        let (platform, token) = (wake.platform.as_ref(), fingerprint(&wake.token));
        let server_id = &binary.who().server_id;
        if self.rate.check_key(server_id).is_err() {
            wakes.rate_limited.inc();
            about!(
                info,
                binary,
                platform,
                token,
                "push wake refused: too many of this server-id"
            );
            return;
        }
        let Ok(slot) = Arc::clone(&self.under_way).try_acquire_owned() else {
            wakes.too_many.inc();
            about!(
                warn,
                binary,
                platform,
                token,
                "push wake refused: too many are under way"
            );
            return;
        };
        let body = Body {
            server_id,
            platform,
            token: &wake.token,
        };
        let request = self.client.post(self.gateway.clone()).json(&body);
        let (stopping, wakes) = (self.stopping.clone(), wakes.clone());
        let (binary, platform) = (Arc::clone(binary), platform.to_owned());
        self.tasks.spawn(async move {
            let sent = tokio::select! {
                sent = send(request) => sent,
                () = stopping.cancelled() => Err(Failed::ShuttingDown),
            };
            drop(slot);
            match sent {
                Ok(()) => {
                    wakes.sent.inc();
                    about!(info, binary, platform, token, "push wake sent");
                }
                Err(error) => {
                    wakes.failed.inc();
                    about!(warn, binary, platform, token, %error, "push wake failed");
                }
            }
        });
    }
}

async fn send(request: reqwest::RequestBuilder) -> Result<(), Failed> {
    let answer = request.send().await.map_err(|error| {
        if error.is_timeout() {
            Failed::TimedOut
        } else {
            Failed::Unreachable(http_client::describe(error))
        }
    })?;
    let status = answer.status();
    if status.is_success() {
        Ok(())
    } else {
        Err(Failed::Status(status.as_u16()))
    }
}

/// What the log says of a token: enough to find it among known ones, and not enough to use it.
fn fingerprint(token: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(token)[..6])
}
