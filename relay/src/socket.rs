//! A WebSocket in two halves, and how it is closed.

use std::convert::Infallible;
use std::future::poll_fn;
use std::mem;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{FutureExt, SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use prometheus_client::metrics::counter::Counter;
use switchboard::Conn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};
use tracing::{debug, info};

use crate::close::Close;
use crate::endpoint::Endpoint;
use crate::metrics::Rejected;
use crate::outbox::{Charge, Queued};
use crate::peer::{Manner, Peer, Sender};
use crate::relay::Relay;
use crate::wire::Wire;

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

type Socket = WebSocketStream<Wire<TokioIo<Upgraded>>>;

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
    /// A close frame, which the library answers.
    Closed,
    /// A close frame that was kept from the library, and that the relay answers. Nothing is read after it.
    ClosedUnseen,
    /// What cannot be read as WebSocket, and so nothing after it.
    Garbled,
}

/// What comes from the peer.
pub(crate) struct Reader<'a> {
    stream: SplitStream<Socket>,
    peer: Arc<Peer>,
    relay: &'a Relay,
    state: State,
    unfinished: Unfinished,
}

/// The message that has begun and is not complete.
#[derive(Default)]
struct Unfinished {
    number: u64,
    since: Option<Instant>,
    /// Fires when it has taken too long, or earlier.
    timer: Option<Pin<Box<Sleep>>>,
}

/// What goes to the peer.
pub(crate) struct Writer<'a> {
    sink: SplitSink<Socket, Message>,
    /// The sink has room for a message. It holds one, and another one would take its place.
    has_room: bool,
    peer: Arc<Peer>,
    batch: Batch,
    relay: &'a Relay,
    endpoint: Endpoint,
}

/// Both halves of the socket of an upgraded connection.
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
    let reader = Reader {
        stream,
        peer: Arc::clone(peer),
        relay,
        state: State::Open,
        unfinished: Unfinished::default(),
    };
    let writer = Writer {
        sink,
        has_room: false,
        peer: Arc::clone(peer),
        batch: Batch::default(),
        relay,
        endpoint,
    };
    (reader, writer)
}

/// What happened next at the peer's end.
enum Event {
    Message(Message),
    Failed(Error),
    ClosedUnseen(Close),
    TooSlow,
    Gone,
}

impl Reader<'_> {
    /// The next frame of the peer. Pings are answered below.
    pub(crate) async fn frame(&mut self) -> Result<Utf8Bytes, Gone> {
        let relay = self.relay;
        let rejected = &relay.metrics.rejected;
        loop {
            match poll_fn(|context| self.poll(context)).await {
                Event::Message(Message::Text(frame)) => return Ok(frame),
                Event::Message(Message::Binary(frame)) => {
                    // All that is forwarded goes out as text.
                    let frame = Utf8Bytes::try_from(frame);
                    return frame.map_err(|_| self.reject(&rejected.not_utf8, Close::NOT_UTF8));
                }
                Event::Message(Message::Pong(payload)) => self.peer.pulse.pong(&payload),
                Event::Message(Message::Ping(_) | Message::Frame(_)) => {}
                Event::Message(Message::Close(frame)) => {
                    self.state = State::Closed;
                    let code = frame.map(|frame| frame.code.into());
                    return Err(code.map_or(Gone::WITHOUT_CODE, |code| Gone { code }));
                }
                Event::ClosedUnseen(close) => {
                    self.state = State::ClosedUnseen;
                    let code = close.code;
                    self.peer.abort(close);
                    return Err(Gone { code });
                }
                Event::TooSlow => return Err(self.reject(&rejected.too_slow, Close::TOO_SLOW)),
                Event::Failed(error) => {
                    let Some((count, close)) = judge(rejected, &error) else {
                        return Err(Gone::WITHOUT_CODE);
                    };
                    self.state = State::Garbled;
                    return Err(self.reject(count, close));
                }
                Event::Gone => return Err(Gone::WITHOUT_CODE),
            }
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        if let Poll::Ready(event) = self.poll_stream(context) {
            return Poll::Ready(event);
        }
        let limit = self.relay.config.message_timeout;
        match self.peer.pulse.seen.unfinished() {
            Some(number) => self.unfinished.poll(number, limit, context),
            None => Poll::Pending,
        }
    }

    fn poll_stream(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        if let Poll::Ready(next) = self.stream.poll_next_unpin(context) {
            return Poll::Ready(match next {
                Some(Ok(message)) => Event::Message(message),
                Some(Err(error)) => Event::Failed(error),
                None => Event::Gone,
            });
        }
        match self.peer.pulse.seen.close() {
            Some(close) => Poll::Ready(Event::ClosedUnseen(close.clone().into())),
            None => Poll::Pending,
        }
    }

    /// Ends the connection of a peer for what it sent.
    fn reject(&self, count: &Counter, close: Close) -> Gone {
        let conn_id = self.peer.conn_id();
        debug!(?conn_id, code = close.code, reason = %close.reason, "message rejected");
        count.inc();
        self.peer.end(close);
        Gone::WITHOUT_CODE
    }
}

