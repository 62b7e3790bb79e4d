//! papaya, arc-swap and triomphe as the registry uses them, and the only place that names them.
//!
//! No call into papaya or arc-swap without a switch point before it, so that the schedules that the tests explore are
//! those of the real map and the real cell.

use std::cell::Cell as StdCell;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::atomic::{Ordering, compiler_fence, fence};

use arc_swap::{ArcSwapAny, Cache, Guard};
use papaya::{Compute, Guard as _, HashMap, Operation, ResizeMode};

pub(crate) use papaya::Equivalent;
/// A reference count without weak references: one less to settle whenever something is freed.
///
/// `ThreadSanitizer` does not know the fence before that, and gets the standard library's, which it does know.
#[cfg(switchboard_std_arc)]
pub(crate) use std::sync::Arc as Shared;
#[cfg(not(switchboard_std_arc))]
pub(crate) use triomphe::Arc as Shared;

#[cfg(switchboard_std_arc)]
type Slice<T> = Shared<[T]>;
#[cfg(not(switchboard_std_arc))]
type Slice<T> = triomphe::ThinArc<(), T>;

/// A shared slice behind one word.
pub(crate) struct SharedSlice<T>(Slice<T>);

impl<T> SharedSlice<T> {
    pub(crate) fn from_fn(len: usize, item: impl FnMut(usize) -> T) -> Self {
        let items = (0..len).map(item);
        #[cfg(switchboard_std_arc)]
        return Self(items.collect());
        #[cfg(not(switchboard_std_arc))]
        Self(Slice::from_header_and_iter((), items))
    }
}

impl<T> Deref for SharedSlice<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        #[cfg(switchboard_std_arc)]
        return &self.0;
        #[cfg(not(switchboard_std_arc))]
        &self.0.slice
    }
}

impl<T> Clone for SharedSlice<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Where another thread may come in between: stands before every step that threads can see of each other.
///
/// Each step, a call into papaya, arc-swap, the skip list or an atomic, is one to all other threads. So a
/// scheduler that can switch at these points, and only there, can bring about every behaviour that the steps
/// allow. In the package of the schedules, `tests/schedules`, it is shuttle's; in every other build nothing is here.
#[cfg_attr(not(switchboard_shuttle), inline(always))]
pub(crate) fn switch_point() {
    #[cfg(switchboard_shuttle)]
    shuttle::sync::atomic::AtomicBool::new(false).load(Ordering::SeqCst);
}

/// What stood in a cell at one instant. Usually it writes to no reference count, and keeps what it shows
/// alive all the same.
pub(crate) type Snapshot<T> = Guard<Option<Shared<T>>>;

/// A cell that is replaced whole.
///
/// Never dropped by itself, since arc-swap looks for readers in all threads, and does so of an empty cell, too. It
/// is emptied instead, and then there is nothing to free.
pub(crate) struct Cell<T>(ManuallyDrop<ArcSwapAny<Option<Shared<T>>>>);

impl<T> Cell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(ManuallyDrop::new(ArcSwapAny::from(Some(Shared::new(
            value,
        )))))
    }

    pub(crate) fn load(&self) -> Snapshot<T> {
        switch_point();
        self.0.load()
    }

    /// As [`load`](Self::load), with a reference count: what a writer wants, whom arc-swap would make one
    /// anyway.
    pub(crate) fn load_counted(&self) -> Option<Shared<T>> {
        switch_point();
        self.0.load_full()
    }

    /// Puts `next` in the place of what `before` shows, or gives back what stands there by now.
    ///
    /// The address identifies it: `before` keeps its own alive, so that nothing else can come to stand there.
    pub(crate) fn compare_and_swap(
        &self,
        before: &Shared<T>,
        next: Option<Shared<T>>,
    ) -> Result<(), Option<Shared<T>>> {
        switch_point();
        let found = self.0.compare_and_swap(Shared::as_ptr(before), next);
        match &*found {
            Some(found) if Shared::ptr_eq(before, found) => Ok(()),
            _ => Err(Guard::into_inner(found)),
        }
    }
}

/// What has a cell.
pub(crate) trait HasCell {
    type Value;

    fn cell(&self) -> &Cell<Self::Value>;
}

/// A copy of what stands in a cell, renewed when it is looked at and something else stands there.
pub(crate) struct Cached<O: HasCell>(Cache<Inside<O>, Option<Shared<O::Value>>>);

struct Inside<O>(O);

impl<O: HasCell> Deref for Inside<O> {
    type Target = ArcSwapAny<Option<Shared<O::Value>>>;

    fn deref(&self) -> &Self::Target {
        &self.0.cell().0
    }
}

impl<O: HasCell> Cached<O> {
    pub(crate) fn new(owner: O) -> Self {
        switch_point();
        Self(Cache::new(Inside(owner)))
    }

    /// What stands in the cell: a load and a comparison of its address where that is still the same.
    ///
    /// arc-swap loads the address `Relaxed`, which orders it after nothing that this thread did to other
    /// cells; hence the fence. A store into a cell is a locked instruction on x86, which no later load
    /// overtakes, so that there the compiler alone has to be held.
    #[inline]
    pub(crate) fn load(&mut self) -> Option<&Shared<O::Value>> {
        switch_point();
        if cfg!(any(target_arch = "x86_64", target_arch = "x86")) {
            compiler_fence(Ordering::SeqCst);
        } else {
            fence(Ordering::SeqCst);
        }
        self.0.load().as_ref()
    }
}

