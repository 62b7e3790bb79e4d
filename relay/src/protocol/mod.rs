//! The protocol on the wire: endpoints, secrets, tokens, envelopes, close codes. Values and text, no I/O.

pub(crate) mod bearer;
pub(crate) mod claim_secret;
pub(crate) mod close;
pub(crate) mod endpoint;
pub mod envelope;
