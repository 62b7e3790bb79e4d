//! The admin API, on the metrics listener: lists the server-ids, and evicts them and their phones.
//!
//! Every path but that of the document needs the token. `openapi.json` describes the API. A test compares its
//! paths and methods with the routes below.

mod answer;
mod evict;
mod guard;
mod listing;
mod path;
mod query;
mod state;
pub(crate) mod token;

use std::sync::Arc;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use axum::{Router, middleware};

use self::answer::Refusal;
use self::state::Admin;
use self::token::Token;
use crate::connection::relay::Relay;

const DOCUMENT: &str = include_str!("openapi.json");

/// The routes of the API.
pub(crate) fn router(relay: &Arc<Relay>, token: &Arc<Token>) -> Router {
    let admin = Arc::new(Admin {
        relay: Arc::clone(relay),
        token: Arc::clone(token),
    });
    let servers = get(listing::servers).fallback(no_such_method);
    let server = get(listing::server)
        .delete(evict::server)
        .fallback(no_such_method);
    let phone = delete(evict::phone).fallback(no_such_method);
    Router::new()
        .route("/servers", servers)
        .route("/servers/{server_id}", server)
        .route("/servers/{server_id}/phones/{conn_id}", phone)
        .route_layer(middleware::from_fn_with_state(
            Arc::clone(&admin),
            guard::admit,
        ))
        .with_state(admin)
        .route("/openapi.json", get(document).fallback(no_such_method))
}

async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

/// The router adds `Allow`.
async fn no_such_method() -> Refusal {
    Refusal::method()
}
