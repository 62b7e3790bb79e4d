use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::claim::{self, Claim};
use crate::conn::Conn;
use crate::deadline::EarlierDeadline;
use crate::displaced::Displaced;
use crate::error::{RegisterError, ServerIdConflict};
use crate::events::Events;
use crate::expiry::{self, Expiry};
use crate::membership::Membership;
use crate::snapshot::{ConnRef, Phones, Server, Servers};
use crate::state::cause::Cause;
use crate::state::change::Attempt;
use crate::state::epoch::Epoch;
use crate::state::hash::{self, DefaultHashBuilder};
use crate::state::kept::Kept;
use crate::state::name::Name;
use crate::state::phone_list::Phone;
use crate::state::transition::{self, Refusal, Whose};
use crate::store::Store;
use crate::store::counts::Counts;
use crate::store::slot::Slot;
use crate::watch::{WaitForBinary, Watch};

/// The registry of a relay: which binary holds a server-id, and which phones belong to it.
///
/// This is a handle: a clone is the same registry. The registry lives as long as any handle, and as long as
/// any [`ServerIdConflict`], which may still need it. A [`Watch`], an [`Events`] and a future count as
/// handles. Claims and memberships may outlive the registry. They then keep the current record of their own
/// server-id.
///
/// Operations on one server-id are linearizable. Lookups never block. After a thread's first lookup they
/// allocate nothing.
///
/// # The type of the connections
///
/// `C` is the type of all connections of a registry. The first call that takes a connection tells the
/// compiler which type that is. Otherwise name it, in one of these forms. The default, `dyn Conn`, applies
/// where `Registry` stands as a type, but not in a call such as `Registry::builder()`.
///
/// ```
#[doc = include_str!("docs/wire.in")]
/// # use switchboard::{Conn, Registry};
/// // Connections of different types, as trait objects:
/// let registry: Registry = Registry::builder().max_phones(16).build();
/// let registry = Registry::<dyn Conn>::builder().max_phones(16).build();
/// // Connections of one type:
/// let registry: Registry<Wire> = Registry::builder().max_phones(16).build();
/// let registry = Registry::<Wire>::builder().max_phones(16).build();
/// ```
///
/// A trait of your own that extends [`Conn`] makes a trait object whose lookups offer its methods too:
///
/// ```
/// use std::sync::Arc;
///
/// use switchboard::bytes::Bytes;
/// use switchboard::{Conn, Registry, SendError};
///
/// trait MyConn: Conn {
///     fn user(&self) -> &str;
/// }
///
/// struct Socket;
///
/// impl Conn for Socket {
///     fn conn_id(&self) -> &str { "socket-1" }
///     fn send(&self, _frame: Bytes) -> Result<(), SendError> { Ok(()) }
///     fn close(&self) {}
/// }
///
/// impl MyConn for Socket {
///     fn user(&self) -> &str { "alice" }
/// }
///
/// let registry: Registry<dyn MyConn> = Registry::new();
/// let _claim = registry.claim_server("laptop", Arc::new(Socket))?;
/// let binary = registry.binary_for("laptop").ok_or("no binary")?;
/// assert_eq!((binary.user(), binary.conn_id()), ("alice", "socket-1"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
    /// Server-ids that somebody watches or waits for.
    pub watched: usize,
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
    /// A vacant server-id becomes held and keeps the phones that an earlier release left, unless the registry
    /// [displaces orphans](crate::Builder::orphans). A server-id in grace becomes held too, but its old
    /// binary and all its phones are displaced: they are in [`Claim::displaced`], with [`Cause::Reclaimed`].
    /// A [table](crate#what-becomes-of-the-phones) compares the cases.
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
        claim::claim(&self.store, self.hash(server_id), server_id, conn, |_| true)
    }

    /// Claims a server-id, and ends a grace only on a condition.
    ///
    /// If the server-id is in grace, `may_reclaim` gets its state and returns whether this claim may end the
    /// grace, which displaces the old binary and all phones. Without a grace, this is
    /// [`claim_server`](Self::claim_server), and the condition is not asked. So it does not protect the
    /// phones of a vacant server-id: [`Orphans::Displace`](crate::Orphans::Displace) does.
    ///
    /// The condition is asked again if another change comes first. It must not block. It may call the
    /// registry. If it panics, nothing has changed.
    ///
    /// Consistency: linearizable. If the claim ended a grace, it replaced the very state for which the
    /// condition returned `true`. Cost: as [`claim_server`](Self::claim_server).
    ///
    /// # Errors
    ///
    /// [`ServerIdConflict`], as for [`claim_server`](Self::claim_server). If the condition returned `false`,
    /// its [`kind`](ServerIdConflict::kind) is
    /// [`ConflictKind::ReclaimDenied`](crate::ConflictKind::ReclaimDenied), and the incumbent is the binary
    /// that went away.
    ///
    /// ```
    #[doc = include_str!("docs/wire.in")]
    /// # use switchboard::{ConflictKind, Registry};
    /// use std::time::Duration;
    ///
    /// let registry = Registry::new();
    /// let claim = registry.claim_server("s", Arc::new(Wire("b")))?;
    /// let proof = claim.epoch();
    /// claim.release_after(Duration::from_secs(30));
    ///
    /// let stranger = registry.claim_server_if("s", Arc::new(Wire("stranger")), |_| false);
    /// assert_eq!(stranger.unwrap_err().kind(), ConflictKind::ReclaimDenied);
    /// let back = Arc::new(Wire("b, back"));
    /// let claim = registry.claim_server_if("s", back, |server| server.epoch() == Some(proof))?;
    /// assert!(claim.displaced().is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn claim_server_if(
        &self,
        server_id: &str,
        conn: Arc<C>,
        may_reclaim: impl Fn(&Server<C>) -> bool,
    ) -> Result<Claim<C>, ServerIdConflict<C>> {
        let conn = Kept::new(conn);
        let hash = self.hash(server_id);
        claim::claim(&self.store, hash, server_id, conn, may_reclaim)
    }

    /// Waits until a binary that has not gone away holds this server-id. A binary in grace does not count.
    ///
    /// Completes at once if there is one. The future is cancel-safe and needs no particular runtime. It does
    /// nothing until it is polled. The wait stores the name of the server-id until it ends, and adds no entry
    /// to the index.
    ///
    /// By the time the caller uses the result, the binary may have gone again. So a caller that waits in
    /// order to [register a phone](Self::register_phone) tries again after
    /// [`NoServer`](crate::RegisterError::NoServer).
    ///
    /// Consistency: the binary held the server-id at an instant during the wait. No wake-up is lost: no wait
    /// sleeps on while a binary is there. Cost: at first, a copy of the name, and a lookup as in
    /// [`binary_for`](Self::binary_for). A wait that has to sleep takes a short lock. From then until it
    /// ends, each change of the registry takes a short lock to see whether anybody waits for its own
    /// server-id.
    ///
    /// ```
    #[doc = include_str!("docs/wire.in")]
    /// # use switchboard::{Conn, Registry};
    /// use std::thread;
    ///
    /// let registry = Registry::new();
    /// let wait = registry.wait_for_binary("s");
    /// let daemon = thread::spawn({
    ///     let registry = registry.clone();
    ///     move || registry.claim_server("s", Arc::new(Wire("b"))).map(|claim| claim.detach())
    /// });
    /// // In async code: `wait.await`, perhaps within a timeout of the runtime.
    /// let binary = wait.block_until(None).unwrap();
    /// assert_eq!(binary.conn_id(), "b");
    /// # daemon.join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_for_binary(&self, server_id: &str) -> WaitForBinary<C> {
        WaitForBinary::new(&self.store, self.hash(server_id), server_id)
    }

    /// Watches one server-id, held or not: its latest state, and the wait for the next one.
    ///
    /// The state at the time of this call counts as seen. [`Watch::current`] returns it.
    ///
    /// Consistency: each state is one instant. States may be skipped, except for the last one. Cost: a copy
    /// of the name, and a lookup as in [`server`](Self::server). From the first [`changed`](Watch::changed)
    /// that has to sleep until the watch is dropped, each change of the registry takes a short lock to see
    /// whether its own server-id is watched.
    pub fn watch(&self, server_id: &str) -> Watch<C> {
        Watch::new(&self.store, self.hash(server_id), server_id)
    }

    /// Listens to every change of the registry from now on.
    ///
    /// The events come in the order in which the changes took effect, over all server-ids. To know the state
    /// of the whole registry at all times, call this first and [`servers`](Self::servers) afterwards. Then
    /// apply each event whose version is larger than the one of the server-id's state. A listener that falls
    /// 8,192 changes behind, or 1 MiB of names, gets [`Lagged`](crate::Lagged) and starts anew from
    /// `servers`. So may a listener that has just begun, if changes were under way at that instant.
    ///
    /// Cost: while anybody listens, changes take turns. Each makes its swap, and copies its event for every
    /// listener, under one lock. Lookups are not affected.
    ///
    /// ```
    #[doc = include_str!("docs/wire.in")]
    /// # use switchboard::{Change, Registry};
    /// let registry = Registry::new();
    /// let mut events = registry.events();
    /// let claim = registry.claim_server("s", Arc::new(Wire("b")))?;
    /// // In async code: `events.next().await`.
    /// let event = events.try_next().expect("it was claimed")?;
    /// assert_eq!(event.epoch, Some(claim.epoch()));
    /// assert_eq!(event.change, Change::Claimed { displaced: None });
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn events(&self) -> Events<C> {
        Events::new(&self.store)
    }

    /// Releases a server-id, whoever holds it, even in grace.
    ///
    /// Its phones stay registered, and see the next binary that claims it, unless the registry
    /// [displaces orphans](crate::Builder::orphans). Returns `false` if nobody held it.
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
            .is_some_and(|slot| slot.release(Whose::Anyone))
    }

    /// Releases a server-id if this epoch still holds it, even in grace. Meant for claims that were
    /// [detached](Claim::detach).
    ///
    /// Its phones have the same fate as with [`release_server`](Self::release_server). Returns `false` if the
    /// epoch no longer held it; nothing has changed then.
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
            .is_some_and(|slot| slot.release(Whose::Claim(epoch)))
    }

    /// Leaves a server-id in grace for the duration `grace` from now, if this epoch still holds it.
    ///
    /// If the server-id is already in grace, the deadline is replaced: the last call wins. A grace longer
    /// than `Instant` can represent never ends by itself. Returns `false` if the epoch no longer held the
    /// server-id; nothing has changed then.
    ///
    /// Consistency: linearizable. Cost: as [`release_server`](Self::release_server), one insertion into the
    /// queue of deadlines, and a short lock to wake those who wait for an
    /// [earlier deadline](Self::earlier_deadline).
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
        let deadline = || Instant::now().checked_add(grace);
        self.slot(server_id)
            .is_some_and(|slot| slot.begin_grace(Whose::Claim(epoch), deadline))
    }

    /// Like [`release_claim_after`](Self::release_claim_after), with a deadline in place of a duration. For
    /// programs whose clock is not the system's, such as tests with a clock of their own.
    ///
    /// If the deadline has already passed, the grace begins all the same. The next call of
    /// [`expire`](Self::expire) ends it.
    pub fn release_claim_until(&self, server_id: &str, epoch: Epoch, deadline: Instant) -> bool {
        self.slot(server_id)
            .is_some_and(|slot| slot.begin_grace(Whose::Claim(epoch), || Some(deadline)))
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
        self.register_phone_with_cap(server_id, conn, self.store.ledger.settings.max_phones)
    }

    /// Registers a phone under a server-id that has fewer than `max_phones` phones.
    ///
    /// This cap holds for this call, in place of [`Builder::max_phones`](crate::Builder::max_phones): for
    /// tenants with different plans. It may be smaller or larger. It removes no phone that is registered
    /// already.
    ///
    /// Consistency and cost: as [`register_phone`](Self::register_phone).
    ///
    /// # Errors
    ///
    /// [`RegisterError::AtCapacity`] if the server-id has `max_phones` phones or more. The others are those
    /// of [`register_phone`](Self::register_phone).
    ///
    /// ```
    #[doc = include_str!("docs/wire.in")]
    /// # use switchboard::{RegisterErrorKind, Registry};
    /// let registry = Registry::builder().max_phones(1).build();
    /// let _claim = registry.claim_server("s", Arc::new(Wire("b")))?;
    /// let _one = registry.register_phone("s", Arc::new(Wire("p1")))?;
    /// let refused = registry.register_phone("s", Arc::new(Wire("p2"))).unwrap_err();
    /// assert_eq!(refused.kind(), RegisterErrorKind::AtCapacity);
    /// let _two = registry.register_phone_with_cap("s", refused.into_conn(), 2)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn register_phone_with_cap(
        &self,
        server_id: &str,
        conn: Arc<C>,
        max_phones: usize,
    ) -> Result<Membership<C>, RegisterError<C>> {
        let conn = Kept::new(conn);
        let conn_id = Name::from(conn.conn_id());
        let phone = Phone::new(&conn_id, conn);
        let found = self.store.slot_and_record(self.hash(server_id), server_id);
        let Some((slot, record)) = found else {
            return Err(RegisterError::NoServer(Arc::clone(phone.conn())));
        };
        let applied = slot.apply_to(record, Attempt::Register(phone.conn_id_bytes()), |record| {
            transition::register(record, max_phones, &phone)
        });
        let error = match applied {
            Some(Ok(applied)) => return Ok(Membership::new(slot, phone, applied.value)),
            Some(Err(Refusal::AtCapacity)) => RegisterError::AtCapacity,
            Some(Err(Refusal::DuplicateConnId)) => RegisterError::DuplicateConnId,
            Some(Err(Refusal::NoServer)) | None => RegisterError::NoServer,
        };
        Err(error(Arc::clone(phone.conn())))
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
        let (slot, record) = self
            .store
            .slot_and_record(self.hash(server_id), server_id)?;
        let applied = slot.apply_to(record, Attempt::Unregister(conn_id.as_bytes()), |record| {
            transition::unregister(record, conn_id)
        })?;
        Some(applied.ok()?.value.into_arc())
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
    pub fn servers(&self) -> Servers<C> {
        Servers::of(self.store.slots())
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

    /// The number of server-ids that have a binary or phones: those that [`servers`](Self::servers) shows.
    ///
    /// Consistency and cost: as [`counts`](Self::counts).
    ///
    /// ```
    #[doc = include_str!("docs/wire.in")]
    /// # use switchboard::Registry;
    /// let registry = Registry::new();
    /// let claim = registry.claim_server("s", Arc::new(Wire("b")))?;
    /// let phone = registry.register_phone("s", Arc::new(Wire("p")))?;
    /// claim.release();
    /// assert_eq!(registry.len(), 1, "the phone is still there");
    /// drop(phone);
    /// assert!(registry.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.store.ledger.counts.servers()
    }

    /// Whether no server-id has a binary or phones. Consistency and cost: as [`counts`](Self::counts).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a server-id has a binary or phones.
    ///
    /// Consistency: linearizable. Cost: as [`binary_for`](Self::binary_for).
    ///
    /// ```
    #[doc = include_str!("docs/wire.in")]
    /// # use switchboard::Registry;
    /// let registry = Registry::new();
    /// let _claim = registry.claim_server("s", Arc::new(Wire("b")))?;
    /// assert!(registry.contains("s"));
    /// assert!(!registry.contains("t"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn contains(&self, server_id: &str) -> bool {
        self.store
            .snapshot(self.hash(server_id), server_id)
            .is_some_and(|record| record.get().is_some())
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
    /// meanwhile. A registry that [displaces orphans](crate::Builder::orphans) also returns the phones of
    /// released server-ids, with [`Cause::Released`]. Below, they count as a grace whose deadline has passed.
    ///
    /// A [loop of five lines](crate#ending-graces) calls this in time, and misses no grace.
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
    /// If phones wait to be displaced after a release, that is an instant that has passed. Returns `None` if
    /// no grace ends by itself and no phones wait.
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

    /// Waits for a grace whose deadline is earlier than `than`, or for any grace that ends by itself if
    /// `than` is `None`. The future completes with the earliest deadline.
    ///
    /// A task that ends graces waits for this while it sleeps until the next deadline. So it misses none,
    /// whoever begins it: a call, or the drop of a claim when a task panics. [The loop](crate#ending-graces)
    /// is in the documentation of the crate.
    ///
    /// Completes at once if there is such a grace. The future is cancel-safe and needs no particular runtime.
    /// It does nothing until it is polled. Phones that wait to be displaced after a release count as a grace
    /// whose deadline has passed.
    ///
    /// Consistency: the grace had this deadline at an instant during the wait. No wake-up is lost. Cost: as
    /// [`next_deadline`](Self::next_deadline), at first and for each grace that begins meanwhile.
    ///
    /// ```
    #[doc = include_str!("docs/wire.in")]
    /// # use switchboard::Registry;
    /// use std::time::{Duration, Instant};
    ///
    /// let registry = Registry::new();
    /// let wait = registry.earlier_deadline(None);
    /// let deadline = Instant::now() + Duration::from_secs(30);
    /// registry.claim_server("s", Arc::new(Wire("b")))?.release_until(deadline);
    /// // In async code: `wait.await`.
    /// assert_eq!(wait.block_until(None), Some(deadline));
    ///
    /// let soon = Instant::now();
    /// assert_eq!(registry.earlier_deadline(Some(deadline)).block_until(soon), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn earlier_deadline(&self, than: Option<Instant>) -> EarlierDeadline<C> {
        EarlierDeadline::new(&self.store, than)
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
            watched: self.store.ledger.watchers.len(),
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
    ///     out.iter().for_each(|conn| conn.close());
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

/// The same as [`Registry::servers`].
#[allow(
    clippy::into_iter_without_iter,
    reason = "`servers` says what it iterates over"
)]
impl<C: Conn + ?Sized, S: BuildHasher + 'static> IntoIterator for &Registry<C, S> {
    type Item = Server<C>;
    type IntoIter = Servers<C>;

    fn into_iter(self) -> Self::IntoIter {
        self.servers()
    }
}

impl<C: ?Sized, S> fmt::Debug for Registry<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("counts", &self.store.ledger.counts.sum())
            .finish_non_exhaustive()
    }
}
