//! The transition system: the steps possible in a state, and their effects.

use std::collections::{BTreeMap, BTreeSet};

use stateright::{Model, Property};

use crate::properties;
use crate::state::{Counts, Grace, Key, Name, Record, Slot, State, Tenure, Thread, Time};
use crate::step::{Purpose, Step, Verb};
use crate::transition::{Insist, Op, Whose};

/// The epoch of a name's first claim, and the conn-id of its phone.
fn first(name: Name) -> u8 {
    u8::try_from(name).expect("few names")
}

/// Bugs of the implementation that are planted in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// `Slot::begin_grace` inserts the deadline after the swap.
    InsertsLate,
    /// `Slot::begin_grace` leaves the entry of a refused arming in the queue.
    KeepsRefused,
    /// `Ledger::settle` leaves the entry of a grace that has ended or moved.
    KeepsDisarmed,
    /// The entry is removed before the swap that ends its grace instead of after it.
    RemovesEarly,
    /// `transition::expire` ignores when the grace began.
    TakesNewGraces,
    /// `transition::grace` treats every arming as the beginning of a grace.
    BeginsAnew,
    /// `Ledger::settle` removes a superseded entry as if its grace had ended.
    RemovesSuperseded,
    /// `Queue::supersede` does not tidy.
    LeavesSuperseded,
    /// `Queue::end_scan` does not tidy.
    EndsUntidily,
    /// `Queue::tidy` looks for running scans first, and only then takes a key and removes its entry.
    LooksBeforeTheKey,
    /// `Queue::tidy` retries until no scan is running.
    WaitsForScans,
    /// `Index::remove` removes any slot with the name.
    RemovesByName,
    /// `Store::insert_held` replaces any slot with the name.
    ReplacesAnything,
    /// `Slot::apply` treats a retired slot as vacant.
    RevivesRetired,
    /// `Slot::apply` stores without comparing.
    Stores,
    /// `Whose` admits every epoch.
    AnyEpoch,
    /// `Lingering::keep` forgets the slot for which the ring had no room.
    ForgetsLingering,
    /// `Lingering::keep` forgets the slot that an ending thread could not remove.
    ForgetsOverdue,
    /// `Store::insert_held` does not remove overdue slots.
    NeverDrains,
    /// `claim::claim` looks a retired slot up again until another thread removes it.
    WaitsForRemoval,
    /// Threads that lose a swap also call `Ledger::settle`: their changes are counted.
    CountsLosers,
}

/// The initial state of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Absent,
    Held,
    Grace(Time),
    Vacant,
    /// The name's retired slot is still in the index.
    Retired,
}

/// A thread and the calls it may make.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) calls: u8,
    pub(crate) verbs: Vec<Verb>,
    /// Holds the guards of the first name's claim and phone, and can no longer use papaya: `can_pin()` is
    /// false.
    pub(crate) ends: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) starts: Vec<Vec<Start>>,
    pub(crate) programs: Vec<Program>,
    /// `lingering::BATCH`. The model's `lingering::LINGERING` is one.
    pub(crate) batch: usize,
    /// Whether names are longer than `lingering::LONG`.
    pub(crate) long: bool,
    pub(crate) fault: Option<Fault>,
    /// The situations that the search must reach: `properties::situations`.
    pub(crate) sees: Vec<&'static str>,
}

/// The next action of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Calls a verb and takes its first step.
    Call(usize, Verb),
    /// Takes the next step of the running call.
    Next(usize, Step),
}

