use std::fmt;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use crate::facade::switch_point;

/// The identity of a claim: unique in this process and never reused.
///
/// Of two claims whose calls do not overlap in time, the later has the larger epoch. Between claims that
/// raced, the order does not tell which one won.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(NonZeroU64);

impl Epoch {
    /// Draws the next epoch.
    ///
    /// All draws are read-modify-writes of one variable, so they have one order. `SeqCst` also puts them into
    /// the total order of all cell operations. So the later of two claims has the larger epoch even if only a
    /// third server-id shows which one was later.
    pub(crate) fn draw() -> Self {
        static NEXT: CachePadded<AtomicU64> = CachePadded::new(AtomicU64::new(1));
        switch_point();
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        Self(NonZeroU64::new(number).expect("2^64 claims outlast every process"))
    }

    /// The epoch as a number, for logs and metrics.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
