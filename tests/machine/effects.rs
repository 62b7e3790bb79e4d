//! The effect of each step on the state.

use std::ops::Bound;

use crate::model::{Fault, Machine};
use crate::state::{Counts, Epoch, Key, NOW, Name, Record, Slot, SlotId, State, Wrong};
use crate::step::{Books, Purpose, Scan, Step, Then, Tidy};
use crate::transition::{Insist, Op};

impl Machine {
    pub(crate) fn step(&self, state: &mut State, id: usize) {
        let thread = &state.threads[id];
        let begun = thread.next.progress(thread.turn);
        let next = self.take(state, id, thread.next);
        let thread = &mut state.threads[id];
        thread.next = next;
        let progress = next.progress(thread.turn);
        if next == Step::Rest {
            thread.turn = 0;
        }
        if begun >= progress {
            state.wrong.insert(Wrong::WentBack);
        }
    }

    /// Takes a step and returns the next one.
    fn take(&self, state: &mut State, id: usize, step: Step) -> Step {
        match step {
            Step::Rest => unreachable!("no call is running"),
            Step::LookUp { name, purpose } => Self::look_up(state.index[name], name, purpose),
            Step::Load { slot, op } => self.decide(state, id, slot, op),
            Step::Swap {
                slot,
                version,
                before,
                next,
                op,
            } => {
                if state.slots[slot].version == version || self.has(Fault::Stores) {
                    self.won(state, id, slot, before, next, op)
                } else {
                    if self.has(Fault::CountsLosers) {
                        let lost = Counts::of(next).plus(Counts::of(Some(before)), -1);
                        state.counts = state.counts.plus(lost, 1);
                    }
                    self.decide(state, id, slot, op)
                }
            }
            Step::Insert {
                name,
                epoch,
                retired,
                insist,
            } => self.insert(state, id, name, epoch, retired, insist),
            Step::Check {
                slot,
                whose,
                deadline,
            } => {
                let record = state.slots[slot].cell;
                let admitted = record.and_then(|record| whose.tenure(record, self.fault));
                admitted.map_or(Step::Rest, |_| Step::Arm {
                    slot,
                    whose,
                    deadline,
                })
            }
            Step::Arm {
                slot,
                whose,
                deadline,
            } => {
                let arming = state.armings;
                let key = Key { deadline, arming };
                state.armings += 1;
                let op = Op::Grace { whose, key };
                if self.has(Fault::InsertsLate) {
                    return Step::Load { slot, op };
                }
                let late = None;
                Step::Enqueue {
                    slot,
                    whose,
                    key,
                    late,
                }
            }
            Step::Enqueue {
                slot,
                whose,
                key,
                late,
            } => {
                state.queue.insert(key, slot);
                let op = Op::Grace { whose, key };
                late.map_or(Step::Load { slot, op }, |books| self.settle(id, books))
            }
            Step::Unqueue { key } => {
                state.queue.remove(&key);
                Step::Rest
            }
            Step::Count(books) => {
                state.counts = state.counts.plus(books.counts, 1);
                self.disarm(id, books)
            }
            Step::Disarm(books) => {
                if let Some(key) = books.disarmed {
                    state.queue.remove(&key);
                }
                self.retire(id, books)
            }
            Step::BeginScan
            | Step::ReadNewer
            | Step::Search(_)
            | Step::EndScan
            | Step::Supersede { .. }
            | Step::RemoveSuperseded { .. }
            | Step::Postpone { .. }
            | Step::LookAgain
            | Step::Tidy(_) => self.scan(state, id, step),
            _ => self.clear(state, id, step),
        }
    }

    fn look_up(found: Option<SlotId>, name: Name, purpose: Purpose) -> Step {
        match (found, purpose) {
            (Some(slot), Purpose::Apply(op)) => Step::Load { slot, op },
            (Some(slot), Purpose::Arm { whose, deadline }) => Step::Check {
                slot,
                whose,
                deadline,
            },
            (None, Purpose::Apply(Op::Claim { epoch, insist })) => Step::Insert {
                name,
                epoch,
                retired: None,
                insist,
            },
            (None, Purpose::Apply(Op::TakeOver { epoch, .. })) => Step::Insert {
                name,
                epoch,
                retired: None,
                insist: Insist::HasDone,
            },
            (None, _) => Step::Rest,
        }
    }

