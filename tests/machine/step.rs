//! The steps of the implementation: everything that a thread does between two points at which another thread
//! can act.

use crate::state::{Counts, Epoch, Key, Name, Record, SlotId, Time};
use crate::transition::{Insist, Op, Whose};

/// A call that a thread may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Verb {
    /// `Registry::claim_server`.
    Claim(Name),
    /// `Registry::claim_server`, followed by `ServerIdConflict::take_over` on a conflict.
    TakeOver(Name),
    /// `Claim::release` on the thread's own claim if it has one, else `Registry::release_claim` for the
    /// name's first claim.
    Release(Name),
    /// `Claim::release_after` or `Registry::release_claim_after`, likewise.
    ReleaseAfter(Name, Time),
    /// The drop of the thread's own claim, in a registry with a grace.
    DropInto(Time),
    /// `Registry::evict_server`.
    Evict(Name),
    /// `Registry::register_phone`.
    Register(Name),
    /// `Membership::unregister`.
    Leave,
    /// `Registry::expire`.
    Expire,
}

/// The purpose for which a claim or `release_claim_after` looks up its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    Apply(Op),
    Arm { whose: Whose, deadline: Time },
}

/// `ledger::Change`, and its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Books {
    pub(crate) slot: SlotId,
    pub(crate) counts: Counts,
    pub(crate) disarmed: Option<Key>,
    pub(crate) goes_on: bool,
    pub(crate) retired: bool,
    pub(crate) then: Then,
}

/// The continuation of a call after `Ledger::settle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Then {
    Return,
    /// A first claim removes up to this many slots that threads could not remove at their end.
    RemoveOverdue(usize),
    Scan(Scan),
}

/// The variables of `Expiry`: one scan of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Scan {
    pub(crate) newer: u8,
    /// The entry met last.
    pub(crate) met: Option<Key>,
}

/// The position within `Queue::tidy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Tidy {
    /// `first_superseded`.
    First,
    /// `is_scanning`.
    Look { key: Key },
    /// `remove`, of the entry in the queue.
    Remove { key: Key },
    /// `remove`, of the key in `superseded`.
    Forget { key: Key },
    /// `is_scanning`, before a key is taken: a planted bug.
    LookFirst,
}

/// One atomic step, with the values it needs. The operations of papaya, arc-swap and crossbeam are taken to
/// be atomic.
///
/// Three things are not steps of their own. An epoch is drawn in the step before its use: all that matters is
/// that no other epoch equals it. A weak pointer is upgraded in the step that found it: a live slot is in the
/// index, so the upgrade fails only for retired slots, and those are as good as freed. A decision about a
/// loaded record is local to the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// Between two calls.
    Rest,
    /// `Store::slot`, in `claim::claim` and in the methods of `Registry` that take a server-id.
    LookUp { name: Name, purpose: Purpose },
    /// `Cell::load`, before each decision in `Slot::apply`.
    Load { slot: SlotId, op: Op },
    /// `Cell::compare_and_swap`, in `Slot::swap`. A failed swap also loads: the load that
    /// follows it is another step of the code, but nothing is decided in between.
    Swap {
        slot: SlotId,
        version: u8,
        before: Record,
        next: Option<Record>,
        op: Op,
    },
    /// `Index::insert`, in `Store::insert_held`: adds a slot that is already held, or replaces `retired` with
    /// it.
    Insert {
        name: Name,
        epoch: Epoch,
        retired: Option<SlotId>,
        insist: Insist,
    },
    /// `Slot::snapshot`, the first line of `Slot::begin_grace`.
    Check {
        slot: SlotId,
        whose: Whose,
        deadline: Time,
    },
    /// `Ledger::grace_of`, in `Slot::begin_grace`: draws the number of an arming.
    Arm {
        slot: SlotId,
        whose: Whose,
        deadline: Time,
    },
    /// `Deadlines::insert`, in `Slot::begin_grace`, before `Slot::apply`. (With `late`, after it: a
    /// planted bug.)
    Enqueue {
        slot: SlotId,
        whose: Whose,
        key: Key,
        late: Option<Books>,
    },
    /// `Deadlines::remove`, at the end of `Slot::begin_grace`, if the arming was refused.
    Unqueue { key: Key },
    /// `StripedCounts::add`, the first line of `Ledger::settle`.
    Count(Books),
    /// `Deadlines::remove`, in `Ledger::settle`: the grace has ended.
    Disarm(Books),
    /// `is_scanning`, in `Deadlines::supersede`, from `Ledger::settle`: the grace has another deadline.
    Supersede { key: Key },
    /// `Deadlines::remove`, in `Deadlines::supersede`.
    RemoveSuperseded { key: Key },
    /// `insert` into `superseded`, in `Deadlines::supersede`.
    Postpone { key: Key },
    /// `is_scanning` again, in `Deadlines::supersede`.
    LookAgain,
    /// The final part of `Deadlines::supersede` and `Deadlines::end_scan`.
    Tidy(Tidy),
    /// The push onto the stripe, in `Lingering::keep`.
    Linger { slot: SlotId, then: Then },
    /// The push onto `overdue`, in `Lingering::keep`, if `can_pin()` is false.
    LeaveToOthers { slot: SlotId, then: Then },
    /// The pop from the stripe, in `Lingering::keep`: more slots are removed along with the one that had no
    /// room.
    PopLingering { left: usize, then: Then },
    /// `Index::remove`, in `Lingering::keep`; then up to `left` more.
    RemoveLingering {
        slot: SlotId,
        left: usize,
        then: Then,
    },
    /// The pop from `overdue`, in `Lingering::remove_overdue`.
    PopOverdue { left: usize },
    /// `Index::remove`, in `Lingering::remove_overdue`.
    RemoveOverdue { slot: SlotId, left: usize },
    /// `Deadlines::begin_scan`, in `Expiry::new`.
    BeginScan,
    /// `Ledger::armings`, in `Expiry::new`.
    ReadNewer,
    /// `Deadlines::before`, in `Expiry::next`.
    Search(Scan),
    /// The subtraction of `Deadlines::end_scan`, in the drop of `Expiry`.
    EndScan,
}

