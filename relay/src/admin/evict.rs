//! Evicting a server-id, or one phone.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::StatusCode;
use tracing::info;

use super::answer::Refusal;
use super::path::{self, Segments};
use super::query::{number, parameters};
use super::state::Admin;
use crate::connection::displaced;
use crate::connection::who::about;
use crate::protocol::close::{Close, may_be_sent};

/// The close code if the request names none: a policy violation.
const USUAL_CODE: u16 = 1008;

/// Closes the binary of a server-id and its phones. The server-id is free at once: there is no grace.
pub(super) async fn server(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
    server_id: Segments<String>,
    RawQuery(query): RawQuery,
) -> Result<StatusCode, Refusal> {
    let server_id = path::decoded(server_id)?;
    let close = close(query.as_deref())?;
    let displaced = admin.relay.registry.evict_server(&server_id);
    let displaced = displaced.ok_or(Refusal::no_server())?;
    let (code, phones) = (close.code, displaced.phones.len());
    displaced::evict(&displaced, &close);
    admin.relay.metrics.evictions.server_id.inc();
    let operator = caller.ip().to_canonical();
    if let Some(binary) = &displaced.binary {
        about!(info, binary, %operator, code, phones, "server-id evicted");
    } else {
        info!(server_id, %operator, code, phones, "server-id evicted");
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Closes one phone. It leaves as any phone that the relay closes.
pub(super) async fn phone(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
    names: Segments<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<StatusCode, Refusal> {
    let (server_id, conn_id) = path::decoded(names)?;
    let close = close(query.as_deref())?;
    let phone = admin.relay.registry.phone_for(&server_id, &conn_id);
    let phone = phone.ok_or(Refusal::no_phone())?;
    let code = close.code;
    if !phone.end(close) {
        // It is being closed for another reason already.
        return Err(Refusal::no_phone());
    }
    admin.relay.metrics.evictions.phone.inc();
    let operator = caller.ip().to_canonical();
    about!(info, phone, %operator, code, "phone evicted");
    Ok(StatusCode::NO_CONTENT)
}

fn close(query: Option<&str>) -> Result<Close, Refusal> {
    let [code] = parameters(query, ["code"])?;
    let Some(code) = code else {
        return Ok(Close::evicted(USUAL_CODE));
    };
    let code = number(&code).filter(|code| may_be_sent(*code));
    let why = "code must be from 1000 to 1003, 1007 to 1014 or 3000 to 4999";
    code.map(Close::evicted).ok_or(Refusal::bad_request(why))
}
