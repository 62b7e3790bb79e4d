//! What all connections share.

use std::sync::Arc;
use std::time::Instant;

use switchboard::Registry;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::metrics::{Connected, Metrics};
use crate::peer::Peer;
use crate::rate::RateLimit;

pub(crate) struct Relay {
    pub(crate) config: Config,
    pub(crate) registry: Registry<Peer>,
    pub(crate) metrics: Metrics,
    pub(crate) connected: Connected,
    /// A place for each connection.
    pub(crate) places: Arc<Semaphore>,
    pub(crate) rate: RateLimit,
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
        let max_connections = config.max_connections as usize;
        let places = Arc::new(Semaphore::new(max_connections));
        let connected = Connected::new(registry.clone(), Arc::clone(&places), max_connections);
        Arc::new(Self {
            rate: RateLimit::new(config.rate_burst, config.rate_interval),
            config,
            registry,
            metrics: Metrics::new(connected.clone()),
            connected,
            places,
            grace_began: Notify::new(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            started: Instant::now(),
        })
    }
}
