//! A WebSocket in two halves, and how it is closed.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::time::{sleep, timeout};
use tungstenite::error::ProtocolError;

use crate::close::Close;
use crate::peer::{Backlog, Manner, Peer};

/// How many frames are written before what was written is flushed. A flush is a system call, and costs many
/// times what a frame does.
const BATCH: usize = 64;

/// How long the peer has to answer a close frame.
const CLOSING_TIME: Duration = Duration::from_secs(3);

/// How long a socket stays open that can no longer be read. Closed at once, with unread bytes in it, it would be
/// reset, and the peer might never see the close frame.
const DEAF_TIME: Duration = Duration::from_secs(1);

/// The connection is over: its peer closed or left it, or the relay gave it up.
#[derive(Debug)]
pub(crate) struct Gone {
    /// The close code of the peer, or 1001.
    pub(crate) code: u16,
}

impl Gone {
    pub(crate) const WITHOUT_CODE: Self = Self { code: 1001 };
}

/// What comes from the peer.
pub(crate) struct Reader {
    stream: SplitStream<WebSocket>,
    peer: Arc<Peer>,
    /// After an error that the relay answers with a close frame, the stream yields nothing any more.
    deaf: bool,
}

/// What goes to the peer.
pub(crate) struct Writer {
    sink: SplitSink<WebSocket, Message>,
    peer: Arc<Peer>,
    backlog: Backlog,
    write_timeout: Duration,
}

/// Both halves of the socket of a peer.
pub(crate) fn split(
    socket: WebSocket,
    peer: &Arc<Peer>,
    backlog: Backlog,
    write_timeout: Duration,
) -> (Reader, Writer) {
    let (sink, stream) = socket.split();
    let reader = Reader {
        stream,
        peer: Arc::clone(peer),
        deaf: false,
    };
    let writer = Writer {
        sink,
        peer: Arc::clone(peer),
        backlog,
        write_timeout,
    };
    (reader, writer)
}

impl Reader {
    /// The next frame of the peer. Pings are answered below.
    pub(crate) async fn frame(&mut self) -> Result<Bytes, Gone> {
        loop {
            match self.stream.next().await {
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                    return Ok(message.into_data());
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(Some(frame)))) => return Err(Gone { code: frame.code }),
                Some(Err(error)) => {
                    if let Some(close) = answer(error) {
                        self.deaf = true;
                        self.peer.end(close);
                    }
                    return Err(Gone::WITHOUT_CODE);
                }
                Some(Ok(Message::Close(None))) | None => return Err(Gone::WITHOUT_CODE),
            }
        }
    }

    /// Until the peer has answered the close frame and everything before that is read.
    async fn drain(&mut self) {
        if self.deaf {
            sleep(DEAF_TIME).await;
        }
        while let Some(Ok(_)) = self.stream.next().await {}
    }
}

/// What the peer is told about what it sent; `None` where it is gone.
fn answer(error: axum::Error) -> Option<Close> {
    let error = error.into_inner().downcast::<tungstenite::Error>().ok()?;
    match *error {
        tungstenite::Error::Capacity(_) => Some(Close::TOO_LARGE),
        tungstenite::Error::Utf8(_) => Some(Close::TEXT_NOT_UTF8),
        tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        tungstenite::Error::Protocol(_) => Some(Close::PROTOCOL_ERROR),
        _ => None,
    }
}

/// The peer did not take what was written, or is gone.
#[derive(Debug)]
struct WriteFailed;

impl Writer {
    /// Writes what is queued until the connection is to end. If a write fails, it ends with `failed`.
    pub(crate) async fn run(&mut self, failed: Close) -> Gone {
        let peer = Arc::clone(&self.peer);
        tokio::select! {
            biased;
            _ = peer.ending() => {}
            Err(WriteFailed) = self.pump() => peer.abort(failed),
        }
        Gone::WITHOUT_CODE
    }

    /// A frame leaves the queue only when it can be written at once, so none is lost if this is dropped.
    async fn pump(&mut self) -> Result<Infallible, WriteFailed> {
        loop {
            self.ready().await?;
            let Some(first) = self.backlog.recv().await else {
                return Err(WriteFailed);
            };
            self.write(Message::Binary(first.frame))?;
            for _ in 1..BATCH {
                self.ready().await?;
                let Ok(next) = self.backlog.try_recv() else {
                    break;
                };
                self.write(Message::Binary(next.frame))?;
            }
            timely(self.write_timeout, self.sink.flush()).await?;
        }
    }

    async fn ready(&mut self) -> Result<(), WriteFailed> {
        let ready = poll_fn(|context| self.sink.poll_ready_unpin(context));
        timely(self.write_timeout, ready).await
    }

    fn write(&mut self, message: Message) -> Result<(), WriteFailed> {
        self.sink.start_send_unpin(message).map_err(|_| WriteFailed)
    }

    /// What is still to be delivered, and the close frame.
    async fn say_goodbye(&mut self) -> Result<(), WriteFailed> {
        let peer = Arc::clone(&self.peer);
        let ending = peer.ending().await;
        if ending.manner != Manner::AtOnce {
            while let Ok(next) = self.backlog.try_recv() {
                self.ready().await?;
                self.write(Message::Binary(next.frame))?;
            }
        }
        let close = self.sink.send(ending.close.message());
        close.await.map_err(|_| WriteFailed)
    }
}

async fn timely(
    limit: Duration,
    write: impl Future<Output = Result<(), axum::Error>>,
) -> Result<(), WriteFailed> {
    match timeout(limit, write).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(WriteFailed),
    }
}

/// Tells the peer how the connection ends, which somebody must have said, and waits a bounded time for its
/// answer. A peer that closed it gets the answer that it waits for instead.
pub(crate) async fn close(mut reader: Reader, mut writer: Writer) {
    if let Ok(Ok(())) = timeout(writer.write_timeout, writer.say_goodbye()).await {
        // A peer that does not answer has had its time.
        let _ = timeout(CLOSING_TIME, reader.drain()).await;
    }
}
