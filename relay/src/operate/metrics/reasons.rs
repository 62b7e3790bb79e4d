//! Counters by reason: access questions, refused connections, dropped envelopes, rejected messages, probes, push
//! notifications.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::series::by;

/// Requests that were not read to their end.
#[derive(Clone, Debug)]
pub(crate) struct Unheard {
    pub(crate) too_many: Counter,
    pub(crate) too_many_from_address: Counter,
    pub(crate) headers_too_large: Counter,
    pub(crate) proxy_header: Counter,
}

/// Requests to the metrics listener that were refused or given up.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) too_many: Counter,
    pub(crate) wrong_host: Counter,
    pub(crate) not_read: Counter,
}

/// Requests to the admin API.
#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) accepted: Counter,
    pub(crate) unauthorized: Counter,
    pub(crate) bad_request: Counter,
    pub(crate) not_found: Counter,
    pub(crate) failed: Counter,
}

/// Evictions by an operator.
#[derive(Debug)]
pub(crate) struct Evictions {
    pub(crate) server_id: Counter,
    pub(crate) phone: Counter,
}

/// Connections refused after the upgrade.
#[derive(Debug)]
pub(crate) struct Refusals {
    pub(crate) server_id_claimed: Counter,
    pub(crate) too_many_claims: Counter,
    pub(crate) wrong_claim_secret: Counter,
    pub(crate) no_server: Counter,
    pub(crate) too_many_phones: Counter,
    pub(crate) nothing_said: Counter,
    pub(crate) conn_id_taken: Counter,
    pub(crate) access_expired: Counter,
}

/// Questions for the access hook.
#[derive(Debug)]
pub(crate) struct AccessRequests {
    pub(crate) admitted: Counter,
    pub(crate) refused: Counter,
    pub(crate) failed: Counter,
    /// Not asked, because the answer was known.
    pub(crate) remembered: Counter,
}

/// Envelopes from binaries that were dropped.
#[derive(Debug)]
pub(crate) struct Dropped {
    pub(crate) malformed: Counter,
    pub(crate) no_conn_id: Counter,
    pub(crate) empty: Counter,
    pub(crate) push_wake: Counter,
    pub(crate) unknown_phone: Counter,
    pub(crate) phone_leaving: Counter,
}

/// Messages whose sender was closed.
#[derive(Debug)]
pub(crate) struct Rejected {
    pub(crate) too_large: Counter,
    pub(crate) too_slow: Counter,
    pub(crate) not_json: Counter,
    pub(crate) not_utf8: Counter,
    pub(crate) protocol_error: Counter,
}

/// Pings to peers whose place another one claimed.
#[derive(Clone, Debug)]
pub(crate) struct Probes {
    pub(crate) answered: Counter,
    pub(crate) silent: Counter,
}

/// Connections that ended after their upgrade, by who ended them.
#[derive(Debug)]
pub(crate) struct Disconnects {
    pub(crate) peer: Counter,
    pub(crate) relay: Counter,
    pub(crate) network: Counter,
}

/// Push notifications that binaries asked for.
#[derive(Clone, Debug)]
pub(crate) struct PushWakes {
    pub(crate) sent: Counter,
    pub(crate) failed: Counter,
    pub(crate) rate_limited: Counter,
    pub(crate) too_many: Counter,
}

impl PushWakes {
    pub(super) fn register(series: &mut Registry) -> Self {
        let [sent, failed, rate_limited, too_many] = by(
            series,
            "push_wakes",
            "Push notifications that binaries asked for, by outcome",
            "outcome",
            ["sent", "failed", "rate_limited", "too_many"],
        );
        Self {
            sent,
            failed,
            rate_limited,
            too_many,
        }
    }
}

impl Disconnects {
    pub(super) fn register(series: &mut Registry) -> Self {
        let [peer, relay, network] = by(
            series,
            "disconnects",
            "Connections that ended after their upgrade, by who ended them",
            "by",
            ["peer", "relay", "network"],
        );
        Self {
            peer,
            relay,
            network,
        }
    }

