//! The checks of an upgrade request, in this order: rate limit, shutdown, origin, connection limits, headers, handshake.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use switchboard::Status;
use tracing::{debug, warn};

use super::headers::{self, BadHeader};
use super::rate::RateLimit;
use super::upgrade::{self, BadUpgrade};
use super::{conn_id, forwarded};
use crate::connection::peer::Peer;
use crate::connection::relay::Relay;
use crate::connection::who::{Who, about};
use crate::connection::{binary, phone};
use crate::protocol::endpoint::Endpoint;
use crate::transport::caller::Caller;
use crate::transport::places::{Full, Place};

/// Admits upgrade requests.
pub(crate) struct Gate {
    relay: Arc<Relay>,
    rate: RateLimit,
}

impl Gate {
    pub(crate) fn new(relay: &Arc<Relay>) -> Arc<Self> {
        let config = &relay.config;
        Arc::new(Self {
            relay: Arc::clone(relay),
            rate: RateLimit::new(config.rate_burst, config.rate_interval),
        })
    }

    /// Forgets the addresses whose full burst is available again.
    pub(crate) fn forget_idle(&self) {
        self.rate.forget();
    }
}

pub(crate) async fn server(
    State(gate): State<Arc<Gate>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    answer(&gate, Endpoint::Server, caller, request)
}

pub(crate) async fn client(
    State(gate): State<Arc<Gate>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    answer(&gate, Endpoint::Client, caller, request)
}

