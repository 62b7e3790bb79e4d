//! The WebSocket of a connection, and its end.

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;

use crate::transport::wire::Wire;

pub(super) type Socket = WebSocketStream<Wire<TokioIo<Upgraded>>>;

/// The connection is over: the peer closed or dropped it, or the relay gave it up.
#[derive(Debug)]
pub(crate) struct Gone {
    /// The peer's close code, or 1001.
    pub(crate) code: u16,
}

impl Gone {
    pub(crate) const WITHOUT_CODE: Self = Self { code: 1001 };
}
