//! What threads share. No other layer uses papaya, arc-swap or the skip list.
//!
//! A [slot](slot::Slot) holds the record of one server-id, and [`Slot::apply`] replaces it. Then the
//! [ledger](ledger::Ledger) updates the rest: the counters, the queue of deadlines, and, if the slot is empty
//! for good, the index. These containers are generic over the slot: it holds the ledger, so they cannot name
//! it.

pub(crate) mod audience;
pub(crate) mod cell;
pub(crate) mod counts;
pub(crate) mod deadlines;
pub(crate) mod epochs;
pub(crate) mod feed;
mod fence;
mod index;
pub(crate) mod ledger;
mod lingering;
mod lock;
mod set;
pub(crate) mod slot;
mod striped;
pub(crate) mod switch_point;
pub(crate) mod watched;
mod watchers;

use std::sync::{Arc, Weak};

use crate::state::change::Event;
use crate::state::epoch::Epoch;
use crate::state::kept::Kept;
use crate::state::record::Record;
use fence::fence_after_change;
use index::Index;
use ledger::{Change, Ledger, Settings};
use lingering::Remove;
use slot::{Slot, Snapshot};

/// What the handles of a registry share. Each slot also holds the ledger, so that a guard needs nothing but
/// its slot. No slot holds the index: a guard that outlives the registry keeps only its own slot and the
/// ledger.
pub(crate) struct Store<C: ?Sized> {
    index: Index<Slot<C>>,
    pub(crate) ledger: Arc<Ledger<Slot<C>>>,
}

/// The record of a server-id, and its slot if the caller wanted it.
type Found<C> = (Snapshot<C>, Option<Arc<Slot<C>>>);

impl<C: ?Sized> Store<C> {
    pub(crate) fn new(capacity: usize, settings: Settings) -> Arc<Self>
    where
        C: Send + Sync + 'static,
    {
        Arc::new_cyclic(|store: &Weak<Self>| Self {
            index: Index::with_capacity(capacity),
            ledger: Arc::new(Ledger::new(store.clone(), settings)),
        })
    }

    /// The record of a server-id. A retired slot has none.
    pub(crate) fn snapshot(&self, hash: u64, server_id: &str) -> Option<Snapshot<C>> {
        self.index.read(hash, server_id, |slot| slot.snapshot())
    }

    /// The slot of a server-id. It may be retired by the time it is read.
    pub(crate) fn slot(&self, hash: u64, server_id: &str) -> Option<Arc<Slot<C>>> {
        self.index.read(hash, server_id, Arc::clone)
    }

    /// The slot of a server-id, and its record.
    pub(crate) fn slot_and_record(
        &self,
        hash: u64,
        server_id: &str,
    ) -> Option<(Arc<Slot<C>>, Snapshot<C>)> {
        let read = |slot: &Arc<Slot<C>>| (Arc::clone(slot), slot.snapshot());
        self.index.read(hash, server_id, read)
    }

    /// The record of a server-id, and its slot if `wanted` for this record. A retired slot is always wanted.
    ///
    /// A caller that needs the record alone does not write to the reference count of the slot.
    pub(crate) fn record_and_slot_if(
        &self,
        hash: u64,
        server_id: &str,
        wanted: impl FnOnce(&Record<C>) -> bool,
    ) -> Option<Found<C>> {
        self.index.read(hash, server_id, |slot| {
            let record = slot.snapshot();
            let wanted = record.get().is_none_or(|record| wanted(record));
            (record, wanted.then(|| Arc::clone(slot)))
        })
    }

    /// All slots that are there throughout the call, and perhaps some that come or go meanwhile.
    pub(crate) fn slots(&self) -> Vec<Arc<Slot<C>>> {
        self.index.slots()
    }

    /// Inserts a new slot that is already held. A claim that found no live slot linearizes here. The slot
    /// replaces `retired`, or nothing. Returns `None` if there is another slot by now.
    pub(crate) fn insert_held(
        &self,
        hash: u64,
        server_id: &str,
        retired: Option<&Arc<Slot<C>>>,
        binary: &Kept<C>,
    ) -> Option<(Arc<Slot<C>>, Epoch)> {
        let listens = self.ledger.audience.present().listens();
        let insert = || {
            let epoch = epochs::draw();
            let record = Record::held(binary.clone(), epoch);
            let change = Change::between(None, Some(&record));
            let since = retired.map(|_| epoch);
            let slot = Slot::new(hash, server_id, &self.ledger, record, since);
            let slot = Arc::new(slot);
            if !self.index.insert(&slot, retired) {
                return (None, None);
            }
            let event = listens.then(|| Event::of_first_claim(server_id, slot.since(), epoch));
            (Some((slot, epoch, change)), event)
        };
        let (slot, epoch, change) = if listens {
            self.ledger.feed.publish(insert)?
        } else {
            insert().0?
        };
        // Unlike the swap of a cell, the insertion is not `SeqCst`. `Audience` needs that.
        fence_after_change();
        self.ledger.settle(&slot, &change);
        self.ledger.announce(&slot, listens);
        self.ledger.lingering.remove_overdue(self);
        Some((slot, epoch))
    }
}

impl<C: ?Sized> Remove<Slot<C>> for Store<C> {
    fn remove(&self, slot: &Arc<Slot<C>>) {
        self.index.remove(slot);
    }
}
