//! arc-swap's cell as the crate uses it. No other file uses arc-swap.

use std::mem::ManuallyDrop;
use std::ops::Deref;

use arc_swap::{ArcSwapAny, Cache, Guard};

use crate::state::shared::Shared;
use crate::store::fence::fence_after_change;
use crate::store::switch_point::switch_point;

/// The contents of a cell at one instant. It keeps them alive, usually without writing to a reference count.
pub(crate) struct Snapshot<T>(Guard<Option<Shared<T>>>);

impl<T> Snapshot<T> {
    pub(crate) fn of(contents: Option<Shared<T>>) -> Self {
        Self(Guard::from_inner(contents))
    }

    pub(crate) fn get(&self) -> Option<&Shared<T>> {
        self.0.as_ref()
    }

    pub(crate) fn into_counted(self) -> Option<Shared<T>> {
        Guard::into_inner(self.0)
    }
}

/// Counts a reference.
impl<T> Clone for Snapshot<T> {
    fn clone(&self) -> Self {
        Self::of(self.get().cloned())
    }
}

/// A cell whose contents are replaced as a whole.
///
/// The inner cell is never dropped, because its drop would look for readers in all threads, even if the cell
/// is empty. The cell is emptied instead, and then there is nothing to free.
pub(crate) struct Cell<T>(ManuallyDrop<ArcSwapAny<Option<Shared<T>>>>);

impl<T> Cell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(ManuallyDrop::new(ArcSwapAny::from(Some(Shared::new(
            value,
        )))))
    }

    #[inline]
    pub(crate) fn load(&self) -> Snapshot<T> {
        switch_point();
        Snapshot(self.0.load())
    }

    /// Replaces `before` with `next`. If the cell no longer holds `before`, returns what it holds instead.
    ///
    /// Contents are compared by address. `before` is a strong reference, so no other contents can be at its
    /// address.
    pub(crate) fn compare_and_swap(
        &self,
        before: &Shared<T>,
        next: Option<Shared<T>>,
    ) -> Result<(), Snapshot<T>> {
        switch_point();
        let found = self.0.compare_and_swap(Shared::as_ptr(before), next);
        match &*found {
            Some(found) if Shared::ptr_eq(before, found) => Ok(()),
            _ => Err(Snapshot(found)),
        }
    }
}

/// A type that contains a cell.
pub(crate) trait HasCell {
    type Value;

    fn cell(&self) -> &Cell<Self::Value>;
}

/// A cached copy of the contents of a cell. A load refreshes it if the contents have changed.
pub(crate) struct Cached<O: HasCell>(Cache<Inside<O>, Option<Shared<O::Value>>>);

struct Inside<O>(O);

impl<O: HasCell> Deref for Inside<O> {
    type Target = ArcSwapAny<Option<Shared<O::Value>>>;

    fn deref(&self) -> &Self::Target {
        &self.0.cell().0
    }
}

impl<O: HasCell> Cached<O> {
    pub(crate) fn new(owner: O) -> Self {
        switch_point();
        Self(Cache::new(Inside(owner)))
    }

    /// The contents of the cell. If they have not changed, this costs a load and a comparison of their
    /// address.
    ///
    /// arc-swap loads the address `Relaxed`, which does not order the load after this thread's operations on
    /// other cells; hence the fence.
    #[inline]
    pub(crate) fn load(&mut self) -> Option<&Shared<O::Value>> {
        switch_point();
        fence_after_change();
        self.0.load().as_ref()
    }
}

impl<T> Drop for Cell<T> {
    fn drop(&mut self) {
        if self.0.load().is_some() {
            self.0.store(None);
        }
    }
}
