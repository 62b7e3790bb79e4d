//! One connection as the rest of the relay sees it: a bounded queue of frames, and how it is to end.

use std::sync::Arc;

use bytes::Bytes;
use switchboard::{Conn, SendError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SetOnce, TryAcquireError, mpsc};

use crate::close::Close;
use crate::pulse::Pulse;

/// What a queued frame costs beside its bytes.
const OVERHEAD: usize = 64;

/// A binary or a phone. The task of its connection owns the socket and the other end of the queue.
pub(crate) struct Peer {
    conn_id: String,
    queue: mpsc::UnboundedSender<Queued>,
    /// The bytes that may still be queued. Closed with the connection, so that nobody waits for it.
    room: Arc<Semaphore>,
    capacity: u32,
    ending: SetOnce<Ending>,
    pub(crate) pulse: Pulse,
}

/// A frame on its way to the peer.
pub(crate) struct Queued {
    pub(crate) frame: Bytes,
    /// Whether it comes from another peer, and not from the relay itself.
    pub(crate) is_forwarded: bool,
    /// What the frame takes of the queue, until this is dropped.
    pub(crate) room: OwnedSemaphorePermit,
}

/// The other end of the queue.
pub(crate) type Backlog = mpsc::UnboundedReceiver<Queued>;

/// How a connection is to end.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) close: Close,
    pub(crate) manner: Manner,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// What was queued before is delivered.
    AfterBacklog,
    /// The same, and the binary is not told, since it was the one who asked.
    AskedByBinary,
    /// What is queued is dropped: the peer does not take it, or has gone.
    AtOnce,
}

/// A frame that was not queued.
#[derive(Debug)]
pub(crate) enum Refused {
    /// No room; here is the frame again.
    Full(Bytes),
    Closed,
}

impl Peer {
    /// A peer for whom `capacity` bytes may be queued.
    pub(crate) fn new(conn_id: String, capacity: u32) -> (Arc<Self>, Backlog) {
        let (queue, backlog) = mpsc::unbounded_channel();
        let peer = Self {
            conn_id,
            queue,
            room: Arc::new(Semaphore::new(capacity as usize)),
            capacity,
            ending: SetOnce::new(),
            pulse: Pulse::default(),
        };
        (Arc::new(peer), backlog)
    }

    /// Queues a frame, if there is room for it.
    pub(crate) fn offer(&self, frame: Bytes) -> Result<(), Refused> {
        match Arc::clone(&self.room).try_acquire_many_owned(self.cost(&frame)) {
            Ok(room) => self.push(frame, room, true),
            Err(TryAcquireError::NoPermits) => Err(Refused::Full(frame)),
            Err(TryAcquireError::Closed) => Err(Refused::Closed),
        }
    }

    /// Queues a frame, waiting for room. Those who wait get it in the order in which they came.
    pub(crate) async fn deliver(&self, frame: Bytes) -> Result<(), Refused> {
        self.wait_for_room(frame, true).await
    }

    /// The same for a notice of the relay's own.
    pub(crate) async fn notify(&self, notice: Bytes) -> Result<(), Refused> {
        self.wait_for_room(notice, false).await
    }

    async fn wait_for_room(&self, frame: Bytes, is_forwarded: bool) -> Result<(), Refused> {
        let room = Arc::clone(&self.room);
        match room.acquire_many_owned(self.cost(&frame)).await {
            Ok(room) => self.push(frame, room, is_forwarded),
            Err(_) => Err(Refused::Closed),
        }
    }

    fn push(
        &self,
        frame: Bytes,
        room: OwnedSemaphorePermit,
        is_forwarded: bool,
    ) -> Result<(), Refused> {
        let queued = Queued {
            frame,
            is_forwarded,
            room,
        };
        self.queue.send(queued).map_err(|_| Refused::Closed)
    }

    /// A frame that is larger than the whole queue passes when the queue is empty.
    fn cost(&self, frame: &Bytes) -> u32 {
        let bytes = frame.len().saturating_add(OVERHEAD);
        u32::try_from(bytes).map_or(self.capacity, |bytes| bytes.min(self.capacity))
    }

