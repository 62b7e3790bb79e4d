use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use crate::state::record::{Grace, Record};
use crate::store::counts::{self, StripedCounts};
use crate::store::deadlines::{Deadlines, Key, Queue};
use crate::store::index::HasServerId;
use crate::store::lingering::{Lingering, Remove};
use crate::store::switch_point::switch_point;

/// The settings of a registry, and its shared state apart from the server-ids. Every slot refers to it, so
/// that guards need nothing but their slot.
///
/// Aligned so that its reference count, which every new slot changes, has a cache line of its own.
#[repr(align(128))]
pub(crate) struct Ledger<S> {
    pub(crate) counts: StripedCounts,
    pub(crate) deadlines: Box<dyn Deadlines<S>>,
    pub(crate) lingering: Lingering<S>,
    pub(crate) max_phones: usize,
    pub(crate) grace: Option<Duration>,
    armings: CachePadded<AtomicU64>,
}

/// The effects of one change on the ledger.
pub(crate) struct Change {
    counts: counts::Change,
    disarmed: Option<Key>,
    /// There is still a grace, with another deadline or without one.
    goes_on: bool,
    retired: bool,
}

impl Change {
    pub(crate) fn between<C: ?Sized>(
        before: Option<&Record<C>>,
        after: Option<&Record<C>>,
    ) -> Self {
        let was = before.and_then(Record::armed_grace);
        let is = after.and_then(Record::armed_grace);
        Self {
            counts: counts::Change::between(before, after),
            disarmed: was.filter(|_| was != is).and_then(Key::of),
            goes_on: after.is_some_and(Record::is_in_grace),
            retired: after.is_none(),
        }
    }
}

impl<S: HasServerId> Ledger<S> {
    pub(crate) fn new(
        store: Weak<dyn Remove<S> + Send + Sync>,
        max_phones: usize,
        grace: Option<Duration>,
    ) -> Self
    where
        S: Send + Sync + 'static,
    {
        Self {
            counts: StripedCounts::new(),
            deadlines: Box::new(Queue::new()),
            lingering: Lingering::new(store),
            max_phones,
            grace,
            armings: CachePadded::new(AtomicU64::new(0)),
        }
    }

    /// Records the effects of one change: a compare-and-swap, or the insertion of a slot. The thread that
    /// made the change calls this, once.
    pub(crate) fn settle(&self, slot: &Arc<S>, change: &Change) {
        self.counts.add(change.counts);
        if let Some(key) = change.disarmed {
            if change.goes_on {
                self.deadlines.supersede(key);
            } else {
                self.deadlines.remove(key);
            }
        }
        if change.retired {
            self.lingering.keep(slot);
        }
    }

    /// The number of armings so far, which is the number of the next one. Every grace that began before this
    /// call has a smaller number. Every grace requested after this call has this number or a larger one.
    ///
    /// `SeqCst`, like the draw of a number: both are then part of the one total order of all cell operations.
    /// So this also holds for two threads that have synchronized only through the cell of another server-id.
    pub(crate) fn armings(&self) -> u64 {
        switch_point();
        self.armings.load(Ordering::SeqCst)
    }

    /// A grace that ends `after` from now. If `Instant` cannot represent that deadline, the grace never ends.
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

/// The latest instant that this platform can represent, to within a nanosecond.
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
