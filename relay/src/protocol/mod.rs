//! What is said on the wire: endpoints, envelopes, close codes. Values and text only.

pub(crate) mod close;
pub(crate) mod endpoint;
pub mod envelope;