impl<T> Drop for Cell<T> {
    fn drop(&mut self) {
        if self.0.load().is_some() {
            self.0.store(None);
        }
    }
}

/// After how many insertions a thread asks whether replaced tables can be freed.
const TABLE_BATCH: u32 = 4096;

/// How many removed keys a thread gathers before it asks whether they can be freed. Asking costs a barrier
/// on every core.
const RECLAIM_BATCH: usize = 256;

/// A set of keys that bring their hash along, as one `u64`.
///
/// What is removed is freed late and in batches: nothing may stand in a key that must be dropped at once.
pub(crate) struct Set<K>(HashMap<K, (), BuildHasherDefault<PassThrough>>);

impl<K: Eq + Hash> Set<K> {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        let set = HashMap::builder()
            .capacity(capacity)
            .hasher(BuildHasherDefault::default())
            .collector(seize::Collector::new().batch_size(RECLAIM_BATCH))
            // The blocking mode would never end where many keys collide.
            .resize_mode(ResizeMode::default())
            .build();
        Self(set)
    }

    fn pin(&self) -> impl papaya::Guard + '_ {
        let pin = self.0.guard();
        if STATE.get() == State::Outside {
            // After papaya has set up what it keeps for the thread: see `can_pin`.
            let _ = LEAVING.try_with(|_| STATE.set(State::Inside));
        }
        pin
    }

    /// What `read` makes of a key. The set is left before it is returned: whatever the caller drops, it drops
    /// outside.
    pub(crate) fn read<T>(&self, probe: &impl Probe<K>, read: impl FnOnce(&K) -> T) -> Option<T> {
        switch_point();
        let pin = self.pin();
        let (key, ()) = self.0.get_key_value(probe, &pin)?;
        Some(read(key))
    }

    /// Inserts a key where none equals it, or in the place of one that may be replaced. `false`: another one
    /// stands there.
    pub(crate) fn insert(&self, key: K, may_replace: impl Fn(&K) -> bool) -> bool {
        switch_point();
        let pin = self.pin();
        let decide = |found: Option<(&K, &())>| match found {
            Some((found, ())) if !may_replace(found) => Operation::Abort(()),
            _ => Operation::Insert(()),
        };
        if let Compute::Aborted(()) = self.0.compute(key, decide, &pin) {
            return false;
        }
        switch_point();
        // A resize that nobody finishes makes every later lookup search two tables, and only writes help
        // it along. So whoever grew the table finishes: this is what an iterator does before it starts.
        let _ = self.0.iter(&pin);
        // Replaced tables wait for a whole batch, too, and each of them counts as one.
        let insertions = INSERTIONS.get() + 1;
        INSERTIONS.set(insertions % TABLE_BATCH);
        if insertions == TABLE_BATCH {
            pin.flush();
        }
        true
    }

    /// Removes a key if it is the one that is meant. A large one is not left to wait for a batch. Only where this thread
    /// [can pin](can_pin).
    pub(crate) fn remove_if(&self, probe: &impl Probe<K>, meant: impl Fn(&K) -> bool, large: bool) {
        switch_point();
        let pin = self.pin();
        let _ = self.0.remove_if(probe, |key, ()| meant(key), &pin);
        if large {
            pin.flush();
        }
    }

    /// What `read` makes of all keys that were there throughout, and perhaps of some that came or went
    /// meanwhile.
    pub(crate) fn read_all<T>(&self, read: impl FnMut(&K) -> T) -> Vec<T> {
        switch_point();
        let pin = self.pin();
        self.0.keys(&pin).map(read).collect()
    }
}

/// What finds a key without being one.
pub(crate) trait Probe<K>: Equivalent<K> + Hash {}

impl<K, P: Equivalent<K> + Hash> Probe<K> for P {}

/// Hands on the hash that a key brings along.
#[derive(Default)]
struct PassThrough(u64);

impl Hasher for PassThrough {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys hash to one u64");
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Where a thread stands with papaya.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// It has not used a set of this crate yet.
    Outside,
    Inside,
    /// It ends, and what papaya keeps for it may be gone.
    Left,
}

struct Leaving;

impl Drop for Leaving {
    fn drop(&mut self) {
        STATE.set(State::Left);
    }
}

thread_local! {
    /// Has no destructor, and so can be asked at any time.
    static STATE: StdCell<State> = const { StdCell::new(State::Outside) };
    static INSERTIONS: StdCell<u32> = const { StdCell::new(0) };
    static LEAVING: Leaving = const { Leaving };
}

/// Whether this thread can use papaya, which it must not at its very end: what papaya keeps for the thread may be gone
/// when the destructor of some thread-local drops a guard, and then papaya panics, which there aborts the process.
///
/// Destructors run in the reverse order in which their thread-locals were set up. Ours is set up after papaya's, by the
/// first call that pins, and so goes before it. A thread that has never pinned cannot tell: perhaps it uses some other
/// map of papaya's, whose thread-locals are the same.
pub(crate) fn can_pin() -> bool {
    STATE.get() == State::Inside
}
