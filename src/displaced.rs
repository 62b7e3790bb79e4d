use std::fmt;
use std::iter::FusedIterator;
use std::option;
use std::sync::Arc;

use crate::snapshot::{Phones, PhonesIntoIter, PhonesIter};
use crate::state::cause::Cause;
use crate::state::record::Record;
use crate::state::shared::Shared;
use crate::store::slot::{Slot, Snapshot};

/// The connections that an operation removed from the registry. The caller that gets them closes them.
///
/// Each connection that is removed along with its whole server-id is in exactly one `Displaced`. So are the
/// phones that a release left, if something removes them all at once. A
/// [table](crate#what-becomes-of-the-phones) says what displaces phones, and with which [`Cause`].
///
/// # Dropping many phones
///
/// Removing any number of phones costs one compare-and-swap. Freeing them costs one drop each, on the thread
/// that drops the last reference: this value, or a snapshot of them that another thread still holds. A
/// dedicated thread can do that instead. If it waits for a moment before each drop, no earlier lookup is left
/// with the last reference either.
///
/// ```
#[doc = include_str!("docs/wire.in")]
/// # use switchboard::{Displaced, Registry};
/// use std::sync::mpsc;
/// use std::thread;
/// use std::time::Duration;
///
/// let (departed, to_be_dropped) = mpsc::channel::<Displaced<Wire>>();
/// let dropper = thread::spawn(move || {
///     for out in to_be_dropped {
///         thread::sleep(Duration::from_millis(10));
///         drop(out);
///     }
/// });
///
/// let registry = Registry::new();
/// let claim = registry.claim_server("s", Arc::new(Wire("b")))?;
/// if let Some(out) = claim.evict() {
///     departed.send(out)?;
/// }
/// # drop(departed);
/// # dropper.join().unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "these connections were removed from the registry but are still open"]
pub struct Displaced<C: ?Sized> {
    /// The server-id that the connections belonged to.
    pub server_id: Arc<str>,
    /// The binary, if there was one. `phones` keeps it alive too.
    pub binary: Option<Arc<C>>,
    /// The phones.
    pub phones: Phones<C>,
    /// Why they were displaced.
    pub cause: Cause,
}

impl<C: ?Sized> Displaced<C> {
    /// Iterates over the connections: the binary first, then the phones. Allocates nothing.
    ///
    /// ```
    #[doc = include_str!("docs/wire.in")]
    /// # use switchboard::{Conn, Registry};
    /// let registry = Registry::new();
    /// let claim = registry.claim_server("s", Arc::new(Wire("b")))?;
    /// let _phone = registry.register_phone("s", Arc::new(Wire("p")))?;
    /// let out = claim.evict().expect("nobody else has released it");
    /// out.iter().for_each(|conn| conn.close());
    /// assert_eq!(out.iter().len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn iter(&self) -> DisplacedIter<'_, C> {
        DisplacedIter {
            binary: self.binary.iter(),
            phones: self.phones.iter(),
        }
    }

    /// The contents of the record that a transition replaced as a whole.
    pub(crate) fn of(slot: &Slot<C>, before: Shared<Record<C>>, cause: Cause) -> Self {
        let tenure = before.tenure.as_ref();
        Self {
            server_id: slot.server_id.as_str().into(),
            binary: tenure.map(|tenure| Arc::clone(&tenure.binary)),
            phones: Phones::of(Snapshot::of(Some(before))),
            cause,
        }
    }
}

impl<C: ?Sized> fmt::Debug for Displaced<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Displaced")
            .field("server_id", &self.server_id)
            .field("binary", &self.binary.is_some())
            .field("phones", &self.phones)
            .field("cause", &self.cause)
            .finish()
    }
}

/// The binary first, then the phones.
impl<'a, C: ?Sized> IntoIterator for &'a Displaced<C> {
    type Item = &'a Arc<C>;
    type IntoIter = DisplacedIter<'a, C>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The binary first, then the phones. Costs the same as [`Phones::into_iter`].
impl<C: ?Sized> IntoIterator for Displaced<C> {
    type Item = Arc<C>;
    type IntoIter = DisplacedIntoIter<C>;

    fn into_iter(self) -> Self::IntoIter {
        DisplacedIntoIter {
            binary: self.binary.into_iter(),
            phones: self.phones.into_iter(),
        }
    }
}

/// An iterator over displaced connections: the binary first, then the phones.
pub struct DisplacedIter<'a, C: ?Sized> {
    binary: option::Iter<'a, Arc<C>>,
    phones: PhonesIter<'a, C>,
}

/// An iterator over displaced connections: the binary first, then the phones. It owns them.
pub struct DisplacedIntoIter<C: ?Sized> {
    binary: option::IntoIter<Arc<C>>,
    phones: PhonesIntoIter<C>,
}

macro_rules! binary_then_phones {
    ($name:ident, [$($generics:tt)*], $iter:ty, $item:ty) => {
        impl<$($generics)*> Iterator for $iter {
            type Item = $item;

            fn next(&mut self) -> Option<Self::Item> {
                self.binary.next().or_else(|| self.phones.next())
            }

            fn size_hint(&self) -> (usize, Option<usize>) {
                let left = self.binary.len() + self.phones.len();
                (left, Some(left))
            }
        }

        impl<$($generics)*> ExactSizeIterator for $iter {}
        impl<$($generics)*> FusedIterator for $iter {}

        impl<$($generics)*> fmt::Debug for $iter {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("left", &self.len())
                    .finish_non_exhaustive()
            }
        }
    };
}
binary_then_phones!(DisplacedIter, ['a, C: ?Sized], DisplacedIter<'a, C>, &'a Arc<C>);
binary_then_phones!(DisplacedIntoIter, [C: ?Sized], DisplacedIntoIter<C>, Arc<C>);
