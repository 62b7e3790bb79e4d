use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Weak};
use std::time::Instant;

use crossbeam_epoch::{Collector, Guard, LocalHandle};
use crossbeam_skiplist::base::SkipList;
use crossbeam_utils::CachePadded;

use crate::facade::switch_point;
use crate::record::Grace;
use crate::slot::Slot;

/// A deadline, and the number of the arming that set it. No two armings share a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) deadline: Instant,
    pub(crate) arming: u64,
}

impl Key {
    /// A key after all deadlines that are over at `now`, and before all others.
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

/// The collector of all queues. The default collector is shared by the whole program: any code that keeps it
/// pinned would keep all removed entries in memory. This one is pinned for one step at a time, and only here,
/// so that each step begins with the fence of a pin.
static COLLECTOR: LazyLock<Collector> = LazyLock::new(Collector::new);

thread_local! {
    static HANDLE: LocalHandle = COLLECTOR.register();
}

/// Pins the collector. Also works at the very end of a thread, when its handle is gone.
fn pin() -> Guard {
    let pinned = HANDLE.try_with(LocalHandle::pin);
    pinned.unwrap_or_else(|_| COLLECTOR.register().pin())
}

/// The grace deadlines of a registry, earliest first.
///
/// An entry is inserted before the compare-and-swap that arms it, and removed after the one that disarms it.
/// So an armed grace always has its entry here, and the call that disarms it always finds that entry. If the
/// slot's record does not name the arming of an entry, the entry is about to be armed or about to be removed.
/// It then belongs to another call, which takes care of it. All other calls skip it.
///
/// When a grace is re-armed while an expiry scan is running, its old entry stays until no scan is running. So
/// a scan meets every grace that was here when the scan began, wherever its deadline moves meanwhile.
///
/// Slots are held weakly: removed entries may be freed late, and no connection may wait for that.
///
/// This is a trait because crossbeam's list requires its contents to be `Send` and `'static`. The drop of a
/// guard arms a grace, and cannot require that of a connection. The code that builds a registry can.
pub(crate) trait Deadlines<C: ?Sized>: Send + Sync {
    fn insert(&self, key: Key, slot: &Arc<Slot<C>>);

    fn remove(&self, key: Key);

    /// Removes the old entry of a grace that was re-armed: at once, or when no scan is running any more.
    fn supersede(&self, key: Key);

    fn begin_walk(&self);

    fn end_walk(&self);

    /// The first entry after `key`, or the very first one.
    ///
    /// One step at a time, so that nothing is pinned while the caller works on the result.
    fn after(&self, key: Option<Key>) -> Option<(Key, Arc<Slot<C>>)>;

    /// The last entry before `key`. This, too, is a single step.
    fn before(&self, key: Key) -> Option<(Key, Arc<Slot<C>>)>;

    /// The number of entries.
    fn len(&self) -> usize;
}

/// The list is used through its base and not as a `SkipMap`, because a range of a `SkipMap` leaks nodes
/// (crossbeam issue 1178, not yet fixed in a release).
pub(crate) struct Queue<C: ?Sized> {
    entries: SkipList<Key, Weak<Slot<C>>>,
    /// The number of running scans.
    walks: CachePadded<AtomicUsize>,
    /// Entries to be removed once no scan is running.
    superseded: SkipList<Key, ()>,
}

impl<C: ?Sized> Queue<C> {
    pub(crate) fn new() -> Self {
        Self {
            entries: SkipList::new(COLLECTOR.clone()),
            walks: CachePadded::new(AtomicUsize::new(0)),
            superseded: SkipList::new(COLLECTOR.clone()),
        }
    }

    /// `SeqCst`: a scan that begins after this has returned `false` finds everything that was inserted before
    /// this call.
    fn is_walked(&self) -> bool {
        switch_point();
        self.walks.load(Ordering::SeqCst) > 0
    }
}

impl<C: Send + Sync + 'static + ?Sized> Queue<C> {
    /// Removes superseded entries while no scan is running. Called by the thread that ends the last scan, and
    /// by a thread that supersedes an entry and then sees no scan running. A thread that still sees one
    /// leaves its entry to the end of the last scan, which comes later.
    fn tidy(&self) {
        while let Some(key) = self.first_superseded() {
            // This check must come after the key was read: a scan that begins later finds the entry that
            // superseded it.
            if self.is_walked() {
                return;
            }
            remove(&self.entries, key);
            remove(&self.superseded, key);
        }
    }

    fn first_superseded(&self) -> Option<Key> {
        switch_point();
        let pin = &pin();
        Some(*self.superseded.front(pin)?.key())
    }
}

fn insert<V: Send + 'static>(list: &SkipList<Key, V>, key: Key, value: V) {
    switch_point();
    let pin = &pin();
    list.insert(key, value, pin).release(pin);
}

fn remove<V: Send + 'static>(list: &SkipList<Key, V>, key: Key) {
    switch_point();
    let pin = &pin();
    if let Some(entry) = list.remove(&key, pin) {
        entry.release(pin);
    }
}

impl<C: Send + Sync + 'static + ?Sized> Deadlines<C> for Queue<C> {
    fn insert(&self, key: Key, slot: &Arc<Slot<C>>) {
        insert(&self.entries, key, Arc::downgrade(slot));
    }

    fn remove(&self, key: Key) {
        remove(&self.entries, key);
    }

    fn supersede(&self, key: Key) {
        if !self.is_walked() {
            return self.remove(key);
        }
        insert(&self.superseded, key, ());
        if !self.is_walked() {
            self.tidy();
        }
    }

    fn begin_walk(&self) {
        switch_point();
        self.walks.fetch_add(1, Ordering::SeqCst);
    }

    fn end_walk(&self) {
        switch_point();
        if self.walks.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.tidy();
        }
    }

    fn after(&self, key: Option<Key>) -> Option<(Key, Arc<Slot<C>>)> {
        switch_point();
        let pin = &pin();
        let bound = key.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut entry = self.entries.lower_bound(bound, pin)?;
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
        let mut entry = self.entries.upper_bound(Bound::Excluded(&key), pin)?;
        loop {
            if let Some(slot) = entry.value().upgrade() {
                return Some((*entry.key(), slot));
            }
            entry = entry.prev()?;
        }
    }

    fn len(&self) -> usize {
        self.entries.len()
    }
}
