//! What stands before a connection: its rate, a place, the headers, the upgrade.

mod conn_id;
mod forwarded;
pub(crate) mod gate;
mod headers;
mod rate;
mod upgrade;
