use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::builder::Builder;
use crate::claim::{self, Claim};
use crate::conn::Conn;
use crate::counts::Counts;
use crate::displaced::{Cause, Displaced};
use crate::epoch::Epoch;
use crate::error::{RegisterError, ServerIdConflict};
use crate::expiry::Expiry;
use crate::hash::{self, DefaultHashBuilder};
use crate::index::Index;
use crate::kept::Kept;
use crate::membership::Membership;
use crate::phone_list::Phone;
use crate::slot::Slot;
use crate::snapshot::{ConnRef, Phones, Server};
use crate::transition::{self, Refusal, Whose};

/// The registry of a relay: which binary holds a server-id, and which phones belong to it.
///
/// This is a handle: a clone is the same registry. It lives as long as any handle, and as any
/// [`ServerIdConflict`], which may still need it. Claims and memberships may outlive it, and keep what belongs
/// to their own server-id.
///
/// Operations on one server-id are linearizable. Lookups never block and allocate nothing.
pub struct Registry<C: ?Sized = dyn Conn, S = DefaultHashBuilder> {
    pub(crate) index: Arc<Index<C>>,
    pub(crate) hasher: S,
}

/// See [`Registry::books`].
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Books {
    /// Entries in the queue of deadlines. At rest: one for each grace that ends.
    pub deadlines: usize,
    /// Places in the index that belong to nobody.
    pub empty_places: usize,
    /// Places that are known to belong to nobody. At rest not fewer than `empty_places`: some were replaced.
    pub lingering_places: usize,
}

impl<C: Conn + ?Sized> Registry<C> {
    /// An empty registry with the default settings: no cap on phones, and no grace.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Settings for a new registry.
    pub fn builder() -> Builder<C> {
        Builder::new()
    }
}

