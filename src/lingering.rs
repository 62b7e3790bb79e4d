use std::sync::{Arc, Weak};

use crossbeam_queue::{ArrayQueue, SegQueue};

use crate::slot::Slot;
use crate::striped::Striped;

/// How many retired slots stay in the index, so that the next claim of the same server-id can take the place of
/// its predecessor.
///
/// papaya never uses the place of a removed key again until it copies the whole table, and it does that once a
/// probe sequence is full of such places. One client that connects and goes in a loop would fill its own in
/// less than a hundred turns, and make the index copy itself over and over. So what retires is removed late, and
/// what comes back in time leaves no such place.
///
/// This many for each stripe, since each has to do for all that one thread sees come and go.
const LINGERING: usize = if cfg!(switchboard_shuttle) { 1 } else { 1024 };

/// A longer name does not linger: 1 MiB for each stripe are enough.
pub(crate) const LONG: usize = 1024;

/// How many are removed at a time: whoever removes one looks for the index first, and all threads meet there.
pub(crate) const BATCH: usize = if cfg!(switchboard_shuttle) { 1 } else { 16 };

/// Retired slots that have not been removed from the index, oldest first. Some have been replaced since.
///
/// Held weakly: each slot has a share of the ledger that this belongs to.
pub(crate) struct Lingering<C: ?Sized> {
    stripes: Striped<ArrayQueue<Weak<Slot<C>>>>,
    /// Those that have been here for long enough, and were retired by a thread that could not remove them.
    overdue: SegQueue<Weak<Slot<C>>>,
}

impl<C: ?Sized> Lingering<C> {
    pub(crate) fn new() -> Self {
        Self {
            stripes: Striped::new(|| ArrayQueue::new(LINGERING)),
            overdue: SegQueue::new(),
        }
    }

    /// Takes one more retired slot. Where there is no room it gives back the oldest one.
    pub(crate) fn push(&self, slot: &Arc<Slot<C>>) -> Option<Weak<Slot<C>>> {
        self.stripes.mine().force_push(Arc::downgrade(slot))
    }

    /// Gives back the oldest one.
    pub(crate) fn pop(&self) -> Option<Weak<Slot<C>>> {
        self.stripes.mine().pop()
    }

    pub(crate) fn len(&self) -> usize {
        let in_stripes: usize = self.stripes.iter().map(ArrayQueue::len).sum();
        in_stripes + self.overdue.len()
    }

    /// Takes one that somebody else has to remove.
    pub(crate) fn push_overdue(&self, slot: Weak<Slot<C>>) {
        self.overdue.push(slot);
    }

    /// Gives back one that somebody else could not remove.
    pub(crate) fn pop_overdue(&self) -> Option<Weak<Slot<C>>> {
        self.overdue.pop()
    }
}
