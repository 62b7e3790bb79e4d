//! The byte streams below WebSocket: TCP, TLS, HTTP/1.1, and the signs of life in their bytes.

mod frames;
pub(crate) mod http1;
pub(crate) mod seen;
pub(crate) mod tcp;
pub(crate) mod tls;
pub(crate) mod wire;