    /// How many there were by peer, by relay and by network.
    pub(crate) fn so_far(&self) -> [u64; 3] {
        [&self.peer, &self.relay, &self.network].map(Counter::get)
    }
}

impl Unheard {
    pub(super) fn register(series: &mut Registry) -> Self {
        let [
            too_many,
            too_many_from_address,
            headers_too_large,
            proxy_header,
        ] = by(
            series,
            "requests_unheard",
            "Requests not read to their end, by reason",
            "reason",
            [
                "too_many",
                "too_many_from_address",
                "headers_too_large",
                "proxy_header",
            ],
        );
        Self {
            too_many,
            too_many_from_address,
            headers_too_large,
            proxy_header,
        }
    }
}

impl Page {
    pub(super) fn register(series: &mut Registry) -> Self {
        let [too_many, wrong_host, not_read] = by(
            series,
            "page_refusals",
            "Connections to the metrics listener that were refused or closed, by reason",
            "reason",
            ["too_many", "wrong_host", "not_read"],
        );
        Self {
            too_many,
            wrong_host,
            not_read,
        }
    }
}

impl Admin {
    pub(super) fn register(series: &mut Registry) -> Self {
        let [accepted, unauthorized, bad_request, not_found, failed] = by(
            series,
            "admin_requests",
            "Requests to the admin API, by outcome",
            "outcome",
            [
                "accepted",
                "unauthorized",
                "bad_request",
                "not_found",
                "failed",
            ],
        );
        Self {
            accepted,
            unauthorized,
            bad_request,
            not_found,
            failed,
        }
    }
}

impl Evictions {
    pub(super) fn register(series: &mut Registry) -> Self {
        let [server_id, phone] = by(
            series,
            "evictions",
            "Server-ids and phones that an operator evicted, by kind",
            "kind",
            ["server_id", "phone"],
        );
        Self { server_id, phone }
    }
}

impl Refusals {
    pub(super) fn register(series: &mut Registry) -> Self {
        let [
            server_id_claimed,
            too_many_claims,
            wrong_claim_secret,
            no_server,
            too_many_phones,
            nothing_said,
            conn_id_taken,
            access_expired,
        ] = by(
            series,
            "refusals",
            "Connections closed because they could not claim or register, said nothing, or had access for a time, by kind",
            "kind",
            [
                "server_id_claimed",
                "too_many_claims",
                "wrong_claim_secret",
                "no_server",
                "too_many_phones",
                "nothing_said",
                "conn_id_taken",
                "access_expired",
            ],
        );
        Self {
            server_id_claimed,
            too_many_claims,
            wrong_claim_secret,
            no_server,
            too_many_phones,
            nothing_said,
            conn_id_taken,
            access_expired,
        }
    }
}

impl AccessRequests {
    pub(super) fn register(series: &mut Registry) -> Self {
        let [admitted, refused, failed, remembered] = by(
            series,
            "access_requests",
            "Questions for the access hook, by outcome",
            "outcome",
            ["admitted", "refused", "failed", "remembered"],
        );
        Self {
            admitted,
            refused,
            failed,
            remembered,
        }
    }
}

impl Dropped {
    pub(super) fn register(series: &mut Registry) -> Self {
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
            "Envelopes from binaries that were dropped, by reason",
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

    pub(super) fn sum(&self) -> u64 {
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
    pub(super) fn register(series: &mut Registry) -> Self {
        let [too_large, too_slow, not_json, not_utf8, protocol_error] = by(
            series,
            "messages_rejected",
            "Messages whose sender was closed, by reason",
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

    pub(super) fn sum(&self) -> u64 {
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

impl Probes {
    pub(super) fn register(series: &mut Registry) -> Self {
        let [answered, silent] = by(
            series,
            "probes",
            "Pings to peers whose place another one claimed, by outcome",
            "outcome",
            ["answered", "silent"],
        );
        Self { answered, silent }
    }
}
