//! A sample of the metrics, for the page.

use prometheus_client::metrics::counter::Counter;
use serde::Serialize;

use super::all::Metrics;
use super::collectors::Population;
use super::endpoint::AtEndpoint;
use crate::operate::logging;

/// How many are connected, and the counters since the start.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    #[serde(flatten)]
    population: Population,
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

impl Metrics {
    /// Takes a sample.
    pub(crate) fn sample(&self) -> Sample {
        let Self {
            server,
            client,
            refusals,
            dropped,
            rejected,
            ..
        } = self;
        let both = |of: fn(&AtEndpoint) -> &Counter| of(server).get() + of(client).get();
        Sample {
            population: self.population(),
            frames_to_binaries: server.forwarded.frames.get(),
            frames_to_phones: client.forwarded.frames.get(),
            bytes_to_binaries: server.forwarded.bytes.get(),
            bytes_to_phones: client.forwarded.bytes.get(),
            upgrades: both(|at| &at.accepted),
            rate_limited: both(|at| &at.rate_limited),
            over_capacity: both(|at| &at.over_capacity) + both(|at| &at.address_over_capacity),
            bad_requests: both(|at| &at.bad_request),
            server_id_claimed: refusals.server_id_claimed.get() + refusals.too_many_claims.get(),
            no_server: refusals.no_server.get(),
            too_many_phones: refusals.too_many_phones.get(),
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
}
