//! papaya's hash map as the crate uses it. No other file uses papaya.

use std::cell::Cell;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use papaya::{Compute, Guard as _, HashMap, Operation, ResizeMode};

pub(crate) use papaya::Equivalent;

use crate::store::switch_point::switch_point;

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
            // Incremental, the default: the blocking mode never finishes a resize if many keys collide.
            .resize_mode(ResizeMode::default())
            .build();
        Self(set)
    }

    fn pin(&self) -> impl papaya::Guard + '_ {
        let pin = self.0.guard();
        if STATE.get() == ThreadState::Outside {
            // This must follow the setup of papaya's thread-locals: see `can_pin`.
            let _ = LEAVING.try_with(|_| STATE.set(ThreadState::Inside));
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
        // it. So the thread that grew the table finishes the resize here: creating an iterator does that.
        let _ = self.0.iter(&pin);
        // A replaced table is freed with its batch, in which it counts as one item. Don't let it wait that
        // long.
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
enum ThreadState {
    /// The thread has not used a set of this crate yet.
    Outside,
    Inside,
    /// The thread is ending, and papaya's thread-locals may be gone.
    Left,
}

struct Leaving;

impl Drop for Leaving {
    fn drop(&mut self) {
        STATE.set(ThreadState::Left);
    }
}

thread_local! {
    /// Has no destructor, so it can be read at any time.
    static STATE: Cell<ThreadState> = const { Cell::new(ThreadState::Outside) };
    static INSERTIONS: Cell<u32> = const { Cell::new(0) };
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
    STATE.get() == ThreadState::Inside
}
