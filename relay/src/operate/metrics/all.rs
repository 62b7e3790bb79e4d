//! All metrics of a relay.

use std::time::{Duration, Instant};

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::collectors::{Census, LogLines, Population};
use super::endpoint::AtEndpoint;
use super::reasons::{Dropped, Probes, Refusals, Rejected};
use super::series::one;
use super::waits::Waits;
use crate::protocol::endpoint::Endpoint;

#[derive(Debug)]
pub(crate) struct Metrics {
    series: Registry,
    census: Census,
    started: Instant,
    pub(super) server: AtEndpoint,
    pub(super) client: AtEndpoint,
    pub(crate) refusals: Refusals,
    pub(crate) dropped: Dropped,
    pub(crate) rejected: Rejected,
    pub(crate) probes: Probes,
    pub(crate) waits: Waits,
    pub(crate) grace_expiries: Counter,
    pub(crate) reclaims: Counter,
    pub(crate) takeovers: Counter,
    pub(crate) outbox_overflows: Counter,
    pub(crate) accept_errors: Counter,
}

impl Metrics {
    pub(crate) fn new(count: impl Fn() -> Population + Send + Sync + 'static) -> Self {
        let census = Census::new(count);
        let mut series = Registry::with_prefix("switchboard");
        series.register_collector(Box::new(census.clone()));
        series.register_collector(Box::new(LogLines));
        series.register(
            "build",
            "The version of the relay",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        let [server, client] = AtEndpoint::both(&mut series);
        Self {
            started: Instant::now(),
            census,
            server,
            client,
            refusals: Refusals::register(&mut series),
            dropped: Dropped::register(&mut series),
            rejected: Rejected::register(&mut series),
            probes: Probes::register(&mut series),
            waits: Waits::register(&mut series),
            grace_expiries: one(
                &mut series,
                "grace_expiries",
                "Graces that expired before the binary came back",
            ),
            reclaims: one(
                &mut series,
                "reclaims",
                "Server-ids claimed again during their grace",
            ),
            takeovers: one(
                &mut series,
                "takeovers",
                "Server-ids taken over from a binary that did not answer or was disconnecting",
            ),
            outbox_overflows: one(
                &mut series,
                "outbox_overflows",
                "Phones closed because their outbox was full",
            ),
            accept_errors: one(
                &mut series,
                "accept_errors",
                "Failed attempts to accept a connection, mostly because too many files were open",
            ),
            series,
        }
    }

    pub(crate) fn at(&self, endpoint: Endpoint) -> &AtEndpoint {
        match endpoint {
            Endpoint::Server => &self.server,
            Endpoint::Client => &self.client,
        }
    }

    /// Who is connected now.
    pub(crate) fn population(&self) -> Population {
        self.census.population()
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// All series, in the `OpenMetrics` text format.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.series).expect("writing to a string never fails");
        text
    }
}
