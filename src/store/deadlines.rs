use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Weak};
use std::time::Instant;

use crossbeam_epoch::{Collector, Guard, LocalHandle};
use crossbeam_skiplist::base::SkipList;
use crossbeam_utils::CachePadded;

use crate::state::record::Grace;
use crate::store::switch_point::switch_point;

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
pub(crate) trait Deadlines<S>: Send + Sync {
    fn insert(&self, key: Key, slot: &Arc<S>);

    fn remove(&self, key: Key);

    /// Removes the old entry of a grace that was re-armed: at once, or when no scan is running any more.
    fn supersede(&self, key: Key);

    fn begin_scan(&self);

    fn end_scan(&self);

    /// The first entry after `key`, or the first of all if `key` is `None`.
    ///
    /// One step at a time, so that nothing is pinned while the caller works on the result.
    fn after(&self, key: Option<Key>) -> Option<(Key, Arc<S>)>;

    /// The last entry before `key`. This, too, is a single step.
    fn before(&self, key: Key) -> Option<(Key, Arc<S>)>;

    /// The number of entries.
    fn len(&self) -> usize;
}

/// The list is used through its base and not as a `SkipMap`, because a range of a `SkipMap` leaks nodes
/// (crossbeam issue 1178, not yet fixed in a release).
pub(crate) struct Queue<S> {
    entries: SkipList<Key, Weak<S>>,
    /// The number of running scans.
    scans: CachePadded<AtomicUsize>,
    /// Entries to be removed once no scan is running.
    superseded: SkipList<Key, ()>,
}

impl<S> Queue<S> {
    pub(crate) fn new() -> Self {
        Self {
            entries: SkipList::new(COLLECTOR.clone()),
            scans: CachePadded::new(AtomicUsize::new(0)),
            superseded: SkipList::new(COLLECTOR.clone()),
        }
    }

    /// `SeqCst`: a scan that begins after this has returned `false` finds everything that was inserted before
    /// this call.
    fn is_scanning(&self) -> bool {
        switch_point();
        self.scans.load(Ordering::SeqCst) > 0
    }
}

impl<S: Send + Sync + 'static> Queue<S> {
    /// Removes superseded entries while no scan is running. Called by the thread that ends the last scan, and
    /// by a thread that supersedes an entry and then sees no scan running. A thread that still sees one
    /// leaves its entry to the end of the last scan, which comes later.
    fn tidy(&self) {
        while let Some(key) = self.first_superseded() {
            // This check must come after the key was read: a scan that begins later finds the entry that
            // superseded it.
            if self.is_scanning() {
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

impl<S: Send + Sync + 'static> Deadlines<S> for Queue<S> {
    fn insert(&self, key: Key, slot: &Arc<S>) {
        insert(&self.entries, key, Arc::downgrade(slot));
    }

    fn remove(&self, key: Key) {
        remove(&self.entries, key);
    }

    fn supersede(&self, key: Key) {
        if self.is_scanning() {
            insert(&self.superseded, key, ());
            if !self.is_scanning() {
                self.tidy();
            }
        } else {
            self.remove(key);
        }
    }

    fn begin_scan(&self) {
        switch_point();
        self.scans.fetch_add(1, Ordering::SeqCst);
    }

    fn end_scan(&self) {
        switch_point();
        if self.scans.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.tidy();
        }
    }

    fn after(&self, key: Option<Key>) -> Option<(Key, Arc<S>)> {
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

    fn before(&self, key: Key) -> Option<(Key, Arc<S>)> {
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
