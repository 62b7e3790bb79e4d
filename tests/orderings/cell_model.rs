//! A model of the cell and cache of arc-swap 1.9.5, as far as memory ordering is concerned: the same accesses
//! to the cell's address, with the same orderings, in the same order. It leaves out the debts that keep
//! readers' records alive: a record's reference count is incremented at once.

use real_std::ops::Deref;
use real_std::sync::Mutex;

use loom::sync::atomic::{AtomicUsize, Ordering};

use crate::state::shared::Shared;

/// Every value ever put into the cell. A value's index stands for its address.
pub struct ArcSwapAny<T> {
    at: AtomicUsize,
    put: Mutex<Vec<T>>,
}

pub struct Guard<T>(T);

impl<T> Guard<T> {
    pub fn from_inner(contents: T) -> Self {
        Self(contents)
    }

    pub fn into_inner(guard: Self) -> T {
        guard.0
    }
}

impl<T> Deref for Guard<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> From<T> for ArcSwapAny<T> {
    fn from(first: T) -> Self {
        Self {
            at: AtomicUsize::new(0),
            put: Mutex::new(vec![first]),
        }
    }
}

impl<T: Clone> ArcSwapAny<T> {
    fn put_at(&self, at: usize) -> T {
        self.put.lock().unwrap()[at].clone()
    }

    /// `HybridProtection::attempt` and `fallback`. What they return comes from a `SeqCst` load of the
    /// address.
    pub fn load(&self) -> Guard<T> {
        Guard(self.put_at(self.at.load(Ordering::SeqCst)))
    }

    pub fn load_full(&self) -> T {
        self.load().0
    }

    /// Only empties a cell that no other thread can reach. The cell is never dropped, so nothing may stay in it.
    pub fn store(&self, last: T) {
        drop(last);
        drop(real_std::mem::take(&mut *self.put.lock().unwrap()));
    }
}

impl<V> ArcSwapAny<Option<Shared<V>>> {
    /// `HybridStrategy::compare_and_swap`.
    pub fn compare_and_swap(
        &self,
        current: *const V,
        next: Option<Shared<V>>,
    ) -> Guard<Option<Shared<V>>> {
        let mut put = self.put.lock().unwrap();
        let next_at = put.len();
        put.push(next);
        drop(put);
        loop {
            let at = self.at.load(Ordering::SeqCst);
            let old = self.put_at(at);
            if old.as_ref().map(Shared::as_ptr) != Some(current) {
                return Guard(old);
            }
            let exchanged =
                self.at
                    .compare_exchange(at, next_at, Ordering::SeqCst, Ordering::Relaxed);
            if exchanged.is_ok() {
                return Guard(old);
            }
        }
    }
}

pub struct Cache<A, T> {
    cell: A,
    at: usize,
    cached: T,
}

impl<T: Clone, A: Deref<Target = ArcSwapAny<T>>> Cache<A, T> {
    pub fn new(cell: A) -> Self {
        let at = cell.at.load(Ordering::SeqCst);
        let cached = cell.put_at(at);
        Self { cell, at, cached }
    }

    /// `Cache::revalidate`: a `Relaxed` load of the address, and a full load if it has changed.
    pub fn load(&mut self) -> &T {
        if self.cell.at.load(Ordering::Relaxed) != self.at {
            self.at = self.cell.at.load(Ordering::SeqCst);
            self.cached = self.cell.put_at(self.at);
        }
        &self.cached
    }
}
