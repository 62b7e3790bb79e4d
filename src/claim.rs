use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::displaced::Displaced;
use crate::error::ServerIdConflict;
use crate::snapshot::{ConnRef, Phones, Server};
use crate::state::cause::Cause;
use crate::state::change::Attempt;
use crate::state::epoch::Epoch;
use crate::state::kept::Kept;
use crate::state::record::Record;
use crate::state::shared::Shared;
use crate::state::transition::{self, Claimed, ConflictKind, Decision, Whose};
use crate::store::slot::{Applied, Slot, Snapshot};
use crate::store::{Store, epochs};

/// A binary's right to its server-id. Dropping it gives up the server-id.
///
/// The drop releases the server-id, or leaves it in grace if the registry was built with
/// [`Builder::grace`](crate::Builder::grace). That also decides whether the next claim gets the phones: a
/// [table](crate#what-becomes-of-the-phones) says what becomes of them. A drop during a grace changes
/// nothing.
///
/// Nothing that an old claim does touches its successor: once its epoch no longer holds the server-id, its
/// methods find nothing and change nothing.
///
/// A claim points to the state of its server-id, so none of its methods hashes or looks up the server-id. It
/// may outlive the handles of its registry.
#[must_use = "dropping a claim releases its server-id, or starts its grace"]
pub struct Claim<C: ?Sized> {
    slot: Arc<Slot<C>>,
    conn: Kept<C>,
    epoch: Epoch,
    displaced: Option<Displaced<C>>,
    /// Whether the drop still has to give up the server-id.
    guarding: bool,
}

impl<C: ?Sized> Claim<C> {
    fn new(
        slot: Arc<Slot<C>>,
        conn: Kept<C>,
        epoch: Epoch,
        displaced: Option<Displaced<C>>,
    ) -> Self {
        Self {
            slot,
            conn,
            epoch,
            displaced,
            guarding: true,
        }
    }

    /// The server-id.
    #[must_use]
    pub fn server_id(&self) -> &str {
        &self.slot.server_id
    }

    /// The identity of this claim.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The binary that made this claim.
    #[must_use]
    pub fn conn(&self) -> &Arc<C> {
        &self.conn
    }

    /// The current record, if this claim holds the server-id.
    fn record(&self) -> Option<Snapshot<C>> {
        let record = self.slot.snapshot();
        let mine = record
            .get()
            .is_some_and(|record| record.held_by(self.epoch));
        mine.then_some(record)
    }

    /// Whether this claim holds the server-id, including in grace.
    ///
    /// Consistency: linearizable. Cost: one cell load; no allocation.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.record().is_some()
    }

    /// The phones of the server-id. Empty once this claim no longer holds it.
    ///
    /// Consistency: linearizable. Cost: one cell load, whatever the number of phones; no allocation.
    #[must_use]
    pub fn phones(&self) -> Phones<C> {
        self.record().map_or_else(Phones::none, Phones::of)
    }

    /// The phone with this conn-id. `None` once this claim no longer holds the server-id.
    ///
    /// Consistency: linearizable. Cost: one cell load, and one search in the phone list; no allocation.
    /// Dependent cache lines: the slot and the record; then, unless it is the newest phone, one branch per
    /// level of the list and a leaf; then the phone.
    ///
    /// ```
    #[doc = include_str!("docs/wire.in")]
    /// # use switchboard::Registry;
    /// let registry = Registry::new();
    /// let claim = registry.claim_server("s", Arc::new(Wire("b")))?;
    /// let _phone = registry.register_phone("s", Arc::new(Wire("p")))?;
    /// assert!(claim.phone("p").is_some());
    /// registry.release_server("s");
    /// assert!(claim.phone("p").is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn phone(&self, conn_id: &str) -> Option<ConnRef<C>> {
        ConnRef::phone(self.record()?, conn_id)
    }

    /// The connections that this claim displaced: those of a grace that it ended, those of a binary that it
    /// took over from, or the [phones that waited for that](crate::Orphans::Displace) after a release.
    #[must_use]
    pub fn displaced(&self) -> Option<&Displaced<C>> {
        self.displaced.as_ref()
    }

    /// Takes the connections displaced by this claim. They stay alive until the returned value is dropped.
    pub fn take_displaced(&mut self) -> Option<Displaced<C>> {
        self.displaced.take()
    }

    /// Releases the server-id. Its phones stay registered, and see the next binary that claims it, unless the
    /// registry [displaces orphans](crate::Builder::orphans).
    ///
    /// Returns `false` if this claim no longer held the server-id; nothing has changed then.
    ///
    /// Consistency: linearizable. Cost: one compare-and-swap of the record.
    pub fn release(mut self) -> bool {
        self.guarding = false;
        self.slot.release(Whose::Claim(self.epoch))
    }

    /// Leaves the server-id in grace for the duration `grace` from now; then it expires.
    ///
    /// A claim that is made meanwhile displaces this binary and all its phones. A grace longer than `Instant`
    /// can represent never ends by itself. Returns `false` if this claim no longer held the server-id;
    /// nothing has changed then.
    ///
    /// Consistency: linearizable. Cost: one compare-and-swap of the record, one insertion into the queue of
    /// deadlines, and a short lock to wake those who wait for an
    /// [earlier deadline](crate::Registry::earlier_deadline).
    pub fn release_after(mut self, grace: Duration) -> bool {
        self.guarding = false;
        let deadline = || Instant::now().checked_add(grace);
        self.slot.begin_grace(Whose::Claim(self.epoch), deadline)
    }

    /// Like [`release_after`](Self::release_after), with a deadline in place of a duration. For programs
    /// whose clock is not the system's, such as tests with a clock of their own.
    ///
    /// If the deadline has already passed, the grace begins all the same. The next call of
    /// [`expire`](crate::Registry::expire) ends it.
    ///
    /// ```
    #[doc = include_str!("docs/wire.in")]
    /// # use switchboard::Registry;
    /// use std::time::{Duration, Instant};
    ///
    /// let registry = Registry::new();
    /// let deadline = Instant::now() + Duration::from_secs(30);
    /// registry.claim_server("s", Arc::new(Wire("b")))?.release_until(deadline);
    /// assert_eq!(registry.next_deadline(), Some(deadline));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn release_until(mut self, deadline: Instant) -> bool {
        self.guarding = false;
        let whose = Whose::Claim(self.epoch);
        self.slot.begin_grace(whose, || Some(deadline))
    }

    /// Removes the binary and all its phones at one instant.
    ///
    /// Returns `None` if this claim no longer held the server-id; nothing has changed then.
    ///
    /// Consistency: linearizable. Cost: one compare-and-swap of the record.
    pub fn evict(mut self) -> Option<Displaced<C>> {
        self.guarding = false;
        evict(&self.slot, Whose::Claim(self.epoch), Cause::Evicted)
    }

    /// Keeps the claim and drops the guard. The epoch can release the server-id later, with
    /// [`Registry::release_claim`](crate::Registry::release_claim).
    pub fn detach(mut self) -> Epoch {
        self.guarding = false;
        self.epoch
    }
}

