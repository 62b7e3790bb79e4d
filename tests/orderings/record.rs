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
