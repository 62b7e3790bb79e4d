//! Opening a WebSocket after the upgrade.

use std::sync::Arc;

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;

use super::reader::Reader;
use super::stream::Socket;
use super::writer::Writer;
use crate::connection::peer::Peer;
use crate::connection::relay::Relay;
use crate::protocol::endpoint::Endpoint;
use crate::transport::websocket::WebSocket;

/// Opens the WebSocket of an upgraded connection. Returns both halves.
pub(crate) fn open<'a>(
    relay: &'a Relay,
    upgraded: Upgraded,
    endpoint: Endpoint,
    peer: &Arc<Peer>,
) -> (Reader<'a>, Writer<'a>) {
    let max_frame = relay.config.max_frame as usize;
    let seen = Arc::clone(&peer.pulse.seen);
    let socket = Socket::new(WebSocket::new(TokioIo::new(upgraded), max_frame, seen));
    (
        Reader::new(socket.clone(), peer, relay),
        Writer::new(socket, peer, relay, endpoint),
    )
}
