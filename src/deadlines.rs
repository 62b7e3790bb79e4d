use std::ops::Bound;
use std::sync::{Arc, LazyLock, Weak};
use std::time::Instant;

use crossbeam_epoch::{Collector, Guard, LocalHandle};
use crossbeam_skiplist::base::SkipList;

use crate::facade::switch_point;
use crate::record::Grace;
use crate::slot::Slot;

/// A deadline, and the number of the arming that set it: no two armings share a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) deadline: Instant,
    pub(crate) arming: u64,
}

impl Key {
    /// Behind all that are over at `now`, and before all others.
    pub(crate) fn last_at(now: Instant) -> Self {
        Self {
            deadline: now,
            arming: u64::MAX,
        }
    }

    pub(crate) fn of(grace: Grace) -> Option<Self> {
        grace.arming.map(|arming| Self {
            deadline: grace.deadline,
            arming,
        })
    }
}

/// The collector of all queues. The default one is the whole program's: whoever keeps that pinned, anywhere, would keep
/// all removed entries in memory. This one is pinned for a step at a time, and only here.
static COLLECTOR: LazyLock<Collector> = LazyLock::new(Collector::new);

thread_local! {
    static HANDLE: LocalHandle = COLLECTOR.register();
}

/// Works at the very end of a thread, too, when its handle is gone.
fn pin() -> Guard {
    let pinned = HANDLE.try_with(LocalHandle::pin);
    pinned.unwrap_or_else(|_| COLLECTOR.register().pin())
}

/// The grace deadlines of a registry, earliest first.
///
/// An entry is inserted before the compare-and-swap that arms it and removed after the one that disarms
/// it, so an armed grace always stands here, and whoever disarms it always finds its entry. An entry whose
/// arming the slot's record does not name is about to be armed or about to be removed: it belongs to
/// another call, which looks after it, and everybody else passes it over.
///
/// Slots are held weakly: what was removed may be freed late, and no connection may wait for that.
///
/// A trait, because the list of crossbeam asks that what it stores be `Send` and `'static`, and the drop of a
/// guard, which arms a grace, cannot ask that of a connection. Whoever builds a registry can.
pub(crate) trait Deadlines<C: ?Sized>: Send + Sync {
    fn insert(&self, key: Key, slot: &Arc<Slot<C>>);

    fn remove(&self, key: Key);

    /// The first entry behind `key`, or the very first one.
    ///
    /// One step at a time, so that nothing is pinned while the caller works on what it got.
    fn after(&self, key: Option<Key>) -> Option<(Key, Arc<Slot<C>>)>;

    /// The last entry before `key`, in one step, too.
    fn before(&self, key: Key) -> Option<(Key, Arc<Slot<C>>)>;

    /// How many entries there are.
    fn len(&self) -> usize;
}

/// The list is used through its base and not as a `SkipMap`, because a range of that one loses nodes
/// (crossbeam issue 1178, not yet in a release).
pub(crate) struct Queue<C: ?Sized>(SkipList<Key, Weak<Slot<C>>>);

impl<C: ?Sized> Queue<C> {
    pub(crate) fn new() -> Self {
        Self(SkipList::new(COLLECTOR.clone()))
    }
}

impl<C: Send + Sync + 'static + ?Sized> Deadlines<C> for Queue<C> {
    fn insert(&self, key: Key, slot: &Arc<Slot<C>>) {
        switch_point();
        let pin = &pin();
        self.0.insert(key, Arc::downgrade(slot), pin).release(pin);
    }

    fn remove(&self, key: Key) {
        switch_point();
        let pin = &pin();
        if let Some(entry) = self.0.remove(&key, pin) {
            entry.release(pin);
        }
    }

    fn after(&self, key: Option<Key>) -> Option<(Key, Arc<Slot<C>>)> {
        switch_point();
        let pin = &pin();
        let bound = key.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut entry = self.0.lower_bound(bound, pin)?;
        loop {
            if let Some(slot) = entry.value().upgrade() {
                return Some((*entry.key(), slot));
            }
            entry = entry.next()?;
        }
    }

    fn before(&self, key: Key) -> Option<(Key, Arc<Slot<C>>)> {
        switch_point();
        let pin = &pin();
        let mut entry = self.0.upper_bound(Bound::Excluded(&key), pin)?;
        loop {
            if let Some(slot) = entry.value().upgrade() {
                return Some((*entry.key(), slot));
            }
            entry = entry.prev()?;
        }
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}