/// Why an upgrade was refused. The message is sent to the client.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("Too many upgrades from this address. Try again in {} s.", whole_seconds(*.0))]
    TooOften(Duration),
    #[error("The relay is shutting down. Try again later.")]
    Draining,
    #[error("The relay is full. Try again later.")]
    Full,
    #[error("Too many connections from this address. Close some of them.")]
    TooMany,
    #[error("Pages of this origin may not connect. Ask the operator of the relay to allow it.")]
    Origin,
    #[error("Only GET is allowed here.")]
    Method,
    #[error(transparent)]
    Header(#[from] BadHeader),
    #[error(transparent)]
    Upgrade(#[from] BadUpgrade),
    #[error("The relay cannot generate a random number. Try again later.")]
    NoConnId,
}

impl Refused {
    fn status(&self) -> StatusCode {
        match self {
            Self::TooOften(_) | Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::Draining | Self::Full => StatusCode::SERVICE_UNAVAILABLE,
            Self::Origin => StatusCode::FORBIDDEN,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Header(_) => StatusCode::BAD_REQUEST,
            Self::Upgrade(error) => error.status(),
            Self::NoConnId => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<Full> for Refused {
    fn from(full: Full) -> Self {
        match full {
            Full::All => Self::Full,
            Full::Address => Self::TooMany,
        }
    }
}

fn answer(gate: &Gate, endpoint: Endpoint, caller: Caller, mut request: Request) -> Response {
    let metrics = gate.relay.metrics.at(endpoint);
    let proxies = &gate.relay.config.trusted_proxies;
    let address = forwarded::client(proxies, caller.0, request.headers());
    let refused = match admit(gate, endpoint, address, &mut request) {
        Ok(response) => return response,
        Err(refused) => refused,
    };
    debug!(
        endpoint = endpoint.name(),
        server_id = headers::server_id(request.headers(), endpoint).ok(),
        %address,
        status = refused.status().as_u16(),
        error = %refused,
        "upgrade refused"
    );
    let count = match refused {
        Refused::TooOften(_) => &metrics.rate_limited,
        Refused::Draining => &metrics.draining,
        Refused::Full => &metrics.over_capacity,
        Refused::Origin => &metrics.forbidden,
        Refused::TooMany => &metrics.address_over_capacity,
        Refused::Method | Refused::Header(_) | Refused::Upgrade(_) => &metrics.bad_request,
        Refused::NoConnId => &metrics.failed,
    };
    count.inc();
    let mut response = (refused.status(), format!("{refused}\n")).into_response();
    let headers = response.headers_mut();
    match refused {
        Refused::TooOften(wait) => {
            headers.insert(header::RETRY_AFTER, whole_seconds(wait).into());
        }
        Refused::Method => {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
        }
        Refused::Upgrade(error) => error.advise(headers),
        Refused::Draining
        | Refused::Origin
        | Refused::Full
        | Refused::TooMany
        | Refused::Header(_)
        | Refused::NoConnId => {}
    }
    response
}

fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// Admits a request: returns the response, and spawns a task that serves the connection once it is upgraded.
fn admit(
    gate: &Gate,
    endpoint: Endpoint,
    address: IpAddr,
    request: &mut Request,
) -> Result<Response, Refused> {
    let Gate { relay, rate } = gate;
    if request.method() != Method::GET {
        return Err(Refused::Method);
    }
    if !upgrade::is_asked(request) {
        // This does not count against the rate limit: any web page can make a browser send such a request.
        headers::server_id(request.headers(), endpoint)?;
        return Ok(upgrade::answer(request)?);
    }
    rate.take(address).map_err(Refused::TooOften)?;
    if relay.draining.is_cancelled() {
        return Err(Refused::Draining);
    }
    let origins = &relay.config.allowed_origins;
    let mut sent = request.headers().get_all(header::ORIGIN).iter();
    if !sent.all(|origin| origins.allow(origin.as_bytes().trim_ascii())) {
        return Err(Refused::Origin);
    }
    let place = match relay.places.take(Some(address)) {
        Ok(place) => place,
        Err(full) => place_in_grace(relay, endpoint, request).ok_or(full)?,
    };
    let server_id = headers::server_id(request.headers(), endpoint)?;
    let claim_secret = headers::claim_secret(
        request.headers(),
        endpoint,
        relay.config.require_claim_secret,
    )?;
    let response = upgrade::answer(request)?;
    let conn_id = conn_id::draw(endpoint, &server_id).map_err(|error| {
        warn!(%error, "cannot generate a conn-id");
        Refused::NoConnId
    })?;
    let seen = request.extensions_mut().remove().unwrap_or_default();
    let outbox = relay.config.outbox as usize;
    let who = Who {
        endpoint,
        server_id,
        conn_id,
        address,
        label: headers::label(request.headers(), endpoint),
        claim_secret,
    };
    let peer = Peer::new(who, outbox, relay.config.max_phones as usize, seen);
    let claimed = match endpoint {
        Endpoint::Server => Some(binary::claim(relay, &peer)),
        Endpoint::Client => None,
    };
    let upgrade = hyper::upgrade::on(request);
    let connection = {
        let relay = Arc::clone(relay);
        async move {
            let metrics = relay.metrics.at(endpoint);
            match upgrade.await {
                Ok(upgraded) => {
                    metrics.accepted.inc();
                    if let Some(claimed) = claimed {
                        binary::serve(&relay, upgraded, claimed, peer, place).await;
                    } else {
                        phone::serve(&relay, upgraded, peer).await;
                        drop(place);
                    }
                }
                Err(error) => {
                    metrics.failed.inc();
                    about!(info, peer, %error, "upgrade failed");
                    if let Some(claimed) = claimed {
                        binary::abandon(&relay, claimed);
                    }
                }
            }
        }
    };
    // Tracked before the upgrade completes, so that a shutdown waits for it.
    relay.tasks.spawn(connection);
    Ok(response)
}

/// Takes the place of a grace for the binary that comes back.
fn place_in_grace(relay: &Relay, endpoint: Endpoint, request: &Request) -> Option<Place> {
    if endpoint != Endpoint::Server || upgrade::answer(request).is_err() {
        return None;
    }
    let server_id = headers::server_id(request.headers(), endpoint).ok()?;
    let server = relay.registry.server(&server_id)?;
    let binary = server.binary()?;
    let is_required = relay.config.require_claim_secret;
    let secret = headers::claim_secret(request.headers(), endpoint, is_required).ok()?;
    match server.status() {
        Status::Grace { .. } if binary.who().may_be_replaced(secret.as_ref()) => {
            binary.take_place()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::body::Body;
    use switchboard::Counts;

    use super::*;
    use crate::operate::config::Config;

    /// Returns a relay, and its response to a binary that claims "a". The upgrade itself fails: there is no connection.
    fn ask() -> (Arc<Relay>, Response) {
        let config = Config::from_args(["switchboard-relay"]).expect("all flags have defaults");
        let relay = Relay::new(config).expect("no files");
        let request = Request::builder()
            .header("Host", "relay")
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("X-Pyrycode-Server", "a")
            .header("X-Pyrycode-Version", "1.0")
            .header("User-Agent", "test");
        let request = request.body(Body::empty()).expect("a request");
        let caller = Caller(Ipv4Addr::LOCALHOST.into());
        let response = answer(&Gate::new(&relay), Endpoint::Server, caller, request);
        (relay, response)
    }

    #[tokio::test]
    async fn a_binary_holds_its_server_id_before_its_upgrade_is_answered() {
        let (relay, response) = ask();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert!(relay.registry.binary_for("a").is_some());
    }

    #[tokio::test]
    async fn an_upgrade_that_fails_leaves_no_grace_behind() {
        let (relay, _) = ask();
        let phone = Peer::new("p".into(), 1000, 1, Arc::default());
        let registered = relay.registry.register_phone("a", Arc::clone(&phone));
        registered.expect("the binary is there").detach();
        let binary = relay.registry.binary_for("a").expect("it has claimed");
        let lane = phone.uplink(1000);
        let sent = binary.offer_from(&lane, "1".into());
        sent.expect("there is room");
        drop(binary);
        relay.tasks.close();
        relay.tasks.wait().await;
        assert_eq!(relay.registry.counts(), Counts::default());
        assert_eq!(phone.ending().await.close.code, 1000);
        let undelivered = &relay.metrics.at(Endpoint::Server).undelivered;
        assert_eq!(undelivered.get(), 1);
    }
}
