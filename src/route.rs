use std::fmt;
use std::sync::Arc;

use crate::state::phone_list::Phone;
use crate::state::record::Record;
use crate::state::shared::Shared;
use crate::store::cell::Cached;
use crate::store::slot::Slot;

/// A phone's path to its binary, for a loop that forwards one frame after another.
///
/// Created by [`Membership::route`](crate::Membership::route). It caches the result, and looks again only
/// when something has changed under the server-id. It is not a guard: the phone stays registered whether or
/// not a route exists.
///
/// # What it keeps alive
///
/// The binary and all phones of the instant at which it last looked, including phones that have left since.
/// It keeps them until the first call of [`binary`](Self::binary) after a change, or until it is dropped. So
/// keep a route while frames come in, and drop it before a long wait; use
/// [`Membership::binary`](crate::Membership::binary) there. A route that has found its phone to be no longer
/// registered keeps nothing.
///
/// ```
#[doc = include_str!("docs/wire.in")]
/// # use switchboard::{Conn, Registry};
/// # let registry = Registry::new();
/// # let _claim = registry.claim_server("s", Arc::new(Wire("b")))?;
/// # let phone = registry.register_phone("s", Arc::new(Wire("p")))?;
/// let mut route = phone.route();
/// for frame in ["one", "two", "three"] {
///     route.binary().expect("claimed above").send(frame.into())?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Route<C: ?Sized> {
    /// `None` once the phone was found to be no longer registered; it cannot come back.
    way: Option<Way<C>>,
}

struct Way<C: ?Sized> {
    cell: Cached<Arc<Slot<C>>>,
    phone: Phone<C>,
    /// The record in which the phone was last found. It is held so that no other record can have its address.
    record: Shared<Record<C>>,
}

impl<C: ?Sized> Route<C> {
    pub(crate) fn new(slot: &Arc<Slot<C>>, phone: &Phone<C>) -> Self {
        let mut cell = Cached::new(Arc::clone(slot));
        let record = cell.load().filter(|record| record.phones.contains(phone));
        let record = record.cloned();
        Self {
            way: record.map(|record| Way {
                cell,
                phone: phone.clone(),
                record,
            }),
        }
    }

    /// The binary of the server-id. In grace, this is the binary that went away.
    ///
    /// `None` while the server-id is vacant. Also `None` once the phone is no longer registered, even if a
    /// successor holds the server-id.
    ///
    /// Consistency: linearizable, as [`Membership::binary`](crate::Membership::binary). Cost: while nothing
    /// has changed under the server-id, a load and a comparison of one pointer, and no write at all. After a
    /// change, including that of a sibling: one cell load, one search in the phone list and a few reference
    /// counts. Where siblings come and go with every frame, `Membership::binary` is the better choice. No
    /// allocation.
    #[must_use]
    #[inline]
    pub fn binary(&mut self) -> Option<&Arc<C>> {
        if !self.way.as_mut()?.is_open() {
            self.way = None;
        }
        let tenure = self.way.as_ref()?.record.tenure.as_ref()?;
        Some(&tenure.binary)
    }
}

impl<C: ?Sized> Way<C> {
    #[inline]
    fn is_open(&mut self) -> bool {
        match self.cell.load() {
            Some(now) if Shared::ptr_eq(now, &self.record) => true,
            now => reopen(now, &self.phone, &mut self.record),
        }
    }
}

/// Looks for the phone in the current contents of the cell.
#[cold]
fn reopen<C: ?Sized>(
    now: Option<&Shared<Record<C>>>,
    phone: &Phone<C>,
    record: &mut Shared<Record<C>>,
) -> bool {
    match now {
        Some(now) if now.phones.contains(phone) => {
            *record = Shared::clone(now);
            true
        }
        _ => false,
    }
}

impl<C: ?Sized> fmt::Debug for Route<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").finish_non_exhaustive()
    }
}
