//! The task of each connection, and the state that all connections share.

pub(crate) mod binary;
pub(crate) mod displaced;
pub(crate) mod expiry;
mod held;
pub(crate) mod outbox;
pub(crate) mod peer;
pub(crate) mod phone;
mod probe;
pub(crate) mod pulse;
pub(crate) mod push;
pub(crate) mod relay;
mod room;
pub(crate) mod socket;
pub(crate) mod who;