    /// The loop of `Slot::apply`: from a load to the next swap, or to its exit.
    fn decide(&self, state: &mut State, id: usize, slot: SlotId, op: Op) -> Step {
        let Slot {
            cell,
            name,
            version,
            ..
        } = state.slots[slot];
        let revived = self.has(Fault::RevivesRetired) && matches!(op, Op::Claim { .. });
        let before = cell.or(revived.then(Record::default));
        let Some(before) = before else {
            return self.met_retired(slot, name, op);
        };
        let Ok(next) = op.decide(before, self.fault) else {
            return self.refused(state, id, slot, before, op);
        };
        if self.has(Fault::RemovesEarly)
            && let Some(grace) = before.grace()
        {
            state.queue.remove(&grace.key);
        }
        Step::Swap {
            slot,
            version,
            before,
            next,
            op,
        }
    }

    fn met_retired(&self, slot: SlotId, name: Name, op: Op) -> Step {
        match op {
            Op::Claim { .. } if self.has(Fault::WaitsForRemoval) => {
                let purpose = Purpose::Apply(op);
                Step::LookUp { name, purpose }
            }
            Op::Claim { epoch, insist } => Step::Insert {
                name,
                epoch,
                retired: Some(slot),
                insist,
            },
            Op::TakeOver { epoch, .. } => Step::Insert {
                name,
                epoch,
                retired: Some(slot),
                insist: Insist::HasDone,
            },
            Op::Grace { key, .. } => Step::Unqueue { key },
            Op::Expire { newer, met } => Step::Search(Scan {
                newer,
                met: Some(met),
            }),
            _ => Step::Rest,
        }
    }

    fn refused(&self, state: &mut State, id: usize, slot: SlotId, before: Record, op: Op) -> Step {
        if matches!(op, Op::Expire { .. }) && !before.is_over() {
            state.threads[id].owed &= !(1 << slot);
        }
        match op {
            Op::Claim {
                epoch,
                insist: Insist::Yes,
            } => {
                let incumbent = before.tenure.expect("a conflict has an incumbent").epoch;
                let op = Op::TakeOver { epoch, incumbent };
                let name = state.slots[slot].name;
                let purpose = Purpose::Apply(op);
                Step::LookUp { name, purpose }
            }
            Op::Claim { .. } | Op::TakeOver { .. } => Step::Rest,
            Op::Grace { .. } if self.has(Fault::KeepsRefused) => Step::Rest,
            _ => self.met_retired(slot, state.slots[slot].name, op),
        }
    }

    fn won(
        &self,
        state: &mut State,
        id: usize,
        slot: SlotId,
        before: Record,
        next: Option<Record>,
        op: Op,
    ) -> Step {
        watch(state, id, slot, before, next, op);
        let cell = &mut state.slots[slot];
        cell.cell = next;
        cell.version += 1;
        cell.was_retired |= next.is_none();
        let thread = &mut state.threads[id];
        let then = match op {
            Op::Claim { epoch, .. } | Op::TakeOver { epoch, .. } => {
                thread.guard = Some((slot, epoch));
                Then::Return
            }
            Op::Register { phone } => {
                thread.membership = Some((slot, phone));
                Then::Return
            }
            Op::Expire { newer, met } => {
                let met = Some(met);
                Then::Scan(Scan { newer, met })
            }
            _ => Then::Return,
        };
        let grace = |record: Option<Record>| record?.grace();
        let disarmed = before.grace().filter(|&was| grace(next) != Some(was));
        let books = Books {
            slot,
            counts: Counts::of(next).plus(Counts::of(Some(before)), -1),
            disarmed: disarmed
                .filter(|_| !self.has(Fault::KeepsDisarmed))
                .map(|grace| grace.key),
            goes_on: grace(next).is_some(),
            retired: next.is_none(),
            then,
        };
        if let Op::Grace { whose, key } = op
            && self.has(Fault::InsertsLate)
        {
            let late = Some(books);
            return Step::Enqueue {
                slot,
                whose,
                key,
                late,
            };
        }
        self.settle(id, books)
    }

    fn insert(
        &self,
        state: &mut State,
        id: usize,
        name: Name,
        epoch: Epoch,
        retired: Option<SlotId>,
        insist: Insist,
    ) -> Step {
        let may_replace = |found| {
            Some(found) == retired || (retired.is_some() && self.has(Fault::ReplacesAnything))
        };
        let slot = state.slots.len();
        if !state.index[name].is_none_or(may_replace) {
            state.threads[id].turn = slot;
            let purpose = Purpose::Apply(Op::Claim { epoch, insist });
            return Step::LookUp { name, purpose };
        }
        let record = Record::held(epoch);
        state.index[name] = Some(slot);
        state.slots.push(Slot {
            name,
            cell: Some(record),
            version: 0,
            was_retired: false,
        });
        state
            .gone
            .extend(record.conns().into_iter().map(|conn| (conn, 0)));
        state.threads[id].guard = Some((slot, epoch));
        let books = Books {
            slot,
            counts: Counts::of(Some(record)),
            disarmed: None,
            goes_on: false,
            retired: false,
            then: Then::RemoveOverdue(self.batch),
        };
        self.settle(id, books)
    }

