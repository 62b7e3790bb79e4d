//! Series that are computed when they are scraped.

use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use serde::Serialize;

use crate::operate::logging;

/// The number of connections of each kind at one time.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Population {
    /// Excluding those in grace.
    pub(crate) binaries: usize,
    pub(crate) phones: usize,
    pub(crate) in_grace: usize,
    /// All WebSocket connections, including those about to be refused and those that are closing.
    pub(crate) connections: usize,
    pub(crate) max_connections: usize,
}

/// Counts the connections when it is asked.
#[derive(Clone)]
pub(super) struct Census(Arc<dyn Fn() -> Population + Send + Sync>);

impl Census {
    pub(super) fn new(count: impl Fn() -> Population + Send + Sync + 'static) -> Self {
        Self(Arc::new(count))
    }

    pub(super) fn population(&self) -> Population {
        (self.0)()
    }
}

impl Debug for Census {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        self.population().fmt(formatter)
    }
}

impl Collector for Census {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let population = self.population();
        let gauges = [
            (
                "connected_binaries",
                "Binaries that hold a server-id, excluding those in grace",
                population.binaries,
            ),
            (
                "binaries_in_grace",
                "Server-ids kept for a binary that disconnected",
                population.in_grace,
            ),
            (
                "connected_phones",
                "Phones that are registered",
                population.phones,
            ),
            (
                "connections",
                "WebSocket connections, including those about to be refused and those that are closing",
                population.connections,
            ),
        ];
        for (name, help, count) in gauges {
            let gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(u64::try_from(count).unwrap_or(u64::MAX)).encode(gauge)?;
        }
        Ok(())
    }
}

/// The number of dropped log lines.
#[derive(Debug)]
pub(super) struct LogLines;

impl Collector for LogLines {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Log lines dropped because stderr was too slow";
        let counter =
            encoder.encode_descriptor("log_lines_dropped", help, None, MetricType::Counter)?;
        ConstCounter::new(logging::dropped_lines()).encode(counter)
    }
}
