use std::sync::{Arc, Weak};

use crossbeam_queue::{ArrayQueue, SegQueue};

use crate::slot::Slot;
use crate::striped::Striped;

/// The number of retired slots that stay in the index, so that the next claim of the same server-id can
/// replace its predecessor.
///
/// papaya reuses the place of a removed key only when it copies the whole table, and it does that once a
/// probe sequence is full of such places. A single client that connects and disconnects in a loop would fill
/// its own probe sequence in less than a hundred rounds, and make the index copy itself again and again. So
/// retired slots are removed late, and a server-id that comes back in time leaves no such place.
///
/// The number is per stripe, because each stripe has to suffice for all server-ids that one thread sees come
/// and go.
const LINGERING: usize = if cfg!(switchboard_shuttle) { 1 } else { 1024 };

/// A slot with a longer name does not linger: 1 MiB of names per stripe is enough.
pub(crate) const LONG: usize = 1024;

/// The number of slots removed at a time. Each removal first upgrades the reference to the index, where all
/// threads contend.
pub(crate) const BATCH: usize = if cfg!(switchboard_shuttle) { 1 } else { 16 };

/// Retired slots that have not been removed from the index, oldest first. Some have been replaced since.
///
/// Held weakly: each slot shares ownership of the ledger that owns this.
pub(crate) struct Lingering<C: ?Sized> {
    stripes: Striped<ArrayQueue<Weak<Slot<C>>>>,
    /// Slots that have been here long enough, but were retired by a thread that could not remove them.
    overdue: SegQueue<Weak<Slot<C>>>,
}

impl<C: ?Sized> Lingering<C> {
    pub(crate) fn new() -> Self {
        Self {
            stripes: Striped::new(|| ArrayQueue::new(LINGERING)),
            overdue: SegQueue::new(),
        }
    }

    /// Adds a retired slot. If there is no room, returns the oldest one.
    pub(crate) fn push(&self, slot: &Arc<Slot<C>>) -> Option<Weak<Slot<C>>> {
        self.stripes.mine().force_push(Arc::downgrade(slot))
    }

    /// Returns the oldest slot.
    pub(crate) fn pop(&self) -> Option<Weak<Slot<C>>> {
        self.stripes.mine().pop()
    }

    pub(crate) fn len(&self) -> usize {
        let in_stripes: usize = self.stripes.iter().map(ArrayQueue::len).sum();
        in_stripes + self.overdue.len()
    }

    /// Adds a slot that another thread has to remove.
    pub(crate) fn push_overdue(&self, slot: Weak<Slot<C>>) {
        self.overdue.push(slot);
    }

    /// Returns a slot that another thread could not remove.
    pub(crate) fn pop_overdue(&self) -> Option<Weak<Slot<C>>> {
        self.overdue.pop()
    }
}
