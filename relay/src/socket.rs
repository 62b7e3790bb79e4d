//! A WebSocket in two halves, and how it is closed.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{FutureExt, SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

use crate::close::Close;
use crate::endpoint::Endpoint;
use crate::peer::{Backlog, Manner, Peer, Queued};
use crate::relay::Relay;

/// The buffer that every connection reads into. The default of the library is 128 KiB, nearly all of what an idle
/// connection costs.
const READ_BUFFER: usize = 8 * 1024;

/// What a batch may grow to before it is written. A connection keeps a buffer as large as the largest batch that it had.
const WRITE_BUFFER: usize = 32 * 1024;

/// More than an envelope adds to a frame.
const ENVELOPE: usize = 4 * 1024;

/// How many frames are written before what was written is flushed. A flush is a system call, and costs many
/// times what a frame does.
const BATCH: usize = 64;

/// How long the peer has to answer a close frame.
const CLOSING_TIME: Duration = Duration::from_secs(3);

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// The connection is over: its peer closed or left it, or the relay gave it up.
#[derive(Debug)]
pub(crate) struct Gone {
    /// The close code of the peer, or 1001.
    pub(crate) code: u16,
}

impl Gone {
    pub(crate) const WITHOUT_CODE: Self = Self { code: 1001 };
}

/// What was heard of the peer last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// A close frame.
    Closed,
    /// What cannot be read as WebSocket, and so nothing after it.
    Garbled,
}

/// What comes from the peer.
pub(crate) struct Reader<'a> {
    stream: SplitStream<Socket>,
    peer: Arc<Peer>,
    relay: &'a Relay,
    /// What came while the relay waited for something else.
    ahead: Option<Bytes>,
    state: State,
}

/// What goes to the peer.
pub(crate) struct Writer<'a> {
    sink: SplitSink<Socket, Message>,
    peer: Arc<Peer>,
    backlog: Backlog,
    relay: &'a Relay,
    endpoint: Endpoint,
}

/// The peer of an upgraded connection, and both halves of its socket.
pub(crate) async fn open(
    relay: &Relay,
    upgraded: Upgraded,
    endpoint: Endpoint,
    conn_id: String,
) -> (Arc<Peer>, Reader<'_>, Writer<'_>) {
    let max_frame = relay.config.max_frame as usize;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(WRITE_BUFFER + 2 * (max_frame + ENVELOPE))
        .max_frame_size(Some(max_frame))
        .max_message_size(Some(max_frame));
    let io = TokioIo::new(upgraded);
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let (sink, stream) = socket.split();
    let (peer, backlog) = Peer::new(conn_id, relay.config.outbox);
    let reader = Reader {
        stream,
        peer: Arc::clone(&peer),
        relay,
        ahead: None,
        state: State::Open,
    };
    let writer = Writer {
        sink,
        peer: Arc::clone(&peer),
        backlog,
        relay,
        endpoint,
    };
    (peer, reader, writer)
}

impl Reader<'_> {
    /// The next frame of the peer. Pings are answered below.
    pub(crate) async fn frame(&mut self) -> Result<Bytes, Gone> {
        if let Some(frame) = self.ahead.take() {
            return Ok(frame);
        }
        loop {
            match self.stream.next().await {
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                    return Ok(message.into_data());
                }
                Some(Ok(Message::Pong(payload))) => self.peer.pulse.pong(&payload),
                Some(Ok(Message::Ping(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(frame))) => {
                    self.state = State::Closed;
                    let code = frame.map(|frame| frame.code.into());
                    return Err(code.map_or(Gone::WITHOUT_CODE, |code| Gone { code }));
                }
                Some(Err(error)) => {
                    if let Some(close) = self.judge(&error) {
                        self.state = State::Garbled;
                        self.peer.end(close);
                    }
                    return Err(Gone::WITHOUT_CODE);
                }
                None => return Err(Gone::WITHOUT_CODE),
            }
        }
    }

    /// Completes when the peer goes away. A frame that comes first is kept, and nothing is read behind it.
    pub(crate) async fn gone(&mut self) -> Gone {
        match self.frame().await {
            Ok(frame) => self.ahead = Some(frame),
            Err(gone) => return gone,
        }
        pending().await
    }

    /// What the peer is told about what it sent; `None` where it is gone.
    fn judge(&self, error: &Error) -> Option<Close> {
        let rejected = &self.relay.metrics.rejected;
        let (count, close) = match error {
            Error::Capacity(_) => (&rejected.too_large, Close::TOO_LARGE),
            Error::Utf8(_) => (&rejected.not_utf8, Close::TEXT_NOT_UTF8),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => return None,
            Error::Protocol(_) => (&rejected.protocol_error, Close::PROTOCOL_ERROR),
            _ => return None,
        };
        count.inc();
        Some(close)
    }
}

/// What is written at once.
#[derive(Default)]
struct Batch {
    frames: u64,
    bytes: u64,
    /// Given back for all of them together, since that takes a lock.
    room: Option<OwnedSemaphorePermit>,
}

/// The peer did not take what was written, or is gone.
#[derive(Debug)]
struct WriteFailed;