/// How what a peer sent is counted, and what the peer is told about it; `None` where it is gone.
fn judge<'a>(rejected: &'a Rejected, error: &Error) -> Option<(&'a Counter, Close)> {
    Some(match error {
        Error::Capacity(_) => (&rejected.too_large, Close::TOO_LARGE),
        Error::Utf8(_) => (&rejected.not_utf8, Close::NOT_UTF8),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => return None,
        Error::Protocol(_) => (&rejected.protocol_error, Close::PROTOCOL_ERROR),
        _ => return None,
    })
}

impl Unfinished {
    /// Ready when the message of that number has not been complete for longer than `limit`.
    ///
    /// Messages come in parts all the time. So the timer is not set anew for each of them: it fires at most once in a
    /// limit, and then looks whether the message is still the same.
    fn poll(&mut self, number: u64, limit: Duration, context: &mut Context<'_>) -> Poll<Event> {
        if self.number != number {
            *self = Self {
                number,
                since: Some(Instant::now()),
                timer: self.timer.take(),
            };
        }
        let deadline = self.since.unwrap_or_else(Instant::now) + limit;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        while timer.as_mut().poll(context).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(Event::TooSlow);
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

/// What was written since the last flush.
#[derive(Default)]
struct Batch {
    frames: u64,
    bytes: u64,
    /// The room of the frames in their lanes, until they are flushed.
    charges: Vec<Charge<Sender>>,
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
        let interval = relay.config.heartbeat_interval;
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
                debug!(conn_id = ?peer.conn_id(), "write failed");
                peer.abort(write_failed);
            }
            () = peer.pulse.lost(interval, limit) => {
                metrics.heartbeat_timeouts.inc();
                debug!(conn_id = ?peer.conn_id(), "heartbeat timed out");
                peer.abort(Close::HEARTBEAT_TIMEOUT);
            }
        }
        Gone::WITHOUT_CODE
    }

    /// A frame leaves the queue only when it can be written at once, so none is lost if this is dropped.
    async fn pump(&mut self) -> Result<Infallible, WriteFailed> {
        let peer = Arc::clone(&self.peer);
        loop {
            self.ready().await?;
            let next = tokio::select! {
                biased;
                () = peer.pulse.due() => None,
                next = peer.pop() => Some(next),
            };
            if let Some(first) = next {
                self.batch(first).await?;
            } else {
                self.ping().await?;
                self.flush().await?;
            }
        }
    }

    /// Writes a frame, for which there must be room, and those that wait behind it, and flushes them all at once. A ping
    /// that is due goes between two of them.
    async fn batch(&mut self, first: Queued<Sender>) -> Result<(), WriteFailed> {
        self.put(first)?;
        for _ in 1..BATCH {
            self.ping().await?;
            self.ready().await?;
            let Some(next) = self.peer.try_pop() else {
                break;
            };
            self.put(next)?;
        }
        self.flush().await
    }

    fn put(&mut self, queued: Queued<Sender>) -> Result<(), WriteFailed> {
        if let Some(mut charge) = queued.charge {
            self.batch.frames += 1;
            self.batch.bytes += queued.frame.len() as u64;
            let last = self.batch.charges.last_mut();
            if !last.is_some_and(|last| last.absorb(&mut charge)) {
                self.batch.charges.push(charge);
            }
        }
        self.write(Message::Text(queued.frame))
    }

    /// Writes a ping if one is due.
    async fn ping(&mut self) -> Result<(), WriteFailed> {
        if !self.peer.pulse.is_due() {
            return Ok(());
        }
        self.ready().await?;
        match self.peer.pulse.ping() {
            Some(payload) => self.write(Message::Ping(payload)),
            None => Ok(()),
        }
    }

    async fn ready(&mut self) -> Result<(), WriteFailed> {
        let ready = poll_fn(|context| self.sink.poll_ready_unpin(context));
        timely(self.relay.config.write_timeout, &self.peer, ready).await?;
        self.has_room = true;
        Ok(())
    }

    /// Only when the sink is [ready](Self::ready) or flushed.
    fn write(&mut self, message: Message) -> Result<(), WriteFailed> {
        let had_room = mem::take(&mut self.has_room);
        debug_assert!(had_room, "a message would be lost");
        self.sink.start_send_unpin(message).map_err(|_| WriteFailed)
    }

    async fn flush(&mut self) -> Result<(), WriteFailed> {
        let flush = self.sink.flush();
        timely(self.relay.config.write_timeout, &self.peer, flush).await?;
        self.has_room = true;
        let metrics = self.relay.metrics.at(self.endpoint);
        let frames = mem::take(&mut self.batch.frames);
        let bytes = mem::take(&mut self.batch.bytes);
        metrics.forwarded.add(frames, bytes);
        self.batch.charges.clear();
        Ok(())
    }

    /// Writes what is still to be delivered, and the close frame; to a peer that closed first, the answer, which the library
    /// has ready.
    async fn say_goodbye(&mut self, peer_closed: bool) -> Result<(), WriteFailed> {
        if !peer_closed {
            let peer = Arc::clone(&self.peer);
            let ending = peer.ending().await;
            if ending.manner != Manner::AtOnce {
                // First of all for what is under way already, which must not be lost.
                self.ready().await?;
                while let Some(next) = self.peer.try_pop() {
                    self.batch(next).await?;
                }
            }
            self.ready().await?;
            self.write(ending.close.message())?;
        }
        self.flush().await
    }

    /// Counts the frames that are queued and not delivered. The phones among their senders are closed.
    fn give_up_queue(&mut self) {
        let mut frames = 0;
        while let Some(queued) = self.peer.try_pop() {
            if let Some(charge) = queued.charge {
                frames += 1;
                close_sender(charge.sender());
            }
        }
        self.undelivered(frames);
    }

    /// The same for those that were written and not flushed.
    fn give_up_batch(&mut self) {
        self.close_senders();
        self.batch.charges.clear();
        let frames = mem::take(&mut self.batch.frames);
        self.undelivered(frames);
    }

    /// Closes the phones among the senders of what was written and not flushed.
    fn close_senders(&self) {
        for charge in &self.batch.charges {
            close_sender(charge.sender());
        }
    }

    fn undelivered(&self, frames: u64) {
        if frames > 0 {
            let metrics = self.relay.metrics.at(self.endpoint);
            metrics.undelivered.inc_by(frames);
            debug!(conn_id = ?self.peer.conn_id(), frames, "frames not delivered");
        }
    }
}

