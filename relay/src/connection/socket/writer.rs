//! The half of a WebSocket that writes.

use std::convert::Infallible;
use std::future::poll_fn;
use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tungstenite::error::Error;
use tungstenite::protocol::Message;

use super::stream::Socket;
use crate::connection::outbox::{Charge, Queued};
use crate::connection::peer::{Peer, Sender};
use crate::connection::relay::Relay;
use crate::connection::who::Gone;
use crate::protocol::close::Close;
use crate::protocol::endpoint::Endpoint;

/// The most frames written between two flushes. A flush is a system call, and costs many times as much as a frame.
const BATCH: usize = 64;

/// The half that writes to the peer.
pub(crate) struct Writer<'a> {
    socket: Socket,
    pub(super) peer: Arc<Peer>,
    pub(super) batch: Batch,
    pub(super) relay: &'a Relay,
    pub(super) endpoint: Endpoint,
}

/// The frames written since the last flush.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) frames: u64,
    bytes: u64,
    /// The room of these frames in their lanes, occupied until they are flushed.
    pub(super) charges: Vec<Charge<Sender>>,
}

/// Why a write failed.
#[derive(Debug)]
pub(super) enum WriteFailed {
    /// The peer did not take the data in time.
    TooSlow,
    /// The peer is gone.
    Broken(Error),
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        socket: Socket,
        peer: &Arc<Peer>,
        relay: &'a Relay,
        endpoint: Endpoint,
    ) -> Self {
        Self {
            socket,
            peer: Arc::clone(peer),
            batch: Batch::default(),
            relay,
            endpoint,
        }
    }

    /// Writes queued frames and pings until the connection is to end. Ends it if the peer does not take the frames or
    /// does not answer the pings.
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
            Err(failed) = self.pump() => {
                metrics.write_failures.inc();
                peer.abort(write_failed);
                if let WriteFailed::Broken(error) = failed {
                    return Gone::Broken(error);
                }
            }
            () = peer.pulse.lost(interval, limit) => {
                metrics.heartbeat_timeouts.inc();
                peer.abort(Close::HEARTBEAT_TIMEOUT);
            }
        }
        Gone::ClosedByRelay
    }

    /// Writes queued frames and pings. A frame is popped only when it can be written at once, so none is lost if this
    /// future is dropped.
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

    /// Writes a frame, for which there must be room, and the frames queued behind it, then flushes once. A ping that is
    /// due is written between two frames.
    pub(super) async fn batch(&mut self, first: Queued<Sender>) -> Result<(), WriteFailed> {
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

    pub(super) async fn ready(&mut self) -> Result<(), WriteFailed> {
        let ready = poll_fn(|context| self.socket.lock().poll_ready(context));
        timely(self.relay.config.write_timeout, &self.peer, ready).await
    }

    /// Writes a message. The socket must be [ready](Self::ready) or flushed.
    pub(super) fn write(&mut self, message: Message) -> Result<(), WriteFailed> {
        let written = self.socket.lock().write(message);
        written.map_err(WriteFailed::Broken)
    }

    pub(super) async fn flush(&mut self) -> Result<(), WriteFailed> {
        let flush = poll_fn(|context| self.socket.lock().poll_flush(context));
        timely(self.relay.config.write_timeout, &self.peer, flush).await?;
        let metrics = self.relay.metrics.at(self.endpoint);
        let frames = mem::take(&mut self.batch.frames);
        let bytes = mem::take(&mut self.batch.bytes);
        metrics.forwarded.add(frames, bytes);
        self.batch.charges.clear();
        Ok(())
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
        None => peer.pulse.write(limit, write).await,
        done => done,
    };
    let done = done.ok_or(WriteFailed::TooSlow)?;
    done.map_err(WriteFailed::Broken)
}
