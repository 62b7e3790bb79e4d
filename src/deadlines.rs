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
/// all removed entries in memory. This one is pinned for a step at a time, and only here, so that each step begins with
/// the fence of a pin.
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
/// What a grace had before it was armed anew stays while anybody walks. So a walk meets every grace that was here when
/// it began, wherever its deadline moves meanwhile.
///
/// Slots are held weakly: what was removed may be freed late, and no connection may wait for that.
///
/// A trait, because the list of crossbeam asks that what it stores be `Send` and `'static`, and the drop of a
/// guard, which arms a grace, cannot ask that of a connection. Whoever builds a registry can.
pub(crate) trait Deadlines<C: ?Sized>: Send + Sync {
    fn insert(&self, key: Key, slot: &Arc<Slot<C>>);

    fn remove(&self, key: Key);

    /// Removes the entry of a grace that has another one by now: at once, or when nobody walks any more.
    fn supersede(&self, key: Key);

    fn begin_walk(&self);

    fn end_walk(&self);

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
pub(crate) struct Queue<C: ?Sized> {
    entries: SkipList<Key, Weak<Slot<C>>>,
    /// How many walk.
    walks: CachePadded<AtomicUsize>,
    /// Entries to be removed once nobody does.
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

    /// `SeqCst`: whoever begins to walk after this has said that nobody does finds what was inserted before it.
    fn is_walked(&self) -> bool {
        switch_point();
        self.walks.load(Ordering::SeqCst) > 0
    }
}

impl<C: Send + Sync + 'static + ?Sized> Queue<C> {
    /// Removes what has been superseded, while nobody walks. Called by whoever ends the last walk, and by whoever
    /// supersedes an entry and then sees that nobody walks: one of the two comes after the other.
    fn tidy(&self) {
        while let Some(key) = self.first_superseded() {
            // Not before: a walk that begins after this finds what has superseded that entry.
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
