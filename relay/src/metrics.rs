//! What the relay counts, for Prometheus and for the page.
//!
//! All series exist from the start. What is counted for each frame goes to stripes, so that threads do not take a cache line
//! from one another.

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::counter::{Atomic, ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::endpoint::Endpoint;
use crate::logging;
use crate::peer::Peer;

/// How many stripes a counter of frames has.
const STRIPES: usize = 16;

#[derive(Debug)]
pub(crate) struct Metrics {
    series: Registry,
    connected: Connected,
    server: AtEndpoint,
    client: AtEndpoint,
    pub(crate) refusals: Refusals,
    pub(crate) dropped: Dropped,
    pub(crate) rejected: Rejected,
    pub(crate) probes: Probes,
    pub(crate) grace_expiries: Counter,
    pub(crate) reclaims: Counter,
    pub(crate) takeovers: Counter,
    pub(crate) outbox_overflows: Counter,
    pub(crate) accept_errors: Counter,
}

/// How things stand: who is connected, and what was counted since the start.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    binaries: usize,
    phones: usize,
    in_grace: usize,
    connections: usize,
    max_connections: usize,
    frames_to_binaries: u64,
    frames_to_phones: u64,
    bytes_to_binaries: u64,
    bytes_to_phones: u64,
    upgrades: u64,
    rate_limited: u64,
    over_capacity: u64,
    bad_requests: u64,
    server_id_claimed: u64,
    no_server: u64,
    too_many_phones: u64,
    grace_expiries: u64,
    reclaims: u64,
    takeovers: u64,
    outbox_overflows: u64,
    heartbeat_timeouts: u64,
    write_failures: u64,
    frames_undelivered: u64,
    envelopes_dropped: u64,
    messages_rejected: u64,
    log_lines_dropped: u64,
}

/// What is counted for binaries and for phones apart.
#[derive(Debug)]
pub(crate) struct AtEndpoint {
    pub(crate) accepted: Counter,
    pub(crate) rate_limited: Counter,
    pub(crate) over_capacity: Counter,
    pub(crate) bad_request: Counter,
    pub(crate) failed: Counter,
    /// What went out to them: handed to the system in full.
    pub(crate) forwarded: Forwarded,
    /// Frames for them that were accepted from their sender and not written.
    pub(crate) undelivered: Counter,
    pub(crate) heartbeat_timeouts: Counter,
    pub(crate) write_failures: Counter,
}

/// Who was turned away after the upgrade.
#[derive(Debug)]
pub(crate) struct Refusals {
    pub(crate) server_id_claimed: Counter,
    pub(crate) no_server: Counter,
    pub(crate) too_many_phones: Counter,
    pub(crate) conn_id_taken: Counter,
}

/// Frames and their bytes.
#[derive(Debug)]
pub(crate) struct Forwarded {
    pub(crate) frames: Striped,
    pub(crate) bytes: Striped,
}

/// Envelopes of binaries that led nowhere.
#[derive(Debug)]
pub(crate) struct Dropped {
    pub(crate) malformed: Counter,
    pub(crate) no_conn_id: Counter,
    pub(crate) empty: Counter,
    pub(crate) push_wake: Counter,
    pub(crate) unknown_phone: Counter,
    pub(crate) phone_leaving: Counter,
}

/// Messages for which the relay closed their sender.
#[derive(Debug)]
pub(crate) struct Rejected {
    pub(crate) too_large: Counter,
    pub(crate) too_slow: Counter,
    pub(crate) not_json: Counter,
    pub(crate) not_utf8: Counter,
    pub(crate) protocol_error: Counter,
}

/// How incumbents answered when another binary asked for their server-id.
#[derive(Debug)]
pub(crate) struct Probes {
    pub(crate) answered: Counter,
    pub(crate) silent: Counter,
}

