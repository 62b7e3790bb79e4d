use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::claim::{self, Claim};
use crate::conn::Conn;
use crate::displaced::Displaced;
use crate::error::{RegisterError, ServerIdConflict};
use crate::expiry::{self, Expiry};
use crate::membership::Membership;
use crate::snapshot::{ConnRef, Phones, Server};
use crate::state::cause::Cause;
use crate::state::epoch::Epoch;
use crate::state::hash::{self, DefaultHashBuilder};
use crate::state::kept::Kept;
use crate::state::phone_list::Phone;
use crate::state::transition::{self, Refusal, Whose};
use crate::store::Store;
use crate::store::counts::Counts;
use crate::store::slot::Slot;

/// The registry of a relay: which binary holds a server-id, and which phones belong to it.
///
/// This is a handle: a clone is the same registry. The registry lives as long as any handle, and as long as
/// any [`ServerIdConflict`], which may still need it. Claims and memberships may outlive it. They then keep
/// the current record of their own server-id.
///
/// Operations on one server-id are linearizable. Lookups never block. After a thread's first lookup they
/// allocate nothing.
pub struct Registry<C: ?Sized = dyn Conn, S = DefaultHashBuilder> {
    pub(crate) store: Arc<Store<C>>,
    pub(crate) hasher: S,
}

/// See [`Registry::internals`].
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Internals {
    /// Entries in the queue of deadlines. At rest there is one for each grace that ends by itself.
    pub deadlines: usize,
    /// Retired slots that are still in the index.
    pub retired_slots: usize,
    /// Retired slots that wait to be removed. At rest these are `retired_slots` and those that a claim has
    /// replaced.
    pub lingering_slots: usize,
}

