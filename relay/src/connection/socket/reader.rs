//! The half of a WebSocket that reads.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use prometheus_client::metrics::counter::Counter;
use tungstenite::Utf8Bytes;
use tungstenite::error::{Error, ProtocolError};
use tungstenite::protocol::Message;

use super::stream::Socket;
use super::unfinished::Unfinished;
use crate::connection::peer::Peer;
use crate::connection::relay::Relay;
use crate::connection::who::Gone;
use crate::operate::metrics::Rejected;
use crate::protocol::close::Close;

/// What can still be read from the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Open,
    /// The peer sent a close frame, which the library answers.
    Closed,
    /// The peer sent a close frame that was withheld from the library, and that the relay answers. Nothing is read
    /// after it.
    ClosedUnseen,
    /// The peer sent bytes that are not valid WebSocket. Nothing after them can be read as frames.
    Garbled,
}

/// The half that reads from the peer.
pub(crate) struct Reader<'a> {
    pub(super) socket: Socket,
    peer: Arc<Peer>,
    relay: &'a Relay,
    pub(super) state: State,
    unfinished: Unfinished,
}

/// The next event on the read side.
pub(super) enum Event {
    Message(Message),
    Failed(Error),
    ClosedUnseen(Close),
    TooSlow,
    Gone,
}

impl<'a> Reader<'a> {
    pub(super) fn new(socket: Socket, peer: &Arc<Peer>, relay: &'a Relay) -> Self {
        Self {
            socket,
            peer: Arc::clone(peer),
            relay,
            state: State::Open,
            unfinished: Unfinished::default(),
        }
    }

    /// Returns the next frame from the peer. The library answers pings.
    pub(crate) async fn frame(&mut self) -> Result<Utf8Bytes, Gone> {
        let relay = self.relay;
        let rejected = &relay.metrics.rejected;
        loop {
            match poll_fn(|context| self.poll(context)).await {
                Event::Message(Message::Text(frame)) => return Ok(frame),
                Event::Message(Message::Binary(frame)) => {
                    // All frames are forwarded as text.
                    let frame = Utf8Bytes::try_from(frame);
                    return frame.map_err(|_| self.reject(&rejected.not_utf8, Close::NOT_UTF8));
                }
                Event::Message(Message::Pong(payload)) => self.peer.pulse.pong(&payload),
                Event::Message(Message::Ping(_) | Message::Frame(_)) => {}
                Event::Message(Message::Close(frame)) => {
                    self.state = State::Closed;
                    return Err(Gone::ClosedByPeer(frame.map(Close::from)));
                }
                Event::ClosedUnseen(close) => {
                    self.state = State::ClosedUnseen;
                    self.peer.abort(close.clone());
                    return Err(Gone::ClosedByPeer(Some(close)));
                }
                Event::TooSlow => return Err(self.reject(&rejected.too_slow, Close::TOO_SLOW)),
                Event::Failed(error) => {
                    let Some((count, close)) = judge(rejected, &error) else {
                        return Err(Gone::Broken(error));
                    };
                    self.state = State::Garbled;
                    return Err(self.reject(count, close));
                }
                Event::Gone => return Err(Gone::Broken(Error::ConnectionClosed)),
            }
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        if let Poll::Ready(event) = self.poll_stream(context) {
            return Poll::Ready(event);
        }
        let limit = self.relay.config.message_timeout;
        match self.peer.pulse.seen.unfinished() {
            Some(number) => self
                .unfinished
                .poll(number, limit, context)
                .map(|()| Event::TooSlow),
            None => Poll::Pending,
        }
    }

    pub(super) fn poll_stream(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        let mut socket = self.socket.lock();
        if let Poll::Ready(next) = socket.poll_message(context) {
            return Poll::Ready(match next {
                Ok(message) => Event::Message(message),
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => Event::Gone,
                Err(error) => Event::Failed(error),
            });
        }
        match socket.withheld_close() {
            Some(close) => Poll::Ready(Event::ClosedUnseen(close.clone().into())),
            None => Poll::Pending,
        }
    }

    /// Closes the peer because of a message that it sent.
    fn reject(&self, count: &Counter, close: Close) -> Gone {
        count.inc();
        self.peer.end(close);
        Gone::ClosedByRelay
    }
}

/// Returns the counter and the close for an error that the peer caused, or `None` if the peer is gone.
fn judge<'a>(rejected: &'a Rejected, error: &Error) -> Option<(&'a Counter, Close)> {
    Some(match error {
        Error::Capacity(_) => (&rejected.too_large, Close::TOO_LARGE),
        Error::Utf8(_) => (&rejected.not_utf8, Close::NOT_UTF8),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => return None,
        Error::Protocol(_) => (&rejected.protocol_error, Close::PROTOCOL_ERROR),
        _ => return None,
    })
}
