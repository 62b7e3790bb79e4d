use std::sync::Arc;
use std::time::Duration;

use crate::state::name::Name;
use crate::state::record::Record;
use crate::state::shared::Shared;
use crate::state::transition::{self, Decision, Whose};
use crate::store::cell::{self, Cell, HasCell};
use crate::store::deadlines::Key;
use crate::store::index::HasServerId;
use crate::store::ledger::{Change, Ledger};

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

/// The outcome of a transition, and the record on which it decided.
pub(crate) struct Applied<C: ?Sized, T> {
    pub(crate) outcome: T,
    pub(crate) before: Shared<Record<C>>,
}

impl<C: ?Sized> Slot<C> {
    pub(crate) fn new(
        hash: u64,
        server_id: &str,
        ledger: &Arc<Ledger<Self>>,
        record: Record<C>,
    ) -> Self {
        Self {
            hash,
            server_id: server_id.into(),
            ledger: Arc::clone(ledger),
            cell: Cell::new(record),
        }
    }

    pub(crate) fn snapshot(&self) -> Snapshot<C> {
        self.cell.load()
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.snapshot().get().is_none()
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
        mut decide: impl FnMut(&Record<C>) -> Decision<C, T, E>,
    ) -> Option<Applied<C, Result<T, E>>> {
        let mut before = self.cell.load_counted()?;
        loop {
            let (next, value) = match decide(&before) {
                Ok(decided) => decided,
                Err(refusal) => {
                    let outcome = Err(refusal);
                    return Some(Applied { outcome, before });
                }
            };
            let change = Change::between(Some(&before), next.as_deref());
            match self.cell.compare_and_swap(&before, next) {
                Ok(()) => {
                    self.ledger.settle(self, &change);
                    let outcome = Ok(value);
                    return Some(Applied { outcome, before });
                }
                Err(found) => before = found?,
            }
        }
    }

    /// Begins a grace that ends `after` from now, or re-arms one. Returns `false` if `whose` does not hold
    /// the server-id.
    ///
    /// The deadline enters the queue before the compare-and-swap, so any thread that sees the grace finds its
    /// deadline there. The record is checked first, so that most refused calls draw no number and leave the
    /// queue alone.
    pub(crate) fn begin_grace(self: &Arc<Self>, whose: Whose, after: Duration) -> bool {
        let record = self.snapshot();
        let admitted = record
            .get()
            .is_some_and(|record| whose.admitted(record).is_ok());
        drop(record);
        if !admitted {
            return false;
        }
        let grace = self.ledger.grace_of(after);
        let key = Key::of(grace);
        if let Some(key) = key {
            self.ledger.deadlines.insert(key, self);
        }
        let applied = self.apply(|record| transition::grace(record, whose, grace));
        let armed = applied.is_some_and(|applied| applied.outcome.is_ok());
        if let Some(key) = key
            && !armed
        {
            self.ledger.deadlines.remove(key);
        }
        armed
    }

    /// The grace that the drop of a claim begins. If this is `None`, the drop releases the server-id.
    pub(crate) fn default_grace(&self) -> Option<Duration> {
        self.ledger.grace
    }
}
