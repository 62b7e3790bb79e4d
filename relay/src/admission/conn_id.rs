//! Random names of connections: unguessable, and unique for all practical purposes.

use crate::protocol::endpoint::Endpoint;

/// Draws a conn-id: `server-<server-id>-<8 hex>` for a binary, `client-<server-id>-<8 hex>` for a phone.
pub(crate) fn draw(endpoint: Endpoint, server_id: &str) -> Result<String, getrandom::Error> {
    let kind = endpoint.name();
    Ok(format!("{kind}-{server_id}-{:08x}", getrandom::u32()?))
}
