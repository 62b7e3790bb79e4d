use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use crossbeam_queue::ArrayQueue;

use crate::facade::switch_point;
use crate::slot::Slot;
use crate::striped::Striped;

/// How many retired slots stay in the index, so that the next claim of the same server-id can take the place of
/// its predecessor.
///
/// papaya never uses the place of a removed key again until it copies the whole table, and it does that once a
/// probe sequence is full of such places. One client that connects and goes in a loop would fill its own in
/// less than a hundred turns, and make the index copy itself over and over. So what retires is removed late, and
/// what comes back in time leaves no such place.
///
/// This many for each stripe, since each has to do for all that one thread sees come and go.
const LINGERING: usize = if cfg!(switchboard_shuttle) { 1 } else { 1024 };

/// How many bytes of server-ids linger at the most, for each stripe.
const LINGERING_BYTES: usize = 64 << 10;

/// How many are removed at a time: whoever removes one looks for the index first, and all threads meet there.
const BATCH: usize = if cfg!(switchboard_shuttle) { 1 } else { 16 };

/// Retired slots that have not been removed from the index, oldest first. Some have been replaced since.
///
/// Held weakly: each slot has a share of the ledger that this belongs to.
pub(crate) struct Lingering<C: ?Sized>(Striped<Queue<C>>);

struct Queue<C: ?Sized> {
    slots: ArrayQueue<Retired<C>>,
    bytes: AtomicUsize,
}

struct Retired<C: ?Sized> {
    slot: Weak<Slot<C>>,
    bytes: usize,
}

impl<C: ?Sized> Lingering<C> {
    pub(crate) fn new() -> Self {
        Self(Striped::new(|| Queue {
            slots: ArrayQueue::new(LINGERING),
            bytes: AtomicUsize::new(0),
        }))
    }

    /// Takes one more retired slot, and gives back those whose time is over.
    pub(crate) fn push(&self, slot: &Arc<Slot<C>>) -> impl Iterator<Item = Arc<Slot<C>>> {
        let queue = self.0.mine();
        let retired = Retired {
            slot: Arc::downgrade(slot),
            bytes: slot.server_id.len(),
        };
        queue.bytes.fetch_add(retired.bytes, Ordering::Relaxed);
        switch_point();
        let mut oldest = queue.slots.force_push(retired);
        let mut left = if oldest.is_some() { BATCH } else { 0 };
        std::iter::from_fn(move || {
            if oldest.is_none()
                && (left > 0 || queue.bytes.load(Ordering::Relaxed) > LINGERING_BYTES)
            {
                switch_point();
                oldest = queue.slots.pop();
            }
            let retired = oldest.take()?;
            left = left.saturating_sub(1);
            queue.bytes.fetch_sub(retired.bytes, Ordering::Relaxed);
            Some(retired.slot.upgrade())
        })
        .flatten()
    }
}
