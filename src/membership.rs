use std::fmt;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::facade::{Shared, switch_point};
use crate::phone_list::Phone;
use crate::route::Route;
use crate::slot::{Slot, Snapshot};
use crate::snapshot::ConnRef;
use crate::transition;

/// The registration of a phone. Dropping it unregisters the phone.
///
/// It removes its own registration and never a later one with the same conn-id. Once the phone has been
/// displaced or unregistered in another way, every method finds nothing and changes nothing.
///
/// A membership knows its place. None of its methods hashes or searches for the server-id. It may
/// outlive the handles of its registry.
#[must_use = "dropping a membership unregisters its phone"]
pub struct Membership<C: ?Sized> {
    slot: Arc<Slot<C>>,
    phone: Shared<Phone<C>>,
    /// The count of removals at which the phone was last seen registered. A phone that is registered in
    /// one record of that count is in all later ones of the same count: only this membership could take
    /// it out without counting. So it doesn't matter which thread wrote last, and `Relaxed` suffices.
    seen: AtomicU64,
    /// Whether the drop still has something to give up.
    guarding: bool,
}

impl<C: ?Sized> Membership<C> {
    pub(crate) fn new(slot: Arc<Slot<C>>, phone: Shared<Phone<C>>, removals: u64) -> Self {
        Self {
            slot,
            phone,
            seen: AtomicU64::new(removals),
            guarding: true,
        }
    }

    /// The server-id.
    #[must_use]
    pub fn server_id(&self) -> &str {
        &self.slot.server_id
    }

    /// The conn-id under which the phone was registered.
    #[must_use]
    pub fn conn_id(&self) -> &str {
        &self.phone.conn_id
    }

    /// The phone.
    #[must_use]
    pub fn conn(&self) -> &Arc<C> {
        &self.phone.conn
    }

    /// The record, while the phone is in it.
    fn tenure(&self) -> Option<Snapshot<C>> {
        let record = self.slot.snapshot();
        let removals = record.as_ref()?.removals;
        switch_point();
        let seen = self.seen.load(Ordering::Relaxed);
        if removals != seen {
            if !record.as_ref()?.phones.contains(&self.phone) {
                return None;
            }
            switch_point();
            self.seen.store(removals, Ordering::Relaxed);
        }
        Some(record)
    }

    /// Whether this registration still stands.
    ///
    /// Consistency: linearizable. Cost: one cell load: the slot's cache line and then the record's; after
    /// somebody else's removal one search in the phone list, once. No allocation.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.tenure().is_some()
    }

    /// The binary of the server-id, in grace the one that went away. `None` while the server-id is
    /// vacant, and once this phone is no longer registered, even when a successor holds the server-id.
    ///
    /// Consistency: linearizable. Cost: as [`is_registered`](Self::is_registered).
    ///
    /// ```
    #[doc = include_str!("docs/wire.in")]
    /// # use switchboard::Registry;
    /// let registry = Registry::new();
    /// let claim = registry.claim_server("s", Arc::new(Wire("b")))?;
    /// let phone = registry.register_phone("s", Arc::new(Wire("p")))?;
    /// assert!(phone.binary().is_some());
    /// claim.release();
    /// assert!(phone.binary().is_none());
    /// let _next = registry.claim_server("s", Arc::new(Wire("b2")))?;
    /// assert!(phone.binary().is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn binary(&self) -> Option<ConnRef<C>> {
        ConnRef::binary(self.tenure()?)
    }

    /// A way to the binary that remembers where it led: for a loop that forwards one frame after another.
    ///
    /// It keeps more alive than a membership does, and for longer: see [`Route`].
    ///
    /// Cost: one cell load, one search in the phone list, and a few references counted. No allocation.
    #[must_use]
    pub fn route(&self) -> Route<C> {
        Route::new(&self.slot, &self.phone)
    }

    /// Takes the phone out. `false`: it was out already, and nothing has changed.
    ///
    /// Consistency: linearizable. Cost: one compare-and-swap of the record, and a copy of the path to the
    /// phone in the list.
    pub fn unregister(mut self) -> bool {
        self.guarding = false;
        self.leave()
    }

    /// Keeps the registration and drops the guard. The phone is taken out later by
    /// [`Registry::unregister_phone`](crate::Registry::unregister_phone).
    pub fn detach(mut self) {
        self.guarding = false;
    }

    fn leave(&self) -> bool {
        let applied = self
            .slot
            .apply(|record| transition::leave(record, &self.phone));
        applied.is_some_and(|applied| applied.outcome.is_ok())
    }
}

impl<C: ?Sized> Drop for Membership<C> {
    fn drop(&mut self) {
        if mem::take(&mut self.guarding) {
            self.leave();
        }
    }
}

impl<C: ?Sized> fmt::Debug for Membership<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership")
            .field("server_id", &self.server_id())
            .field("conn_id", &self.conn_id())
            .field("is_registered", &self.is_registered())
            .finish_non_exhaustive()
    }
}
