//! Opening a WebSocket after the upgrade.

use std::sync::Arc;

use futures_util::StreamExt;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::reader::Reader;
use super::writer::Writer;
use crate::connection::peer::Peer;
use crate::connection::relay::Relay;
use crate::protocol::endpoint::Endpoint;
use crate::transport::wire::Wire;

/// The size of each connection's read buffer. The library's default is 128 KiB, which would be nearly all the memory of
/// an idle connection.
const READ_BUFFER: usize = 8 * 1024;

/// The size at which a batch is written. A connection keeps a buffer as large as its largest batch so far.
const WRITE_BUFFER: usize = 32 * 1024;

/// An upper bound on the bytes that an envelope adds to a frame.
const ENVELOPE: usize = 4 * 1024;

/// Opens the WebSocket of an upgraded connection. Returns both halves.
pub(crate) async fn open<'a>(
    relay: &'a Relay,
    upgraded: Upgraded,
    endpoint: Endpoint,
    peer: &Arc<Peer>,
) -> (Reader<'a>, Writer<'a>) {
    let max_frame = relay.config.max_frame as usize;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(WRITE_BUFFER + 2 * (max_frame + ENVELOPE))
        .max_frame_size(Some(max_frame))
        .max_message_size(Some(max_frame));
    let wire = Wire::new(TokioIo::new(upgraded), Arc::clone(&peer.pulse.seen));
    let socket = WebSocketStream::from_raw_socket(wire, Role::Server, Some(config)).await;
    let (sink, stream) = socket.split();
    (
        Reader::new(stream, peer, relay),
        Writer::new(sink, peer, relay, endpoint),
    )
}
