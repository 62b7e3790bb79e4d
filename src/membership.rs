use std::fmt;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::route::Route;
use crate::snapshot::ConnRef;
use crate::state::change::Attempt;
use crate::state::phone_list::Phone;
use crate::state::transition;
use crate::store::slot::{Slot, Snapshot};
use crate::store::switch_point::switch_point;

/// The registration of a phone. Dropping it unregisters the phone.
///
/// It removes its own registration and never a later one with the same conn-id. Once the phone has been
/// displaced or unregistered in another way, its methods find nothing and change nothing.
///
/// A membership points to the state of its server-id, so none of its methods hashes or looks up the
/// server-id. It may outlive the handles of its registry.
#[must_use = "dropping a membership unregisters its phone"]
pub struct Membership<C: ?Sized> {
    slot: Arc<Slot<C>>,
    phone: Phone<C>,
    /// The removal count of the record in which the phone was last found. A phone in one record is also in
    /// all later records with the same count, because only this membership can remove it without incrementing
    /// the count. So it doesn't matter which thread stored last, and `Relaxed` suffices.
    seen: AtomicU64,
    /// Whether the drop still has to unregister the phone.
    guarding: bool,
}

impl<C: ?Sized> Membership<C> {
    pub(crate) fn new(slot: Arc<Slot<C>>, phone: Phone<C>, removals: u64) -> Self {
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
        self.phone.conn_id()
    }

    /// The phone.
    #[must_use]
    pub fn conn(&self) -> &Arc<C> {
        self.phone.conn()
    }

    /// The current record, if the phone is in it.
    fn record(&self) -> Option<Snapshot<C>> {
        let record = self.slot.snapshot();
        let removals = record.get()?.removals;
        switch_point();
        let seen = self.seen.load(Ordering::Relaxed);
        if removals != seen {
            if !record.get()?.phones.contains(&self.phone) {
                return None;
            }
            switch_point();
            self.seen.store(removals, Ordering::Relaxed);
        }
        Some(record)
    }

    /// Whether this registration still exists.
    ///
    /// Consistency: linearizable. Cost: one cell load, which reads the slot's cache line and then the
    /// record's. The first call after a removal by anything but a membership also searches the phone list. No
    /// allocation.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.record().is_some()
    }

    /// The binary of the server-id. In grace, this is the binary that went away.
    ///
    /// `None` while the server-id is vacant. Also `None` once this phone is no longer registered, even if a
    /// successor holds the server-id.
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
        ConnRef::binary(self.record()?)
    }

    /// A cached path to the binary, for a loop that forwards one frame after another.
    ///
    /// It keeps more alive than a membership does, and for longer: see [`Route`].
    ///
    /// Cost: one cell load, one search in the phone list, and a few reference counts. No allocation.
    #[must_use]
    pub fn route(&self) -> Route<C> {
        Route::new(&self.slot, &self.phone)
    }

    /// Unregisters the phone. Returns `false` if it was no longer registered; nothing has changed then.
    ///
    /// Consistency: linearizable. Cost: one compare-and-swap of the record, and a copy of the path to the
    /// phone in the list.
    pub fn unregister(mut self) -> bool {
        self.guarding = false;
        self.leave()
    }

    /// Keeps the registration and drops the guard.
    /// [`Registry::unregister_phone`](crate::Registry::unregister_phone) can remove the phone later.
    pub fn detach(mut self) {
        self.guarding = false;
    }

    fn leave(&self) -> bool {
        let attempt = Attempt::Unregister(self.phone.conn_id_bytes());
        let applied = self
            .slot
            .apply(attempt, |record| transition::leave(record, &self.phone));
        matches!(applied, Some(Ok(_)))
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