impl<C: Conn + ?Sized, S: BuildHasher + 'static> Registry<C, S> {
    fn hash(&self, server_id: &str) -> u64 {
        hash::server_id(&self.hasher, server_id)
    }

    fn slot(&self, server_id: &str) -> Option<Arc<Slot<C>>> {
        self.store.slot(self.hash(server_id), server_id)
    }

    /// Claims a server-id for a binary.
    ///
    /// A vacant server-id becomes held and keeps the phones that an earlier release left. A server-id in
    /// grace becomes held too, but its old binary and all its phones are displaced: they are in
    /// [`Claim::displaced`], with [`Cause::Reclaimed`].
    ///
    /// Consistency: linearizable. Cost: one hash, one probe, and one compare-and-swap of the record. Claiming
    /// a new server-id allocates an entry for it. One such claim in many finds no room in the index and
    /// copies it. Until the copy is done, that claim and all others that add or remove server-ids wait.
    ///
    /// # Errors
    ///
    /// [`ServerIdConflict`] if another binary holds the server-id. Nothing has changed, and the error holds
    /// the rejected connection.
    ///
    /// ```
    #[doc = include_str!("docs/wire.in")]
    /// # use switchboard::Registry;
    /// let registry = Registry::new();
    /// let claim = registry.claim_server("s", Arc::new(Wire("b")))?;
    /// let conflict = registry.claim_server("s", Arc::new(Wire("other"))).unwrap_err();
    /// assert_eq!(conflict.incumbent_epoch(), claim.epoch());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn claim_server(
        &self,
        server_id: &str,
        conn: Arc<C>,
    ) -> Result<Claim<C>, ServerIdConflict<C>> {
        let conn = Kept::new(conn);
        claim::claim(&self.store, self.hash(server_id), server_id, conn)
    }

    /// Releases a server-id, whoever holds it, even in grace.
    ///
    /// Its phones stay registered, and see the next binary that claims it. Returns `false` if nobody held it.
    ///
    /// Consistency: linearizable. Cost: one hash, one probe, and one compare-and-swap of the record.
    ///
    /// ```
    #[doc = include_str!("docs/wire.in")]
    /// # use switchboard::Registry;
    /// let registry = Registry::new();
    /// let claim = registry.claim_server("s", Arc::new(Wire("b")))?;
    /// assert!(registry.release_server("s"));
    /// assert!(!registry.release_server("s"));
    /// assert!(!claim.is_current());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn release_server(&self, server_id: &str) -> bool {
        self.slot(server_id)
            .is_some_and(|slot| claim::release(&slot, Whose::Anyone))
    }

    /// Releases a server-id if this epoch still holds it, even in grace. Meant for claims that were
    /// [detached](Claim::detach).
    ///
    /// Consistency: linearizable. Cost: as [`release_server`](Self::release_server).
    ///
    /// ```
    #[doc = include_str!("docs/wire.in")]
    /// # use switchboard::Registry;
    /// let registry = Registry::new();
    /// let epoch = registry.claim_server("s", Arc::new(Wire("b")))?.detach();
    /// assert!(registry.binary_for("s").is_some());
    /// assert!(registry.release_claim("s", epoch));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn release_claim(&self, server_id: &str, epoch: Epoch) -> bool {
        self.slot(server_id)
            .is_some_and(|slot| claim::release(&slot, Whose::Claim(epoch)))
    }

    /// Leaves a server-id in grace for the duration `grace` from now, if this epoch still holds it.
    ///
    /// If the server-id is already in grace, the deadline is replaced: the last call wins. A grace longer
    /// than `Instant` can represent never ends by itself.
    ///
    /// Consistency: linearizable. Cost: as [`release_server`](Self::release_server), and one insertion into
    /// the queue of deadlines.
    ///
    /// ```
    #[doc = include_str!("docs/wire.in")]
    /// # use switchboard::Registry;
    /// use std::time::{Duration, Instant};
    ///
    /// let registry = Registry::new();
    /// let epoch = registry.claim_server("s", Arc::new(Wire("b")))?.detach();
    /// assert!(registry.release_claim_after("s", epoch, Duration::from_secs(1)));
    /// assert!(registry.release_claim_after("s", epoch, Duration::from_secs(60)));
    /// assert!(registry.expire(Instant::now() + Duration::from_secs(2)).is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn release_claim_after(&self, server_id: &str, epoch: Epoch, grace: Duration) -> bool {
        self.slot(server_id)
            .is_some_and(|slot| slot.begin_grace(Whose::Claim(epoch), grace))
    }

    /// Registers a phone under a server-id that is held or in grace.
    ///
    /// The conn-id is read once, before the server-id is looked up.
    ///
    /// Consistency: linearizable. Cost: one hash, one probe, one compare-and-swap of the record, and a copy
    /// of the path to the phone in the list. The last two are repeated if another change to the same
    /// server-id comes first.
    ///
    /// # Errors
    ///
    /// [`RegisterError::NoServer`], [`AtCapacity`](RegisterError::AtCapacity) or
    /// [`DuplicateConnId`](RegisterError::DuplicateConnId), checked in this order. Nothing has changed, and
    /// the error holds the rejected connection.
    ///
    /// ```
    #[doc = include_str!("docs/wire.in")]
    /// # use switchboard::{RegisterError, Registry};
    /// let registry = Registry::new();
    /// let early = registry.register_phone("s", Arc::new(Wire("p"))).unwrap_err();
    /// assert!(matches!(early, RegisterError::NoServer(_)));
    /// let _claim = registry.claim_server("s", Arc::new(Wire("b")))?;
    /// let _phone = registry.register_phone("s", early.into_conn())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn register_phone(
        &self,
        server_id: &str,
        conn: Arc<C>,
    ) -> Result<Membership<C>, RegisterError<C>> {
        let conn = Kept::new(conn);
        let phone = Phone::new(conn.conn_id().into(), conn);
        let Some(slot) = self.slot(server_id) else {
            return Err(RegisterError::NoServer(Arc::clone(&phone.conn)));
        };
        let max_phones = self.store.ledger.max_phones;
        let applied = slot.apply(|record| transition::register(record, max_phones, &phone));
        let error = match applied.map(|applied| applied.outcome) {
            Some(Ok(removals)) => return Ok(Membership::new(slot, phone, removals)),
            Some(Err(Refusal::AtCapacity)) => RegisterError::AtCapacity,
            Some(Err(Refusal::DuplicateConnId)) => RegisterError::DuplicateConnId,
            Some(Err(Refusal::NoServer)) | None => RegisterError::NoServer,
        };
        Err(error(Arc::clone(&phone.conn)))
    }

    /// Removes the phone with this conn-id and returns it, whatever the state of the server-id.
    ///
    /// Returns `None` if there is no such phone; nothing has changed then.
    ///
    /// Consistency: linearizable. Cost: one hash, one probe, one compare-and-swap of the record, and a
    /// copy of the path to the phone in the list.
    ///
    /// ```
    #[doc = include_str!("docs/wire.in")]
    /// # use switchboard::Registry;
    /// let registry = Registry::new();
    /// let _claim = registry.claim_server("s", Arc::new(Wire("b")))?;
    /// registry.register_phone("s", Arc::new(Wire("p")))?.detach();
    /// assert!(registry.unregister_phone("s", "p").is_some());
    /// assert!(registry.unregister_phone("s", "p").is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn unregister_phone(&self, server_id: &str, conn_id: &str) -> Option<Arc<C>> {
        let slot = self.slot(server_id)?;
        let applied = slot.apply(|record| transition::unregister(record, conn_id))?;
        applied.outcome.ok().map(Kept::into_arc)
    }

    /// The binary of a server-id. In grace, this is the binary that went away.
    ///
    /// Consistency: linearizable. Cost: one hash, one probe, one cell load; no allocation, and usually no
    /// write to a cache line that another core uses. Dependent cache lines: the table (two at once), its
    /// entry, the slot, the record.
    ///
    /// ```
    #[doc = include_str!("docs/wire.in")]
    /// # use switchboard::{Conn, Registry};
    /// let registry = Registry::new();
    /// let _claim = registry.claim_server("s", Arc::new(Wire("b")))?;
    /// let binary = registry.binary_for("s").expect("claimed above");
    /// assert_eq!(binary.conn_id(), "b");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn binary_for(&self, server_id: &str) -> Option<ConnRef<C>> {
        ConnRef::binary(self.store.snapshot(self.hash(server_id), server_id)?)
    }

    /// The phones of a server-id at one instant. Empty for an unknown server-id.
    ///
    /// Consistency: linearizable. Cost: as [`binary_for`](Self::binary_for), whatever the number of phones.
    /// The record's cache line is read only when the phones are used.
    ///
    /// ```
    #[doc = include_str!("docs/wire.in")]
    /// # use switchboard::Registry;
    /// # let registry = Registry::new();
    /// # let _claim = registry.claim_server("s", Arc::new(Wire("b")))?;
    /// # let _phone = registry.register_phone("s", Arc::new(Wire("p")))?;
    /// let sent = registry.phones_for("s").broadcast(&"hello".into());
    /// assert_eq!((sent.delivered, sent.failed), (1, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn phones_for(&self, server_id: &str) -> Phones<C> {
        self.store
            .snapshot(self.hash(server_id), server_id)
            .map_or_else(Phones::none, Phones::of)
    }

    /// The phone with this conn-id.
    ///
    /// Consistency: linearizable. Cost: as [`binary_for`](Self::binary_for), and one search in the phone
    /// list.
    ///
    /// ```
    #[doc = include_str!("docs/wire.in")]
    /// # use switchboard::Registry;
    /// # let registry = Registry::new();
    /// # let _claim = registry.claim_server("s", Arc::new(Wire("b")))?;
    /// # let _phone = registry.register_phone("s", Arc::new(Wire("p")))?;
    /// assert!(registry.phone_for("s", "p").is_some());
    /// assert!(registry.phone_for("s", "nobody").is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn phone_for(&self, server_id: &str, conn_id: &str) -> Option<ConnRef<C>> {
        ConnRef::phone(
            self.store.snapshot(self.hash(server_id), server_id)?,
            conn_id,
        )
    }

    /// Binary, phones, epoch and status of a server-id at one instant.
    ///
    /// Returns `None` if nobody holds the server-id and it has no phones.
    ///
    /// Consistency: linearizable. Cost: as [`binary_for`](Self::binary_for), and a few reference counts.
    ///
    /// ```
    #[doc = include_str!("docs/wire.in")]
    /// # use switchboard::{Registry, Status};
    /// let registry = Registry::new();
    /// let claim = registry.claim_server("s", Arc::new(Wire("b")))?;
    /// let server = registry.server("s").expect("claimed above");
    /// assert_eq!(server.status(), Status::Held);
    /// assert_eq!(server.epoch(), Some(claim.epoch()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn server(&self, server_id: &str) -> Option<Server<C>> {
        Server::of(self.slot(server_id)?)
    }

    /// Iterates over all server-ids, including vacant ones that have phones.
    ///
    /// Each item shows one instant. Together they are weakly consistent: a server-id that is there throughout
    /// is seen once, and one that comes or goes meanwhile may or may not be seen.
    ///
    /// Cost: one pass over the index, and an allocation for the list of entries. The call waits if the index
    /// is being copied. Empty entries that have not been removed yet are skipped. The iterator holds the
    /// entries that it has not reached. Once the registry is gone, this keeps their connections alive.
    ///
    /// ```
    #[doc = include_str!("docs/wire.in")]
    /// # use switchboard::Registry;
    /// let registry = Registry::new();
    /// let _a = registry.claim_server("a", Arc::new(Wire("b")))?;
    /// let _b = registry.claim_server("b", Arc::new(Wire("b")))?;
    /// let mut names: Vec<_> = registry.servers().map(|s| s.server_id().to_owned()).collect();
    /// names.sort();
    /// assert_eq!(names, ["a", "b"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn servers(&self) -> impl Iterator<Item = Server<C>> + Send + 'static + use<C, S> {
        self.store.slots().into_iter().filter_map(Server::of)
    }

    /// The number of connections.
    ///
    /// Exact whenever no call is in flight; otherwise off by at most the changes of the calls that overlap
    /// this one.
    ///
    /// Cost: a few cache lines, whatever the number of server-ids; no allocation.
    ///
    /// ```
    #[doc = include_str!("docs/wire.in")]
    /// # use switchboard::Registry;
    /// let registry = Registry::new();
    /// let _claim = registry.claim_server("s", Arc::new(Wire("b")))?;
    /// assert_eq!(registry.counts().binaries, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.store.ledger.counts.sum()
    }

    /// Removes the binary and all phones of a server-id at one instant. Returns `None` if there was neither.
    ///
    /// Consistency: linearizable. Cost: one hash, one probe, and one compare-and-swap of the record,
    /// whatever the number of phones.
    ///
    /// ```
    #[doc = include_str!("docs/wire.in")]
    /// # use switchboard::{Conn, Registry};
    /// let registry = Registry::new();
    /// let _claim = registry.claim_server("s", Arc::new(Wire("b")))?;
    /// let out = registry.evict_server("s").expect("claimed above");
    /// out.binary.expect("there was one").close();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn evict_server(&self, server_id: &str) -> Option<Displaced<C>> {
        claim::evict(&self.slot(server_id)?, Whose::Anyone, Cause::Evicted)
    }

    /// Ends every grace whose deadline is not later than `now`, and returns its binary and phones.
    ///
    /// Their cause is [`Cause::Expired`]. The earliest deadline comes first, unless a deadline moves
    /// meanwhile.
    ///
    /// Consistency: linearizable for each server-id; the call as a whole is not one instant. The call ends
    /// every grace that is over when it begins, unless the grace is re-armed to later than `now` before the
    /// call reaches it. Of several concurrent calls, exactly one returns it. A grace that begins while the
    /// call runs may be left to the next call.
    ///
    /// Cost: one search in the queue of deadlines for each grace that was over when the call began, and one
    /// more for each that begins or is re-armed meanwhile with a deadline that the call has not reached yet.
    /// The number of server-ids does not matter. A grace that is re-armed while any call of `expire` runs
    /// keeps its old entry in the queue until none runs. So call this from one timer: calls that overlap
    /// without end would keep all those entries.
    ///
    /// ```
    #[doc = include_str!("docs/wire.in")]
    /// # use switchboard::Registry;
    /// use std::time::{Duration, Instant};
    ///
    /// let registry = Registry::new();
    /// let claim = registry.claim_server("s", Arc::new(Wire("b")))?;
    /// claim.release_after(Duration::from_secs(30));
    /// assert!(registry.expire(Instant::now()).is_empty());
    /// assert_eq!(registry.expire(Instant::now() + Duration::from_secs(31)).len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn expire(&self, now: Instant) -> Vec<Displaced<C>> {
        let mut expired: Vec<_> = Expiry::new(&self.store.ledger, now).flatten().collect();
        // The scan runs from the latest deadline to the earliest.
        expired.reverse();
        expired
    }

    /// The earliest deadline of a grace: the time at which [`expire`](Self::expire) next has something to do.
    ///
    /// Consistency: takes into account every grace whose deadline does not move while this runs. Cost: one
    /// search in the queue of deadlines, and one more for each grace that was re-armed while
    /// [`expire`](Self::expire) runs.
    ///
    /// ```
    #[doc = include_str!("docs/wire.in")]
    /// # use switchboard::Registry;
    /// use std::time::{Duration, Instant};
    ///
    /// let registry = Registry::new();
    /// assert_eq!(registry.next_deadline(), None);
    /// let claim = registry.claim_server("s", Arc::new(Wire("b")))?;
    /// claim.release_after(Duration::from_secs(30));
    /// assert!(registry.next_deadline() > Some(Instant::now()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        expiry::next_deadline(&self.store.ledger)
    }

    /// Internal sizes that no other call shows. For the tests: anything left behind here is a leak.
    #[doc(hidden)]
    #[must_use]
    pub fn internals(&self) -> Internals {
        let slots = self.store.slots();
        Internals {
            deadlines: self.store.ledger.deadlines.len(),
            retired_slots: slots.iter().filter(|slot| slot.is_retired()).count(),
            lingering_slots: self.store.ledger.lingering.len(),
        }
    }

    /// Empties the registry, for shutdown.
    ///
    /// Removes and returns everything that was in it throughout the call, with [`Cause::Drained`].
    ///
    /// Consistency: one instant for each server-id. A server-id that is claimed while this runs may stay:
    /// refuse new connections first. Cost: as [`servers`](Self::servers), and one compare-and-swap per
    /// server-id.
    ///
    /// ```
    #[doc = include_str!("docs/wire.in")]
    /// # use switchboard::{Conn, Registry};
    /// let registry = Registry::new();
    /// let _claim = registry.claim_server("s", Arc::new(Wire("b")))?;
    /// for out in registry.drain() {
    ///     out.binary.iter().chain(&out.phones).for_each(|conn| conn.close());
    /// }
    /// assert_eq!(registry.counts().binaries, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn drain(&self) -> Vec<Displaced<C>> {
        let slots = self.store.slots();
        slots
            .iter()
            .filter_map(|slot| claim::evict(slot, Whose::Anyone, Cause::Drained))
            .collect()
    }
}

impl<C: ?Sized, S: Clone> Clone for Registry<C, S> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            hasher: self.hasher.clone(),
        }
    }
}

impl<C: ?Sized, S> fmt::Debug for Registry<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("counts", &self.store.ledger.counts.sum())
            .finish_non_exhaustive()
    }
}
