//! The state that all connections share.

use std::sync::Arc;

use switchboard::Registry;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::peer::Peer;
use super::push::Push;
use crate::operate::config::Config;
use crate::operate::error::Error;
use crate::operate::metrics::{Metrics, Population};
use crate::transport::places::Places;

pub(crate) struct Relay {
    pub(crate) config: Config,
    pub(crate) registry: Registry<Peer>,
    pub(crate) metrics: Arc<Metrics>,
    /// The places of upgraded connections, and of graces.
    pub(crate) places: Arc<Places>,
    /// Where requests to wake a phone go, if there is a gateway.
    pub(crate) push: Option<Push>,
    /// The tasks of connections, and background tasks.
    pub(crate) tasks: TaskTracker,
    /// The relay is about to shut down, and admits nobody any more.
    pub(crate) draining: CancellationToken,
    pub(crate) stopping: CancellationToken,
}

impl Relay {
    /// # Errors
    ///
    /// If there can be no client for the push gateway.
    pub(crate) fn new(config: Config) -> Result<Arc<Self>, Error> {
        let registry = Registry::builder()
            .max_phones(config.max_phones as usize)
            .grace(config.grace)
            .build();
        let max_connections = config.max_connections as usize;
        let places = Arc::new(Places::new(max_connections, config.max_per_address));
        let metrics = {
            let (registry, places) = (registry.clone(), Arc::clone(&places));
            Metrics::new(move || population(&registry, &places, max_connections))
        };
        let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
        let push = config.push_url.as_ref().map(|gateway| {
            let wakes = metrics.push_wakes.clone();
            Push::new(
                gateway.get().clone(),
                wakes,
                tasks.clone(),
                stopping.clone(),
            )
        });
        Ok(Arc::new(Self {
            config,
            registry,
            metrics: Arc::new(metrics),
            places,
            push: push.transpose()?,
            tasks,
            draining: CancellationToken::new(),
            stopping,
        }))
    }
}

fn population(registry: &Registry<Peer>, places: &Places, max_connections: usize) -> Population {
    let counts = registry.counts();
    Population {
        binaries: counts.binaries.saturating_sub(counts.in_grace),
        phones: counts.phones,
        in_grace: counts.in_grace,
        connections: places.taken(),
        max_connections,
    }
}