impl Writer<'_> {
    /// Writes what is queued, and pings, until the connection is to end. Ends it where the peer does not take the one, or
    /// does not answer the other.
    pub(crate) async fn run(&mut self) -> Gone {
        let peer = Arc::clone(&self.peer);
        let relay = self.relay;
        let metrics = relay.metrics.at(self.endpoint);
        let limit = relay.config.heartbeat_timeout;
        let write_failed = match self.endpoint {
            Endpoint::Server => Close::BINARY_WRITE_FAILED,
            Endpoint::Client => Close::PHONE_WRITE_FAILED,
        };
        tokio::select! {
            biased;
            _ = peer.ending() => {}
            Err(WriteFailed) = self.pump() => {
                metrics.write_failures.inc();
                peer.abort(write_failed);
            }
            () = peer.pulse.lost(limit) => {
                metrics.heartbeat_timeouts.inc();
                peer.abort(Close::HEARTBEAT_TIMEOUT);
            }
        }
        Gone::WITHOUT_CODE
    }

    /// A frame leaves the queue only when it can be written at once, so none is lost if this is dropped.
    async fn pump(&mut self) -> Result<Infallible, WriteFailed> {
        let peer = Arc::clone(&self.peer);
        let every = self.relay.config.heartbeat_interval;
        let mut heartbeat = interval_at(Instant::now() + every, every);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.ready().await?;
            let next = tokio::select! {
                biased;
                _ = heartbeat.tick() => None,
                () = peer.pulse.asked() => None,
                next = self.backlog.recv() => Some(next.ok_or(WriteFailed)?),
            };
            if let Some(first) = next {
                self.batch(first).await?;
            } else {
                self.write(Message::Ping(peer.pulse.ping()))?;
                self.flush().await?;
            }
        }
    }

    /// Writes a frame and those that wait behind it, and flushes them all at once.
    async fn batch(&mut self, first: Queued) -> Result<(), WriteFailed> {
        let mut batch = Batch::default();
        self.put(first, &mut batch)?;
        for _ in 1..BATCH {
            self.ready().await?;
            let Ok(next) = self.backlog.try_recv() else {
                break;
            };
            self.put(next, &mut batch)?;
        }
        self.flush().await?;
        let metrics = self.relay.metrics.at(self.endpoint);
        metrics.forwarded.add(batch.frames, batch.bytes);
        Ok(())
    }

    fn put(&mut self, queued: Queued, batch: &mut Batch) -> Result<(), WriteFailed> {
        if queued.is_forwarded {
            batch.frames += 1;
            batch.bytes += queued.frame.len() as u64;
        }
        match &mut batch.room {
            Some(room) => room.merge(queued.room),
            None => batch.room = Some(queued.room),
        }
        self.write(Message::Binary(queued.frame))
    }

    async fn ready(&mut self) -> Result<(), WriteFailed> {
        let ready = poll_fn(|context| self.sink.poll_ready_unpin(context));
        timely(self.relay.config.write_timeout, &self.peer, ready).await
    }

    fn write(&mut self, message: Message) -> Result<(), WriteFailed> {
        self.sink.start_send_unpin(message).map_err(|_| WriteFailed)
    }

    async fn flush(&mut self) -> Result<(), WriteFailed> {
        timely(
            self.relay.config.write_timeout,
            &self.peer,
            self.sink.flush(),
        )
        .await
    }

    /// What is still to be delivered, and the close frame; to a peer that closed first, the answer, which the library has
    /// ready.
    async fn say_goodbye(&mut self, peer_closed: bool) -> Result<(), WriteFailed> {
        if !peer_closed {
            let peer = Arc::clone(&self.peer);
            let ending = peer.ending().await;
            if ending.manner != Manner::AtOnce {
                while let Ok(next) = self.backlog.try_recv() {
                    self.batch(next).await?;
                }
            }
            self.ready().await?;
            self.write(ending.close.message())?;
        }
        self.flush().await
    }
}

async fn timely(
    limit: Duration,
    peer: &Peer,
    write: impl Future<Output = Result<(), Error>>,
) -> Result<(), WriteFailed> {
    let mut write = pin!(write);
    // Most writes need no timer.
    let done = if let Some(done) = write.as_mut().now_or_never() {
        done
    } else {
        let done = timeout(limit, write).await.map_err(|_| WriteFailed)?;
        peer.pulse.excuse();
        done
    };
    done.map_err(|_| WriteFailed)
}

/// Tells the peer how the connection ends, which somebody must have said, and waits a bounded time for its
/// answer. A peer that closed it gets the answer that it waits for instead.
pub(crate) async fn close(reader: Reader<'_>, mut writer: Writer<'_>) {
    let limit = writer.relay.config.write_timeout;
    let peer_closed = reader.state == State::Closed;
    if let Ok(Ok(())) = timeout(limit, writer.say_goodbye(peer_closed)).await {
        // A peer that does not answer has had its time.
        let _ = timeout(CLOSING_TIME, drain(reader, writer)).await;
    }
}

/// Reads until the peer has answered the close frame and everything before that is read. Closed with unread bytes in
/// it, the connection would be reset, and the peer might never see the close frame.
async fn drain(mut reader: Reader<'_>, writer: Writer<'_>) {
    if reader.state != State::Garbled {
        while let Some(Ok(_)) = reader.stream.next().await {}
        return;
    }
    let Ok(mut socket) = reader.stream.reunite(writer.sink) else {
        return;
    };
    let io = socket.get_mut();
    // The peer learns that nothing comes behind the close frame, and ends its side.
    let _ = io.shutdown().await;
    let mut unread = [0; 4096];
    while let Ok(1..) = io.read(&mut unread).await {}
}
