use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;
use event_listener::{Event as Signal, EventListener};

use crate::state::record::{Grace, Record};
use crate::store::audience::{Audience, Present};
use crate::store::counts::{self, StripedCounts};
use crate::store::deadlines::{Deadlines, Key, Queue};
use crate::store::feed::Feed;
use crate::store::index::HasServerId;
use crate::store::lingering::{Lingering, Remove};
use crate::store::switch_point::switch_point;
use crate::store::watchers::Watchers;

/// What becomes of the phones of a server-id that is released. Set by
/// [`Builder::orphans`](crate::Builder::orphans).
///
/// A [table](crate#what-becomes-of-the-phones) compares both choices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Orphans {
    /// They stay registered, and see the next binary that claims the server-id, whoever it is. The default.
    #[default]
    Keep,
    /// They are displaced, with [`Cause::Released`](crate::Cause::Released): by the next call of
    /// [`expire`](crate::Registry::expire) or by the next claim, whichever comes first. Until then they stay
    /// registered, without a binary. No binary sees the phones of another one.
    Displace,
}

/// The settings of a registry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) max_phones: usize,
    pub(crate) grace: Option<Duration>,
    pub(crate) orphans: Orphans,
}

/// The settings of a registry, and its shared state apart from the server-ids. Every slot refers to it, so
/// that guards need nothing but their slot.
///
/// Aligned so that its reference count, which every new slot changes, has a cache line of its own.
#[repr(align(128))]
pub(crate) struct Ledger<S> {
    pub(crate) counts: StripedCounts,
    pub(crate) deadlines: Box<dyn Deadlines<S>>,
    pub(crate) lingering: Lingering<S>,
    pub(crate) audience: Audience,
    pub(crate) watchers: Watchers,
    pub(crate) feed: Feed,
    pub(crate) settings: Settings,
    /// Earlier than all calls.
    pub(crate) created: Instant,
    armed: Signal,
    armings: CachePadded<AtomicU64>,
}

/// The effects of one change on the ledger.
pub(crate) struct Change {
    counts: counts::Change,
    disarmed: Option<Key>,
    /// There is still a grace, with another deadline or without one.
    goes_on: bool,
    retired: bool,
}

impl Change {
    pub(crate) fn between<C: ?Sized>(
        before: Option<&Record<C>>,
        after: Option<&Record<C>>,
    ) -> Self {
        let was = before.and_then(Record::armed_grace);
        let is = after.and_then(Record::armed_grace);
        Self {
            counts: counts::Change::between(before, after),
            disarmed: was.filter(|_| was != is).and_then(Key::of),
            goes_on: after.is_some_and(Record::is_in_grace),
            retired: after.is_none(),
        }
    }
}

impl<S: HasServerId> Ledger<S> {
    pub(crate) fn new(store: Weak<dyn Remove<S> + Send + Sync>, settings: Settings) -> Self
    where
        S: Send + Sync + 'static,
    {
        Self {
            counts: StripedCounts::new(),
            deadlines: Box::new(Queue::new()),
            lingering: Lingering::new(store),
            audience: Audience::new(),
            watchers: Watchers::new(),
            feed: Feed::new(),
            settings,
            created: Instant::now(),
            armed: Signal::new(),
            armings: CachePadded::new(AtomicU64::new(0)),
        }
    }

    /// Records the effects of one change: a compare-and-swap, or the insertion of a slot. The thread that
    /// made the change calls this, once.
    pub(crate) fn settle(&self, slot: &Arc<S>, change: &Change) {
        self.counts.add(change.counts);
        if let Some(key) = change.disarmed {
            if change.goes_on {
                self.deadlines.supersede(key);
            } else {
                self.deadlines.remove(key);
            }
        }
        if change.retired {
            self.lingering.keep(slot);
        }
    }

    /// Wakes those who wait for a change of this slot. `published` tells whether the change went through the
    /// feed: if it did not, whoever listens by now has missed it.
    pub(crate) fn announce(&self, slot: &S, published: bool) {
        switch_point();
        let present = self.audience.present();
        if !present.is_empty() {
            self.announce_to(present, slot, published);
        }
    }

    #[cold]
    fn announce_to(&self, present: Present, slot: &S, published: bool) {
        if present.listens() && !published {
            self.feed.miss();
        }
        if present.listens() {
            self.feed.notify();
        }
        if present.watches() {
            self.watchers.notify(slot.hash(), slot.server_id());
        }
    }

    /// Wakes those who wait for an earlier deadline.
    pub(crate) fn deadline_armed(&self) {
        switch_point();
        self.armed.notify(usize::MAX);
    }

    /// Listens for the next arming.
    pub(crate) fn listen_for_deadlines(&self) -> EventListener {
        switch_point();
        self.armed.listen()
    }

    /// The number of armings so far, which is the number of the next one. Every grace that began before this
    /// call has a smaller number. Every grace requested after this call has this number or a larger one.
    ///
    /// `SeqCst`, like the draw of a number: both are then part of the one total order of all cell operations.
    /// So this also holds for two threads that have synchronized only through the cell of another server-id.
    pub(crate) fn armings(&self) -> u64 {
        switch_point();
        self.armings.load(Ordering::SeqCst)
    }

    /// A grace that ends at `deadline`, or never.
    pub(crate) fn grace_until(&self, deadline: Option<Instant>) -> Grace {
        switch_point();
        let number = self.armings.fetch_add(1, Ordering::SeqCst);
        Grace {
            deadline: deadline.unwrap_or_else(|| latest_from(self.created)),
            arming: deadline.map(|_| number),
            began: number,
        }
    }
}

/// The latest instant that this platform can represent, to within a nanosecond.
fn latest_from(now: Instant) -> Instant {
    let mut latest = now;
    let mut step = Duration::MAX;
    while step > Duration::ZERO {
        match latest.checked_add(step) {
            Some(later) => latest = later,
            None => step /= 2,
        }
    }
    latest
}
