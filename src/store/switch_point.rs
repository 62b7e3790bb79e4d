#[cfg(switchboard_shuttle)]
use std::sync::atomic::Ordering;

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