fn close_sender(sender: &Sender) {
    if let Some(phone) = sender
        && phone.end(Close::UNDELIVERED)
    {
        info!(conn_id = ?phone.conn_id(), "phone closed: its binary has gone, and a frame was not delivered");
    }
}

async fn timely(
    limit: Duration,
    peer: &Peer,
    write: impl Future<Output = Result<(), Error>>,
) -> Result<(), WriteFailed> {
    let mut write = pin!(write);
    // Most writes need no timer.
    let done = match write.as_mut().now_or_never() {
        Some(done) => done,
        None => peer.pulse.write(limit, write).await.ok_or(WriteFailed)?,
    };
    done.map_err(|_| WriteFailed)
}

/// Tells the peer how the connection ends, which somebody must have said, and waits a bounded time for its
/// answer. A peer that closed it gets the answer that it waits for instead.
pub(crate) async fn close(reader: Reader<'_>, mut writer: Writer<'_>) {
    let peer_closed = reader.state == State::Closed;
    let manner = writer.peer.ending().await.manner;
    if peer_closed || manner == Manner::AtOnce {
        writer.give_up_queue();
        writer.close_senders();
    }
    // One limit for all of it, so that nobody holds a place for long who only trickles.
    let peer = Arc::clone(&writer.peer);
    let limit = writer.relay.config.write_timeout;
    let said = peer
        .pulse
        .write(limit, writer.say_goodbye(peer_closed))
        .await;
    writer.give_up_queue();
    writer.give_up_batch();
    if let Some(Ok(())) = said {
        // A peer that does not answer has had its time.
        let _ = timeout(CLOSING_TIME, drain(reader, writer)).await;
    }
}

/// Reads until the peer has answered the close frame and everything before that is read. Closed with unread bytes in
/// it, the connection would be reset, and the peer might never see the close frame.
async fn drain(mut reader: Reader<'_>, writer: Writer<'_>) {
    if reader.state == State::ClosedUnseen {
        return;
    }
    if reader.state != State::Garbled {
        while let Event::Message(_) = poll_fn(|context| reader.poll_stream(context)).await {}
        return;
    }
    let Ok(mut socket) = reader.stream.reunite(writer.sink) else {
        return;
    };
    let io = socket.get_mut().io();
    // The peer learns that nothing comes behind the close frame, and ends its side.
    let _ = io.shutdown().await;
    let mut unread = [0; 4096];
    while let Ok(1..) = io.read(&mut unread).await {}
}
