//! All metrics of a relay.

use std::time::{Duration, Instant};

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::collectors::{Census, CertificateExpiry, LogLines, Population, Process};
use super::endpoint::AtEndpoint;
use super::reasons::{
    AccessRequests, Admin, Disconnects, Dropped, Evictions, Page, Probes, PushWakes, Refusals,
    Rejected, Unheard,
};
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
    pub(crate) unheard: Unheard,
    pub(crate) page: Page,
    pub(crate) admin: Admin,
    pub(crate) evictions: Evictions,
    pub(crate) access_requests: AccessRequests,
    pub(crate) refusals: Refusals,
    pub(crate) dropped: Dropped,
    pub(crate) rejected: Rejected,
    pub(crate) probes: Probes,
    pub(crate) waits: Waits,
    pub(crate) disconnects: Disconnects,
    pub(crate) push_wakes: PushWakes,
    pub(crate) grace_expiries: Counter,
    pub(crate) reclaims: Counter,
    pub(crate) takeovers: Counter,
    pub(crate) outbox_overflows: Counter,
    pub(crate) accept_errors: Counter,
    pub(crate) certificate_expiry: CertificateExpiry,
}

impl Metrics {
    pub(crate) fn new(count: impl Fn() -> Population + Send + Sync + 'static) -> Self {
        let census = Census::new(count);
        let certificate_expiry = CertificateExpiry::default();
        let mut all = Registry::default();
        all.register_collector(Box::new(Process));
        let series = all.sub_registry_with_prefix("switchboard");
        series.register_collector(Box::new(certificate_expiry.clone()));
        series.register_collector(Box::new(census.clone()));
        series.register_collector(Box::new(LogLines));
        series.register(
            "build",
            "The version of the relay",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        let [server, client] = AtEndpoint::both(series);
        Self {
            started: Instant::now(),
            census,
            server,
            client,
            unheard: Unheard::register(series),
            page: Page::register(series),
            admin: Admin::register(series),
            evictions: Evictions::register(series),
            access_requests: AccessRequests::register(series),
            refusals: Refusals::register(series),
            dropped: Dropped::register(series),
            rejected: Rejected::register(series),
            probes: Probes::register(series),
            waits: Waits::register(series),
            disconnects: Disconnects::register(series),
            push_wakes: PushWakes::register(series),
            grace_expiries: one(
                series,
                "grace_expiries",
                "Graces that expired before the binary came back",
            ),
            reclaims: one(
                series,
                "reclaims",
                "Server-ids claimed again during their grace",
            ),
            takeovers: one(
                series,
                "takeovers",
                "Server-ids taken over from a binary that did not answer or was disconnecting",
            ),
            outbox_overflows: one(
                series,
                "outbox_overflows",
                "Phones closed because their outbox was full",
            ),
            accept_errors: one(
                series,
                "accept_errors",
                "Failed attempts to accept a connection, mostly because too many files were open",
            ),
            certificate_expiry,
            series: all,
        }
    }

    pub(crate) fn at(&self, endpoint: Endpoint) -> &AtEndpoint {
        match endpoint {
            Endpoint::Server => &self.server,
            Endpoint::Client => &self.client,
        }
    }

    /// How many are connected now.
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
