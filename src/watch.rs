use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use event_listener::EventListener;

use crate::snapshot::{ConnRef, Server};
use crate::state::change::Version;
use crate::state::status::Status;
use crate::store::Store;
use crate::store::watched::Watched;
use crate::wait::{Source, Wait};

/// Waits until a binary that has not gone away holds a server-id. Created by
/// [`Registry::wait_for_binary`](crate::Registry::wait_for_binary).
///
/// It counts as a handle of its registry, and keeps no connection alive. Dropping it loses nothing.
#[must_use = "a future does nothing until it is polled"]
pub struct WaitForBinary<C: ?Sized>(Wait<PresentBinary<C>>);

struct PresentBinary<C: ?Sized>(Watched<C>);

impl<C: ?Sized> Source for PresentBinary<C> {
    type Item = ConnRef<C>;

    fn look(&mut self) -> Option<ConnRef<C>> {
        let binary = ConnRef::binary(self.0.snapshot()?)?;
        (binary.status() == Status::Held).then_some(binary)
    }

    fn listen(&mut self) -> EventListener {
        self.0.listen()
    }
}

impl<C: ?Sized> WaitForBinary<C> {
    pub(crate) fn new(store: &Arc<Store<C>>, hash: u64, server_id: &str) -> Self {
        let watched = Watched::new(store, hash, server_id);
        Self(Wait::new(PresentBinary(watched)))
    }

    /// Blocks this thread until there is a binary. Returns `None` if there is none by the deadline; without a
    /// deadline, the call waits for as long as it takes. For programs without an async runtime.
    #[must_use]
    pub fn block_until(self, deadline: impl Into<Option<Instant>>) -> Option<ConnRef<C>> {
        self.0.block(deadline.into())
    }
}

impl<C: ?Sized> Future for WaitForBinary<C> {
    type Output = ConnRef<C>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<ConnRef<C>> {
        self.get_mut().0.poll(context)
    }
}

impl<C: ?Sized> fmt::Debug for WaitForBinary<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitForBinary")
            .field("server_id", &self.0.source().0.server_id())
            .finish_non_exhaustive()
    }
}

/// Shows the latest state of one server-id, and waits for the next one. Created by
/// [`Registry::watch`](crate::Registry::watch).
///
/// A state that is soon replaced may be skipped. The last one never is. For every change, listen to
/// [`Events`](crate::Events). A watch keeps no connection alive, but counts as a handle of its registry.
///
/// ```
#[doc = include_str!("docs/wire.in")]
/// # use switchboard::{Registry, Status};
/// let registry = Registry::new();
/// let mut watch = registry.watch("s");
/// assert!(watch.current().is_none());
/// let claim = registry.claim_server("s", Arc::new(Wire("b")))?;
/// // In async code: `watch.changed().await`.
/// let server = watch.changed().block_until(None).unwrap();
/// assert_eq!(server.unwrap().epoch(), Some(claim.epoch()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Watch<C: ?Sized> {
    watched: Watched<C>,
    /// The state that was shown last. `None` if the server-id was not in the registry.
    seen: Option<Version>,
}

impl<C: ?Sized> Watch<C> {
    pub(crate) fn new(store: &Arc<Store<C>>, hash: u64, server_id: &str) -> Self {
        let watched = Watched::new(store, hash, server_id);
        let mut watch = Self {
            watched,
            seen: None,
        };
        let _ = watch.current();
        watch
    }

    /// The server-id.
    #[must_use]
    pub fn server_id(&self) -> &str {
        self.watched.server_id()
    }

    /// The current state, as [`Registry::server`](crate::Registry::server) shows it. It counts as seen:
    /// [`changed`](Self::changed) waits for another one.
    ///
    /// Consistency: linearizable. Cost: as [`Registry::server`](crate::Registry::server), without the hash.
    pub fn current(&mut self) -> Option<Server<C>> {
        let server = Server::of(self.watched.slot()?);
        self.seen = server.as_ref().map(Server::version);
        server
    }

    /// Waits until the state is another one than the one seen last, and returns it. `None` means that the
    /// server-id has left the registry.
    ///
    /// Completes at once if it is another one already. Cancel-safe: if the future is dropped, the next one
    /// continues where it was.
    ///
    /// Consistency: the server-id was in this state at an instant during the wait. No wake-up is lost. Cost:
    /// as [`current`](Self::current), at first and for each change of the server-id. A wait that has to sleep
    /// takes a short lock.
    pub fn changed(&mut self) -> Changed<'_, C> {
        Changed(Wait::new(self))
    }
}

impl<C: ?Sized> Source for Watch<C> {
    type Item = Option<Server<C>>;

    fn look(&mut self) -> Option<Option<Server<C>>> {
        let seen = self.seen;
        let server = self.current();
        (self.seen != seen).then_some(server)
    }

    fn listen(&mut self) -> EventListener {
        self.watched.listen()
    }
}

impl<C: ?Sized> fmt::Debug for Watch<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("server_id", &self.server_id())
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

/// Waits for the next state of a [`Watch`]. Created by [`Watch::changed`]. Dropping it loses nothing.
#[must_use = "a future does nothing until it is polled"]
pub struct Changed<'a, C: ?Sized>(Wait<&'a mut Watch<C>>);

impl<C: ?Sized> Changed<'_, C> {
    /// Blocks this thread until the state has changed. Returns `None` if it has not by the deadline; without
    /// a deadline, the call waits for as long as it takes. For programs without an async runtime.
    #[must_use]
    pub fn block_until(self, deadline: impl Into<Option<Instant>>) -> Option<Option<Server<C>>> {
        self.0.block(deadline.into())
    }
}

impl<C: ?Sized> Future for Changed<'_, C> {
    type Output = Option<Server<C>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Server<C>>> {
        self.get_mut().0.poll(context)
    }
}

impl<C: ?Sized> fmt::Debug for Changed<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Changed").field(self.0.source()).finish()
    }
}
