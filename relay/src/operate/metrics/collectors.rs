//! Series that are computed when they are scraped.

use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics_process::collector::collect;
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
            (
                "max_connections",
                "The limit of connections",
                population.max_connections,
            ),
        ];
        for (name, help, count) in gauges {
            let gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(u64::try_from(count).unwrap_or(u64::MAX)).encode(gauge)?;
        }
        Ok(())
    }
}

/// When the certificate expires, in seconds since the Unix epoch. There is no such series without a certificate.
#[derive(Clone, Debug, Default)]
pub(crate) struct CertificateExpiry(Arc<AtomicU64>);

impl CertificateExpiry {
    pub(crate) fn set(&self, seconds: u64) {
        self.0.store(seconds, Ordering::Relaxed);
    }
}

impl Collector for CertificateExpiry {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        match self.0.load(Ordering::Relaxed) {
            0 => Ok(()),
            seconds => encoder
                .encode_descriptor(
                    "certificate_expiry_timestamp_seconds",
                    "When the certificate expires, in seconds since the Unix epoch",
                    None,
                    MetricType::Gauge,
                )
                .and_then(|gauge| ConstGauge::new(seconds).encode(gauge)),
        }
    }
}

/// The process, under the names that Prometheus' client libraries use. What the system does not report is left out.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let process = collect();
        if let Some(seconds) = process.cpu_seconds_total {
            let help = "Total user and system CPU time";
            let counter = encoder.encode_descriptor(
                "process_cpu_seconds",
                help,
                None,
                MetricType::Counter,
            )?;
            ConstCounter::new(seconds).encode(counter)?;
        }
        let gauges = [
            (
                "process_resident_memory_bytes",
                "Resident memory",
                process.resident_memory_bytes,
            ),
            (
                "process_virtual_memory_bytes",
                "Virtual memory",
                process.virtual_memory_bytes,
            ),
            (
                "process_open_fds",
                "Open file descriptors",
                process.open_fds,
            ),
            (
                "process_max_fds",
                "Limit of open file descriptors",
                process.max_fds,
            ),
            (
                "process_start_time_seconds",
                "Start of the process, in seconds since the Unix epoch",
                process.start_time_seconds,
            ),
            ("process_threads", "Threads of the process", process.threads),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                let gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
                ConstGauge::new(value).encode(gauge)?;
            }
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