    /// The steps of `expire` outside its calls of `Slot::apply`, and those of a call that supersedes an
    /// entry.
    fn scan(&self, state: &mut State, id: usize, step: Step) -> Step {
        match step {
            Step::BeginScan => {
                state.scans += 1;
                state.threads[id].owed = over(state);
                Step::ReadNewer
            }
            Step::ReadNewer => {
                let newer = state.armings;
                Step::Search(Scan { newer, met: None })
            }
            Step::Search(scan) => Self::search(state, id, scan),
            Step::EndScan => {
                state.scans -= 1;
                if state.scans > 0 || self.has(Fault::EndsUntidily) {
                    return Step::Rest;
                }
                self.tidy()
            }
            Step::Supersede { key } if state.scans > 0 => Step::Postpone { key },
            Step::Supersede { key } => Step::RemoveSuperseded { key },
            Step::RemoveSuperseded { key } => {
                state.queue.remove(&key);
                Step::Rest
            }
            Step::Postpone { key } => {
                state.superseded.insert(key);
                if self.has(Fault::LeavesSuperseded) {
                    return Step::Rest;
                }
                Step::LookAgain
            }
            Step::LookAgain if state.scans > 0 => Step::Rest,
            Step::LookAgain => self.tidy(),
            Step::Tidy(tidy) => self.tidies(state, id, tidy),
            _ => unreachable!("handled elsewhere: {step:?}"),
        }
    }

    /// The first step of `Queue::tidy`, also when it starts over.
    fn tidy(&self) -> Step {
        Step::Tidy(if self.has(Fault::LooksBeforeTheKey) {
            Tidy::LookFirst
        } else {
            Tidy::First
        })
    }

    fn tidies(&self, state: &mut State, id: usize, tidy: Tidy) -> Step {
        let is_scanning = state.scans > 0;
        match tidy {
            Tidy::LookFirst if is_scanning => Step::Rest,
            Tidy::LookFirst => Step::Tidy(Tidy::First),
            Tidy::First => match state.superseded.first().copied() {
                None => Step::Rest,
                Some(key) if self.has(Fault::LooksBeforeTheKey) => Step::Tidy(Tidy::Remove { key }),
                Some(key) => Step::Tidy(Tidy::Look { key }),
            },
            Tidy::Look { .. } if is_scanning && self.has(Fault::WaitsForScans) => self.tidy(),
            Tidy::Look { .. } if is_scanning => Step::Rest,
            Tidy::Look { key } => Step::Tidy(Tidy::Remove { key }),
            Tidy::Remove { key } => {
                state.queue.remove(&key);
                Step::Tidy(Tidy::Forget { key })
            }
            Tidy::Forget { key } => {
                state.superseded.remove(&key);
                state.threads[id].turn += 1;
                self.tidy()
            }
        }
    }

    fn search(state: &mut State, id: usize, scan: Scan) -> Step {
        let last = Key {
            deadline: NOW,
            arming: u8::MAX,
        };
        let to = scan.met.map_or(Bound::Included(last), Bound::Excluded);
        let mut before = state.queue.range((Bound::Unbounded, to));
        if let Some((&met, &slot)) = before.next_back() {
            let newer = scan.newer;
            let op = Op::Expire { newer, met };
            return Step::Load { slot, op };
        }
        let thread = &mut state.threads[id];
        if thread.owed != 0 {
            state.wrong.insert(Wrong::MissedGrace);
        }
        (thread.owed, thread.taken) = (0, 0);
        Step::EndScan
    }

    /// `Ledger::settle`. Skips counters that do not change.
    fn settle(&self, id: usize, books: Books) -> Step {
        if books.counts == Counts::default() {
            self.disarm(id, books)
        } else {
            Step::Count(books)
        }
    }

    fn disarm(&self, id: usize, books: Books) -> Step {
        match books.disarmed {
            Some(key) if books.goes_on && !self.has(Fault::RemovesSuperseded) => {
                Step::Supersede { key }
            }
            Some(_) => Step::Disarm(books),
            None => self.retire(id, books),
        }
    }

