//! Admits requests that have the token. Counts all requests, and logs those that are not fulfilled.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::debug;

use super::answer::{Refusal, Why};
use super::state::Admin;

pub(super) async fn admit(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let method = request.method().clone();
    // Without the query, which the API never needs a secret in, but a caller might put one there.
    let path = request.uri().path().to_owned();
    let response = if admin.token.admits(request.headers()) {
        next.run(request).await
    } else {
        Refusal::unauthorized().into_response()
    };
    let status = response.status();
    let counts = &admin.relay.metrics.admin;
    let count = match status {
        StatusCode::UNAUTHORIZED => &counts.unauthorized,
        StatusCode::NOT_FOUND => &counts.not_found,
        _ if status.is_success() => &counts.accepted,
        _ if status.is_server_error() => &counts.failed,
        _ => &counts.bad_request,
    };
    count.inc();
    if let Some(Why(why)) = response.extensions().get() {
        let address = caller.ip().to_canonical();
        let status = status.as_u16();
        debug!(%address, %method, path, status, why, "admin request refused");
    }
    response
}
