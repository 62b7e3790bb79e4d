//! Names of connections: unique for all practical purposes, and not to be guessed.

/// `server-<server-id>-<8 hex>`, for a binary.
pub(crate) fn for_binary(server_id: &str) -> Result<String, getrandom::Error> {
    draw("server", server_id)
}

/// `client-<server-id>-<8 hex>`, for a phone.
pub(crate) fn for_phone(server_id: &str) -> Result<String, getrandom::Error> {
    draw("client", server_id)
}

fn draw(kind: &str, server_id: &str) -> Result<String, getrandom::Error> {
    Ok(format!("{kind}-{server_id}-{:08x}", getrandom::u32()?))
}
