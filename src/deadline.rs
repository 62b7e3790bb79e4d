use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use event_listener::EventListener;

use crate::expiry;
use crate::store::Store;
use crate::wait::{Source, Wait};

/// Waits for a grace whose deadline is earlier than a given one. Created by
/// [`Registry::earlier_deadline`](crate::Registry::earlier_deadline).
///
/// It counts as a handle of its registry, and keeps no connection alive. Dropping it loses nothing.
#[must_use = "a future does nothing until it is polled"]
pub struct EarlierDeadline<C: ?Sized>(Wait<Deadlines<C>>);

struct Deadlines<C: ?Sized> {
    store: Arc<Store<C>>,
    than: Option<Instant>,
}

impl<C: ?Sized> Source for Deadlines<C> {
    type Item = Instant;

    fn look(&mut self) -> Option<Instant> {
        let deadline = expiry::next_deadline(&self.store.ledger)?;
        let is_earlier = self.than.is_none_or(|than| deadline < than);
        is_earlier.then_some(deadline)
    }

    fn listen(&mut self) -> EventListener {
        self.store.ledger.listen_for_deadlines()
    }
}

impl<C: ?Sized> EarlierDeadline<C> {
    pub(crate) fn new(store: &Arc<Store<C>>, than: Option<Instant>) -> Self {
        let store = Arc::clone(store);
        Self(Wait::new(Deadlines { store, than }))
    }

    /// Blocks this thread until there is an earlier deadline. Returns `None` if there is none by the instant
    /// `until`; without one, the call waits for as long as it takes. For programs without an async runtime.
    #[must_use]
    pub fn block_until(self, until: impl Into<Option<Instant>>) -> Option<Instant> {
        self.0.block(until.into())
    }
}

impl<C: ?Sized> Future for EarlierDeadline<C> {
    type Output = Instant;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Instant> {
        self.get_mut().0.poll(context)
    }
}

impl<C: ?Sized> fmt::Debug for EarlierDeadline<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EarlierDeadline")
            .field("than", &self.0.source().than)
            .finish_non_exhaustive()
    }
}
