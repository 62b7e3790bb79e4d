//! The index: finds the slot of a server-id.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_utils::CachePadded;

use crate::conn::Conn;
use crate::facade::{Equivalent, Set, switch_point};
use crate::ledger::{Change, Ledger};
use crate::lingering::{BATCH, LONG};
use crate::record::Record;
use crate::slot::{Slot, Snapshot};

pub(crate) struct Index<C: ?Sized> {
    /// Padded: retiring a slot counts a reference to the index, and lookups must not be slowed by that.
    slots: CachePadded<Set<Key<C>>>,
    pub(crate) ledger: Arc<Ledger<C>>,
}

/// The hash is stored next to the pointer, so that neither a resize nor a mismatch touches the slot.
struct Key<C: ?Sized> {
    hash: u64,
    slot: Arc<Slot<C>>,
}

impl<C: ?Sized> Index<C> {
    pub(crate) fn new(capacity: usize, max_phones: usize, grace: Option<Duration>) -> Arc<Self>
    where
        C: Conn,
    {
        Arc::new_cyclic(|index| Self {
            slots: CachePadded::new(Set::with_capacity(capacity)),
            ledger: Arc::new(Ledger::new(index.clone(), max_phones, grace)),
        })
    }

    /// The record of a server-id. A retired slot has none.
    pub(crate) fn snapshot(&self, hash: u64, server_id: &str) -> Option<Snapshot<C>> {
        self.slots
            .read(&Probe { hash, server_id }, |key| key.slot.snapshot())
    }

    /// The slot of a server-id. It may be retired by the time it is read.
    pub(crate) fn slot(&self, hash: u64, server_id: &str) -> Option<Arc<Slot<C>>> {
        self.slots
            .read(&Probe { hash, server_id }, |key| Arc::clone(&key.slot))
    }

    /// Inserts a new slot that is already held; a first claim linearizes here. It replaces `retired`, or
    /// nothing. Returns `None` if there is another slot by now.
    pub(crate) fn insert_held(
        &self,
        hash: u64,
        server_id: &str,
        retired: Option<&Arc<Slot<C>>>,
        record: Record<C>,
    ) -> Option<Arc<Slot<C>>> {
        let change = Change::between(None, Some(&record));
        let slot = Arc::new(Slot::new(hash, server_id, &self.ledger, record));
        let key = Key {
            hash,
            slot: Arc::clone(&slot),
        };
        let may_replace =
            |found: &Key<C>| retired.is_some_and(|retired| Arc::ptr_eq(&found.slot, retired));
        if !self.slots.insert(key, may_replace) {
            return None;
        }
        self.ledger.settle(&slot, &change);
        self.remove_overdue();
        Some(slot)
    }

    /// Removes slots that other threads retired but could not remove.
    fn remove_overdue(&self) {
        for _ in 0..BATCH {
            switch_point();
            let Some(slot) = self.ledger.pop_overdue() else {
                return;
            };
            if let Some(slot) = slot.upgrade() {
                self.remove(&slot);
            }
        }
    }

    /// Removes a retired slot. A successor with the same server-id stays.
    pub(crate) fn remove(&self, slot: &Arc<Slot<C>>) {
        let probe = Probe {
            hash: slot.hash,
            server_id: &slot.server_id,
        };
        let meant = |key: &Key<C>| Arc::ptr_eq(&key.slot, slot);
        self.slots
            .remove_if(&probe, meant, slot.server_id.len() > LONG);
    }

    /// All slots that are there throughout the call, and perhaps some that come or go meanwhile.
    pub(crate) fn slots(&self) -> Vec<Arc<Slot<C>>> {
        self.slots.read_all(|key| Arc::clone(&key.slot))
    }
}

impl<C: ?Sized> PartialEq for Key<C> {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.slot.server_id == other.slot.server_id
    }
}

impl<C: ?Sized> Eq for Key<C> {}

impl<C: ?Sized> Hash for Key<C> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// The part of a key that a lookup knows.
struct Probe<'a> {
    hash: u64,
    server_id: &'a str,
}

impl<C: ?Sized> Equivalent<Key<C>> for Probe<'_> {
    fn equivalent(&self, key: &Key<C>) -> bool {
        self.hash == key.hash && *self.server_id == *key.slot.server_id
    }
}

impl Hash for Probe<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn::SendError;
    use crate::epoch::Epoch;
    use crate::kept::Kept;

    struct Wire;

    impl Conn for Wire {
        fn conn_id(&self) -> &'static str {
            "w"
        }
        fn send(&self, _: bytes::Bytes) -> Result<(), SendError> {
            Ok(())
        }
        fn close(&self) {}
    }

    fn insert(index: &Index<Wire>, hash: u64, server_id: &str) -> Option<Arc<Slot<Wire>>> {
        let record = Record::held(Kept::of(Wire), Epoch::draw());
        index.insert_held(hash, server_id, None, record)
    }

    #[test]
    fn server_ids_whose_hashes_collide_are_told_apart() {
        let index = Index::new(0, usize::MAX, None);
        let one = insert(&index, 1, "one").expect("it is not there");
        let other = insert(&index, 1, "other").expect("it is not there");
        assert!(Arc::ptr_eq(&index.slot(1, "one").expect("inserted"), &one));
        assert!(Arc::ptr_eq(
            &index.slot(1, "other").expect("inserted"),
            &other
        ));
        assert!(index.slot(1, "third").is_none());
        assert!(insert(&index, 1, "one").is_none(), "it is there");
        assert_eq!(index.slots().len(), 2);
    }
}
