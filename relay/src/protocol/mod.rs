//! The protocol on the wire: endpoints, envelopes, close codes. Values and text, no I/O.

pub(crate) mod close;
pub(crate) mod endpoint;
pub mod envelope;
