//! The protocol on the wire: endpoints, secrets, envelopes, close codes. Values and text, no I/O.

pub(crate) mod claim_secret;
pub(crate) mod close;
pub(crate) mod endpoint;
pub mod envelope;
