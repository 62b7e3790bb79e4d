use std::hint;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::state::change::{Attempt, Event, Version};
use crate::state::epoch::Epoch;
use crate::state::name::Name;
use crate::state::record::{Grace, Record};
use crate::state::shared::Shared;
use crate::state::transition::{self, Decision, NotHeld, Whose};
use crate::store::cell::{self, Cell, HasCell};
use crate::store::deadlines::Key;
use crate::store::epochs;
use crate::store::index::HasServerId;
use crate::store::ledger::{Change, Ledger, Orphans};

/// The record of a slot at one instant. `None` if the slot is retired.
pub(crate) type Snapshot<C> = cell::Snapshot<Record<C>>;

/// The entry of one server-id: its name, and one cell with its current record.
///
/// A slot is created with a held record and ends retired, with its cell empty for good. It is never reused:
/// the next claim of the same server-id creates a new slot.
///
/// `repr(C)` keeps this order of the fields: those that a lookup reads are next to each other.
#[repr(C)]
pub(crate) struct Slot<C: ?Sized> {
    cell: Cell<Record<C>>,
    pub(crate) server_id: Name,
    pub(crate) hash: u64,
    ledger: Arc<Ledger<Self>>,
    /// See [`since`](Self::since). 0 until it is drawn.
    since: AtomicU64,
}

impl<C: ?Sized> HasCell for Arc<Slot<C>> {
    type Value = Record<C>;

    fn cell(&self) -> &Cell<Record<C>> {
        &self.cell
    }
}

impl<C: ?Sized> HasServerId for Slot<C> {
    fn hash(&self) -> u64 {
        self.hash
    }

    fn server_id(&self) -> &str {
        &self.server_id
    }
}

/// What a transition did, and the record that it replaced.
pub(crate) struct Applied<C: ?Sized, T> {
    pub(crate) value: T,
    pub(crate) before: Shared<Record<C>>,
}

/// After a lost swap, a thread waits for this many pauses, and for twice as many after each further one.
const PAUSES: u32 = if cfg!(switchboard_shuttle) { 0 } else { 16 };
const MAX_PAUSES: u32 = 256;

impl<C: ?Sized> Slot<C> {
    pub(crate) fn new(
        hash: u64,
        server_id: &str,
        ledger: &Arc<Ledger<Self>>,
        record: Record<C>,
        since: Option<Epoch>,
    ) -> Self {
        Self {
            hash,
            server_id: server_id.into(),
            since: AtomicU64::new(since.map_or(0, Epoch::get)),
            ledger: Arc::clone(ledger),
            cell: Cell::new(record),
        }
    }

    #[inline]
    pub(crate) fn snapshot(&self) -> Snapshot<C> {
        self.cell.load()
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.snapshot().get().is_none()
    }

    /// A number that is larger than that of every earlier slot of the same server-id.
    ///
    /// It is drawn once the slot is in the index, and before its record changes for the first time. An
    /// earlier slot had to be retired before this one was inserted, so it has drawn its number before. The
    /// epoch of the claim that created the slot would not do: it is drawn before the insertion, and other
    /// slots may come and go in between.
    ///
    /// They may not if the slot replaces another one. The claim draws its epoch after it has seen that slot
    /// retired, and the replacement succeeds only if that slot has been in the index until then. So in this
    /// case the slot is created with the epoch of its claim as its number.
    pub(crate) fn since(&self) -> Epoch {
        let drawn = match self.since.load(Ordering::Acquire) {
            0 => {
                let drawn = epochs::draw().get();
                let since = &self.since;
                let set = since.compare_exchange(0, drawn, Ordering::Release, Ordering::Acquire);
                set.map_or_else(|earlier| earlier, |_| drawn)
            }
            drawn => drawn,
        };
        Epoch::from_number(drawn)
    }

    pub(crate) fn version(&self, record: &Record<C>) -> Version {
        Version::new(self.since(), record.changes)
    }

    /// Applies a transition in one compare-and-swap. That is the linearization point of every change but the
    /// insertion of a slot, and the only place where a record is replaced. A refusal linearizes at the load
    /// of the record that it was based on.
    ///
    /// Returns `None` if the slot is retired: its cell is empty, and stays empty.
    ///
    /// The ledger is updated before the old record is dropped: the `Drop` of a connection may call the
    /// registry and must find it consistent.
    pub(crate) fn apply<T, E>(
        self: &Arc<Self>,
        attempt: Attempt<'_>,
        decide: impl FnMut(&Shared<Record<C>>) -> Decision<C, T, E>,
    ) -> Option<Result<Applied<C, T>, E>> {
        self.apply_to(self.snapshot(), attempt, decide)
    }