impl<C: ?Sized> Drop for Claim<C> {
    fn drop(&mut self) {
        if !mem::take(&mut self.guarding) {
            return;
        }
        let whose = Whose::Present(self.epoch);
        match self.slot.default_grace() {
            Some(grace) => self
                .slot
                .begin_grace(whose, || Instant::now().checked_add(grace)),
            None => self.slot.release(whose),
        };
    }
}

impl<C: ?Sized> fmt::Debug for Claim<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim")
            .field("server_id", &self.server_id())
            .field("epoch", &self.epoch)
            .field("is_current", &self.is_current())
            .field("displaced", &self.displaced)
            .finish_non_exhaustive()
    }
}

/// Claims a server-id that is vacant, or in grace and `may_reclaim`.
pub(crate) fn claim<C: ?Sized>(
    store: &Arc<Store<C>>,
    hash: u64,
    server_id: &str,
    conn: Kept<C>,
    may_reclaim: impl Fn(&Server<C>) -> bool,
) -> Result<Claim<C>, ServerIdConflict<C>> {
    let wanted = Wanted {
        store,
        hash,
        server_id,
    };
    wanted.claim(conn, Record::is_held, |slot, record, binary| {
        let may_reclaim = || may_reclaim(&Server::new(slot, record));
        transition::claim(record, binary, epochs::draw, may_reclaim)
    })
}

/// A server-id that somebody claims.
struct Wanted<'a, C: ?Sized> {
    store: &'a Arc<Store<C>>,
    hash: u64,
    server_id: &'a str,
}

impl<C: ?Sized> Wanted<'_, C> {
    /// Claims the server-id. A claim that finds no live slot inserts one that is already held. Any other
    /// claim changes the record of the slot, as `decide` says.
    ///
    /// A record that `refuses` is a conflict at once, without a reference to the slot. Such a refusal
    /// linearizes at the load of the record, like one of `decide`.
    fn claim(
        &self,
        conn: Kept<C>,
        refuses: impl Fn(&Record<C>) -> bool,
        decide: impl Fn(
            &Arc<Slot<C>>,
            &Shared<Record<C>>,
            &Kept<C>,
        ) -> Decision<C, Claimed, ConflictKind>,
    ) -> Result<Claim<C>, ServerIdConflict<C>> {
        let Self {
            store,
            hash,
            server_id,
        } = *self;
        loop {
            let mut retired = None;
            let needs_slot = |record: &Record<C>| !refuses(record);
            match store.record_and_slot_if(hash, server_id, needs_slot) {
                Some((record, None)) => {
                    return Err(self.conflict(record, ConflictKind::Held, conn));
                }
                Some((record, Some(slot))) => {
                    let decide = |record: &Shared<Record<C>>| {
                        let decision = decide(&slot, record, &conn);
                        decision.map_err(|kind| (Shared::clone(record), kind))
                    };
                    match slot.apply_to(record, Attempt::Claim, decide) {
                        Some(Ok(Applied { value, before })) => {
                            let displaced = value
                                .displaced
                                .map(|cause| Displaced::of(&slot, before, cause));
                            return Ok(Claim::new(slot, conn, value.epoch, displaced));
                        }
                        Some(Err((record, kind))) => {
                            let record = Snapshot::of(Some(record));
                            return Err(self.conflict(record, kind, conn));
                        }
                        None => retired = Some(slot),
                    }
                }
                None => {}
            }
            let inserted = store.insert_held(hash, server_id, retired.as_ref(), &conn);
            if let Some((slot, epoch)) = inserted {
                return Ok(Claim::new(slot, conn, epoch, None));
            }
        }
    }

    fn conflict(
        &self,
        record: Snapshot<C>,
        kind: ConflictKind,
        conn: Kept<C>,
    ) -> ServerIdConflict<C> {
        ServerIdConflict {
            store: Arc::clone(self.store),
            hash: self.hash,
            server_id: self.server_id.into(),
            record,
            kind,
            conn,
        }
    }
}

