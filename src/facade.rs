//! papaya, arc-swap and triomphe as the registry uses them. No other module names them.
//!
//! A switch point precedes every call into papaya or arc-swap, so that the schedules that the tests explore
//! are those of the real map and the real cell.

use std::cell::Cell as StdCell;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::atomic::{Ordering, compiler_fence, fence};

use arc_swap::{ArcSwapAny, Cache, Guard};
use papaya::{Compute, Guard as _, HashMap, Operation, ResizeMode};

pub(crate) use papaya::Equivalent;
/// A reference count without weak references, so that freeing something updates one count less.
///
/// `ThreadSanitizer` does not understand the fence before the free. Builds for it use the standard library's
/// `Arc`, which it does understand.
#[cfg(switchboard_std_arc)]
pub(crate) use std::sync::Arc as Shared;
#[cfg(not(switchboard_std_arc))]
pub(crate) use triomphe::Arc as Shared;

#[cfg(switchboard_std_arc)]
type Slice<T> = Shared<[T]>;
#[cfg(not(switchboard_std_arc))]
type Slice<T> = triomphe::ThinArc<(), T>;

/// A shared slice behind a pointer of one word.
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

/// A point at which another thread may run. One precedes every step that threads can observe of each other.
///
/// A step is a call into papaya, arc-swap, the skip list or an atomic. To all other threads it is a single
/// step. So a scheduler that can switch at these points, and only there, can produce every behaviour that the
/// steps allow. In the package of the schedules, `tests/schedules`, that scheduler is shuttle's. In every
/// other build this function is empty.
#[cfg_attr(not(switchboard_shuttle), inline(always))]
pub(crate) fn switch_point() {
    #[cfg(switchboard_shuttle)]
    shuttle::sync::atomic::AtomicBool::new(false).load(Ordering::SeqCst);
}

/// The contents of a cell at one instant. It keeps them alive, usually without writing to a reference count.
pub(crate) type Snapshot<T> = Guard<Option<Shared<T>>>;

/// A cell whose contents are replaced as a whole.
///
/// The inner cell is never dropped, because its drop would look for readers in all threads, even if the cell
/// is empty. The cell is emptied instead, and then there is nothing to free.
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

    /// Like [`load`](Self::load), but counts a reference. Writers use this: arc-swap would make them count
    /// one anyway.
    pub(crate) fn load_counted(&self) -> Option<Shared<T>> {
        switch_point();
        self.0.load_full()
    }

    /// Replaces `before` with `next`. If the cell no longer holds `before`, returns the current contents.
    ///
    /// Contents are compared by address. `before` keeps its own contents alive, so nothing else can be at
    /// that address.
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

/// A type that contains a cell.
pub(crate) trait HasCell {
    type Value;

    fn cell(&self) -> &Cell<Self::Value>;
}

/// A cached copy of the contents of a cell. A load refreshes it if the contents have changed.
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

    /// The contents of the cell. If they have not changed, this costs a load and a comparison of their
    /// address.
    ///
    /// arc-swap loads the address `Relaxed`, which does not order the load after this thread's operations on
    /// other cells; hence the fence. On x86 a store into a cell is a locked instruction, which no later load
    /// overtakes. So there only the compiler has to be restrained.
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

/// After this many insertions a thread checks whether replaced tables can be freed.
const TABLE_BATCH: u32 = 4096;

/// A thread gathers this many removed keys before it checks whether they can be freed. The check costs a
/// barrier on every core.
const RECLAIM_BATCH: usize = 256;

/// A set of keys that carry their own hash, as one `u64`.
///
/// Removed keys are freed late and in batches: a key must not own anything that has to be dropped at once.
pub(crate) struct Set<K>(HashMap<K, (), BuildHasherDefault<PassThrough>>);

impl<K: Eq + Hash> Set<K> {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        let set = HashMap::builder()
            .capacity(capacity)
            .hasher(BuildHasherDefault::default())
            .collector(seize::Collector::new().batch_size(RECLAIM_BATCH))
            // The blocking mode never finishes a resize if many keys collide.
            .resize_mode(ResizeMode::default())
            .build();
        Self(set)
    }

    fn pin(&self) -> impl papaya::Guard + '_ {
        let pin = self.0.guard();
        if STATE.get() == State::Outside {
            // This must follow the setup of papaya's thread-locals: see `can_pin`.
            let _ = LEAVING.try_with(|_| STATE.set(State::Inside));
        }
        pin
    }

    /// Calls `read` with a key and returns the result. The set is unpinned before this returns, so whatever
    /// the caller drops is dropped outside.
    pub(crate) fn read<T>(&self, probe: &impl Probe<K>, read: impl FnOnce(&K) -> T) -> Option<T> {
        switch_point();
        let pin = self.pin();
        let (key, ()) = self.0.get_key_value(probe, &pin)?;
        Some(read(key))
    }

    /// Inserts a key if there is no equal one, or if the equal one may be replaced. Otherwise returns
    /// `false`.
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
        // A resize that nobody finishes makes every later lookup search two tables, and only writes advance
        // it. So the thread that grew the table finishes the resize here: creating an iterator does that
        // first.
        let _ = self.0.iter(&pin);
        // Replaced tables also wait for a whole batch, and each of them counts as one item.
        let insertions = INSERTIONS.get() + 1;
        INSERTIONS.set(insertions % TABLE_BATCH);
        if insertions == TABLE_BATCH {
            pin.flush();
        }
        true
    }

    /// Removes a key if `meant` accepts it. A large key does not wait for its batch to fill. Call this only
    /// on a thread that [can pin](can_pin).
    pub(crate) fn remove_if(&self, probe: &impl Probe<K>, meant: impl Fn(&K) -> bool, large: bool) {
        switch_point();
        let pin = self.pin();
        let _ = self.0.remove_if(probe, |key, ()| meant(key), &pin);
        if large {
            pin.flush();
        }
    }

    /// Calls `read` with all keys that are in the set throughout the call, and perhaps with some that come or
    /// go meanwhile.
    pub(crate) fn read_all<T>(&self, read: impl FnMut(&K) -> T) -> Vec<T> {
        switch_point();
        let pin = self.pin();
        self.0.keys(&pin).map(read).collect()
    }
}

/// A value that finds a key without being one.
pub(crate) trait Probe<K>: Equivalent<K> + Hash {}

impl<K, P: Equivalent<K> + Hash> Probe<K> for P {}

/// A hasher that returns the hash that a key carries.
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

/// The state of a thread with respect to papaya.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The thread has not used a set of this crate yet.
    Outside,
    Inside,
    /// The thread is ending, and papaya's thread-locals may be gone.
    Left,
}

struct Leaving;

impl Drop for Leaving {
    fn drop(&mut self) {
        STATE.set(State::Left);
    }
}

thread_local! {
    /// Has no destructor, so it can be read at any time.
    static STATE: StdCell<State> = const { StdCell::new(State::Outside) };
    static INSERTIONS: StdCell<u32> = const { StdCell::new(0) };
    static LEAVING: Leaving = const { Leaving };
}

/// Whether this thread can use papaya. It cannot at its very end: when the destructor of a thread-local drops
/// a guard, papaya's own thread-locals may be gone. papaya then panics, and a panic in that place aborts the
/// process.
///
/// Thread-locals are destroyed in the reverse order of their setup. The first call that pins sets ours up
/// after papaya's, so ours is destroyed first. A thread that has never pinned cannot tell: it may use another
/// papaya map, which has the same thread-locals.
pub(crate) fn can_pin() -> bool {
    STATE.get() == State::Inside
}
