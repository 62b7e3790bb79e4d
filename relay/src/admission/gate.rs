//! The checks of an upgrade request, in this order: rate limit, shutdown, origin, connection limits, headers,
//! handshake, access file, access hook.

use std::fmt::Display;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use switchboard::Status;
use tracing::{debug, warn};

use super::access::file::AccessFile;
use super::access::{Access, Answer, NotUtf8, Problem, Question, Rejection, Terms};
use super::headers::{self, BadHeader};
use super::rate::RateLimit;
use super::upgrade::{self, BadUpgrade};
use super::{conn_id, forwarded};
use crate::connection::peer::Peer;
use crate::connection::relay::Relay;
use crate::connection::who::{Who, about};
use crate::connection::{binary, expiry, phone};
use crate::operate::error::Error;
use crate::protocol::endpoint::Endpoint;
use crate::transport::caller::Caller;
use crate::transport::places::Full;

/// Admits upgrade requests.
pub(crate) struct Gate {
    relay: Arc<Relay>,
    rate: RateLimit,
    access_file: Option<Arc<AccessFile>>,
    access: Option<Access>,
}

impl Gate {
    /// # Errors
    ///
    /// If the access hook cannot be asked with this configuration.
    pub(crate) fn new(
        relay: &Arc<Relay>,
        access_file: Option<Arc<AccessFile>>,
    ) -> Result<Arc<Self>, Error> {
        let config = &relay.config;
        Ok(Arc::new(Self {
            relay: Arc::clone(relay),
            rate: RateLimit::new(config.rate_burst, config.rate_interval),
            access_file,
            access: Access::new(config, &relay.metrics)?,
        }))
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
    answer(&gate, Endpoint::Server, caller, request).await
}

pub(crate) async fn client(
    State(gate): State<Arc<Gate>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    answer(&gate, Endpoint::Client, caller, request).await
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
    #[error(transparent)]
    NotUtf8(#[from] NotUtf8),
    #[error("{}", .0.advice())]
    Rejected(#[from] Rejection),
    #[error("The operator's access service asks for valid credentials. Send them and try again.")]
    Unauthorized(Vec<HeaderValue>),
    #[error("The operator's access service does not allow this. Ask the operator for access.")]
    NotAllowed,
    #[error("The operator's access service cannot be asked now. Try again later.")]
    AccessUnknown(Problem),
    #[error("The relay cannot generate a random number. Try again later.")]
    NoConnId,
}

impl Refused {
    fn status(&self) -> StatusCode {
        match self {
            Self::TooOften(_) | Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::Draining | Self::Full | Self::AccessUnknown(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Origin | Self::NotAllowed => StatusCode::FORBIDDEN,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::Rejected(rejection) => rejection.status(),
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Header(_) | Self::NotUtf8(_) => StatusCode::BAD_REQUEST,
            Self::Upgrade(error) => error.status(),
            Self::NoConnId => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What the client is not told.
    fn why(&self) -> Option<&dyn Display> {
        match self {
            Self::AccessUnknown(problem) => Some(problem),
            Self::Rejected(rejection) => Some(rejection),
            _ => None,
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

async fn answer(gate: &Gate, endpoint: Endpoint, caller: Caller, mut request: Request) -> Response {
    let metrics = gate.relay.metrics.at(endpoint);
    let proxies = &gate.relay.config.trusted_proxies;
    let address = forwarded::client(proxies, caller.0, request.headers());
    let refused = match admit(gate, endpoint, address, &mut request).await {
        Ok(response) => return response,
        Err(refused) => refused,
    };
    debug!(
        endpoint = endpoint.name(),
        server_id = headers::server_id(request.headers(), endpoint).ok(),
        %address,
        status = refused.status().as_u16(),
        error = %refused,
        why = refused.why().map(tracing::field::display),
        "upgrade refused"
    );
    let count = match refused {
        Refused::TooOften(_) => &metrics.rate_limited,
        Refused::Draining => &metrics.draining,
        Refused::Full => &metrics.over_capacity,
        Refused::Origin | Refused::NotAllowed => &metrics.forbidden,
        Refused::Unauthorized(_) => &metrics.unauthorized,
        Refused::Rejected(rejection) => match rejection.challenge() {
            None => &metrics.forbidden,
            Some(_) => &metrics.unauthorized,
        },
        Refused::AccessUnknown(_) => &metrics.access_unknown,
        Refused::TooMany => &metrics.address_over_capacity,
        Refused::Method | Refused::Header(_) | Refused::NotUtf8(_) | Refused::Upgrade(_) => {
            &metrics.bad_request
        }
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
        Refused::Unauthorized(challenges) => {
            for challenge in challenges {
                headers.append(header::WWW_AUTHENTICATE, challenge);
            }
        }
        Refused::Rejected(rejection) => {
            if let Some(challenge) = rejection.challenge() {
                headers.insert(header::WWW_AUTHENTICATE, challenge);
            }
        }
        Refused::Draining
        | Refused::Origin
        | Refused::Full
        | Refused::TooMany
        | Refused::Header(_)
        | Refused::NotUtf8(_)
        | Refused::NotAllowed
        | Refused::AccessUnknown(_)
        | Refused::NoConnId => {}
    }
    response
}

fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// Admits a request: returns the response, and spawns a task that serves the connection once it is upgraded.
async fn admit(
    gate: &Gate,
    endpoint: Endpoint,
    address: IpAddr,
    request: &mut Request,
) -> Result<Response, Refused> {
    let Gate { relay, rate, .. } = gate;
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
    let place = relay.places.take(Some(address));
    if let Err(full) = &place {
        in_grace(relay, endpoint, request).ok_or(*full)?;
    }
    let server_id = headers::server_id(request.headers(), endpoint)?;
    let claim_secret = headers::claim_secret(
        request.headers(),
        endpoint,
        relay.config.require_claim_secret,
    )?;
    let response = upgrade::answer(request)?;
    let client = (endpoint, &*server_id, address);
    let (token_name, terms) = permit(gate, client, request.headers()).await?;
    // Not before the hook has admitted the binary: nobody else may take the place of a grace.
    let place = match place {
        Ok(place) => place,
        Err(full) => {
            let incumbent = in_grace(relay, endpoint, request);
            let place = incumbent.and_then(|incumbent| incumbent.take_place());
            place.ok_or(full)?
        }
    };
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
    let most = relay.config.max_phones;
    let peer = Peer::new(who, outbox, most as usize, seen);
    let max_phones = terms.max_phones.map_or(most, |phones| phones.min(most));
    if let Some(token) = token_name {
        about!(info, peer, token, "token accepted");
    }
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
                    let _timer = expiry::start(&relay, &peer, terms.expires);
                    if let Some(claimed) = claimed {
                        binary::serve(&relay, upgraded, claimed, peer, place).await;
                    } else {
                        phone::serve(&relay, upgraded, peer, max_phones).await;
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

/// Checks the access file, and then asks the access hook. Returns the name of the client's token, and its terms.
async fn permit(
    gate: &Gate,
    (endpoint, server_id, address): (Endpoint, &str, IpAddr),
    headers: &HeaderMap,
) -> Result<(Option<String>, Terms), Refused> {
    let token_name = match &gate.access_file {
        Some(file) => file.check(endpoint, server_id, headers)?,
        None => None,
    };
    let Some(access) = &gate.access else {
        return Ok((token_name, Terms::default()));
    };
    let headers = access.headers(headers)?;
    let question = Question::new(endpoint, server_id, address, &headers);
    Ok((token_name, ask(&gate.relay, access, &question).await?))
}

/// Asks the access hook. A shutdown that begins meanwhile ends the wait.
async fn ask(relay: &Relay, access: &Access, question: &Question<'_>) -> Result<Terms, Refused> {
    let answer = tokio::select! {
        biased;
        () = relay.draining.cancelled() => return Err(Refused::Draining),
        answer = access.ask(question) => answer,
    };
    match answer {
        Ok(Answer::Admitted(terms)) => Ok(terms),
        Ok(Answer::Unauthorized(challenges)) => Err(Refused::Unauthorized(challenges)),
        Ok(Answer::Forbidden) => Err(Refused::NotAllowed),
        Err(problem) => Err(Refused::AccessUnknown(problem)),
    }
}

/// Returns the binary in grace that the request may replace. When the relay is full, its place serves for the
/// one that comes back.
fn in_grace(relay: &Relay, endpoint: Endpoint, request: &Request) -> Option<Arc<Peer>> {
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
            Some(Arc::clone(binary))
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
    async fn knock() -> (Arc<Relay>, Response) {
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
        let gate = Gate::new(&relay, None).expect("there is no hook");
        let response = answer(&gate, Endpoint::Server, caller, request).await;
        (relay, response)
    }

    #[tokio::test]
    async fn a_binary_holds_its_server_id_before_its_upgrade_is_answered() {
        let (relay, response) = knock().await;
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert!(relay.registry.binary_for("a").is_some());
    }

    #[tokio::test]
    async fn an_upgrade_that_fails_leaves_no_grace_behind() {
        let (relay, _) = knock().await;
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