impl Model for Machine {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        self.starts.iter().map(|names| self.start(names)).collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (id, (thread, program)) in state.threads.iter().zip(&self.programs).enumerate() {
            if thread.next != Step::Rest {
                actions.push(Action::Next(id, thread.next));
            } else if thread.calls_left > 0 {
                let known = |&&verb: &&Verb| Self::first_step(state, id, verb).is_some();
                let verbs = program.verbs.iter().filter(known);
                actions.extend(verbs.map(|&verb| Action::Call(id, verb)));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Call(id, verb) => self.call(&mut state, id, verb),
            Action::Next(id, _) => self.step(&mut state, id),
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all(self)
    }
}

impl Machine {
    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn start(&self, names: &[Start]) -> State {
        let mut state = State {
            threads: self.programs.iter().map(|p| Thread::new(p.calls)).collect(),
            slots: Vec::new(),
            // One extra entry, for the claims made at rest.
            index: vec![None; names.len() + 1],
            queue: BTreeMap::new(),
            scans: 0,
            superseded: BTreeSet::new(),
            armings: 0,
            counts: Counts::default(),
            ring: Vec::new(),
            overdue: Vec::new(),
            gone: BTreeMap::new(),
            wrong: BTreeSet::new(),
        };
        for (name, &start) in names.iter().enumerate() {
            if start == Start::Absent {
                continue;
            }
            let slot = state.slots.len();
            let grace = match start {
                Start::Grace(deadline) => {
                    let arming = state.armings;
                    let key = Key { deadline, arming };
                    state.armings += 1;
                    state.queue.insert(key, slot);
                    Some(Grace { key, began: arming })
                }
                _ => None,
            };
            let epoch = first(name);
            let tenure = Tenure { epoch, grace };
            let record = Record {
                tenure: (start != Start::Vacant).then_some(tenure),
                phones: 1 << first(name),
            };
            let cell = (start != Start::Retired).then_some(record);
            state.slots.push(Slot {
                name,
                cell,
                version: 0,
                was_retired: cell.is_none(),
            });
            state.index[name] = Some(slot);
            match cell {
                Some(_) => {}
                // Left there by a thread at its end.
                None if self.long => state.overdue.push(slot),
                None => state.ring.push(slot),
            }
            state.counts = state.counts.plus(Counts::of(cell), 1);
            let inside = cell.map(Record::conns).unwrap_or_default();
            state.gone.extend(inside.into_iter().map(|conn| (conn, 0)));
            if name == 0 {
                for (thread, program) in state.threads.iter_mut().zip(&self.programs) {
                    if program.ends {
                        thread.guard = Some((slot, epoch));
                        thread.membership = Some((slot, first(name)));
                    }
                }
            }
        }
        state
    }

    /// Unique to this thread: no two epochs are equal, and no two phones.
    fn own(state: &State, id: usize) -> u8 {
        let drawn = state.threads[id].drawn;
        3 + u8::try_from(id).expect("few threads") * 3 + drawn
    }

    /// Returns `None` if the verb has nothing to act on.
    fn first_step(state: &State, id: usize, verb: Verb) -> Option<Step> {
        let thread = &state.threads[id];
        let own = Self::own(state, id);
        let look_up = |name, op| Step::LookUp {
            name,
            purpose: Purpose::Apply(op),
        };
        let claim = |name, insist| look_up(name, Op::Claim { epoch: own, insist });
        let mine = |name| {
            let guard = thread.guard?;
            (state.slots[guard.0].name == name).then_some(guard)
        };
        Some(match verb {
            Verb::Claim(name) => claim(name, Insist::No),
            Verb::TakeOver(name) => claim(name, Insist::Yes),
            Verb::Release(name) => {
                let epoch = mine(name).map_or(first(name), |(_, epoch)| epoch);
                let whose = Whose::Claim(epoch);
                let op = Op::Release { whose };
                mine(name).map_or(look_up(name, op), |(slot, _)| Step::Load { slot, op })
            }
            Verb::ReleaseAfter(name, deadline) => match mine(name) {
                Some((slot, epoch)) => Step::Check {
                    slot,
                    whose: Whose::Claim(epoch),
                    deadline,
                },
                None => Step::LookUp {
                    name,
                    purpose: Purpose::Arm {
                        whose: Whose::Claim(first(name)),
                        deadline,
                    },
                },
            },
            Verb::DropInto(deadline) => {
                let (slot, epoch) = thread.guard?;
                Step::Check {
                    slot,
                    whose: Whose::Present(epoch),
                    deadline,
                }
            }
            Verb::Evict(name) => look_up(name, Op::Evict),
            Verb::Register(name) => look_up(name, Op::Register { phone: own }),
            Verb::Leave => {
                let (slot, phone) = thread.membership?;
                let op = Op::Leave { phone };
                Step::Load { slot, op }
            }
            Verb::Expire => Step::BeginScan,
        })
    }

    pub(crate) fn call(&self, state: &mut State, id: usize, verb: Verb) {
        let step = Self::first_step(state, id, verb);
        let thread = &mut state.threads[id];
        thread.next = step.expect("offered");
        thread.calls_left -= 1;
        match verb {
            Verb::Claim(_) | Verb::TakeOver(_) | Verb::Register(_) => thread.drawn += 1,
            Verb::Leave => thread.membership = None,
            _ => {}
        }
        self.step(state, id);
    }
}
