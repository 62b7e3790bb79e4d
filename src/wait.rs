//! What all waiting has in common: look, listen, look again, and only then wait.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use event_listener::{EventListener, Listener as _};

/// Something that can be waited for.
pub(crate) trait Source {
    type Item;

    fn look(&mut self) -> Option<Self::Item>;

    /// Listens for a change. A call of [`look`](Self::look) that follows sees every change that does not
    /// notify the listener.
    fn listen(&mut self) -> EventListener;
}

impl<S: Source> Source for &mut S {
    type Item = S::Item;

    fn look(&mut self) -> Option<S::Item> {
        (**self).look()
    }

    fn listen(&mut self) -> EventListener {
        (**self).listen()
    }
}

/// The wait for the next item of a source. Dropping it loses nothing: an item leaves the source only when it
/// is returned.
pub(crate) struct Wait<S> {
    source: S,
    listener: Option<EventListener>,
}

impl<S: Source> Wait<S> {
    pub(crate) fn new(source: S) -> Self {
        Self {
            source,
            listener: None,
        }
    }

    pub(crate) fn source(&self) -> &S {
        &self.source
    }

    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<S::Item> {
        loop {
            if let Some(item) = self.source.look() {
                self.listener = None;
                return Poll::Ready(item);
            }
            let Some(listener) = &mut self.listener else {
                self.listener = Some(self.source.listen());
                continue;
            };
            ready!(Pin::new(listener).poll(context));
            self.listener = None;
        }
    }

    /// Blocks this thread. Returns `None` if nothing has come by the deadline.
    pub(crate) fn block(mut self, deadline: Option<Instant>) -> Option<S::Item> {
        loop {
            let listener = self.source.listen();
            if let Some(item) = self.source.look() {
                return Some(item);
            }
            match deadline {
                Some(deadline) => {
                    listener.wait_deadline(deadline)?;
                }
                None => listener.wait(),
            }
        }
    }
}