    /// Ends the connection once what is queued has been delivered. The first ending stands.
    pub(crate) fn end(&self, close: Close) {
        self.set(close, Manner::AfterBacklog);
    }

    /// The same, at the wish of the binary.
    pub(crate) fn end_for_binary(&self, code: u16) {
        self.set(Close::with_code(code), Manner::AskedByBinary);
    }

    /// Ends the connection, and drops what is queued.
    pub(crate) fn abort(&self, close: Close) {
        self.set(close, Manner::AtOnce);
    }

    fn set(&self, close: Close, manner: Manner) {
        if self.ending.set(Ending { close, manner }).is_ok() {
            self.room.close();
        }
    }

    /// How the connection is to end, as soon as somebody has said so.
    pub(crate) async fn ending(&self) -> &Ending {
        self.ending.wait().await
    }

    pub(crate) fn asked_by_binary(&self) -> bool {
        let ending = self.ending.get();
        ending.is_some_and(|ending| ending.manner == Manner::AskedByBinary)
    }
}

impl Conn for Peer {
    fn conn_id(&self) -> &str {
        &self.conn_id
    }

    fn send(&self, frame: Bytes) -> Result<(), SendError> {
        self.offer(frame).map_err(|refused| match refused {
            Refused::Full(_) => SendError::Full,
            Refused::Closed => SendError::Closed,
        })
    }

    fn close(&self) {
        self.end(Close::NORMAL);
    }

    fn close_with(&self, code: u16, reason: &str) {
        self.end(Close {
            code,
            reason: reason.to_owned().into(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(len: usize) -> Bytes {
        vec![b'x'; len].into()
    }

    #[test]
    fn frames_are_counted_with_their_overhead_until_they_are_taken() {
        let (peer, mut backlog) = Peer::new("p".into(), 200);
        peer.send(frame(36)).expect("100 of 200 bytes");
        peer.send(frame(36)).expect("200 of 200 bytes");
        assert!(matches!(peer.send(frame(0)), Err(SendError::Full)));
        drop(backlog.try_recv().expect("two are queued"));
        peer.send(frame(36)).expect("the first is gone");
    }

    #[test]
    fn a_frame_larger_than_the_queue_passes_when_the_queue_is_empty() {
        let (peer, mut backlog) = Peer::new("p".into(), 100);
        peer.send(frame(1000)).expect("nothing else is queued");
        assert!(matches!(peer.send(frame(0)), Err(SendError::Full)));
        assert_eq!(backlog.try_recv().expect("it is queued").frame.len(), 1000);
    }

    #[test]
    fn the_first_ending_stands_and_nothing_is_queued_after_it() {
        let (peer, _backlog) = Peer::new("p".into(), 1000);
        peer.end_for_binary(4000);
        peer.close_with(4001, "late");
        peer.close();
        let ending = peer.ending.get().expect("it was set");
        assert_eq!(ending.close, Close::with_code(4000));
        assert!(peer.asked_by_binary());
        assert!(matches!(peer.send(frame(1)), Err(SendError::Closed)));
    }

    #[tokio::test]
    async fn whoever_waits_for_room_is_let_go_when_the_connection_ends() {
        let (peer, _backlog) = Peer::new("p".into(), 100);
        peer.send(frame(100)).expect("nothing else is queued");
        let (refused, ()) = tokio::join!(peer.deliver(frame(1)), async { peer.close() });
        assert!(matches!(refused, Err(Refused::Closed)));
    }

    #[tokio::test]
    async fn whoever_waits_for_room_gets_it_when_a_frame_is_taken() {
        let (peer, mut backlog) = Peer::new("p".into(), 100);
        peer.send(frame(100)).expect("nothing else is queued");
        let (delivered, ()) = tokio::join!(peer.deliver(frame(1)), async {
            drop(backlog.try_recv().expect("one is queued"));
        });
        delivered.expect("there was room");
        assert_eq!(backlog.try_recv().expect("it came in").frame.len(), 1);
    }
}
