//! What a phone has sent before its binary came.

use std::collections::VecDeque;

use tungstenite::Utf8Bytes;

use super::outbox::cost;
use super::peer::share;
use super::relay::Relay;
use crate::protocol::endpoint::Endpoint;

/// The frames of a phone that has no binary yet, in order. What is still held at the end counts as undelivered.
///
/// The bound is that of a phone whose binary does not read: the frames that fit into its share of the outbox, and
/// one more.
pub(super) struct Held<'a> {
    relay: &'a Relay,
    frames: VecDeque<Utf8Bytes>,
    bytes: usize,
    share: usize,
}

impl<'a> Held<'a> {
    pub(super) fn new(relay: &'a Relay) -> Self {
        Self {
            relay,
            frames: VecDeque::new(),
            bytes: 0,
            share: share(relay.config.outbox as usize),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether another frame may be read.
    pub(super) fn has_room(&self) -> bool {
        self.bytes <= self.share
    }

    pub(super) fn push(&mut self, frame: Utf8Bytes) {
        self.bytes = self.bytes.saturating_add(cost(&frame));
        self.frames.push_back(frame);
    }

    /// Takes the oldest frame.
    pub(super) fn pop(&mut self) -> Option<Utf8Bytes> {
        let frame = self.frames.pop_front()?;
        self.bytes -= cost(&frame);
        Some(frame)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let frames = self.frames.len() as u64;
        self.relay
            .metrics
            .at(Endpoint::Server)
            .undelivered
            .inc_by(frames);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operate::config::Config;

    #[test]
    fn a_phone_may_send_its_share_and_one_frame_more_and_what_stays_is_counted() {
        let args = ["switchboard-relay", "--outbox", "1600"];
        let relay = Relay::new(Config::from_args(args).expect("good flags")).expect("no files");
        let undelivered = &relay.metrics.at(Endpoint::Server).undelivered;
        let mut held = Held::new(&relay);
        for frame in ["x".repeat(36), "y".repeat(36), "z".repeat(36)] {
            assert!(held.has_room());
            held.push(frame.into());
        }
        assert!(!held.has_room());
        let first = held.pop().expect("three are held");
        assert!(first.starts_with('x') && held.has_room());
        drop(held);
        assert_eq!(undelivered.get(), 2);
    }
}
