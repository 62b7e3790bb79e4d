use std::iter;
use std::sync::{Arc, Weak};

use crossbeam_queue::{ArrayQueue, SegQueue};

use crate::store::index::{HasServerId, is_long};
use crate::store::set::can_pin;
use crate::store::striped::Striped;
use crate::store::switch_point::switch_point;

/// The number of retired slots on one stripe that stay in the index, so that the next claim of the same
/// server-id can replace its predecessor. A slot leaves the index when this many more have retired on its
/// stripe, or when a claim replaces it.
///
/// papaya reuses the place of a removed key only when it copies the whole table, and it does that once a
/// probe sequence is full of such places. A single client that connects and disconnects in a loop would fill
/// its own probe sequence in less than a hundred rounds, and make the index copy itself again and again. So
/// retired slots are removed late, and a server-id that comes back in time leaves no such place.
///
/// The number is per stripe, because one thread may retire all the server-ids that come and go.
const LINGERING: usize = if cfg!(switchboard_shuttle) { 1 } else { 1024 };

/// The number of slots removed at a time. Each batch first upgrades the reference to the store, where all
/// threads contend.
const BATCH: usize = if cfg!(switchboard_shuttle) { 1 } else { 16 };

/// Removes retired slots from the index.
pub(crate) trait Remove<S> {
    fn remove(&self, slot: &Arc<S>);
}

/// Retired slots that have not been removed from the index, oldest first. Some have been replaced since.
///
/// Everything is held weakly: the store owns the slots, and each slot shares ownership of the ledger that
/// owns this.
pub(crate) struct Lingering<S> {
    store: Weak<dyn Remove<S> + Send + Sync>,
    stripes: Striped<ArrayQueue<Weak<S>>>,
    /// Slots that have been here long enough, but were retired by a thread that [cannot pin](can_pin).
    overdue: SegQueue<Weak<S>>,
}

impl<S: HasServerId> Lingering<S> {
    pub(crate) fn new(store: Weak<dyn Remove<S> + Send + Sync>) -> Self {
        Self {
            store,
            stripes: Striped::new(|| ArrayQueue::new(LINGERING)),
            overdue: SegQueue::new(),
        }
    }

    /// Keeps a retired slot in the index for now, and removes the slots that have been there long enough. A
    /// slot with a long server-id is removed at once. A thread that [cannot pin](can_pin) leaves the removal
    /// to the next claim that inserts a slot.
    pub(crate) fn keep(&self, slot: &Arc<S>) {
        switch_point();
        let overdue = if is_long(slot) {
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
        let Some(store) = self.store.upgrade() else {
            return;
        };
        if is_long(slot) {
            return store.remove(slot);
        }
        let more = iter::from_fn(|| {
            switch_point();
            self.stripes.mine().pop()
        });
        let over = iter::once(overdue).chain(more).take(BATCH);
        // A slot that cannot be upgraded was replaced: the index would hold a strong reference.
        for slot in over.filter_map(|slot| slot.upgrade()) {
            store.remove(&slot);
        }
    }

    /// Removes slots that other threads retired but could not remove.
    pub(crate) fn remove_overdue(&self, store: &impl Remove<S>) {
        // A `pop` costs a full fence, even of an empty queue.
        if self.overdue.is_empty() {
            return;
        }
        for _ in 0..BATCH {
            switch_point();
            let Some(slot) = self.overdue.pop() else {
                return;
            };
            if let Some(slot) = slot.upgrade() {
                store.remove(&slot);
            }
        }
    }

    /// The number of retired slots that wait to be removed, including those that have been replaced.
    pub(crate) fn len(&self) -> usize {
        let in_stripes: usize = self.stripes.iter().map(ArrayQueue::len).sum();
        in_stripes + self.overdue.len()
    }
}
