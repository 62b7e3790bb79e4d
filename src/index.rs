//! The map from server-ids to slots, and the only place that names papaya.

use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use papaya::{Compute, Equivalent, Guard, HashMap, Operation, ResizeMode};

use crate::conn::Conn;
use crate::ledger::{Change, Ledger};
use crate::record::Record;
use crate::slot::{Slot, Snapshot};
use crate::switch;

/// How many removed slots a thread gathers before it asks whether they can be freed. Asking costs a
/// barrier on every core, and what waits is only slots: no connection stands in a removed one.
const RECLAIM_BATCH: usize = 256;

/// How many retired slots stay in the index, so that the next claim of the same server-id can take the place of
/// its predecessor.
///
/// papaya never uses the place of a removed key again until it copies the whole table, and it does that once a
/// probe sequence is full of such places. One client that connects and goes in a loop would fill its own in
/// less than a hundred turns, and make the index copy itself over and over. So what retires is removed late, and
/// what comes back in time leaves no such place.
const LINGERING: usize = if cfg!(switchboard_shuttle) { 1 } else { 1024 };

/// A removed server-id that is longer does not wait for a batch to fill up.
const LONG: usize = 4096;

/// How many bytes of server-ids linger at the most.
const LINGERING_BYTES: usize = 1 << 20;

pub(crate) struct Index<C: ?Sized> {
    slots: HashMap<Key<C>, (), BuildHasherDefault<PassThrough>>,
    /// Retired slots that have not been removed, oldest first. Some have been replaced since.
    lingering: ArrayQueue<Arc<Slot<C>>>,
    lingering_bytes: AtomicUsize,
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
            lingering: ArrayQueue::new(LINGERING),
            lingering_bytes: AtomicUsize::new(0),
            ledger: Arc::new(Ledger::new(index.clone(), max_phones, grace)),
        })
    }

    /// The record of a server-id. The index is left before it is returned: whatever the caller drops, it
    /// drops outside.
    pub(crate) fn snapshot(&self, hash: u64, server_id: &str) -> Option<Snapshot<C>> {
        switch::point();
        let pin = self.pin();
        let (key, ()) = self.slots.get_key_value(&Probe { hash, server_id }, &pin)?;
        Some(key.slot.snapshot())
    }

    /// The slot of a server-id. It may be retired by the time it is looked into.
    pub(crate) fn slot(&self, hash: u64, server_id: &str) -> Option<Arc<Slot<C>>> {
        switch::point();
        let pin = self.pin();
        let (key, ()) = self.slots.get_key_value(&Probe { hash, server_id }, &pin)?;
        Some(Arc::clone(&key.slot))
    }

    /// Inserts a new slot that is held from the start: here a first claim linearizes. It takes the place of
    /// `retired`, or of nothing; `None` if there is another slot by now.
    pub(crate) fn insert_held(
        &self,
        hash: u64,
        server_id: &str,
        retired: Option<&Arc<Slot<C>>>,
        record: Record<C>,
    ) -> Option<Arc<Slot<C>>> {
        let change = Change::between(None, Some(&record));
        let slot = Arc::new(Slot::new(hash, server_id, &self.ledger, record));
        if !self.insert(&slot, retired) {
            return None;
        }
        self.ledger.settle(&slot, &change);
        Some(slot)
    }

    fn insert(&self, slot: &Arc<Slot<C>>, retired: Option<&Arc<Slot<C>>>) -> bool {
        switch::point();
        let pin = self.pin();
        let key = Key {
            hash: slot.hash,
            slot: Arc::clone(slot),
        };
        let found = self.slots.compute(
            key,
            |found| match (found, retired) {
                (None, _) => Operation::Insert(()),
                (Some((key, ())), Some(retired)) if Arc::ptr_eq(&key.slot, retired) => {
                    Operation::Insert(())
                }
                (Some(_), _) => Operation::Abort(()),
            },
            &pin,
        );
        if let Compute::Aborted(()) = found {
            return false;
        }
        switch::point();
        // A resize that nobody finishes makes every later lookup search two tables, and only writes help
        // it along. So whoever grew the index finishes: this is what an iterator does before it starts.
        let _ = self.slots.iter(&pin);
        true
    }

    /// Removes a retired slot, sooner or later. A successor with the same server-id stays.
    pub(crate) fn retire(&self, slot: &Arc<Slot<C>>) {
        let bytes = slot.server_id.len();
        self.lingering_bytes.fetch_add(bytes, Ordering::Relaxed);
        switch::point();
        let mut oldest = self.lingering.force_push(Arc::clone(slot));
        loop {
            if let Some(slot) = oldest {
                self.remove(&slot);
            }
            if self.lingering_bytes.load(Ordering::Relaxed) <= LINGERING_BYTES {
                return;
            }
            switch::point();
            oldest = self.lingering.pop();
            if oldest.is_none() {
                return;
            }
        }
    }

    fn remove(&self, slot: &Arc<Slot<C>>) {
        let bytes = slot.server_id.len();
        self.lingering_bytes.fetch_sub(bytes, Ordering::Relaxed);
        if !can_pin() {
            return;
        }
        switch::point();
        let pin = self.pin();
        let _ = self.slots.remove_if(
            &Probe {
                hash: slot.hash,
                server_id: &slot.server_id,
            },
            |key, ()| Arc::ptr_eq(&key.slot, slot),
            &pin,
        );
        if bytes > LONG {
            pin.flush();
        }
    }

    fn pin(&self) -> impl Guard + '_ {
        let pin = self.slots.guard();
        // After papaya has set up what it keeps for the thread: see `can_pin`.
        let _ = PINNED.try_with(|_| ());
        pin
    }

    /// All slots that were there throughout, and perhaps some that came or went meanwhile.
    pub(crate) fn slots(&self) -> Vec<Arc<Slot<C>>> {
        switch::point();
        let pin = self.pin();
        self.slots
            .keys(&pin)
            .map(|key| Arc::clone(&key.slot))
            .collect()
    }
}

struct Pinned;

impl Drop for Pinned {
    /// Nothing to do: that it runs is what matters.
    fn drop(&mut self) {}
}

thread_local! {
    static PINNED: Pinned = const { Pinned };
}

/// Whether this thread can still use papaya. A guard may be dropped when the thread ends, by the destructor of
/// some thread-local, and papaya's own may be gone by then. Ours is set up after papaya's and so goes before it.
fn can_pin() -> bool {
    PINNED.try_with(|_| ()).is_ok()
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
