use std::fmt;
use std::hash::BuildHasher;
use std::marker::PhantomData;
use std::time::Duration;

use crate::conn::Conn;
use crate::hash::DefaultHashBuilder;
use crate::index::Index;
use crate::registry::Registry;

/// The settings of a [`Registry`]. Made by [`Registry::builder`].
///
/// ```
#[doc = include_str!("docs/wire.in")]
/// # use switchboard::Registry;
/// use std::time::Duration;
///
/// let registry: Registry<Wire> = Registry::builder()
///     .capacity(10_000)
///     .max_phones(16)
///     .grace(Duration::from_secs(30))
///     .build();
/// ```
#[must_use = "a builder does nothing until `build`"]
pub struct Builder<C: ?Sized, S = DefaultHashBuilder> {
    capacity: usize,
    max_phones: usize,
    grace: Option<Duration>,
    hasher: S,
    conn: PhantomData<fn() -> Box<C>>,
}

impl<C: ?Sized> Builder<C> {
    pub(crate) fn new() -> Self {
        Self {
            capacity: 0,
            max_phones: usize::MAX,
            grace: None,
            hasher: DefaultHashBuilder::default(),
            conn: PhantomData,
        }
    }
}

impl<C: ?Sized, S> Builder<C, S> {
    /// Room for this many server-ids from the start, so that the index need not grow until then. It never
    /// shrinks below that. The default is none.
    ///
    /// # Panics
    ///
    /// [`build`](Self::build) panics or aborts where that much memory cannot be had, as
    /// [`Vec::with_capacity`] does.
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.capacity = capacity;
        self
    }

    /// At most this many phones for each server-id; further ones are refused with
    /// [`RegisterError::AtCapacity`](crate::RegisterError::AtCapacity). The default is no limit.
    pub fn max_phones(mut self, max_phones: usize) -> Self {
        self.max_phones = max_phones;
        self
    }

    /// What the drop of a [`Claim`](crate::Claim) does: leave the server-id in grace for that long. The
    /// default is a plain release.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = Some(grace);
        self
    }

    /// Another hasher for the server-ids. They are hostile input: choose one that is keyed and randomly
    /// seeded. The result is hashed once more, so that a weak hasher costs time and never correctness; and
    /// so the default is the fastest.
    pub fn hasher<T: BuildHasher>(self, hasher: T) -> Builder<C, T> {
        Builder {
            capacity: self.capacity,
            max_phones: self.max_phones,
            grace: self.grace,
            hasher,
            conn: PhantomData,
        }
    }

    /// Builds the registry.
    #[must_use]
    pub fn build(self) -> Registry<C, S>
    where
        C: Conn,
    {
        Registry {
            index: Index::new(self.capacity, self.max_phones, self.grace),
            hasher: self.hasher,
        }
    }
}

impl<C: ?Sized, S> fmt::Debug for Builder<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("capacity", &self.capacity)
            .field("max_phones", &self.max_phones)
            .field("grace", &self.grace)
            .finish_non_exhaustive()
    }
}
