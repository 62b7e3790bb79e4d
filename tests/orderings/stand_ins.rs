//! Replaces the standard library in the included sources with loom's atomics, which can be weakened.

use real_std::cell::Cell;
use real_std::sync::atomic::{AtomicU64 as RealAtomicU64, Ordering};

/// The property that a twin lacks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Without {
    Nothing,
    Fences,
    /// A read-modify-write becomes a load and a store.
    AtomicUpdates,
}

// The path is explicit because the plain name means loom's macro further on.
real_std::thread_local! {
    static WITHOUT: Cell<Without> = const { Cell::new(Without::Nothing) };
    /// Distinguishes the executions of all models.
    static EXECUTION: Cell<u64> = const { Cell::new(0) };
}

/// Runs `model` in every way that the language allows. The operating system sees all its threads as one
/// thread.
pub(crate) fn explore(without: Without, model: impl Fn() + Send + Sync + 'static) {
    static EXECUTIONS: RealAtomicU64 = RealAtomicU64::new(1);
    loom::model(move || {
        WITHOUT.set(without);
        EXECUTION.set(EXECUTIONS.fetch_add(1, Ordering::Relaxed));
        model();
    });
}

pub fn fence_unless_taken_away(ordering: Ordering) {
    if WITHOUT.get() != Without::Fences {
        loom::sync::atomic::fence(ordering);
    }
}

pub mod thread {
    use real_std::num::NonZero;

    /// Two, for two stripes.
    pub fn available_parallelism() -> real_std::io::Result<NonZero<usize>> {
        Ok(NonZero::new(2).unwrap())
    }
}

pub mod sync {
    pub use real_std::sync::{Arc, LazyLock, Mutex};

    pub mod atomic {
        pub use real_std::sync::atomic::Ordering;

        use real_std::sync::{Arc, Mutex};

        use super::super::{EXECUTION, WITHOUT, Without};

        pub use super::super::fence_unless_taken_away as fence;
        /// `fence.rs` uses a compiler fence only on x86, next to a locked instruction. Together they act as
        /// a fence does on other machines.
        pub use super::super::fence_unless_taken_away as compiler_fence;

        /// One loom atomic per execution, so that it can be used in a `static`. The first access of an
        /// execution must happen before all others.
        macro_rules! atomic {
            ($name:ident, $value:ty) => {
                #[derive(Debug, Default)]
                pub struct $name {
                    initial: $value,
                    of: Mutex<Vec<(u64, Arc<loom::sync::atomic::$name>)>>,
                }

                #[allow(dead_code, reason = "each source uses its own part")]
                impl $name {
                    pub const fn new(initial: $value) -> Self {
                        let of = Mutex::new(Vec::new());
                        Self { initial, of }
                    }

                    fn here(&self) -> Arc<loom::sync::atomic::$name> {
                        let here = EXECUTION.get();
                        let mut of = self.of.lock().unwrap();
                        if let Some((_, atomic)) = of.iter().find(|(there, _)| *there == here) {
                            return Arc::clone(atomic);
                        }
                        let atomic = Arc::new(loom::sync::atomic::$name::new(self.initial));
                        of.push((here, Arc::clone(&atomic)));
                        atomic
                    }

                    pub fn load(&self, ordering: Ordering) -> $value {
                        self.here().load(ordering)
                    }

                    pub fn store(&self, value: $value, ordering: Ordering) {
                        self.here().store(value, ordering);
                    }

                    pub fn fetch_add(&self, by: $value, ordering: Ordering) -> $value {
                        let atomic = self.here();
                        if WITHOUT.get() != Without::AtomicUpdates {
                            return atomic.fetch_add(by, ordering);
                        }
                        let before = atomic.load(Ordering::Relaxed);
                        atomic.store(before + by, Ordering::Relaxed);
                        before
                    }
                }
            };
        }

        atomic!(AtomicIsize, isize);
        atomic!(AtomicU64, u64);
        atomic!(AtomicUsize, usize);
    }
}
