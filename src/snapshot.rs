use std::fmt;
use std::iter::FusedIterator;
use std::ops::Deref;
use std::sync::Arc;
use std::vec;

use bytes::Bytes;

use crate::conn::Conn;
use crate::state::change::Version;
use crate::state::epoch::Epoch;
use crate::state::kept::Kept;
use crate::state::phone_list::{self, Phone, PhoneList, Place};
use crate::state::record::{Record, Tenure};
use crate::state::shared::Shared;
use crate::state::status::Status;
use crate::store::slot::{Slot, Snapshot};

/// A connection that a lookup found.
///
/// It dereferences to the connection. It may be kept, sent to another thread and held across an `.await`.
/// Usually, creating and dropping one writes to no reference count.
///
/// While it lives, it keeps alive everything that belonged to the server-id at that instant: the binary and
/// all phones, including phones that have left since. To keep a connection for long, use
/// [`into_arc`](Self::into_arc), which lets go of the rest.
///
/// ```
#[doc = include_str!("docs/wire.in")]
/// # use switchboard::Registry;
/// let registry = Registry::new();
/// let _claim = registry.claim_server("s", Arc::new(Wire("b")));
/// let binary: Arc<Wire> = registry.binary_for("s").expect("claimed above").into_arc();
/// ```
pub struct ConnRef<C: ?Sized> {
    record: Snapshot<C>,
    who: Who,
}

enum Who {
    Binary,
    Phone(Place),
}

impl<C: ?Sized> ConnRef<C> {
    pub(crate) fn binary(record: Snapshot<C>) -> Option<Self> {
        record.get()?.tenure.as_ref()?;
        let who = Who::Binary;
        Some(Self { record, who })
    }

    pub(crate) fn phone(record: Snapshot<C>, conn_id: &str) -> Option<Self> {
        let who = Who::Phone(record.get()?.phones.place(conn_id)?);
        Some(Self { record, who })
    }

    fn arc(&self) -> &Arc<C> {
        let found = self.record.get().and_then(|record| match self.who {
            Who::Binary => record.tenure.as_ref().map(|tenure| &tenure.binary),
            Who::Phone(place) => Some(record.phones.at(place).conn()),
        });
        found.expect("a record never changes, and this one had the connection")
    }

    /// The status of the server-id at the instant of the lookup. If this is [`Status::Grace`], the binary has
    /// gone away.
    ///
    /// ```
    #[doc = include_str!("docs/wire.in")]
    /// # use switchboard::{Registry, Status};
    /// use std::time::Duration;
    ///
    /// let registry = Registry::new();
    /// let claim = registry.claim_server("s", Arc::new(Wire("b")))?;
    /// assert_eq!(registry.binary_for("s").unwrap().status(), Status::Held);
    /// claim.release_after(Duration::from_secs(30));
    /// assert!(matches!(registry.binary_for("s").unwrap().status(), Status::Grace { .. }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn status(&self) -> Status {
        let record = self.record.get();
        record.map_or(Status::Vacant, |record| record.status())
    }

    /// Returns a counted reference to the connection.
    #[must_use]
    pub fn to_arc(&self) -> Arc<C> {
        Arc::clone(self.arc())
    }

    /// Converts this into a counted reference to the connection.
    #[must_use]
    pub fn into_arc(self) -> Arc<C> {
        self.to_arc()
    }
}

impl<C: ?Sized> Deref for ConnRef<C> {
    type Target = C;

    fn deref(&self) -> &C {
        self.arc()
    }
}

impl<C: ?Sized> fmt::Debug for ConnRef<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnRef").finish_non_exhaustive()
    }
}

/// The phones of a server-id at one instant.
///
/// Taking a snapshot costs one pointer load, whatever the number of phones, and the snapshot never changes.
/// It may be kept, sent to another thread and held across an `.await`. While it lives, it keeps alive its
/// phones, including those that have left since, and the binary of that instant. The phones are in no
/// particular order.
///
/// The thread that drops the last snapshot of departed phones frees them. On one machine, 1,000 phones took
/// 0.1 ms and 200,000 took 0.1 s; destructors that do more take longer.
/// [`Displaced`](crate::Displaced#dropping-many-phones) shows how to leave that to another thread.
///
/// ```
#[doc = include_str!("docs/wire.in")]
/// # use switchboard::Registry;
/// let registry = Registry::new();
/// let claim = registry.claim_server("s", Arc::new(Wire("b")))?;
/// let membership = registry.register_phone("s", Arc::new(Wire("p")))?;
/// let phones = registry.phones_for("s");
/// drop(membership);
/// assert_eq!(phones.len(), 1);
/// assert!(registry.phones_for("s").is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Phones<C: ?Sized> {
    record: Snapshot<C>,
}

