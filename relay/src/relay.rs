//! What all connections share.

use std::sync::Arc;
use std::time::Instant;

use switchboard::Registry;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::peer::Peer;

pub(crate) struct Relay {
    pub(crate) config: Config,
    pub(crate) registry: Registry<Peer>,
    /// Tells the sweeper that a deadline may be earlier than the one it sleeps for.
    pub(crate) grace_began: Notify,
    /// The connections and the sweeper.
    pub(crate) tasks: TaskTracker,
    pub(crate) stopping: CancellationToken,
    pub(crate) started: Instant,
}

impl Relay {
    pub(crate) fn new(config: Config) -> Arc<Self> {
        let registry = Registry::builder()
            .max_phones(config.max_phones as usize)
            .grace(config.grace)
            .build();
        Arc::new(Self {
            config,
            registry,
            grace_began: Notify::new(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            started: Instant::now(),
        })
    }
}
