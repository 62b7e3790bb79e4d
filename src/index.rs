//! The map from server-ids to slots, and the only place that names papaya.

use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use papaya::{Equivalent, HashMap, ResizeMode};

use crate::conn::Conn;
use crate::ledger::{Change, Ledger};
use crate::record::Record;
use crate::slot::{Slot, Snapshot};
use crate::switch;

/// How many removed slots a thread gathers before it asks whether they can be freed. Asking costs a
/// barrier on every core, and what waits is only slots: no connection stands in a removed one.
const RECLAIM_BATCH: usize = 256;

pub(crate) struct Index<C: ?Sized> {
    slots: HashMap<Key<C>, (), BuildHasherDefault<PassThrough>>,
    pub(crate) ledger: Arc<Ledger<C>>,
}

/// The hash stands beside the pointer: neither a resize nor a mismatch touches the slot.
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
            slots: HashMap::builder()
                .capacity(capacity)
                .hasher(BuildHasherDefault::default())
                .collector(seize::Collector::new().batch_size(RECLAIM_BATCH))
                .resize_mode(ResizeMode::default())
                .build(),
            ledger: Arc::new(Ledger::new(index.clone(), max_phones, grace)),
        })
    }

    /// The record of a server-id. The index is left before it is returned: whatever the caller drops, it
    /// drops outside.
    pub(crate) fn snapshot(&self, hash: u64, server_id: &str) -> Option<Snapshot<C>> {
        switch::point();
        let pin = self.slots.guard();
        let (key, ()) = self.slots.get_key_value(&Probe { hash, server_id }, &pin)?;
        Some(key.slot.snapshot())
    }

    /// The slot of a server-id. It may be retired by the time it is looked into.
    pub(crate) fn slot(&self, hash: u64, server_id: &str) -> Option<Arc<Slot<C>>> {
        switch::point();
        let pin = self.slots.guard();
        let (key, ()) = self.slots.get_key_value(&Probe { hash, server_id }, &pin)?;
        Some(Arc::clone(&key.slot))
    }

    /// Inserts a new slot that is held from the start, unless its server-id has one: here a first claim
    /// linearizes.
    pub(crate) fn insert_held(
        &self,
        hash: u64,
        server_id: &str,
        record: Record<C>,
    ) -> Option<Arc<Slot<C>>> {
        let change = Change::between(None, Some(&record));
        let slot = Arc::new(Slot::new(hash, server_id, &self.ledger, record));
        if !self.insert(&slot) {
            return None;
        }
        self.ledger.settle(&slot, &change);
        Some(slot)
    }

    fn insert(&self, slot: &Arc<Slot<C>>) -> bool {
        switch::point();
        let pin = self.slots.guard();
        let key = Key {
            hash: slot.hash,
            slot: Arc::clone(slot),
        };
        if self.slots.try_insert(key, (), &pin).is_err() {
            return false;
        }
        switch::point();
        // A resize that nobody finishes makes every later lookup search two tables, and only writes help
        // it along. So whoever grew the index finishes: this is what an iterator does before it starts.
        let _ = self.slots.iter(&pin);
        true
    }

    /// Removes a retired slot. A successor with the same server-id stays.
    pub(crate) fn remove(&self, slot: &Arc<Slot<C>>) {
        switch::point();
        let pin = self.slots.guard();
        let _ = self.slots.remove_if(
            &Probe {
                hash: slot.hash,
                server_id: &slot.server_id,
            },
            |key, ()| Arc::ptr_eq(&key.slot, slot),
            &pin,
        );
    }

    /// All slots that were there throughout, and perhaps some that came or went meanwhile.
    pub(crate) fn slots(&self) -> Vec<Arc<Slot<C>>> {
        switch::point();
        let pin = self.slots.guard();
        self.slots
            .keys(&pin)
            .map(|key| Arc::clone(&key.slot))
            .collect()
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

/// What a lookup knows of a key.
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

/// Hands on the hash that was made at the door.
#[derive(Default)]
struct PassThrough(u64);

impl Hasher for PassThrough {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys of the index hash to one u64");
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
