//! The shared state, and the next step of each thread.

use std::collections::{BTreeMap, BTreeSet};

use crate::step::Step;

pub(crate) type Name = usize;
pub(crate) type SlotId = usize;
pub(crate) type Time = u8;
pub(crate) type Epoch = u8;
pub(crate) type Phone = u8;

/// The time passed to `expire`. There is no clock: a call of `release_after` names its deadline.
pub(crate) const NOW: Time = 3;
/// A deadline that never passes.
pub(crate) const LATE: Time = 9;

/// `deadlines::Key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) deadline: Time,
    pub(crate) arming: u8,
}

/// `record::Grace`. Graces without end are left out: they have no entry in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Grace {
    pub(crate) key: Key,
    /// The number of this grace's first arming.
    pub(crate) began: u8,
}

/// `record::Tenure`. The epoch also stands for the binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tenure {
    pub(crate) epoch: Epoch,
    pub(crate) grace: Option<Grace>,
}

/// `record::Record`. The phones are a bit set: the structure of their list is not modelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Record {
    pub(crate) tenure: Option<Tenure>,
    pub(crate) phones: u16,
}

/// A binary or a phone, in the registry or out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Conn {
    Binary(Epoch),
    Phone(Phone),
}

impl Record {
    pub(crate) fn held(epoch: Epoch) -> Self {
        Self {
            tenure: Some(Tenure { epoch, grace: None }),
            phones: 0,
        }
    }

    pub(crate) fn grace(self) -> Option<Grace> {
        self.tenure?.grace
    }

    pub(crate) fn is_over(self) -> bool {
        self.grace().is_some_and(|grace| grace.key.deadline <= NOW)
    }

    pub(crate) fn has(self, phone: Phone) -> bool {
        self.phones & (1 << phone) != 0
    }

    pub(crate) fn conns(self) -> BTreeSet<Conn> {
        let phones = (0..16).filter(|&phone| self.has(phone)).map(Conn::Phone);
        let binary = self.tenure.map(|tenure| Conn::Binary(tenure.epoch));
        phones.chain(binary).collect()
    }
}

/// `slot::Slot`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Slot {
    pub(crate) name: Name,
    /// `None` means retired.
    pub(crate) cell: Option<Record>,
    /// Stands for the address of the record. No value is used twice.
    pub(crate) version: u8,
    /// History: whether the cell was ever empty.
    pub(crate) was_retired: bool,
}

/// `counts::Counts`, or a difference of two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Counts {
    pub(crate) binaries: i8,
    pub(crate) phones: i8,
    pub(crate) in_grace: i8,
}

impl Counts {
    pub(crate) fn of(record: Option<Record>) -> Self {
        let record = record.unwrap_or_default();
        Self {
            binaries: i8::from(record.tenure.is_some()),
            phones: i8::try_from(record.phones.count_ones()).expect("few"),
            in_grace: i8::from(record.grace().is_some()),
        }
    }

    pub(crate) fn plus(self, other: Self, times: i8) -> Self {
        Self {
            binaries: self.binaries + times * other.binaries,
            phones: self.phones + times * other.phones,
            in_grace: self.in_grace + times * other.in_grace,
        }
    }
}

/// Violations that are detected in the step that causes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Wrong {
    /// A call for one epoch changed the tenure of another.
    TouchedSuccessor,
    /// One `expire` handed a server-id out twice.
    ExpiredTwice,
    /// An `expire` left a grace that was over when it began and that it never saw in another state.
    MissedGrace,
    /// A step did not bring its call closer to its end.
    WentBack,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Thread {
    /// The step that it takes next.
    pub(crate) next: Step,
    pub(crate) calls_left: u8,
    /// The thread's `Claim`.
    pub(crate) guard: Option<(SlotId, Epoch)>,
    /// The thread's `Membership`.
    pub(crate) membership: Option<(SlotId, Phone)>,
    /// The number of epochs that it has drawn.
    pub(crate) drawn: u8,
    /// A measure of legitimate retries: the number of slots when its call last lost the race to insert one,
    /// or how often its call has removed a superseded entry.
    pub(crate) turn: usize,
    /// Slots, as bits: the graces that the running `expire` must not leave.
    pub(crate) owed: u16,
    /// Names, as bits: the ones that the running `expire` has handed out.
    pub(crate) taken: u8,
}

impl Thread {
    pub(crate) fn new(calls: u8) -> Self {
        Self {
            next: Step::Rest,
            calls_left: calls,
            guard: None,
            membership: None,
            drawn: 0,
            turn: 0,
            owed: 0,
            taken: 0,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) threads: Vec<Thread>,
    pub(crate) slots: Vec<Slot>,
    /// `index::Index`: at most one slot per name.
    pub(crate) index: Vec<Option<SlotId>>,
    /// `ledger::Ledger::deadlines`.
    pub(crate) queue: BTreeMap<Key, SlotId>,
    /// `deadlines::Queue::scans`.
    pub(crate) scans: u8,
    /// `deadlines::Queue::superseded`.
    pub(crate) superseded: BTreeSet<Key>,
    /// `ledger::Ledger::armings`.
    pub(crate) armings: u8,
    /// `ledger::Ledger::counts`.
    pub(crate) counts: Counts,
    /// `lingering::Lingering::stripes`, with one stripe for all threads.
    pub(crate) ring: Vec<SlotId>,
    /// `lingering::Lingering::overdue`.
    pub(crate) overdue: Vec<SlotId>,
    /// History: every connection that was let in, and how often it was let out.
    pub(crate) gone: BTreeMap<Conn, u8>,
    /// History: the violations so far.
    pub(crate) wrong: BTreeSet<Wrong>,
}

impl State {
    pub(crate) fn is_at_rest(&self) -> bool {
        self.threads.iter().all(|thread| thread.next == Step::Rest)
    }

    pub(crate) fn live(&self) -> impl Iterator<Item = (SlotId, Record)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(id, slot)| Some((id, slot.cell?)))
    }

    /// The retired slots still in the index.
    pub(crate) fn left_behind(&self) -> impl Iterator<Item = SlotId> {
        let indexed = self.index.iter().copied().flatten();
        indexed.filter(|&id| self.slots[id].cell.is_none())
    }
}
