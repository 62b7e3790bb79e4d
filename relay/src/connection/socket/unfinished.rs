//! The time limit for a message that has begun.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// The time that the incomplete message has taken.
#[derive(Default)]
pub(super) struct Unfinished {
    number: u64,
    since: Option<Instant>,
    /// Fires at the deadline of the message, or earlier.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Unfinished {
    /// Ready when the message with that number has been incomplete for longer than `limit`.
    ///
    /// Most messages arrive in parts, so the timer is not reset for each message. It fires at most once per limit, and
    /// then checks whether the message is still the same.
    pub(super) fn poll(
        &mut self,
        number: u64,
        limit: Duration,
        context: &mut Context<'_>,
    ) -> Poll<()> {
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
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}
