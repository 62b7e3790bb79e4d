use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use event_listener::EventListener;

use crate::state::change::Event;
use crate::store::Store;
use crate::store::audience::LISTENER;
use crate::store::feed::Missed;
use crate::wait::{Source, Wait};

/// Every change of a registry, in the order in which the changes took effect. Created by
/// [`Registry::events`](crate::Registry::events).
///
/// It counts as a handle of its registry, and keeps no connection alive. It stores the changes that nobody
/// has read yet, up to the limit at which it [lags](Lagged).
pub struct Events<C: ?Sized> {
    store: Arc<Store<C>>,
    inbox: u64,
    /// Events that were taken out of the inbox.
    taken: VecDeque<Event>,
}

/// Changes were missed. Start anew from [`Registry::servers`](crate::Registry::servers).
///
/// The same listener gets all changes that follow, so a call of `servers` that comes after this error leaves
/// no gap. [`Registry::events`](crate::Registry::events) says when a listener lags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("changes were missed")]
#[non_exhaustive]
pub struct Lagged;

impl<C: ?Sized> Events<C> {
    pub(crate) fn new(store: &Arc<Store<C>>) -> Self {
        // The inbox is opened last. Before this listener has joined, a change may pass that nobody tells it
        // of, so an inbox that other listeners had filled by then would have a gap.
        store.ledger.audience.join(LISTENER);
        let inbox = store.ledger.feed.open();
        Self {
            store: Arc::clone(store),
            inbox,
            taken: VecDeque::new(),
        }
    }

    /// Waits for the next change.
    ///
    /// Completes at once if there is one already. Cancel-safe: if the future is dropped, the next one returns
    /// the same change.
    ///
    /// Consistency: changes come in the order in which they took effect. The registry may be ahead of them.
    /// Cost: one lock for all changes that have arrived since the last time. It is the lock under which
    /// changes are made while anybody listens.
    ///
    /// # Errors
    ///
    /// [`Lagged`], once, if this listener missed changes. The changes that follow are complete again.
    #[allow(
        clippy::should_implement_trait,
        reason = "an iterator cannot wait without blocking"
    )]
    pub fn next(&mut self) -> NextEvent<'_, C> {
        NextEvent(Wait::new(self))
    }

    /// The next change, if there is one already. Consistency and cost: as [`next`](Self::next).
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub fn try_next(&mut self) -> Option<Result<Event, Lagged>> {
        self.look()
    }
}

impl<C: ?Sized> Source for Events<C> {
    type Item = Result<Event, Lagged>;

    fn look(&mut self) -> Option<Result<Event, Lagged>> {
        if self.taken.is_empty() {
            match self.store.ledger.feed.take(self.inbox) {
                Ok(events) => self.taken = events,
                Err(Missed) => return Some(Err(Lagged)),
            }
        }
        self.taken.pop_front().map(Ok)
    }

    fn listen(&mut self) -> EventListener {
        self.store.ledger.feed.listen()
    }
}

impl<C: ?Sized> Drop for Events<C> {
    fn drop(&mut self) {
        let ledger = &self.store.ledger;
        ledger.audience.leave(LISTENER);
        ledger.feed.close(self.inbox);
    }
}

impl<C: ?Sized> fmt::Debug for Events<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

/// Waits for the next event of [`Events`]. Created by [`Events::next`]. Dropping it loses nothing.
#[must_use = "a future does nothing until it is polled"]
pub struct NextEvent<'a, C: ?Sized>(Wait<&'a mut Events<C>>);

impl<C: ?Sized> NextEvent<'_, C> {
    /// Blocks this thread until there is an event. Returns `None` if there is none by the deadline; without a
    /// deadline, the call waits for as long as it takes. For programs without an async runtime.
    #[must_use]
    pub fn block_until(
        self,
        deadline: impl Into<Option<Instant>>,
    ) -> Option<Result<Event, Lagged>> {
        self.0.block(deadline.into())
    }
}

impl<C: ?Sized> Future for NextEvent<'_, C> {
    type Output = Result<Event, Lagged>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Event, Lagged>> {
        self.get_mut().0.poll(context)
    }
}

impl<C: ?Sized> fmt::Debug for NextEvent<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NextEvent").field(self.0.source()).finish()
    }
}