impl<C: ?Sized> Phones<C> {
    pub(crate) fn of(record: Snapshot<C>) -> Self {
        Self { record }
    }

    pub(crate) fn none() -> Self {
        Self::of(Snapshot::of(None))
    }

    fn list(&self) -> &PhoneList<C> {
        self.record
            .get()
            .map_or(const { &PhoneList::new() }, |record| &record.phones)
    }

    /// The number of phones.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list().len()
    }

    /// Whether there are no phones.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Iterates over the phones, in no particular order. Allocates nothing.
    #[must_use]
    pub fn iter(&self) -> PhonesIter<'_, C> {
        PhonesIter(self.list().iter())
    }

    /// The phone with this conn-id. The search touches a few more cache lines in a long list than in a short
    /// one. It compares conn-ids only if their hashes are equal.
    #[must_use]
    pub fn get(&self, conn_id: &str) -> Option<&Arc<C>> {
        Some(self.list().get(conn_id)?.conn())
    }

    /// Whether there is a phone with this conn-id. Costs the same as [`get`](Self::get).
    #[must_use]
    pub fn contains(&self, conn_id: &str) -> bool {
        self.get(conn_id).is_some()
    }

    /// Sends a frame to every phone. A phone that refuses it is counted and otherwise left alone.
    pub fn broadcast(&self, frame: &Bytes) -> Broadcast
    where
        C: Conn,
    {
        let mut sent = Broadcast::default();
        for phone in self {
            match phone.send(frame.clone()) {
                Ok(()) => sent.delivered += 1,
                Err(_) => sent.failed += 1,
            }
        }
        sent
    }
}

impl<C: ?Sized> Clone for Phones<C> {
    fn clone(&self) -> Self {
        Self::of(self.record.clone())
    }
}

impl<C: ?Sized> fmt::Debug for Phones<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.list().iter().map(Phone::conn_id);
        f.debug_set().entries(ids).finish()
    }
}

impl<'a, C: ?Sized> IntoIterator for &'a Phones<C> {
    type Item = &'a Arc<C>;
    type IntoIter = PhonesIter<'a, C>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// An iterator over the phones of a snapshot, in no particular order.
pub struct PhonesIter<'a, C: ?Sized>(phone_list::Iter<'a, C>);

impl<'a, C: ?Sized> Iterator for PhonesIter<'a, C> {
    type Item = &'a Arc<C>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|phone| &**phone.conn())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<C: ?Sized> ExactSizeIterator for PhonesIter<'_, C> {}
impl<C: ?Sized> FusedIterator for PhonesIter<'_, C> {}

impl<C: ?Sized> fmt::Debug for PhonesIter<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PhonesIter")
            .field("left", &self.len())
            .finish_non_exhaustive()
    }
}

/// Returns the phones themselves, in no particular order.
///
/// Lets go of the snapshot at once. Each phone then stays alive until it has been taken and dropped. Cost:
/// one allocation, and a reference count for each phone.
///
/// ```
#[doc = include_str!("docs/wire.in")]
/// # use switchboard::Registry;
/// let registry = Registry::new();
/// let _claim = registry.claim_server("s", Arc::new(Wire("b")))?;
/// let _phone = registry.register_phone("s", Arc::new(Wire("p")))?;
/// let phones: Vec<Arc<Wire>> = registry.phones_for("s").into_iter().collect();
/// assert_eq!(phones[0].0, "p");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl<C: ?Sized> IntoIterator for Phones<C> {
    type Item = Arc<C>;
    type IntoIter = PhonesIntoIter<C>;

    fn into_iter(self) -> Self::IntoIter {
        let phones: Vec<_> = self
            .list()
            .iter()
            .map(|phone| phone.conn().clone())
            .collect();
        PhonesIntoIter(phones.into_iter())
    }
}

