//! The part of a record that `counts.rs` reads.

use real_std::marker::PhantomData;

#[derive(Default)]
pub(crate) struct Record<C: ?Sized> {
    pub(crate) tenure: Option<Tenure>,
    pub(crate) phones: Vec<()>,
    pub(crate) of: PhantomData<C>,
}

#[derive(Default)]
pub(crate) struct Tenure {
    pub(crate) grace: Option<()>,
}

impl<C: ?Sized> Record<C> {
    pub(crate) fn is_in_grace(&self) -> bool {
        self.tenure
            .as_ref()
            .is_some_and(|tenure| tenure.grace.is_some())
    }
}
