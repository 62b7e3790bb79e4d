//! `GET /healthz` and `GET /readyz`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;

/// The body of the response. Fields are sent in this order.
#[derive(Serialize)]
struct Health {
    status: &'static str,
    version: &'static str,
    connected_binaries: usize,
    connected_phones: usize,
    uptime_seconds: u64,
}

/// Answers with the state, the version and the counts.
pub(crate) async fn details(State(metrics): State<Arc<Metrics>>) -> Response {
    let population = metrics.population();
    let health = Health {
        status: "ok",
        version: env!("CARGO_PKG_VERSION"),
        connected_binaries: population.binaries,
        connected_phones: population.phones,
        uptime_seconds: metrics.uptime().as_secs(),
    };
    answer(serde_json::to_string(&health).expect("strings and numbers are always JSON"))
}

/// Answers with the state alone.
pub(crate) async fn state() -> Response {
    answer(r#"{"status":"ok"}"#.into())
}

/// Answers whether new connections are admitted: 503 from the signal to shut down on.
pub(crate) async fn ready(State(draining): State<CancellationToken>) -> Response {
    if draining.is_cancelled() {
        let body = answer(r#"{"status":"draining"}"#.into());
        (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
    } else {
        answer(r#"{"status":"ok"}"#.into())
    }
}

fn answer(body: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, body).into_response()
}
