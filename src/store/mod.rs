//! What threads share. No other layer uses papaya, arc-swap or the skip list.
//!
//! A [slot](slot::Slot) holds the record of one server-id, and [`Slot::apply`] replaces it. Then the
//! [ledger](ledger::Ledger) updates the rest: the counters, the queue of deadlines, and, if the slot is empty
//! for good, the index. These containers are generic over the slot: it holds the ledger, so they cannot name
//! it.

pub(crate) mod cell;
pub(crate) mod counts;
pub(crate) mod deadlines;
pub(crate) mod epochs;
mod index;
pub(crate) mod ledger;
mod lingering;
mod set;
pub(crate) mod slot;
mod striped;
pub(crate) mod switch_point;

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::state::record::Record;
use index::Index;
use ledger::{Change, Ledger};
use lingering::Remove;
use slot::{Slot, Snapshot};

/// What the handles of a registry share. Each slot also holds the ledger, so that a guard needs nothing but
/// its slot. No slot holds the index: a guard that outlives the registry keeps only its own slot and the
/// ledger.
pub(crate) struct Store<C: ?Sized> {
    index: Index<Slot<C>>,
    pub(crate) ledger: Arc<Ledger<Slot<C>>>,
}

impl<C: ?Sized> Store<C> {
    pub(crate) fn new(capacity: usize, max_phones: usize, grace: Option<Duration>) -> Arc<Self>
    where
        C: Send + Sync + 'static,
    {
        Arc::new_cyclic(|store: &Weak<Self>| Self {
            index: Index::with_capacity(capacity),
            ledger: Arc::new(Ledger::new(store.clone(), max_phones, grace)),
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
        record: Record<C>,
    ) -> Option<Arc<Slot<C>>> {
        let change = Change::between(None, Some(&record));
        let slot = Arc::new(Slot::new(hash, server_id, &self.ledger, record));
        if !self.index.insert(&slot, retired) {
            return None;
        }
        self.ledger.settle(&slot, &change);
        self.ledger.lingering.remove_overdue(self);
        Some(slot)
    }
}

impl<C: ?Sized> Remove<Slot<C>> for Store<C> {
    fn remove(&self, slot: &Arc<Slot<C>>) {
        self.index.remove(slot);
    }
}