impl Step {
    /// The queue entry for which this call is responsible: it has inserted the entry, or must still remove
    /// it.
    pub(crate) fn looks_after(&self) -> Option<Key> {
        match *self {
            Self::Load {
                op: Op::Grace { key, .. },
                ..
            }
            | Self::Swap {
                op: Op::Grace { key, .. },
                ..
            }
            | Self::Unqueue { key }
            | Self::Supersede { key }
            | Self::RemoveSuperseded { key }
            | Self::Postpone { key } => Some(key),
            Self::Count(books) | Self::Disarm(books) => books.disarmed,
            _ => None,
        }
    }

    /// The retired slot that this call must still remove from the index, or leave for another thread to
    /// remove.
    pub(crate) fn will_remove(&self) -> Option<SlotId> {
        match *self {
            Self::Count(books) | Self::Disarm(books) => books.retired.then_some(books.slot),
            Self::Linger { slot, .. }
            | Self::LeaveToOthers { slot, .. }
            | Self::RemoveLingering { slot, .. }
            | Self::RemoveOverdue { slot, .. } => Some(slot),
            _ => None,
        }
    }

    /// The variables of the `expire` that is running in this step.
    pub(crate) fn scan(&self) -> Option<Scan> {
        match *self {
            Self::Load {
                op: Op::Expire { newer, met },
                ..
            }
            | Self::Swap {
                op: Op::Expire { newer, met },
                ..
            } => {
                let met = Some(met);
                Some(Scan { newer, met })
            }
            Self::Count(Books {
                then: Then::Scan(scan),
                ..
            })
            | Self::Disarm(Books {
                then: Then::Scan(scan),
                ..
            })
            | Self::Linger {
                then: Then::Scan(scan),
                ..
            }
            | Self::LeaveToOthers {
                then: Then::Scan(scan),
                ..
            }
            | Self::PopLingering {
                then: Then::Scan(scan),
                ..
            }
            | Self::RemoveLingering {
                then: Then::Scan(scan),
                ..
            }
            | Self::Search(scan) => Some(scan),
            _ => None,
        }
    }

    /// The progress of a call. It grows with every step, whatever other threads do. No run therefore reaches
    /// a state twice, and since there are finitely many states, every run ends.
    ///
    /// A scan progresses when it meets a different entry, further on. A claim starts over when another thread
    /// has inserted a slot: `turn`. So does `tidy` when it has removed an entry, or when the last scan has
    /// ended since it looked. A swap is retried when the record is newer: `version`. All other steps progress
    /// from one kind of step to a later one.
    pub(crate) fn progress(&self, turn: usize) -> [usize; 5] {
        // From the end of the queue towards its front.
        let scanned = self.scan().and_then(|scan| scan.met).map_or(0, |met| {
            usize::from(u16::MAX) - usize::from(met.deadline) * 256 - usize::from(met.arming)
        });
        let insists = |insist| usize::from(insist == Insist::HasDone) * 2;
        let of_op = |op| match op {
            Op::Claim { insist, .. } => insists(insist),
            Op::TakeOver { .. } => 1,
            _ => 0,
        };
        let settles = |then| if matches!(then, Then::Scan(_)) { 0 } else { 3 };
        let (stage, kind, version) = match *self {
            Self::LookUp {
                purpose: Purpose::Apply(op),
                ..
            } => (of_op(op), 0, 0),
            Self::LookUp { .. } | Self::BeginScan => (0, 0, 0),
            Self::Check { .. } | Self::ReadNewer => (0, 1, 0),
            Self::Arm { .. } => (0, 2, 0),
            Self::Enqueue { .. } => (0, 3, 0),
            Self::Load { op, .. } => (of_op(op), 4, 0),
            Self::Swap { op, version, .. } => (of_op(op), 5, version.into()),
            Self::Insert { insist, .. } => (insists(insist), 6, 0),
            Self::Count(books) => (settles(books.then), 7, 0),
            Self::Disarm(books) => (settles(books.then), 8, 0),
            Self::Linger { then, .. } => (settles(then), 9, 0),
            Self::LeaveToOthers { then, .. } => (settles(then), 10, 0),
            Self::RemoveLingering { left, then, .. } => (settles(then), 11, 99 - 2 * left),
            Self::PopLingering { left, then } => (settles(then), 11, 100 - 2 * left),
            Self::PopOverdue { left } => (3, 12, 99 - 2 * left),
            Self::RemoveOverdue { left, .. } => (3, 12, 100 - 2 * left),
            Self::Search(scan) => (0, if scan.met.is_some() { 13 } else { 2 }, 0),
            Self::Unqueue { .. } => (0, 14, 0),
            Self::EndScan | Self::Supersede { .. } => (3, 15, 0),
            Self::RemoveSuperseded { .. } | Self::Postpone { .. } => (3, 16, 0),
            Self::LookAgain | Self::Tidy(Tidy::LookFirst) => (3, 17, 0),
            Self::Tidy(Tidy::First) => (3, 18, 0),
            Self::Tidy(Tidy::Look { .. }) => (3, 19, 0),
            Self::Tidy(Tidy::Remove { .. }) => (3, 20, 0),
            Self::Tidy(Tidy::Forget { .. }) => (3, 21, 0),
            Self::Rest => (4, 0, 0),
        };
        [stage, turn, scanned, kind, version]
    }
}
