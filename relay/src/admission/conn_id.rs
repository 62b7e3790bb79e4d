//! Names of connections: unique for all practical purposes, and not to be guessed.

use crate::protocol::endpoint::Endpoint;

/// `server-<server-id>-<8 hex>` for a binary, `client-<server-id>-<8 hex>` for a phone.
pub(crate) fn draw(endpoint: Endpoint, server_id: &str) -> Result<String, getrandom::Error> {
    let kind = endpoint.name();
    Ok(format!("{kind}-{server_id}-{:08x}", getrandom::u32()?))
}
