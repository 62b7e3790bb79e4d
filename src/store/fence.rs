use std::sync::atomic::{Ordering, compiler_fence, fence};

/// A full fence for a thread that has just made a change with a read-modify-write operation.
///
/// On x86 that is a locked instruction, which no later load overtakes. So there only the compiler has to be
/// restrained.
#[inline]
pub(crate) fn fence_after_change() {
    if cfg!(any(target_arch = "x86_64", target_arch = "x86")) {
        compiler_fence(Ordering::SeqCst);
    } else {
        fence(Ordering::SeqCst);
    }
}
