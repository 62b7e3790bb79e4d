use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use crate::displaced::Displaced;
use crate::error::ServerIdConflict;
use crate::snapshot::{ConnRef, Phones};
use crate::state::cause::Cause;
use crate::state::epoch::Epoch;
use crate::state::kept::Kept;
use crate::state::record::Record;
use crate::state::transition::{self, Conflict, Whose};
use crate::store::slot::{Applied, Slot, Snapshot};
use crate::store::{Store, epochs};

/// A binary's right to its server-id. Dropping it gives up the server-id.
///
/// The drop releases the server-id, or leaves it in grace if the registry was built with
/// [`Builder::grace`](crate::Builder::grace). Nothing that an old claim does touches its successor: once its
/// epoch no longer holds the server-id, its methods find nothing and change nothing.
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

    /// The connections displaced by this claim, through reclaim or take-over.
    #[must_use]
    pub fn displaced(&self) -> Option<&Displaced<C>> {
        self.displaced.as_ref()
    }

    /// Takes the connections displaced by this claim. They stay alive until the returned value is dropped.
    pub fn take_displaced(&mut self) -> Option<Displaced<C>> {
        self.displaced.take()
    }

    /// Releases the server-id. Its phones stay registered, and see the next binary that claims it.
    ///
    /// Returns `false` if this claim no longer held the server-id; nothing has changed then.
    ///
    /// Consistency: linearizable. Cost: one compare-and-swap of the record.
    pub fn release(mut self) -> bool {
        self.guarding = false;
        release(&self.slot, Whose::Claim(self.epoch))
    }

    /// Leaves the server-id in grace for the duration `grace` from now; then it expires.
    ///
    /// A claim that is made meanwhile displaces this binary and all its phones. A grace longer than `Instant`
    /// can represent never ends by itself. Returns `false` if this claim no longer held the server-id;
    /// nothing has changed then.
    ///
    /// Consistency: linearizable. Cost: one compare-and-swap of the record, and one insertion into the queue
    /// of deadlines.
    pub fn release_after(mut self, grace: Duration) -> bool {
        self.guarding = false;
        self.slot.begin_grace(Whose::Claim(self.epoch), grace)
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
            Some(grace) => self.slot.begin_grace(whose, grace),
            None => release(&self.slot, whose),
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

/// Claims a server-id. A claim that finds no live slot inserts one that is already held. Any other claim
/// changes the record of the slot.
pub(crate) fn claim<C: ?Sized>(
    store: &Arc<Store<C>>,
    hash: u64,
    server_id: &str,
    conn: Kept<C>,
) -> Result<Claim<C>, ServerIdConflict<C>> {
    loop {
        let epoch = epochs::draw();
        let mut retired = None;
        if let Some(slot) = store.slot(hash, server_id) {
            match slot.apply(|record| transition::claim(record, &conn, epoch)) {
                Some(applied) => return conclude(store, slot, conn, epoch, applied),
                None => retired = Some(slot),
            }
        }
        let record = Record::held(conn.clone(), epoch);
        if let Some(slot) = store.insert_held(hash, server_id, retired.as_ref(), record) {
            return Ok(Claim::new(slot, conn, epoch, None));
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
    /// Consistency: linearizable. Cost: one compare-and-swap of the record.
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
        let Self {
            store,
            slot,
            incumbent: _,
            incumbent_epoch,
            conn,
        } = self;
        let epoch = epochs::draw();
        let applied =
            slot.apply(|record| transition::take_over(record, incumbent_epoch, &conn, epoch));
        match applied {
            Some(applied) => conclude(&store, slot, conn, epoch, applied),
            None => claim(&store, slot.hash, &slot.server_id, conn),
        }
    }
}

fn conclude<C: ?Sized>(
    store: &Arc<Store<C>>,
    slot: Arc<Slot<C>>,
    conn: Kept<C>,
    epoch: Epoch,
    applied: Applied<C, Result<Option<Cause>, Conflict<C>>>,
) -> Result<Claim<C>, ServerIdConflict<C>> {
    match applied.outcome {
        Ok(cause) => {
            let displaced = cause.map(|cause| Displaced::of(&slot, applied.before, cause));
            Ok(Claim::new(slot, conn, epoch, displaced))
        }
        Err(Conflict { incumbent, epoch }) => Err(ServerIdConflict {
            store: Arc::clone(store),
            slot,
            incumbent,
            incumbent_epoch: epoch,
            conn,
        }),
    }
}

pub(crate) fn release<C: ?Sized>(slot: &Arc<Slot<C>>, whose: Whose) -> bool {
    let applied = slot.apply(|record| transition::release(record, whose));
    applied.is_some_and(|applied| applied.outcome.is_ok())
}

pub(crate) fn evict<C: ?Sized>(
    slot: &Arc<Slot<C>>,
    whose: Whose,
    cause: Cause,
) -> Option<Displaced<C>> {
    let applied = slot.apply(|record| transition::evict(record, whose))?;
    applied.outcome.ok()?;
    Some(Displaced::of(slot, applied.before, cause))
}
