//! What threads share, and what each of them is about to do.

use std::collections::{BTreeMap, BTreeSet};

use crate::step::Step;

pub(crate) type Name = usize;
pub(crate) type SlotId = usize;
pub(crate) type Time = u8;
pub(crate) type Epoch = u8;
pub(crate) type Phone = u8;

/// What `expire` is called with. There is no clock: a call of `release_after` names its deadline.
pub(crate) const NOW: Time = 3;
/// A deadline that is never over.
pub(crate) const LATE: Time = 9;

/// `deadlines::Key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) deadline: Time,
    pub(crate) arming: u8,
}

/// `record::Grace`. One that never ends by itself is left out: it touches no queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Grace {
    pub(crate) key: Key,
    /// The first arming of this grace.
    pub(crate) began: u8,
}

/// `record::Tenure`. The epoch stands for the binary, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tenure {
    pub(crate) epoch: Epoch,
    pub(crate) grace: Option<Grace>,
}

/// `record::Record`. Phones are a set of bits: what their list is made of is another matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Record {
    pub(crate) tenure: Option<Tenure>,
    pub(crate) phones: u16,
}

/// A binary or a phone, wherever it is.
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
    /// `None`: retired.
    pub(crate) cell: Option<Record>,
    /// Stands for the address of the record: it never comes again.
    pub(crate) version: u8,
    /// History: whether the cell was ever empty.
    pub(crate) was_retired: bool,
}

/// `counts::Counts`, and a difference of two.
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

/// What must never happen, and is seen in the step that does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Wrong {
    /// A call that was meant for one epoch changed the tenure of another.
    TouchedSuccessor,
    /// One `expire` handed a server-id out twice.
    ExpiredTwice,
    /// An `expire` left a grace that was over when it began, and that it has not found otherwise since.
    MissedGrace,
    /// A call has not come nearer to its end.
    WentBack,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Thread {
    /// What it does next.
    pub(crate) next: Step,
    pub(crate) calls_left: u8,
    /// A `Claim`.
    pub(crate) guard: Option<(SlotId, Epoch)>,
    /// A `Membership`.
    pub(crate) membership: Option<(SlotId, Phone)>,
    /// How many epochs it has drawn.
    pub(crate) drawn: u8,
    /// What its call starts over for: how many slots there were when it last lost a race to insert one; or how often it has
    /// removed a superseded entry.
    pub(crate) turn: usize,
    /// Bits of slots: the graces that an `expire` under way must not leave.
    pub(crate) owed: u16,
    /// Bits of names: what an `expire` under way has handed out.
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
    /// `index::Index`: at most one slot a name.
    pub(crate) index: Vec<Option<SlotId>>,
    /// `ledger::Ledger::deadlines`.
    pub(crate) queue: BTreeMap<Key, SlotId>,
    /// `deadlines::Queue::walks`.
    pub(crate) walks: u8,
    /// `deadlines::Queue::superseded`.
    pub(crate) superseded: BTreeSet<Key>,
    /// `ledger::Ledger::armings`.
    pub(crate) armings: u8,
    /// `ledger::Ledger::counts`.
    pub(crate) counts: Counts,
    /// `lingering::Lingering::stripes`: all threads share one.
    pub(crate) ring: Vec<SlotId>,
    /// `lingering::Lingering::overdue`.
    pub(crate) overdue: Vec<SlotId>,
    /// History: who has been let in, and how often each was let out.
    pub(crate) gone: BTreeMap<Conn, u8>,
    /// History.
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

    /// The retired slots that are in the index.
    pub(crate) fn left_behind(&self) -> impl Iterator<Item = SlotId> {
        let indexed = self.index.iter().copied().flatten();
        indexed.filter(|&id| self.slots[id].cell.is_none())
    }
}
