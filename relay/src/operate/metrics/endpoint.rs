//! Counters kept separately for binaries and phones.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::series::{Label, by, family};
use super::striped::Striped;
use crate::protocol::endpoint::Endpoint;

/// The counters of one endpoint: of binaries, or of phones.
#[derive(Debug)]
pub(crate) struct AtEndpoint {
    pub(crate) accepted: Counter,
    pub(crate) rate_limited: Counter,
    pub(crate) draining: Counter,
    pub(crate) over_capacity: Counter,
    pub(crate) address_over_capacity: Counter,
    pub(crate) forbidden: Counter,
    pub(crate) unauthorized: Counter,
    pub(crate) access_unknown: Counter,
    pub(crate) bad_request: Counter,
    pub(crate) failed: Counter,
    /// Frames to these peers, written and flushed.
    pub(crate) forwarded: Forwarded,
    /// Frames to these peers that were accepted from the sender and not delivered.
    pub(crate) undelivered: Counter,
    pub(crate) heartbeat_timeouts: Counter,
    pub(crate) write_failures: Counter,
}

/// Frames and their bytes.
#[derive(Debug)]
pub(crate) struct Forwarded {
    pub(crate) frames: Striped,
    pub(crate) bytes: Striped,
}

impl AtEndpoint {
    /// Registers the counters of binaries, and those of phones.
    pub(super) fn both(series: &mut Registry) -> [Self; 2] {
        let upgrades: Family<[Label; 2], Counter> = family(
            series,
            "upgrades",
            "Upgrade requests, by endpoint and outcome",
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
            "Bytes of forwarded frames, by direction; frames to binaries count with their envelopes",
            "direction",
            directions,
        );
        let undelivered: [Counter; 2] = by(
            series,
            "frames_undelivered",
            "Frames that could not be delivered, by direction",
            "direction",
            directions,
        );
        let endpoints = [Endpoint::Server, Endpoint::Client];
        let names = endpoints.map(Endpoint::name);
        let timeouts: [Counter; 2] = by(
            series,
            "heartbeat_timeouts",
            "Peers closed because they did not answer a ping or make enough progress, by endpoint",
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
                draining: outcome("draining"),
                over_capacity: outcome("over_capacity"),
                address_over_capacity: outcome("address_over_capacity"),
                forbidden: outcome("forbidden"),
                unauthorized: outcome("unauthorized"),
                access_unknown: outcome("access_unknown"),
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

impl Forwarded {
    pub(crate) fn add(&self, frames: u64, bytes: u64) {
        self.frames.inc_by(frames);
        self.bytes.inc_by(bytes);
    }
}
