//! WebSocket and the byte streams below it: TCP, TLS, HTTP/1.1, the signs of life in their bytes, and how many there may
//! be.

pub(crate) mod accept;
pub(crate) mod arrivals;
mod assembly;
pub(crate) mod caller;
pub(crate) mod health_check;
pub(crate) mod http1;
pub(crate) mod http_client;
pub(crate) mod places;
mod proxy_header;
pub(crate) mod seen;
pub(crate) mod tcp;
pub(crate) mod tls;
pub(crate) mod websocket;
mod write_limit;
