use std::fmt;
use std::sync::Arc;

use crate::facade::Shared;
use crate::record::Record;
use crate::slot::{Slot, Snapshot};
use crate::snapshot::Phones;

/// What an operation took out of the registry. Whoever gets it closes the connections.
///
/// Each connection that leaves wholesale is in exactly one of these.
///
/// # Dropping many phones
///
/// Taking any number of phones out costs one compare-and-swap. Freeing them costs as many drops, in whoever drops the last
/// reference: this, or a snapshot of theirs that somebody still holds. A thread that does nothing else can take that over. Where it
/// keeps what it gets for a moment, no lookup of the time before is left with it either.
///
/// ```
#[doc = include_str!("docs/wire.in")]
/// # use switchboard::{Displaced, Registry};
/// use std::sync::mpsc;
/// use std::thread;
/// use std::time::Duration;
///
/// let (departed, to_be_dropped) = mpsc::channel::<Displaced<Wire>>();
/// let dropper = thread::spawn(move || {
///     for out in to_be_dropped {
///         thread::sleep(Duration::from_millis(10));
///         drop(out);
///     }
/// });
///
/// let registry = Registry::new();
/// let claim = registry.claim_server("s", Arc::new(Wire("b")))?;
/// if let Some(out) = claim.evict() {
///     departed.send(out)?;
/// }
/// # drop(departed);
/// # dropper.join().unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "the connections in it are out of the registry, and still open"]
pub struct Displaced<C: ?Sized> {
    /// The server-id that they belonged to.
    pub server_id: Arc<str>,
    /// The binary, where there was one. `phones` keeps it alive too.
    pub binary: Option<Arc<C>>,
    /// The phones.
    pub phones: Phones<C>,
    /// Why they had to go.
    pub cause: Cause,
}

/// Why connections were displaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The server-id was claimed while it was in grace.
    Reclaimed,
    /// Another binary took the server-id over.
    TakenOver,
    /// The grace ended.
    Expired,
    /// The server-id was evicted.
    Evicted,
    /// The registry was drained.
    Drained,
}

impl<C: ?Sized> Displaced<C> {
    /// What stood in the record that a wholesale transition replaced.
    pub(crate) fn of(slot: &Slot<C>, before: Shared<Record<C>>, cause: Cause) -> Self {
        let tenure = before.tenure.as_ref();
        Self {
            server_id: slot.server_id.as_str().into(),
            binary: tenure.map(|tenure| Arc::clone(&tenure.binary)),
            phones: Phones::of(Snapshot::from_inner(Some(before))),
            cause,
        }
    }
}

impl<C: ?Sized> fmt::Debug for Displaced<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Displaced")
            .field("server_id", &self.server_id)
            .field("binary", &self.binary.is_some())
            .field("phones", &self.phones)
            .field("cause", &self.cause)
            .finish()
    }
}
