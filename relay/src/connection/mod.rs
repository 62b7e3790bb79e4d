//! One task for each connection, and what all of them share.

pub(crate) mod binary;
pub(crate) mod displaced;
pub(crate) mod outbox;
pub(crate) mod peer;
pub(crate) mod phone;
pub(crate) mod pulse;
pub(crate) mod relay;
pub(crate) mod socket;
