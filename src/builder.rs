use std::fmt;
use std::hash::BuildHasher;
use std::marker::PhantomData;
use std::time::Duration;

use crate::conn::Conn;
use crate::registry::Registry;
use crate::state::hash::DefaultHashBuilder;
use crate::store::Store;
use crate::store::ledger::{Orphans, Settings};

/// The settings of a new [`Registry`]. Created by [`Registry::builder`] or [`Default`].
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
    settings: Settings,
    hasher: S,
    conn: PhantomData<fn() -> Box<C>>,
}

impl<C: ?Sized, S: Default> Default for Builder<C, S> {
    fn default() -> Self {
        Self {
            capacity: 0,
            settings: Settings {
                max_phones: usize::MAX,
                grace: None,
                orphans: Orphans::default(),
            },
            hasher: S::default(),
            conn: PhantomData,
        }
    }
}

impl<C: ?Sized, S> Builder<C, S> {
    /// Reserves room for this many server-ids, so that the index need not grow until then. The index never
    /// shrinks below that. The default is 0.
    ///
    /// # Panics
    ///
    /// [`build`](Self::build) panics or aborts if that much memory cannot be allocated, as
    /// [`Vec::with_capacity`] does.
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.capacity = capacity;
        self
    }

    /// Limits the number of phones per server-id. Further ones are refused with
    /// [`RegisterError::AtCapacity`](crate::RegisterError::AtCapacity). The default is no limit.
    /// [`Registry::register_phone_with_cap`] sets another limit for one call.
    pub fn max_phones(mut self, max_phones: usize) -> Self {
        self.settings.max_phones = max_phones;
        self
    }

    /// Makes the drop of a [`Claim`](crate::Claim) leave its server-id in grace for this long. By default,
    /// the drop releases the server-id.
    ///
    /// This also changes who gets the phones. After a release, the next claim adopts the phones that stayed,
    /// whoever makes it. During a grace, the next claim displaces them. [`orphans`](Self::orphans) can make
    /// both alike: see the [table](crate#what-becomes-of-the-phones).
    ///
    /// Something has to end the graces: see [the loop](crate#ending-graces).
    pub fn grace(mut self, grace: Duration) -> Self {
        self.settings.grace = Some(grace);
        self
    }

    /// Decides what becomes of the phones of a server-id that is released. By default, they stay registered,
    /// and the next binary that claims the server-id adopts them, even if it is a stranger.
    ///
    /// A [table](crate#what-becomes-of-the-phones) compares both choices. A grace is not a release: with
    /// either choice, the phones stay until it ends.
    ///
    /// ```
    #[doc = include_str!("docs/wire.in")]
    /// # use switchboard::Registry;
    /// use std::time::Instant;
    /// use switchboard::{Cause, Orphans};
    ///
    /// let registry: Registry<Wire> = Registry::builder().orphans(Orphans::Displace).build();
    /// let claim = registry.claim_server("s", Arc::new(Wire("b")))?;
    /// let _phone = registry.register_phone("s", Arc::new(Wire("p")))?;
    /// claim.release();
    /// let out = registry.expire(Instant::now());
    /// assert_eq!((out[0].phones.len(), out[0].cause), (1, Cause::Released));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn orphans(mut self, orphans: Orphans) -> Self {
        self.settings.orphans = orphans;
        self
    }

    /// Replaces the hasher for the server-ids.
    ///
    /// Server-ids are hostile input: choose a hasher that is keyed and randomly seeded. Its result is hashed
    /// once more, so a weak hasher costs time but never correctness. For the same reason the default hasher
    /// is the fastest choice.
    pub fn hasher<T: BuildHasher>(self, hasher: T) -> Builder<C, T> {
        Builder {
            capacity: self.capacity,
            settings: self.settings,
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
            store: Store::new(self.capacity, self.settings),
            hasher: self.hasher,
        }
    }
}

impl<C: ?Sized, S> fmt::Debug for Builder<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("capacity", &self.capacity)
            .field("max_phones", &self.settings.max_phones)
            .field("grace", &self.settings.grace)
            .field("orphans", &self.settings.orphans)
            .finish_non_exhaustive()
    }
}

impl<C: Conn + ?Sized> Registry<C> {
    /// Creates an empty registry with the default settings: no cap on phones, and no grace.
    ///
    /// If nothing else tells the type of the connections, [name it](Registry#the-type-of-the-connections).
    ///
    /// ```
    /// use switchboard::{Conn, Registry};
    ///
    /// let registry: Registry = Registry::new();
    /// let registry = Registry::<dyn Conn>::new();
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Returns a builder with the default settings.
    ///
    /// If nothing else tells the type of the connections, the compiler reports E0282, "type annotations
    /// needed". Then [name it](Registry#the-type-of-the-connections).
    ///
    /// ```
    /// use switchboard::{Conn, Registry};
    ///
    /// let registry: Registry = Registry::builder().build();
    /// let registry = Registry::<dyn Conn>::builder().build();
    /// ```
    pub fn builder() -> Builder<C> {
        Builder::default()
    }
}

impl<C: Conn + ?Sized, S: BuildHasher + Default> Default for Registry<C, S> {
    fn default() -> Self {
        Builder::default().build()
    }
}
