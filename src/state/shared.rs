//! triomphe's reference counts as the crate uses them. No other file uses triomphe.

use std::ops::Deref;
use std::ptr;

/// A reference count without weak references: freeing something updates one counter and not two.
///
/// `ThreadSanitizer` does not understand the fence before the free. Builds for it use the standard library's
/// `Arc`, which it does understand.
#[cfg(switchboard_std_arc)]
pub(crate) use std::sync::Arc as Shared;
#[cfg(not(switchboard_std_arc))]
pub(crate) use triomphe::Arc as Shared;

#[cfg(switchboard_std_arc)]
type Slice<T, H> = Shared<(H, Box<[T]>)>;
#[cfg(not(switchboard_std_arc))]
type Slice<T, H> = triomphe::ThinArc<H, T>;

/// A header and a slice, in one allocation behind a pointer of one word.
pub(crate) struct SharedSlice<T, H = ()>(Slice<T, H>);

impl<T> SharedSlice<T> {
    pub(crate) fn from_fn(len: usize, item: impl FnMut(usize) -> T) -> Self {
        let items = (0..len).map(item);
        #[cfg(switchboard_std_arc)]
        return Self(Shared::new(((), items.collect())));
        #[cfg(not(switchboard_std_arc))]
        Self(Slice::from_header_and_iter((), items))
    }
}

impl<T: Copy, H> SharedSlice<T, H> {
    pub(crate) fn of(header: H, items: &[T]) -> Self {
        #[cfg(switchboard_std_arc)]
        return Self(Shared::new((header, items.into())));
        #[cfg(not(switchboard_std_arc))]
        Self(Slice::from_header_and_slice(header, items))
    }
}

impl<T, H> SharedSlice<T, H> {
    #[inline]
    pub(crate) fn header(&self) -> &H {
        #[cfg(switchboard_std_arc)]
        return &self.0.0;
        #[cfg(not(switchboard_std_arc))]
        &self.0.header.header
    }

    #[inline]
    pub(crate) fn ptr_eq(&self, other: &Self) -> bool {
        ptr::eq(self.header(), other.header())
    }
}

impl<T, H> Deref for SharedSlice<T, H> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        #[cfg(switchboard_std_arc)]
        return &self.0.1;
        #[cfg(not(switchboard_std_arc))]
        &self.0.slice
    }
}

impl<T, H> Clone for SharedSlice<T, H> {
    #[inline]
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
