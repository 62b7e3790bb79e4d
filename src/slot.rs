use std::sync::Arc;

use crate::facade::{self, Cell, HasCell, Shared};
use crate::ledger::{Change, Ledger};
use crate::phone_list::Name;
use crate::record::Record;
use crate::transition::Decision;

/// The record of a slot at one instant. `None` if the slot is retired.
pub(crate) type Snapshot<C> = facade::Snapshot<Record<C>>;

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
    pub(crate) ledger: Arc<Ledger<C>>,
}

impl<C: ?Sized> HasCell for Arc<Slot<C>> {
    type Value = Record<C>;

    fn cell(&self) -> &Cell<Record<C>> {
        &self.cell
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
        ledger: &Arc<Ledger<C>>,
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
        self.snapshot().is_none()
    }

    /// Applies a transition in one compare-and-swap. That is the linearization point of every change to this
    /// server-id, and the only place where a record is replaced. A refusal linearizes at the load of the
    /// record that it was based on.
    ///
    /// Returns `None` if the slot is retired. It was vacant and without phones when it retired, and its cell
    /// has been empty since.
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
}