impl Metrics {
    pub(crate) fn new(connected: Connected) -> Self {
        let mut series = Registry::with_prefix("switchboard");
        series.register_collector(Box::new(connected.clone()));
        series.register_collector(Box::new(LogLines));
        series.register(
            "build",
            "The version that runs",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        let [server, client] = AtEndpoint::both(&mut series);
        Self {
            connected,
            server,
            client,
            refusals: Refusals::register(&mut series),
            dropped: Dropped::register(&mut series),
            rejected: Rejected::register(&mut series),
            probes: Probes::register(&mut series),
            grace_expiries: one(
                &mut series,
                "grace_expiries",
                "Graces that ended without the binary",
            ),
            reclaims: one(
                &mut series,
                "reclaims",
                "Server-ids claimed again within their grace",
            ),
            takeovers: one(
                &mut series,
                "takeovers",
                "Server-ids taken over from a binary that did not answer, or was leaving",
            ),
            outbox_overflows: one(
                &mut series,
                "outbox_overflows",
                "Phones closed because their outbox was full",
            ),
            accept_errors: one(
                &mut series,
                "accept_errors",
                "Times that no connection could be accepted, for want of open files mostly",
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

    /// How things stand now.
    pub(crate) fn sample(&self) -> Sample {
        let [binaries, in_grace, phones, connections] = self.connected.counts();
        let Self {
            server,
            client,
            dropped,
            rejected,
            ..
        } = self;
        let both = |of: fn(&AtEndpoint) -> &Counter| of(server).get() + of(client).get();
        Sample {
            binaries,
            phones,
            in_grace,
            connections,
            max_connections: self.connected.max_connections,
            frames_to_binaries: server.forwarded.frames.get(),
            frames_to_phones: client.forwarded.frames.get(),
            bytes_to_binaries: server.forwarded.bytes.get(),
            bytes_to_phones: client.forwarded.bytes.get(),
            upgrades: both(|at| &at.accepted),
            rate_limited: both(|at| &at.rate_limited),
            over_capacity: both(|at| &at.over_capacity),
            bad_requests: both(|at| &at.bad_request),
            server_id_claimed: self.refusals.server_id_claimed.get(),
            no_server: self.refusals.no_server.get(),
            too_many_phones: self.refusals.too_many_phones.get(),
            grace_expiries: self.grace_expiries.get(),
            reclaims: self.reclaims.get(),
            takeovers: self.takeovers.get(),
            outbox_overflows: self.outbox_overflows.get(),
            heartbeat_timeouts: both(|at| &at.heartbeat_timeouts),
            write_failures: both(|at| &at.write_failures),
            frames_undelivered: both(|at| &at.undelivered),
            envelopes_dropped: dropped.sum(),
            messages_rejected: rejected.sum(),
            log_lines_dropped: logging::dropped_lines(),
        }
    }

    /// All series, in the text format of Prometheus.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.series).expect("a string takes all that is written");
        text
    }
}

impl Refusals {
    fn register(series: &mut Registry) -> Self {
        let [server_id_claimed, no_server, too_many_phones, conn_id_taken] = by(
            series,
            "refusals",
            "Connections closed because they could neither claim nor register, by kind",
            "kind",
            [
                "server_id_claimed",
                "no_server",
                "too_many_phones",
                "conn_id_taken",
            ],
        );
        Self {
            server_id_claimed,
            no_server,
            too_many_phones,
            conn_id_taken,
        }
    }
}

impl Dropped {
    fn register(series: &mut Registry) -> Self {
        let [
            malformed,
            no_conn_id,
            empty,
            push_wake,
            unknown_phone,
            phone_leaving,
        ] = by(
            series,
            "envelopes_dropped",
            "Envelopes of binaries that were dropped, by reason",
            "reason",
            [
                "malformed",
                "no_conn_id",
                "empty",
                "push_wake",
                "unknown_phone",
                "phone_leaving",
            ],
        );
        Self {
            malformed,
            no_conn_id,
            empty,
            push_wake,
            unknown_phone,
            phone_leaving,
        }
    }
}

impl Rejected {
    fn register(series: &mut Registry) -> Self {
        let [too_large, too_slow, not_json, not_utf8, protocol_error] = by(
            series,
            "messages_rejected",
            "Messages for which their sender was closed, by reason",
            "reason",
            [
                "too_large",
                "too_slow",
                "not_json",
                "not_utf8",
                "protocol_error",
            ],
        );
        Self {
            too_large,
            too_slow,
            not_json,
            not_utf8,
            protocol_error,
        }
    }
}

impl Probes {
    fn register(series: &mut Registry) -> Self {
        let [answered, silent] = by(
            series,
            "probes",
            "Pings to binaries whose server-id another one asked for, by outcome",
            "outcome",
            ["answered", "silent"],
        );
        Self { answered, silent }
    }
}

impl AtEndpoint {
    /// For binaries, and for phones.
    fn both(series: &mut Registry) -> [Self; 2] {
        let upgrades: Family<[Label; 2], Counter> = family(
            series,
            "upgrades",
            "Requests for an upgrade, by endpoint and outcome",
        );
        let directions = ["to_binary", "to_phone"];
        let frames: [Striped; 2] = by(
            series,
            "frames_forwarded",
            "Frames forwarded, by direction",
            "direction",
            directions,
        );
        let bytes: [Striped; 2] = by(
            series,
            "bytes_forwarded",
            "Bytes of the frames forwarded, by direction; towards binaries with their envelopes",
            "direction",
            directions,
        );
        let undelivered: [Counter; 2] = by(
            series,
            "frames_undelivered",
            "Frames that could not be delivered to their receiver, by direction",
            "direction",
            directions,
        );
        let endpoints = [Endpoint::Server, Endpoint::Client];
        let names = endpoints.map(Endpoint::name);
        let timeouts: [Counter; 2] = by(
            series,
            "heartbeat_timeouts",
            "Peers closed because they did not answer a ping, by endpoint",
            "endpoint",
            names,
        );
        let failures: [Counter; 2] = by(
            series,
            "write_failures",
            "Peers closed because a write failed or took too long, by endpoint",
            "endpoint",
            names,
        );
        let at = |endpoint: Endpoint| {
            let which = endpoint as usize;
            let outcome = |outcome| {
                let labels = [("endpoint", endpoint.name()), ("outcome", outcome)];
                upgrades.get_or_create_owned(&labels)
            };
            Self {
                accepted: outcome("accepted"),
                rate_limited: outcome("rate_limited"),
                over_capacity: outcome("over_capacity"),
                bad_request: outcome("bad_request"),
                failed: outcome("failed"),
                forwarded: Forwarded {
                    frames: frames[which].clone(),
                    bytes: bytes[which].clone(),
                },
                undelivered: undelivered[which].clone(),
                heartbeat_timeouts: timeouts[which].clone(),
                write_failures: failures[which].clone(),
            }
        };
        endpoints.map(at)
    }
}

impl Dropped {
    fn sum(&self) -> u64 {
        let Self {
            malformed,
            no_conn_id,
            empty,
            push_wake,
            unknown_phone,
            phone_leaving,
        } = self;
        let all = [
            malformed,
            no_conn_id,
            empty,
            push_wake,
            unknown_phone,
            phone_leaving,
        ];
        all.into_iter().map(Counter::get).sum()
    }
}

impl Rejected {
    fn sum(&self) -> u64 {
        let Self {
            too_large,
            too_slow,
            not_json,
            not_utf8,
            protocol_error,
        } = self;
        let all = [too_large, too_slow, not_json, not_utf8, protocol_error];
        all.into_iter().map(Counter::get).sum()
    }
}

impl Forwarded {
    pub(crate) fn add(&self, frames: u64, bytes: u64) {
        self.frames.inc_by(frames);
        self.bytes.inc_by(bytes);
    }
}

type Label = (&'static str, &'static str);

fn one(series: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    series.register(name, help, counter.clone());
    counter
}

fn family<const N: usize, C>(series: &mut Registry, name: &str, help: &str) -> Family<[Label; N], C>
where
    Family<[Label; N], C>: Default + Clone + Debug + EncodeMetric + Send + Sync + 'static,
{
    let family = Family::default();
    series.register(name, help, family.clone());
    family
}

/// A counter for each value of a label.
fn by<const N: usize, C>(
    series: &mut Registry,
    name: &str,
    help: &str,
    label: &'static str,
    values: [&'static str; N],
) -> [C; N]
where
    C: Default + Clone + Debug + EncodeMetric + TypedMetric + Send + Sync + 'static,
{
    let family: Family<[Label; 1], C> = family(series, name, help);
    values.map(|value| family.get_or_create_owned(&[(label, value)]))
}

/// A counter that many threads move at once.
pub(crate) type Striped = Counter<u64, Stripes>;

#[derive(Debug, Default)]
pub(crate) struct Stripes([CachePadded<AtomicU64>; STRIPES]);

thread_local! {
    static STRIPE: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES
    };
}

impl Atomic<u64> for Stripes {
    fn inc(&self) -> u64 {
        self.inc_by(1)
    }

    fn inc_by(&self, by: u64) -> u64 {
        let stripe = STRIPE.with(|stripe| *stripe);
        self.0[stripe].fetch_add(by, Ordering::Relaxed)
    }

    fn get(&self) -> u64 {
        self.0.iter().map(|it| it.load(Ordering::Relaxed)).sum()
    }
}

/// The lines that the log has lost, asked when somebody wants to know.
#[derive(Debug)]
struct LogLines;

impl Collector for LogLines {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Lines of the log that were dropped because stderr did not take them";
        let counter =
            encoder.encode_descriptor("log_lines_dropped", help, None, MetricType::Counter)?;
        ConstCounter::new(logging::dropped_lines()).encode(counter)
    }
}

/// Who is connected, asked when somebody wants to know.
#[derive(Clone, Debug)]
pub(crate) struct Connected {
    registry: switchboard::Registry<Peer>,
    places: Arc<Semaphore>,
    max_connections: usize,
}

impl Connected {
    pub(crate) fn new(
        registry: switchboard::Registry<Peer>,
        places: Arc<Semaphore>,
        max_connections: usize,
    ) -> Self {
        Self {
            registry,
            places,
            max_connections,
        }
    }

    /// Binaries without those in grace, binaries in grace, phones, connections.
    pub(crate) fn counts(&self) -> [usize; 4] {
        let counts = self.registry.counts();
        let connections = self.max_connections - self.places.available_permits();
        let binaries = counts.binaries.saturating_sub(counts.in_grace);
        [binaries, counts.in_grace, counts.phones, connections]
    }
}

impl Collector for Connected {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let about = [
            (
                "connected_binaries",
                "Binaries that hold a server-id, without those in grace",
            ),
            (
                "binaries_in_grace",
                "Server-ids kept for a binary that went away",
            ),
            ("connected_phones", "Phones that are registered"),
            (
                "connections",
                "WebSocket connections, with those that are about to be refused or are closing",
            ),
        ];
        for ((name, help), count) in about.into_iter().zip(self.counts()) {
            let gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(u64::try_from(count).unwrap_or(u64::MAX)).encode(gauge)?;
        }
        Ok(())
    }
}