impl<C: Conn + ?Sized, S: BuildHasher + 'static> Registry<C, S> {
    fn hash(&self, server_id: &str) -> u64 {
        hash::server_id(&self.hasher, server_id)
    }

    fn slot(&self, server_id: &str) -> Option<Arc<Slot<C>>> {
        self.index.slot(self.hash(server_id), server_id)
    }

    /// Claims a server-id for a binary.
    ///
    /// A vacant server-id is held afterwards, with the phones that an earlier release left. One in grace
    /// is held afterwards, and its old binary and all its phones are out and in [`Claim::displaced`], with
    /// [`Cause::Reclaimed`].
    ///
    /// Consistency: linearizable. Cost: one hash, one probe, and one compare-and-swap of the record. The
    /// claim of a new server-id allocates a place for it. One of them in many finds no room in the index, and copies
    /// it: it and others that add or remove server-ids wait for that.
    ///
    /// # Errors
    ///
    /// [`ServerIdConflict`] where another binary holds the server-id. Nothing has changed, and the
    /// connection is in the error.
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
        claim::claim(&self.index, self.hash(server_id), server_id, conn)
    }

    /// Releases a server-id, whoever holds it, in grace too. Its phones stay, and see the next binary that
    /// claims. `false`: nobody held it.
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

    /// Releases a server-id if this epoch still holds it, in grace too. For claims that were
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

    /// Leaves a server-id in grace until `grace` from now, if this epoch still holds it. In grace already,
    /// it sets a new deadline: the last call wins.
    ///
    /// A grace longer than `Instant` can hold never ends by itself.
    ///
    /// Consistency: linearizable. Cost: as [`release_server`](Self::release_server), and one insertion
    /// into the queue of deadlines.
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
            .is_some_and(|slot| claim::release_after(&slot, Whose::Claim(epoch), grace))
    }

    /// Registers a phone under a server-id that is held or in grace.
    ///
    /// Its conn-id is read once, before anything is tried.
    ///
    /// Consistency: linearizable. Cost: one hash, one probe, one compare-and-swap of the record, and a
    /// copy of the path to the phone in the list; tried again when another change of the same server-id
    /// comes between.
    ///
    /// # Errors
    ///
    /// [`RegisterError::NoServer`], before [`AtCapacity`](RegisterError::AtCapacity), before
    /// [`DuplicateConnId`](RegisterError::DuplicateConnId). Nothing has changed, and the connection is in
    /// the error.
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
        let max_phones = self.index.ledger.max_phones;
        let applied = slot.apply(|record| transition::register(record, max_phones, &phone));
        let refused = match applied.map(|applied| applied.outcome) {
            Some(Ok(removals)) => return Ok(Membership::new(slot, phone, removals)),
            Some(Err(Refusal::AtCapacity)) => RegisterError::AtCapacity,
            Some(Err(Refusal::DuplicateConnId)) => RegisterError::DuplicateConnId,
            Some(Err(Refusal::NoServer)) | None => RegisterError::NoServer,
        };
        Err(refused(Arc::clone(&phone.conn)))
    }

    /// Takes the phone with this conn-id out, whatever the state of the server-id. `None`: there was none,
    /// and nothing has changed.
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

    /// The binary of a server-id; in grace the one that went away.
    ///
    /// Consistency: linearizable. Cost: one hash, one probe, one cell load; no allocation, and usually no
    /// write to a cache line that another core uses. Cache lines, one after the other: the table (two at
    /// once), its entry, the slot, the record.
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
        ConnRef::binary(self.index.snapshot(self.hash(server_id), server_id)?)
    }

    /// The phones of a server-id at one instant; none for an unknown server-id.
    ///
    /// Consistency: linearizable. Cost: as [`binary_for`](Self::binary_for), whatever the number of
    /// phones, and without the record's cache line until the phones are looked at.
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
        self.index
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
            self.index.snapshot(self.hash(server_id), server_id)?,
            conn_id,
        )
    }

    /// Binary, phones, epoch and status of a server-id at one instant. `None`: nobody holds it, and it has
    /// no phones.
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

    /// All server-ids. Each item is one instant; together they are weakly consistent: a server-id that was
    /// there throughout is seen once, one that came or went meanwhile may be seen or not.
    ///
    /// Cost: one pass over the index, and an allocation for the list of places; it waits for a copy of the index
    /// that is under way. Empty places that linger are passed over. The iterator keeps the places that it has not
    /// come to, and with them, once the registry is gone, what belongs to them.
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
        self.index.slots().into_iter().filter_map(Server::of)
    }

    /// How many connections there are: exact whenever no call is in flight, and otherwise off by at most what
    /// those calls change that overlap this one.
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
        self.index.ledger.counts.sum()
    }

    /// Takes the binary and all phones of a server-id out, at one instant. `None`: there was nothing.
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

    /// Ends every grace whose deadline is not later than `now`: binary and phones are out, and handed over
    /// with [`Cause::Expired`], earliest deadline first where none moves meanwhile.
    ///
    /// Consistency: linearizable for each server-id; together they are not one instant. A grace that is over when this is
    /// called is ended by it, however its deadline is set anew meanwhile, unless it is no longer over when its turn comes.
    /// Of several concurrent calls exactly one gets it. A grace that begins while this runs may be left to the next call.
    ///
    /// Cost: one search in the queue of deadlines for each grace that was over when it began, and for each that begins or
    /// is set anew meanwhile with a deadline that it has not come to; whatever the number of server-ids. A grace that is set
    /// anew while any call runs keeps its old place in the queue until none does, so let one timer call this: calls that
    /// overlap without end would keep them all.
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
        let mut expired: Vec<_> = Expiry::new(&self.index.ledger, now).flatten().collect();
        expired.reverse();
        expired
    }

    /// The earliest deadline of a grace: when [`expire`](Self::expire) has something to do next.
    ///
    /// Consistency: a grace whose deadline does not move while this runs is seen. Cost: one search in the queue
    /// of deadlines, and one for each grace that was set anew while [`expire`](Self::expire) runs.
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
        let mut last = None;
        // Not always that of an entry that was passed: a deadline may have moved, to before us even.
        let mut earliest: Option<Instant> = None;
        while let Some((key, slot)) = self.index.ledger.deadlines.after(last) {
            let deadline = slot
                .snapshot()
                .as_ref()
                .and_then(|record| Some(record.arming()?.deadline));
            earliest = earliest.into_iter().chain(deadline).min();
            if earliest.is_some_and(|earliest| earliest <= key.deadline) {
                break;
            }
            last = Some(key);
        }
        earliest
    }

    /// What no other call shows. For the tests: what is left behind here is a leak.
    #[doc(hidden)]
    #[must_use]
    pub fn books(&self) -> Books {
        let slots = self.index.slots();
        Books {
            deadlines: self.index.ledger.deadlines.len(),
            empty_places: slots.iter().filter(|slot| slot.is_retired()).count(),
            lingering_places: self.index.ledger.lingering_places(),
        }
    }

    /// Empties the registry, for shutdown: everything that was in it throughout is out and handed over,
    /// with [`Cause::Drained`].
    ///
    /// Consistency: one instant for each server-id. What is claimed while it runs may stay: refuse new
    /// connections first. Cost: as [`servers`](Self::servers), and one compare-and-swap a server-id.
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
        let slots = self.index.slots();
        slots
            .iter()
            .filter_map(|slot| claim::evict(slot, Whose::Anyone, Cause::Drained))
            .collect()
    }
}

impl<C: ?Sized, S: Clone> Clone for Registry<C, S> {
    fn clone(&self) -> Self {
        Self {
            index: Arc::clone(&self.index),
            hasher: self.hasher.clone(),
        }
    }
}

impl<C: Conn + ?Sized, S: BuildHasher + Default> Default for Registry<C, S> {
    fn default() -> Self {
        Registry::builder().hasher(S::default()).build()
    }
}

impl<C: ?Sized, S> fmt::Debug for Registry<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("counts", &self.index.ledger.counts.sum())
            .finish_non_exhaustive()
    }
}
