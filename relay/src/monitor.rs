//! The listener for operators: metrics, and a page about them.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::health;
use crate::relay::Relay;

pub(crate) fn router(relay: &Arc<Relay>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(health::healthz))
        .with_state(Arc::clone(relay))
}

async fn metrics(State(relay): State<Arc<Relay>>) -> Response {
    let format = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, format)], relay.metrics.text()).into_response()
}
