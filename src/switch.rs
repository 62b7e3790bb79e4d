/// Where another thread may come in between: stands before every step that threads can see of each other.
///
/// Each step, a call into papaya, arc-swap, the skip list or an atomic, is one to all other threads. So a
/// scheduler that can switch at these points, and only there, can bring about every behaviour that the steps
/// allow. Under `--cfg switchboard_shuttle` it is shuttle's; in every other build nothing is here.
#[inline(always)]
pub(crate) fn point() {
    #[cfg(switchboard_shuttle)]
    shuttle::sync::atomic::AtomicBool::new(false).load(std::sync::atomic::Ordering::SeqCst);
}
