//! The checks before an upgrade: rate limit, connection limit, headers, handshake, access file, access hook.

pub(crate) mod access;
mod conn_id;
mod forwarded;
pub(crate) mod gate;
mod headers;
mod rate;
mod upgrade;