    /// `Lingering::keep`.
    fn retire(&self, id: usize, books: Books) -> Step {
        let Books {
            slot,
            retired,
            then,
            ..
        } = books;
        match (retired, self.long) {
            (false, _) => after(then),
            (true, false) => Step::Linger { slot, then },
            (true, true) => self.overdue(id, slot, 0, then),
        }
    }

    fn overdue(&self, id: usize, slot: SlotId, left: usize, then: Then) -> Step {
        if self.has(Fault::ForgetsLingering) {
            after(then)
        } else if self.programs.get(id).is_some_and(|program| program.ends) {
            Step::LeaveToOthers { slot, then }
        } else {
            Step::RemoveLingering { slot, left, then }
        }
    }

    /// The steps that remove retired slots from the index.
    fn clear(&self, state: &mut State, id: usize, step: Step) -> Step {
        match step {
            Step::Linger { slot, then } => {
                state.ring.push(slot);
                if state.ring.len() == 1 {
                    return after(then);
                }
                let oldest = state.ring.remove(0);
                self.overdue(id, oldest, self.batch - 1, then)
            }
            Step::LeaveToOthers { slot, then } => {
                if !self.has(Fault::ForgetsOverdue) {
                    state.overdue.push(slot);
                }
                after(then)
            }
            Step::RemoveLingering { slot, left, then } => {
                self.remove(state, slot);
                if left == 0 {
                    return after(then);
                }
                Step::PopLingering { left, then }
            }
            Step::PopLingering { left, then } => {
                if state.ring.is_empty() {
                    return after(then);
                }
                let slot = state.ring.remove(0);
                let left = left - 1;
                Step::RemoveLingering { slot, left, then }
            }
            Step::PopOverdue { left } => {
                if state.overdue.is_empty() || self.has(Fault::NeverDrains) {
                    return Step::Rest;
                }
                let slot = state.overdue.remove(0);
                Step::RemoveOverdue { slot, left }
            }
            Step::RemoveOverdue { slot, left } => {
                self.remove(state, slot);
                after(Then::RemoveOverdue(left - 1))
            }
            _ => unreachable!("handled elsewhere: {step:?}"),
        }
    }

    /// `Index::remove`.
    fn remove(&self, state: &mut State, slot: SlotId) {
        let place = &mut state.index[state.slots[slot].name];
        if *place == Some(slot) || self.has(Fault::RemovesByName) {
            *place = None;
        }
    }
}

fn after(then: Then) -> Step {
    match then {
        Then::Return | Then::RemoveOverdue(0) => Step::Rest,
        Then::RemoveOverdue(left) => Step::PopOverdue { left },
        Then::Scan(scan) => Step::Search(scan),
    }
}

/// The slots whose grace is over, as bits.
fn over(state: &State) -> u16 {
    let over = state.live().filter(|(_, record)| record.is_over());
    over.fold(0, |bits, (slot, _)| bits | (1 << slot))
}

/// Records the history, which the implementation does not have, before a swap.
fn watch(state: &mut State, id: usize, slot: SlotId, before: Record, next: Option<Record>, op: Op) {
    let Slot { cell, name, .. } = state.slots[slot];
    let held_by = cell
        .and_then(|record| record.tenure)
        .map(|tenure| tenure.epoch);
    if op
        .whose()
        .epoch()
        .is_some_and(|epoch| held_by != Some(epoch))
    {
        state.wrong.insert(Wrong::TouchedSuccessor);
    }
    let (had, has) = (before.conns(), next.unwrap_or_default().conns());
    for &conn in had.difference(&has) {
        *state.gone.entry(conn).or_default() += 1;
    }
    for &conn in has.difference(&had) {
        state.gone.entry(conn).or_insert(0);
    }
    if let Op::Expire { .. } = op {
        let taken = &mut state.threads[id].taken;
        if *taken & (1 << name) != 0 {
            state.wrong.insert(Wrong::ExpiredTwice);
        }
        *taken |= 1 << name;
    }
    // No `expire` owes a grace that has ended. No tenure has two graces.
    let in_grace = |record: Option<Record>| {
        let tenure = record?.tenure?;
        tenure.grace.map(|_| tenure.epoch)
    };
    if in_grace(cell) != in_grace(next) {
        for thread in &mut state.threads {
            thread.owed &= !(1 << slot);
        }
    }
}
