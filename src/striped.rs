use std::cell::Cell;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;

/// The same thing several times over, on cache lines of its own each, so that threads do not meet.
pub(crate) struct Striped<T>(Box<[CachePadded<T>]>);

/// More stripes would make a sum over them dearer than the contention that they avoid.
const MAX_STRIPES: usize = 64;

/// Asked once: the answer takes half a dozen files.
static STRIPES: LazyLock<usize> = LazyLock::new(|| {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    threads.next_power_of_two().min(MAX_STRIPES)
});

impl<T> Striped<T> {
    pub(crate) fn new(make: impl Fn() -> T) -> Self {
        Self((0..*STRIPES).map(|_| CachePadded::new(make())).collect())
    }

    /// That of this thread. Others may have the same one.
    pub(crate) fn mine(&self) -> &T {
        &self.0[thread_number() & (self.0.len() - 1)]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|stripe| &**stripe)
    }
}

fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    thread_local! {
        // Without a destructor, so that it can be read in the destructors of other thread-locals.
        static NUMBER: Cell<usize> = const { Cell::new(0) };
    }
    NUMBER.with(|number| {
        if number.get() == 0 {
            number.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    })
}