/// An iterator over the phones of a snapshot, in no particular order. It owns them.
pub struct PhonesIntoIter<C: ?Sized>(vec::IntoIter<Kept<C>>);

impl<C: ?Sized> Iterator for PhonesIntoIter<C> {
    type Item = Arc<C>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(Kept::into_arc)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<C: ?Sized> ExactSizeIterator for PhonesIntoIter<C> {}
impl<C: ?Sized> FusedIterator for PhonesIntoIter<C> {}

impl<C: ?Sized> fmt::Debug for PhonesIntoIter<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PhonesIntoIter")
            .field("left", &self.len())
            .finish_non_exhaustive()
    }
}

/// The number of phones that accepted a broadcast frame, and of those that refused it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Broadcast {
    /// Phones whose `send` returned `Ok`.
    pub delivered: usize,
    /// Phones whose `send` returned an error.
    pub failed: usize,
}

/// The state of one server-id at one instant. It never pairs a binary with the phones of another one.
///
/// It keeps alive the connections it shows, like [`Phones`]. Once the registry is gone, it also keeps the
/// current record of its server-id, like a claim.
pub struct Server<C: ?Sized> {
    slot: Arc<Slot<C>>,
    record: Shared<Record<C>>,
}

impl<C: ?Sized> Server<C> {
    pub(crate) fn of(slot: Arc<Slot<C>>) -> Option<Self> {
        let record = slot.snapshot().into_counted()?;
        Some(Self { slot, record })
    }

    pub(crate) fn new(slot: &Arc<Slot<C>>, record: &Shared<Record<C>>) -> Self {
        Self {
            slot: Arc::clone(slot),
            record: Shared::clone(record),
        }
    }

    fn tenure(&self) -> Option<&Tenure<C>> {
        self.record.tenure.as_ref()
    }

    /// The server-id.
    #[must_use]
    pub fn server_id(&self) -> &str {
        &self.slot.server_id
    }

    /// The binary. In grace, this is the binary that went away.
    #[must_use]
    pub fn binary(&self) -> Option<&Arc<C>> {
        self.tenure().map(|tenure| &*tenure.binary)
    }

    /// The phones.
    #[must_use]
    pub fn phones(&self) -> Phones<C> {
        Phones::of(Snapshot::of(Some(Shared::clone(&self.record))))
    }

    /// The epoch of the claim that holds the server-id, including in grace.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        self.tenure().map(|tenure| tenure.epoch)
    }

    /// Whether the server-id is vacant, held or in grace.
    #[must_use]
    pub fn status(&self) -> Status {
        self.record.status()
    }

    /// The version of this state. Later states of the same server-id have larger versions. Compare it with
    /// the version of an [`Event`](crate::Event).
    #[must_use]
    pub fn version(&self) -> Version {
        self.slot.version(&self.record)
    }
}

impl<C: ?Sized> Clone for Server<C> {
    fn clone(&self) -> Self {
        Self {
            slot: Arc::clone(&self.slot),
            record: Shared::clone(&self.record),
        }
    }
}

impl<C: ?Sized> fmt::Debug for Server<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("server_id", &self.server_id())
            .field("status", &self.status())
            .field("epoch", &self.epoch())
            .field("phones", &self.phones())
            .finish_non_exhaustive()
    }
}

/// An iterator over the server-ids of a registry. Created by [`Registry::servers`](crate::Registry::servers).
pub struct Servers<C: ?Sized>(vec::IntoIter<Arc<Slot<C>>>);

impl<C: ?Sized> Servers<C> {
    pub(crate) fn of(slots: Vec<Arc<Slot<C>>>) -> Self {
        Self(slots.into_iter())
    }
}

impl<C: ?Sized> Iterator for Servers<C> {
    type Item = Server<C>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.find_map(Server::of)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.0.len()))
    }
}

impl<C: ?Sized> FusedIterator for Servers<C> {}

impl<C: ?Sized> fmt::Debug for Servers<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Servers")
            .field("left", &self.0.len())
            .finish_non_exhaustive()
    }
}
