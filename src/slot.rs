use std::sync::Arc;

use crate::facade::{self, Cell, HasCell, Shared};
use crate::ledger::{Change, Ledger};
use crate::phone_list::Name;
use crate::record::Record;
use crate::transition::Decision;

/// What the record of a slot was at one instant; `None`: retired.
pub(crate) type Snapshot<C> = facade::Snapshot<Record<C>>;

/// The place of one server-id: its name, and one cell with its current record.
///
/// A slot is born with a held record and ends retired, its cell empty for good. It is never used again:
/// the next claim of the same server-id makes a new one.
///
/// In this order: what a lookup reads stands together.
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

/// What became of a transition, and the record that it decided upon.
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

    /// Applies a transition in one compare-and-swap: the linearization point of every change of this
    /// server-id, and the only place where a record is replaced. A refusal linearizes where the record
    /// that was refused upon was loaded.
    ///
    /// `None`: the slot is retired. It was vacant and without phones when it was, and it has not been
    /// anything since.
    ///
    /// The books are settled before the old record is let go: the `Drop` of a connection may call the
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
