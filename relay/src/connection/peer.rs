//! A connection as the rest of the relay sees it: its queued frames, and how it is to end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::FutureExt;
use switchboard::{Conn, SendError};
use tokio::sync::SetOnce;
use tungstenite::Utf8Bytes;

use super::outbox::{Lane, Outbox, Queued, Refused};
use super::probe::{Answer, Probe};
use super::pulse::Pulse;
use super::who::Who;
use crate::operate::metrics::Probes;
use crate::protocol::close::Close;
use crate::transport::places::Place;
use crate::transport::seen::Seen;

/// Each phone may fill this fraction of its binary's outbox: one in `SHARE`.
const SHARE: usize = 8;

/// The sender of a frame: a phone, or `None`.
pub(crate) type Sender = Option<Arc<Peer>>;

/// A binary or a phone. The task of the connection owns the socket and writes the queued frames to it.
pub(crate) struct Peer {
    who: Who,
    since: SystemTime,
    outbox: Outbox<Sender>,
    /// The lane of frames that come from no phone.
    lane: Arc<Lane<Sender>>,
    ending: SetOnce<Ending>,
    pub(crate) pulse: Pulse,
    probe: Probe,
    /// The place of a binary that is in grace.
    place: Mutex<Option<Place>>,
}

/// How to end a connection.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) close: Close,
    pub(crate) manner: Manner,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Frames queued so far are delivered first.
    AfterBacklog,
    /// The same, but the binary gets no notice, since it requested the close.
    AskedByBinary,
    /// Queued frames are dropped: the peer does not take them, or is gone.
    AtOnce,
}

impl Peer {
    /// Creates a peer with an outbox of `outbox` bytes. If it is a binary, phones that have left may keep as many bytes
    /// queued as `phones` registered phones may.
    pub(crate) fn new(who: Who, outbox: usize, phones: usize, seen: Arc<Seen>) -> Arc<Self> {
        Arc::new(Self {
            who,
            since: SystemTime::now(),
            outbox: Outbox::new(phones.saturating_mul(share(outbox))),
            lane: Lane::new(None, outbox),
            ending: SetOnce::new(),
            pulse: Pulse::new(seen),
            probe: Probe::default(),
            place: Mutex::default(),
        })
    }

    /// Takes the place of a connection that is over.
    pub(crate) fn take_place(&self) -> Option<Place> {
        self.place().take()
    }

    fn place(&self) -> MutexGuard<'_, Option<Place>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Frees what only a connected peer needs. The connection is over, but the registry keeps a binary during its
    /// grace, and queued frames keep the phone that sent them.
    pub(crate) fn retire(&self) {
        self.outbox.retire();
        self.lane.retire();
        self.pulse.retire();
    }

    /// Holds the place of a connection that is over, as long as this exists.
    pub(crate) fn hold(&self, place: Place) {
        *self.place() = Some(place);
    }

    /// Asks whether the peer [is alive](Pulse::answers), or waits for the answer with others who asked. Returns `None`
    /// if too many wait.
    pub(crate) fn probe(self: &Arc<Self>, limit: Duration, probes: &Probes) -> Option<Answer> {
        self.probe.join(|| {
            let (peer, probes) = (Arc::clone(self), probes.clone());
            async move {
                let answers = peer.pulse.answers(limit).await;
                let count = if answers {
                    &probes.answered
                } else {
                    &probes.silent
                };
                count.inc();
                answers
            }
            .boxed()
        })
    }

    pub(crate) fn who(&self) -> &Who {
        &self.who
    }

    /// When the peer connected.
    pub(crate) fn since(&self) -> SystemTime {
        self.since
    }