    /// Like [`apply`](Self::apply), for a caller that has just loaded the record.
    pub(crate) fn apply_to<T, E>(
        self: &Arc<Self>,
        mut found: Snapshot<C>,
        attempt: Attempt<'_>,
        mut decide: impl FnMut(&Shared<Record<C>>) -> Decision<C, T, E>,
    ) -> Option<Result<Applied<C, T>, E>> {
        let mut pauses = PAUSES;
        loop {
            let (next, value) = match decide(found.get()?) {
                Ok(decided) => decided,
                Err(refusal) => return Some(Err(refusal)),
            };
            let before = found.into_counted()?;
            let change = Change::between(Some(&before), next.as_deref());
            if self.swap(&before, next, attempt, &change) {
                return Some(Ok(Applied { value, before }));
            }
            // The threads that race for this cell slow each other down. A short pause lets one of them win.
            drop(before);
            (0..pauses).for_each(|_| hint::spin_loop());
            pauses = (pauses * 2).min(MAX_PAUSES);
            found = self.snapshot();
        }
    }

    /// Replaces `before` with `next`, and then updates the ledger. Returns `false` if the cell no longer
    /// holds `before`; nothing has changed then.
    fn swap(
        self: &Arc<Self>,
        before: &Shared<Record<C>>,
        next: Option<Shared<Record<C>>>,
        attempt: Attempt<'_>,
        change: &Change,
    ) -> bool {
        let swap = |next| self.cell.compare_and_swap(before, next);
        let since = self.since();
        let listens = self.ledger.audience.present().listens();
        let swapped = if listens {
            let event = Event::new(&self.server_id, since, attempt, before, next.as_deref());
            self.ledger.feed.publish(|| {
                let swapped = swap(next);
                let event = swapped.is_ok().then_some(event);
                (swapped, event)
            })
        } else {
            swap(next)
        };
        // What the cell holds instead is dropped only here, outside of the feed's lock.
        if swapped.is_err() {
            return false;
        }
        self.ledger.settle(self, change);
        self.ledger.announce(self, listens);
        true
    }

    /// Begins a grace that ends at `deadline`, or re-arms one. Returns `false` if `whose` does not hold the
    /// server-id. A grace without a deadline never ends by itself.
    pub(crate) fn begin_grace(
        self: &Arc<Self>,
        whose: Whose,
        deadline: impl FnOnce() -> Option<Instant>,
    ) -> bool {
        self.arm(Attempt::Grace, whose, deadline, transition::grace)
    }

    /// Releases the server-id. Its phones stay, or wait to be displaced: by the next call of `expire`, or by
    /// the next claim. Returns `false` if `whose` does not hold the server-id.
    pub(crate) fn release(self: &Arc<Self>, whose: Whose) -> bool {
        let release = Attempt::Vacate;
        match self.ledger.settings.orphans {
            Orphans::Keep => matches!(
                self.apply(release, |record| transition::release(record, whose, None)),
                Some(Ok(_))
            ),
            Orphans::Displace => {
                let over = || Some(self.ledger.created);
                self.arm(release, whose, over, |record, whose, leave| {
                    transition::release(record, whose, Some(leave))
                })
            }
        }
    }

    /// Applies a transition that arms a deadline.
    ///
    /// The deadline enters the queue before the compare-and-swap, so any thread that sees the grace finds its
    /// deadline there. The record is checked first, so that most refused calls draw no number and leave the
    /// queue alone.
    fn arm(
        self: &Arc<Self>,
        attempt: Attempt<'_>,
        whose: Whose,
        deadline: impl FnOnce() -> Option<Instant>,
        transition: impl Fn(&Record<C>, Whose, Grace) -> Decision<C, (), NotHeld>,
    ) -> bool {
        let record = self.snapshot();
        let admitted = record
            .get()
            .is_some_and(|record| whose.admitted(record).is_ok());
        drop(record);
        if !admitted {
            return false;
        }
        let grace = self.ledger.grace_until(deadline());
        let key = Key::of(grace);
        if let Some(key) = key {
            self.ledger.deadlines.insert(key, self);
        }
        let mut armed = false;
        let applied = self.apply(attempt, |record| {
            let decision = transition(record, whose, grace);
            armed = matches!(&decision, Ok((Some(next), ())) if next.grace.is_some());
            decision
        });
        let done = matches!(applied, Some(Ok(_)));
        match key {
            Some(_) if done && armed => self.ledger.deadline_armed(),
            Some(key) => self.ledger.deadlines.remove(key),
            None => {}
        }
        done
    }

    /// The grace that the drop of a claim begins. If this is `None`, the drop releases the server-id.
    pub(crate) fn default_grace(&self) -> Option<Duration> {
        self.ledger.settings.grace
    }
}
