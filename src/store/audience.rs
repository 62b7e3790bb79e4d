use std::sync::atomic::{AtomicU64, Ordering, fence};

use crossbeam_utils::CachePadded;

use crate::store::switch_point::switch_point;

/// How many wait for changes of one server-id, and how many listen to all changes. Both are in one number, so
/// that a change to which nobody pays attention costs a load before the swap and another one after it.
///
/// Whoever joins does so first and looks at cells and index afterwards, with a full fence in between. A
/// change swaps first and loads this number afterwards, both `SeqCst`. So either the change finds the joiner
/// here, or the joiner finds the change.
pub(crate) struct Audience(CachePadded<AtomicU64>);

/// Waits for changes of one server-id.
pub(crate) const WATCHER: u64 = 1;
/// Listens to all changes.
pub(crate) const LISTENER: u64 = 1 << 40;

/// Who paid attention at one instant.
#[derive(Clone, Copy)]
pub(crate) struct Present(u64);

impl Audience {
    pub(crate) fn new() -> Self {
        Self(CachePadded::new(AtomicU64::new(0)))
    }

    pub(crate) fn join(&self, who: u64) {
        switch_point();
        self.0.fetch_add(who, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    pub(crate) fn leave(&self, who: u64) {
        switch_point();
        self.0.fetch_sub(who, Ordering::SeqCst);
    }

    /// A step of its own only after a change: before one, the swap that follows is the next step anyway.
    pub(crate) fn present(&self) -> Present {
        Present(self.0.load(Ordering::SeqCst))
    }
}

impl Present {
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn watches(self) -> bool {
        self.0 & (LISTENER - 1) != 0
    }

    pub(crate) fn listens(self) -> bool {
        self.0 >= LISTENER
    }
}
