use std::cell::Cell;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;

/// Several copies of a value, each on its own cache lines, so that threads don't contend.
pub(crate) struct Striped<T>(Box<[CachePadded<T>]>);

/// With more stripes, a sum over them would cost more than the contention that they avoid.
const MAX_STRIPES: usize = 64;

/// Computed once: the query reads half a dozen files.
static STRIPES: LazyLock<usize> = LazyLock::new(|| {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    threads.next_power_of_two().min(MAX_STRIPES)
});

impl<T> Striped<T> {
    pub(crate) fn new(make: impl Fn() -> T) -> Self {
        Self((0..*STRIPES).map(|_| CachePadded::new(make())).collect())
    }

    /// The stripe of this thread. Other threads may share it.
    pub(crate) fn mine(&self) -> &T {
        &self.0[thread_number() & (self.0.len() - 1)]
    }

    /// The stripe of a hash.
    pub(crate) fn at(&self, hash: u64) -> &T {
        let at = usize::try_from(hash % self.0.len() as u64);
        &self.0[at.expect("there are few stripes")]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|stripe| &**stripe)
    }
}

fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    thread_local! {
        // No destructor, so that it can be read in the destructors of other thread-locals.
        static NUMBER: Cell<usize> = const { Cell::new(0) };
    }
    NUMBER.with(|number| {
        if number.get() == 0 {
            number.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    })
}
