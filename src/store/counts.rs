use std::sync::atomic::{AtomicIsize, Ordering};

use crate::state::record::Record;
use crate::store::striped::Striped;
use crate::store::switch_point::switch_point;

/// The number of connections in a registry.
///
/// Exact whenever no call is in flight; otherwise off by at most the changes of the calls that overlap the
/// count. Never negative, and `in_grace` is never more than `binaries`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Counts {
    /// Server-ids that are held, including those in grace.
    pub binaries: usize,
    /// Registered phones, including those of vacant server-ids.
    pub phones: usize,
    /// Server-ids in grace.
    pub in_grace: usize,
}

/// The change of the counts by one change of a record.
#[derive(Clone, Copy)]
pub(crate) struct Change {
    binaries: isize,
    vacant: isize,
    phones: isize,
    in_grace: isize,
}

impl Change {
    pub(crate) fn between<C: ?Sized>(
        before: Option<&Record<C>>,
        after: Option<&Record<C>>,
    ) -> Self {
        let (before, after) = (Self::holding(before), Self::holding(after));
        Self {
            binaries: after.binaries - before.binaries,
            vacant: after.vacant - before.vacant,
            phones: after.phones - before.phones,
            in_grace: after.in_grace - before.in_grace,
        }
    }

    fn holding<C: ?Sized>(record: Option<&Record<C>>) -> Self {
        let tenure = record.and_then(|record| record.tenure.as_ref());
        Self {
            binaries: isize::from(tenure.is_some()),
            vacant: isize::from(record.is_some() && tenure.is_none()),
            phones: record.map_or(0, |record| record.phones.len().cast_signed()),
            in_grace: isize::from(record.is_some_and(Record::is_in_grace)),
        }
    }
}

#[derive(Default)]
struct Stripe {
    binaries: AtomicIsize,
    /// Server-ids with phones and without a binary.
    vacant: AtomicIsize,
    phones: AtomicIsize,
    in_grace: AtomicIsize,
}

/// Striped counters, so that counting threads don't share cache lines. A single stripe may be negative: a
/// phone may be added on one stripe and subtracted on another.
pub(crate) struct StripedCounts(Striped<Stripe>);

impl StripedCounts {
    pub(crate) fn new() -> Self {
        Self(Striped::new(Stripe::default))
    }

    /// `Relaxed` suffices: the counts order nothing. A reader that must see a call's change has already
    /// synchronized with the return of that call.
    ///
    /// No step of its own for the scheduler: only a count could see when these additions happen, and it
    /// promises nothing about a call in flight.
    pub(crate) fn add(&self, change: Change) {
        let stripe = self.0.mine();
        for (counter, by) in [
            (&stripe.binaries, change.binaries),
            (&stripe.vacant, change.vacant),
            (&stripe.phones, change.phones),
            (&stripe.in_grace, change.in_grace),
        ] {
            if by != 0 {
                counter.fetch_add(by, Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn sum(&self) -> Counts {
        let binaries = self.sum_of(|stripe| &stripe.binaries);
        Counts {
            binaries,
            phones: self.sum_of(|stripe| &stripe.phones),
            in_grace: self.sum_of(|stripe| &stripe.in_grace).min(binaries),
        }
    }

    /// The number of server-ids that have a binary or phones.
    pub(crate) fn servers(&self) -> usize {
        self.sum_of(|stripe| &stripe.binaries) + self.sum_of(|stripe| &stripe.vacant)
    }

    /// A decrement can be seen before its increment on another stripe, hence the clamp.
    fn sum_of(&self, counter: fn(&Stripe) -> &AtomicIsize) -> usize {
        let values = self.0.iter().map(|stripe| {
            switch_point();
            counter(stripe).load(Ordering::Relaxed)
        });
        usize::try_from(values.sum::<isize>()).unwrap_or(0)
    }
}
