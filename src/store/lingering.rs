use std::iter;
use std::sync::{Arc, Weak};

use crossbeam_queue::{ArrayQueue, SegQueue};

use crate::store::index::Entry;
use crate::store::set::can_pin;
use crate::store::striped::Striped;
use crate::store::switch_point::switch_point;

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
const LONG: usize = 1024;

/// The number of slots removed at a time. Each removal first upgrades the reference to the index, where all
/// threads contend.
const BATCH: usize = if cfg!(switchboard_shuttle) { 1 } else { 16 };

/// Removes retired slots from the index.
pub(crate) trait Remove<S>: Send + Sync {
    /// Removes a retired slot. A successor with the same server-id stays. A long server-id is freed without
    /// waiting for others.
    fn remove(&self, slot: &Arc<S>, is_long: bool);
}

/// Retired slots that have not been removed from the index, oldest first. Some have been replaced since.
///
/// Everything is held weakly: the index owns the slots, and each slot shares ownership of the ledger that
/// owns this.
pub(crate) struct Lingering<S> {
    index: Weak<dyn Remove<S>>,
    stripes: Striped<ArrayQueue<Weak<S>>>,
    /// Slots that have been here long enough, but were retired by a thread that could not remove them.
    overdue: SegQueue<Weak<S>>,
}

impl<S: Entry> Lingering<S> {
    pub(crate) fn new(index: Weak<dyn Remove<S>>) -> Self {
        Self {
            index,
            stripes: Striped::new(|| ArrayQueue::new(LINGERING)),
            overdue: SegQueue::new(),
        }
    }

    /// Leaves a retired slot in the index for a while, and removes slots that have been there long enough. A
    /// thread that cannot remove a slot leaves that to the next claim.
    pub(crate) fn retire(&self, slot: &Arc<S>) {
        switch_point();
        let overdue = if is_long(&**slot) {
            Some(Arc::downgrade(slot))
        } else {
            self.stripes.mine().force_push(Arc::downgrade(slot))
        };
        let Some(overdue) = overdue else {
            return;
        };
        if !can_pin() {
            return self.overdue.push(overdue);
        }
        switch_point();
        let Some(index) = self.index.upgrade() else {
            return;
        };
        if is_long(&**slot) {
            return index.remove(slot, true);
        }
        let more = iter::from_fn(|| {
            switch_point();
            self.stripes.mine().pop()
        });
        let over = iter::once(overdue).chain(more).take(BATCH);
        // A slot that has been freed was replaced in the index before.
        for slot in over.filter_map(|slot| slot.upgrade()) {
            index.remove(&slot, false);
        }
    }

    /// Removes slots that other threads retired but could not remove.
    pub(crate) fn remove_overdue(&self) {
        for _ in 0..BATCH {
            switch_point();
            let Some(slot) = self.overdue.pop() else {
                return;
            };
            if let (Some(slot), Some(index)) = (slot.upgrade(), self.index.upgrade()) {
                index.remove(&slot, is_long(&*slot));
            }
        }
    }

    /// The number of retired slots that wait to be removed, including those that have been replaced.
    pub(crate) fn len(&self) -> usize {
        let in_stripes: usize = self.stripes.iter().map(ArrayQueue::len).sum();
        in_stripes + self.overdue.len()
    }
}

fn is_long(slot: &impl Entry) -> bool {
    slot.server_id().len() > LONG
}