// Here and not in `error`, which this module imports.
impl<C: ?Sized> ServerIdConflict<C> {
    /// Takes the server-id over from the incumbent.
    ///
    /// If the incumbent's claim still holds the server-id and is not in grace, the incumbent and all its
    /// phones are displaced: they are in [`Claim::displaced`], with
    /// [`Cause::TakenOver`](crate::Cause::TakenOver). Otherwise this call does the same as
    /// [`Registry::claim_server`](crate::Registry::claim_server).
    ///
    /// Consistency: linearizable. Cost: one lookup, without hashing, and one compare-and-swap of the record.
    ///
    /// # Errors
    ///
    /// A new [`ServerIdConflict`] if another binary holds the server-id by now.
    ///
    /// ```
    #[doc = include_str!("docs/wire.in")]
    /// # use switchboard::{Cause, Registry};
    /// let registry = Registry::new();
    /// let stale = registry.claim_server("s", Arc::new(Wire("silent")))?;
    /// let conflict = registry.claim_server("s", Arc::new(Wire("fresh"))).unwrap_err();
    /// let mut claim = conflict.take_over()?;
    /// let out = claim.take_displaced().expect("the silent one is out");
    /// assert_eq!(out.cause, Cause::TakenOver);
    /// assert!(!stale.is_current());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn take_over(self) -> Result<Claim<C>, Self> {
        self.take_over_if(|_| true)
    }

    /// Takes the server-id over from the incumbent, and ends a grace only on a condition.
    ///
    /// If the incumbent's claim still holds the server-id and is not in grace, this is
    /// [`take_over`](Self::take_over), and the condition is not asked. Otherwise this call does the same as
    /// [`Registry::claim_server_if`](crate::Registry::claim_server_if) with this condition. The grace may be
    /// that of the incumbent, or of a binary that came after it.
    ///
    /// So a caller that has checked that it may replace the incumbent replaces no other binary unchecked.
    ///
    /// Consistency and cost: as [`take_over`](Self::take_over). If the claim ended a grace, it replaced the
    /// very state for which the condition returned `true`.
    ///
    /// # Errors
    ///
    /// A new [`ServerIdConflict`] if another binary holds the server-id by now, or if the condition returned
    /// `false`; its [`kind`](Self::kind) says which.
    ///
    /// ```
    #[doc = include_str!("docs/wire.in")]
    /// # use switchboard::{ConflictKind, Registry};
    /// use std::time::Duration;
    ///
    /// let registry = Registry::new();
    /// let claim = registry.claim_server("s", Arc::new(Wire("b")))?;
    /// let conflict = registry.claim_server("s", Arc::new(Wire("stranger"))).unwrap_err();
    /// claim.release_after(Duration::from_secs(30));
    /// let refused = conflict.take_over_if(|_| false).unwrap_err();
    /// assert_eq!(refused.kind(), ConflictKind::ReclaimDenied);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn take_over_if(self, may_reclaim: impl Fn(&Server<C>) -> bool) -> Result<Claim<C>, Self> {
        let incumbent = self.incumbent_epoch();
        let Self {
            store,
            hash,
            server_id,
            record: _,
            kind: _,
            conn,
        } = self;
        let wanted = Wanted {
            store: &store,
            hash,
            server_id: &server_id,
        };
        wanted.claim(
            conn,
            |_| false,
            |slot, record, binary| {
                let may_reclaim = || may_reclaim(&Server::new(slot, record));
                transition::take_over(record, incumbent, binary, epochs::draw, may_reclaim)
            },
        )
    }
}

pub(crate) fn evict<C: ?Sized>(
    slot: &Arc<Slot<C>>,
    whose: Whose,
    cause: Cause,
) -> Option<Displaced<C>> {
    let attempt = Attempt::Displace(cause);
    let applied = slot.apply(attempt, |record| transition::evict(record, whose))?;
    Some(Displaced::of(slot, applied.ok()?.before, cause))
}
