//! The WebSocket of a connection.

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;

use crate::transport::wire::Wire;

pub(super) type Socket = WebSocketStream<Wire<TokioIo<Upgraded>>>;
