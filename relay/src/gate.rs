//! What stands before a connection, in this order: the rate of its address, a place, the headers, the upgrade.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tracing::{debug, warn};

use crate::conn_id;
use crate::endpoint::Endpoint;
use crate::forwarded;
use crate::headers::{self, BadHeader};
use crate::relay::Relay;
use crate::{binary, phone};

type Caller = ConnectInfo<SocketAddr>;

pub(crate) async fn server(
    State(relay): State<Arc<Relay>>,
    caller: Caller,
    request: Request,
) -> Response {
    answer(&relay, Endpoint::Server, caller, request)
}

pub(crate) async fn client(
    State(relay): State<Arc<Relay>>,
    caller: Caller,
    request: Request,
) -> Response {
    answer(&relay, Endpoint::Client, caller, request)
}

/// Why there is no upgrade, in a sentence for the client.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("Too many upgrades from this address. Try again in {} s.", whole_seconds(*.0))]
    TooOften(Duration),
    #[error("The relay is full. Try again later.")]
    Full,
    #[error(transparent)]
    Header(#[from] BadHeader),
    #[error("This is not a WebSocket upgrade: {0}.")]
    NoUpgrade(tokio_tungstenite::tungstenite::Error),
    #[error("The relay is out of order. Try again later.")]
    NoConnId,
}

fn answer(
    relay: &Arc<Relay>,
    endpoint: Endpoint,
    ConnectInfo(caller): Caller,
    request: Request,
) -> Response {
    let metrics = relay.metrics.at(endpoint);
    let refused = match admit(relay, endpoint, caller, request) {
        Ok(response) => return response,
        Err(refused) => refused,
    };
    let endpoint = endpoint.name();
    debug!(endpoint, %caller, %refused, "upgrade refused");
    let (count, status) = match refused {
        Refused::TooOften(_) => (&metrics.rate_limited, StatusCode::TOO_MANY_REQUESTS),
        Refused::Full => (&metrics.over_capacity, StatusCode::SERVICE_UNAVAILABLE),
        Refused::Header(_) | Refused::NoUpgrade(_) => {
            (&metrics.bad_request, StatusCode::BAD_REQUEST)
        }
        Refused::NoConnId => (&metrics.failed, StatusCode::INTERNAL_SERVER_ERROR),
    };
    count.inc();
    let sentence = format!("{refused}\n");
    match refused {
        Refused::TooOften(wait) => {
            let wait = whole_seconds(wait).to_string();
            (status, [(header::RETRY_AFTER, wait)], sentence).into_response()
        }
        _ => (status, sentence).into_response(),
    }
}

fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// Upgrades the connection, and hands the socket over to its task.
fn admit(
    relay: &Arc<Relay>,
    endpoint: Endpoint,
    caller: SocketAddr,
    mut request: Request,
) -> Result<Response, Refused> {
    let trusted = &relay.config.trusted_proxies;
    let client = forwarded::client(caller.ip(), request.headers(), trusted);
    relay.rate.take(client).map_err(Refused::TooOften)?;
    let place = Arc::clone(&relay.places).try_acquire_owned();
    let place = place.map_err(|_| Refused::Full)?;
    let server_id = headers::server_id(request.headers(), endpoint)?;
    let response = create_response_with_body(&request, Body::empty).map_err(Refused::NoUpgrade)?;
    let conn_id = conn_id::draw(endpoint, &server_id).map_err(|error| {
        warn!(%error, "no random conn-id to be had");
        Refused::NoConnId
    })?;
    let upgrade = hyper::upgrade::on(&mut request);
    let connection = {
        let relay = Arc::clone(relay);
        async move {
            let metrics = relay.metrics.at(endpoint);
            match upgrade.await {
                Ok(upgraded) => {
                    metrics.accepted.inc();
                    match endpoint {
                        Endpoint::Server => {
                            binary::serve(&relay, upgraded, server_id, conn_id).await;
                        }
                        Endpoint::Client => {
                            phone::serve(&relay, upgraded, server_id, conn_id).await;
                        }
                    }
                }
                Err(error) => {
                    metrics.failed.inc();
                    debug!(%error, "upgrade failed");
                }
            }
            drop(place);
        }
    };
    // Spawned by the tracker now, so that a shutdown waits for an upgrade under way.
    relay.tasks.spawn(connection);
    Ok(response)
}
