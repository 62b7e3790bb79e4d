use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use crate::conn::Conn;
use crate::counts::{self, StripedCounts};
use crate::deadlines::{Deadlines, Key, Queue};
use crate::facade::{can_pin, switch_point};
use crate::index::Index;
use crate::lingering::{self, Lingering};
use crate::record::{Grace, Record};
use crate::slot::Slot;

/// What a registry keeps beside its server-ids, and its settings. Every slot shares it, so that guards
/// need nothing but their slot.
///
/// Aligned so that the count of its references, which every new slot changes, has a cache line of its own.
#[repr(align(128))]
pub(crate) struct Ledger<C: ?Sized> {
    pub(crate) counts: StripedCounts,
    pub(crate) deadlines: Box<dyn Deadlines<C>>,
    /// Weak, because the index owns the slots and each slot owns a share of this.
    pub(crate) index: Weak<Index<C>>,
    pub(crate) max_phones: usize,
    pub(crate) grace: Option<Duration>,
    lingering: Lingering<C>,
    armings: CachePadded<AtomicU64>,
}

/// What the books need to know of one won compare-and-swap.
pub(crate) struct Change {
    counts: counts::Change,
    disarmed: Option<Key>,
    /// The grace goes on, with another deadline or without one.
    goes_on: bool,
    retired: bool,
}

impl Change {
    pub(crate) fn between<C: ?Sized>(
        before: Option<&Record<C>>,
        after: Option<&Record<C>>,
    ) -> Self {
        let was = before.and_then(Record::arming);
        let is = after.and_then(Record::arming);
        Self {
            counts: counts::Change::between(before, after),
            disarmed: was.filter(|_| was != is).and_then(Key::of),
            goes_on: after.is_some_and(Record::is_in_grace),
            retired: after.is_none(),
        }
    }
}

impl<C: ?Sized> Ledger<C> {
    pub(crate) fn new(index: Weak<Index<C>>, max_phones: usize, grace: Option<Duration>) -> Self
    where
        C: Conn,
    {
        Self {
            counts: StripedCounts::new(),
            deadlines: Box::new(Queue::new()),
            index,
            max_phones,
            grace,
            lingering: Lingering::new(),
            armings: CachePadded::new(AtomicU64::new(0)),
        }
    }

    /// Enters what one won compare-and-swap has changed. Only its winner calls this, and only once.
    pub(crate) fn settle(&self, slot: &Arc<Slot<C>>, change: &Change) {
        self.counts.add(change.counts);
        if let Some(key) = change.disarmed {
            if change.goes_on {
                self.deadlines.supersede(key);
            } else {
                self.deadlines.remove(key);
            }
        }
        if change.retired {
            self.retire(slot);
        }
    }

    /// Leaves a retired slot in the index for a while, and removes some that have been there long enough. A thread that
    /// cannot remove one leaves it to the next claim.
    fn retire(&self, slot: &Arc<Slot<C>>) {
        switch_point();
        let overdue = if slot.server_id.len() > lingering::LONG {
            Some(Arc::downgrade(slot))
        } else {
            self.lingering.push(slot)
        };
        let Some(overdue) = overdue else {
            return;
        };
        if !can_pin() {
            return self.lingering.push_overdue(overdue);
        }
        switch_point();
        let Some(index) = self.index.upgrade() else {
            return;
        };
        if slot.server_id.len() > lingering::LONG {
            return index.remove(slot);
        }
        let more = std::iter::from_fn(|| {
            switch_point();
            self.lingering.pop()
        });
        let over = std::iter::once(overdue).chain(more).take(lingering::BATCH);
        // What has been freed has been replaced before.
        for slot in over.filter_map(|slot| slot.upgrade()) {
            index.remove(&slot);
        }
    }

    /// A slot that the thread which retired it could not remove from the index.
    pub(crate) fn pop_overdue(&self) -> Option<Weak<Slot<C>>> {
        self.lingering.pop_overdue()
    }

    /// How many retired slots have not been removed, those that have been replaced included.
    pub(crate) fn lingering_places(&self) -> usize {
        self.lingering.len()
    }

    /// No grace that began before this call has such a number or a larger one; every one has that is asked for after it.
    ///
    /// `SeqCst`, as the draw: both then have a place in the one order of all that happens to cells. So this holds, too, of
    /// a grace and a call of which only another server-id tells which came first.
    pub(crate) fn next_arming(&self) -> u64 {
        switch_point();
        self.armings.load(Ordering::SeqCst)
    }

    /// A grace that ends `after` from now. What `Instant` cannot hold means never.
    pub(crate) fn grace_of(&self, after: Duration) -> Grace {
        switch_point();
        let now = Instant::now();
        let number = self.armings.fetch_add(1, Ordering::SeqCst);
        let deadline = now.checked_add(after);
        Grace {
            deadline: deadline.unwrap_or_else(|| latest_from(now)),
            arming: deadline.map(|_| number),
            began: number,
        }
    }
}

/// The latest instant that this platform can hold, to within a nanosecond.
fn latest_from(now: Instant) -> Instant {
    let mut latest = now;
    let mut step = Duration::MAX;
    while step > Duration::ZERO {
        match latest.checked_add(step) {
            Some(later) => latest = later,
            None => step /= 2,
        }
    }
    latest
}