    /// What the frames that come from no phone occupy in the queue: for a phone, all of its frames. Includes those
    /// that are being written.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.lane.queued_bytes()
    }

    /// Whether this binary may take the place of another one, as far as secrets go.
    pub(crate) fn may_replace(&self, incumbent: &Self) -> bool {
        let secret = self.who.claim_secret.as_ref();
        incumbent.who.may_be_replaced(secret)
    }

    /// Creates a lane for this phone in the outbox of its binary, which holds `outbox` bytes.
    pub(crate) fn uplink(self: &Arc<Self>, outbox: usize) -> Arc<Lane<Sender>> {
        Lane::new(Some(Arc::clone(self)), share(outbox))
    }

    /// Queues a frame if there is room for it.
    pub(crate) fn offer(&self, frame: Utf8Bytes) -> Result<(), Refused> {
        self.outbox.push(&self.lane, frame)
    }

    /// Queues a frame from a phone if the phone's lane has room for it.
    pub(crate) fn offer_from(
        &self,
        phone: &Arc<Lane<Sender>>,
        frame: Utf8Bytes,
    ) -> Result<(), Refused> {
        self.outbox.push(phone, frame)
    }

    /// Queues a frame from a phone once the phone's lane has room for it.
    ///
    /// # Errors
    ///
    /// If the connection ends first. The frame is not delivered.
    pub(crate) async fn deliver_from(
        &self,
        phone: &Arc<Lane<Sender>>,
        mut frame: Utf8Bytes,
    ) -> Result<(), Refused> {
        loop {
            frame = match self.offer_from(phone, frame) {
                Err(Refused::Full(frame)) => frame,
                done => return done,
            };
            tokio::select! {
                () = phone.has_room(&frame) => {}
                _ = self.ending() => return Err(Refused::Closed),
            }
        }
    }

    /// Completes when a phone may leave its frames behind, or when this connection ends.
    pub(crate) async fn has_room_to_leave(&self) {
        tokio::select! {
            () = self.outbox.has_room_to_leave() => {}
            _ = self.ending() => {}
        }
    }

    /// Keeps the queued frames of a phone that leaves, and queues the notice behind them.
    pub(crate) fn leave_behind(&self, phone: &Arc<Lane<Sender>>, notice: Option<Utf8Bytes>) {
        self.outbox.leave_behind(phone, notice);
    }

    /// Takes the next frame to be written, waiting for one if necessary. Only the task of the connection calls this.
    pub(crate) async fn pop(&self) -> Queued<Sender> {
        self.outbox.pop().await
    }

    /// Takes the next frame to be written, if there is one.
    pub(crate) fn try_pop(&self) -> Option<Queued<Sender>> {
        self.outbox.try_pop()
    }

    /// Ends the connection once the queued frames are delivered. Returns `false` if an ending was set before; that one
    /// stands.
    pub(crate) fn end(&self, close: Close) -> bool {
        self.set(close, Manner::AfterBacklog)
    }

    /// The same, requested by the binary.
    pub(crate) fn end_for_binary(&self, code: u16) {
        self.set(Close::with_code(code), Manner::AskedByBinary);
    }

    /// Ends the connection, and drops the queued frames. Returns `false` if an ending was set before; that one stands.
    pub(crate) fn abort(&self, close: Close) -> bool {
        self.set(close, Manner::AtOnce)
    }

    fn set(&self, close: Close, manner: Manner) -> bool {
        // In this order: once the ending is set, the task of the connection may take the last frame, so none may
        // follow.
        self.outbox.close();
        self.ending.set(Ending { close, manner }).is_ok()
    }

    /// Waits until an ending is set.
    pub(crate) async fn ending(&self) -> &Ending {
        self.ending.wait().await
    }

    /// The ending, if it is set.
    pub(crate) fn ending_so_far(&self) -> Option<&Ending> {
        self.ending.get()
    }

    pub(crate) fn asked_by_binary(&self) -> bool {
        self.ending_so_far()
            .is_some_and(|ending| ending.manner == Manner::AskedByBinary)
    }
}

/// How many bytes a phone may have queued in its binary's outbox, which holds `outbox` bytes.
pub(crate) fn share(outbox: usize) -> usize {
    outbox / SHARE
}

impl Conn for Peer {
    fn conn_id(&self) -> &str {
        &self.who.conn_id
    }

    fn send(&self, frame: Bytes) -> Result<(), SendError> {
        let frame = Utf8Bytes::try_from(frame).map_err(|error| SendError::Other(error.into()))?;
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
            why: "closed",
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(outbox: usize) -> Arc<Peer> {
        Peer::new("p".into(), outbox, 1, Arc::default())
    }

    fn frame(len: usize) -> Utf8Bytes {
        "x".repeat(len).into()
    }

    #[test]
    fn the_first_ending_stands_and_nothing_is_queued_after_it() {
        let peer = peer(1000);
        peer.end_for_binary(4000);
        peer.close_with(4001, "late");
        peer.close();
        let ending = peer.ending.get().expect("it was set");
        assert_eq!(ending.close, Close::with_code(4000));
        assert!(peer.asked_by_binary());
        let refused = peer.send(Bytes::from_static(b"1"));
        assert!(matches!(refused, Err(SendError::Closed)));
    }

    #[test]
    fn only_text_can_be_sent() {
        let peer = peer(1000);
        peer.send("é".into()).expect("UTF-8");
        let refused = peer.send(Bytes::from_static(b"\xff"));
        assert!(matches!(refused, Err(SendError::Other(_))));
    }

    #[test]
    fn a_phone_may_fill_an_eighth_of_its_binarys_outbox() {
        let binary = peer(1600);
        let phones = [1, 2].map(|_| peer(1600).uplink(1600));
        for phone in &phones {
            binary.offer_from(phone, frame(36)).expect("100 of 200");
            binary.offer_from(phone, frame(36)).expect("200 of 200");
            let refused = binary.offer_from(phone, frame(0));
            assert!(matches!(refused, Err(Refused::Full(_))));
        }
    }

    #[tokio::test]
    async fn a_sender_that_waits_for_room_is_released_when_the_connection_ends() {
        let binary = peer(800);
        let phone = peer(800).uplink(800);
        binary.offer_from(&phone, frame(100)).expect("it is empty");
        let waiting = binary.deliver_from(&phone, frame(1));
        let (refused, ()) = tokio::join!(waiting, async { binary.close() });
        assert!(matches!(refused, Err(Refused::Closed)));
    }

    #[tokio::test]
    async fn a_sender_that_waits_for_room_gets_it_when_a_frame_is_written() {
        let binary = peer(800);
        let phone = peer(800).uplink(800);
        binary.offer_from(&phone, frame(100)).expect("it is empty");
        let waiting = binary.deliver_from(&phone, frame(1));
        let (delivered, ()) = tokio::join!(waiting, async {
            drop(binary.try_pop().expect("one is queued"));
        });
        delivered.expect("there was room");
        assert_eq!(binary.try_pop().expect("it came in").frame.len(), 1);
    }
}
