//! triomphe's reference counts as the crate uses them. No other file uses triomphe.

use std::ops::Deref;

/// A reference count without weak references: freeing something updates one counter and not two.
///
/// `ThreadSanitizer` does not understand the fence before the free. Builds for it use the standard library's
/// `Arc`, which it does understand.
#[cfg(switchboard_std_arc)]
pub(crate) use std::sync::Arc as Shared;
#[cfg(not(switchboard_std_arc))]
pub(crate) use triomphe::Arc as Shared;

#[cfg(switchboard_std_arc)]
type Slice<T> = Shared<[T]>;
#[cfg(not(switchboard_std_arc))]
type Slice<T> = triomphe::ThinArc<(), T>;

/// A shared slice behind a pointer of one word.
pub(crate) struct SharedSlice<T>(Slice<T>);

impl<T> SharedSlice<T> {
    pub(crate) fn from_fn(len: usize, item: impl FnMut(usize) -> T) -> Self {
        let items = (0..len).map(item);
        #[cfg(switchboard_std_arc)]
        return Self(items.collect());
        #[cfg(not(switchboard_std_arc))]
        Self(Slice::from_header_and_iter((), items))
    }
}

impl<T> Deref for SharedSlice<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        #[cfg(switchboard_std_arc)]
        return &self.0;
        #[cfg(not(switchboard_std_arc))]
        &self.0.slice
    }
}

impl<T> Clone for SharedSlice<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
