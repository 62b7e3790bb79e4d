//! Properties that hold in every state, and situations that must occur in some.

use std::collections::BTreeSet;

use stateright::Property;

use crate::model::Machine;
use crate::state::{Counts, Key, NOW, Record, State, Thread, Wrong};
use crate::step::{Step, Verb};
use crate::transition::Op;

pub(crate) fn all(machine: &Machine) -> Vec<Property<Machine>> {
    let must_be_seen = |situation: &Property<Machine>| machine.sees.contains(&situation.name);
    let situations = situations().into_iter().chain(of_scans());
    always()
        .into_iter()
        .chain(in_the_end())
        .chain(situations.filter(must_be_seen))
        .collect()
}

pub(crate) const ONE_LIVE_SLOT: &str = "a live slot is the one in the index";
pub(crate) const RETIRED_FOR_GOOD: &str = "a retired slot never lives again";
pub(crate) const GRACE_QUEUED: &str = "a grace has its deadline in the queue";
pub(crate) const ENTRY_LOOKED_AFTER: &str =
    "an entry without a grace belongs to a running call, or is superseded";
pub(crate) const ONE_PLACE: &str = "every connection is in one place, and is let out once";
pub(crate) const SUCCESSOR_UNTOUCHED: &str =
    "a call for one epoch never changes the tenure of another";
pub(crate) const EXPIRED_ONCE: &str = "one expire hands a server-id out once";
pub(crate) const NONE_MISSED: &str =
    "expire leaves no grace that was over when it began, unless it saw it in another state";
pub(crate) const RETIRED_LOOKED_AFTER: &str =
    "a retired slot in the index is in a queue, or about to be removed by a call";
pub(crate) const QUEUE_AT_REST: &str =
    "at rest the queue holds the deadlines of the graces, and none is superseded";
pub(crate) const COUNTS_AT_REST: &str = "at rest the counts match the records";
pub(crate) const ENDS_AT_REST: &str = "at rest the next expire ends every grace that is over";
pub(crate) const LEAVES_AT_REST: &str = "at rest some claims of other names clear the index";
pub(crate) const CALLS_END: &str = "every step brings its call closer to its end";

fn always() -> Vec<Property<Machine>> {
    vec![
        Property::always(ONE_LIVE_SLOT, |_, state: &State| {
            let mut live = state.live();
            live.all(|(id, _)| state.index[state.slots[id].name] == Some(id))
        }),
        Property::always(RETIRED_FOR_GOOD, |_, state: &State| {
            let mut live = state.live();
            live.all(|(id, _)| !state.slots[id].was_retired)
        }),
        Property::always(GRACE_QUEUED, |_, state: &State| {
            graces(state).is_subset(&queued(state))
        }),
        Property::always(ENTRY_LOOKED_AFTER, |_, state: &State| {
            let graces = graces(state);
            let threads = &state.threads;
            let looked_after: Vec<_> = threads.iter().map(|t| t.next.looks_after()).collect();
            let mut stale = queued(state)
                .into_iter()
                .filter(|entry| !graces.contains(entry));
            stale.all(|(key, _)| {
                looked_after.contains(&Some(key)) || state.superseded.contains(&key)
            })
        }),
        Property::always(ONE_PLACE, |_, state: &State| {
            let inside: Vec<_> = state
                .live()
                .flat_map(|(_, record)| record.conns())
                .collect();
            let known = inside.iter().all(|conn| state.gone.contains_key(conn));
            let once = state.gone.iter().all(|(conn, &gone)| {
                inside.iter().filter(|&other| other == conn).count() + usize::from(gone) == 1
            });
            known && once
        }),
        Property::always(SUCCESSOR_UNTOUCHED, |_, state: &State| {
            !state.wrong.contains(&Wrong::TouchedSuccessor)
        }),
        Property::always(EXPIRED_ONCE, |_, state: &State| {
            !state.wrong.contains(&Wrong::ExpiredTwice)
        }),
        Property::always(NONE_MISSED, |_, state: &State| {
            !state.wrong.contains(&Wrong::MissedGrace)
        }),
        // No thread ever waits for another, so a run stops only when all calls have returned; and by
        // `Step::progress` no run goes on forever. Every eventual property can therefore be checked in the
        // states at rest. None uses Stateright's `eventually`, which overlooks cycles and paths that join.
        Property::always(CALLS_END, |_, state: &State| {
            !state.wrong.contains(&Wrong::WentBack)
        }),
        Property::always(RETIRED_LOOKED_AFTER, |_, state: &State| {
            state.left_behind().all(|slot| {
                let mut threads = state.threads.iter();
                state.ring.contains(&slot)
                    || state.overdue.contains(&slot)
                    || threads.any(|thread| thread.next.will_remove() == Some(slot))
            })
        }),
    ]
}

/// Properties at rest. The last two make further calls, one at a time, from each state at rest. They cover
/// the eventual outcome of every run, because each state at rest is a run that has ended.
fn in_the_end() -> Vec<Property<Machine>> {
    vec![
        Property::always(QUEUE_AT_REST, |_, state: &State| {
            let settled = graces(state) == queued(state) && state.superseded.is_empty();
            !state.is_at_rest() || settled && state.scans == 0
        }),
        Property::always(COUNTS_AT_REST, |_, state: &State| {
            let live = state.live().map(|(_, record)| Counts::of(Some(record)));
            let there = live.fold(Counts::default(), |sum, counts| sum.plus(counts, 1));
            !state.is_at_rest() || state.counts == there
        }),
        Property::always(ENDS_AT_REST, |machine: &Machine, state: &State| {
            !state.is_at_rest() || {
                let mut state = with_one_more_thread(state);
                run(machine, &mut state, Verb::Expire);
                let over = state.live().any(|(_, record)| record.is_over());
                !over && state.wrong.is_empty()
            }
        }),
        Property::always(LEAVES_AT_REST, |machine: &Machine, state: &State| {
            !state.is_at_rest() || {
                let left_behind: BTreeSet<_> = state.left_behind().collect();
                let mut state = with_one_more_thread(state);
                let other = state.index.len() - 1;
                // Each claim removes one overdue slot, and each retirement one lingering slot.
                for _ in 0..=left_behind.len() {
                    run(machine, &mut state, Verb::Claim(other));
                    run(machine, &mut state, Verb::Evict(other));
                }
                state.left_behind().all(|slot| !left_behind.contains(&slot))
            }
        }),
    ]
}

fn graces(state: &State) -> BTreeSet<(Key, usize)> {
    let live = state.live();
    live.filter_map(|(slot, record)| Some((record.grace()?.key, slot)))
        .collect()
}

fn queued(state: &State) -> BTreeSet<(Key, usize)> {
    state
        .queue
        .iter()
        .map(|(&key, &slot)| (key, slot))
        .collect()
}

fn with_one_more_thread(state: &State) -> State {
    let mut state = state.clone();
    state.threads.push(Thread::new(u8::MAX));
    state
}

/// Makes one call on the last thread while no other thread runs.
fn run(machine: &Machine, state: &mut State, verb: Verb) {
    let id = state.threads.len() - 1;
    machine.call(state, id, verb);
    while state.threads[id].next != Step::Rest && !state.wrong.contains(&Wrong::WentBack) {
        machine.step(state, id);
    }
}

/// Whether a thread is about to take a matching step.
fn about_to(state: &State, like: impl Fn(&Step) -> bool) -> bool {
    state.threads.iter().any(|thread| like(&thread.next))
}

pub(crate) const REPLACES: &str = "a claim replaces a retired slot";
pub(crate) const TOO_LATE: &str = "a claim comes too late to insert its slot";
pub(crate) const SWAP_FAILS: &str = "a swap fails";
pub(crate) const REFUSED: &str = "an arming is refused";
pub(crate) const STALE_ENTRY: &str = "expire meets an entry that the record does not name";
pub(crate) const NEW_GRACE: &str = "expire meets a grace that began after it did";
pub(crate) const MOVES_AHEAD: &str = "a deadline moves towards the front before expire reaches it";
pub(crate) const MOVES_BACK: &str =
    "a deadline moves to where expire has already been, and is still over";
pub(crate) const MET_BEFORE: &str = "expire ends a grace that it met at an earlier deadline";
pub(crate) const LOOKS_AGAIN: &str = "the last scan ends while an entry is being postponed";
pub(crate) const OLD_CLAIM: &str = "an old claim meets its successor";
pub(crate) const TWO_SCAN: &str = "two scans run at once";
pub(crate) const SUCCESSOR_STAYS: &str =
    "a lingering slot is removed while its successor is in the index";
pub(crate) const OVERDUE: &str = "a claim finds a slot that a thread left at its end";

/// Situations that each configuration must reach; otherwise it shows nothing.
fn situations() -> Vec<Property<Machine>> {
    vec![
        Property::sometimes(REPLACES, |_, state: &State| {
            about_to(state, |step| match *step {
                Step::Insert {
                    name,
                    retired: Some(retired),
                    ..
                } => state.index[name] == Some(retired),
                _ => false,
            })
        }),
        Property::sometimes(TOO_LATE, |_, state: &State| {
            about_to(state, |step| match *step {
                Step::Insert { name, retired, .. } => {
                    state.index[name].is_some() && state.index[name] != retired
                }
                _ => false,
            })
        }),
        Property::sometimes(SWAP_FAILS, |_, state: &State| {
            about_to(state, |step| match *step {
                Step::Swap { slot, version, .. } => state.slots[slot].version != version,
                _ => false,
            })
        }),
        Property::sometimes(REFUSED, |_, state: &State| {
            about_to(state, |step| matches!(step, Step::Unqueue { .. }))
        }),
        Property::sometimes(OLD_CLAIM, |_, state: &State| {
            about_to(state, |step| match *step {
                Step::Load { slot, op } => {
                    let tenure = state.slots[slot].cell.and_then(|record| record.tenure);
                    let epoch = op.whose().epoch();
                    tenure.is_some_and(|tenure| epoch.is_some_and(|epoch| epoch != tenure.epoch))
                }
                _ => false,
            })
        }),
        Property::sometimes(OVERDUE, |_, state: &State| {
            about_to(state, |step| match *step {
                Step::RemoveOverdue { slot, .. } => state.left_behind().any(|left| left == slot),
                _ => false,
            })
        }),
        Property::sometimes(SUCCESSOR_STAYS, |_, state: &State| {
            about_to(state, |step| match *step {
                Step::RemoveLingering { slot, .. } => {
                    let place = state.index[state.slots[slot].name];
                    place.is_some_and(|other| other != slot)
                }
                _ => false,
            })
        }),
    ]
}

/// Situations of `expire`, and of calls that supersede an entry.
fn of_scans() -> Vec<Property<Machine>> {
    vec![
        Property::sometimes(STALE_ENTRY, |_, state: &State| {
            about_to(state, |step| match *step {
                Step::Load {
                    slot,
                    op: Op::Expire { met, .. },
                } => {
                    let grace = state.slots[slot].cell.and_then(Record::grace);
                    grace.is_some_and(|grace| grace.key != met)
                }
                _ => false,
            })
        }),
        Property::sometimes(NEW_GRACE, |_, state: &State| {
            about_to(state, |step| match *step {
                Step::Load {
                    slot,
                    op: Op::Expire { newer, .. },
                } => {
                    let over = |record: &Record| record.is_over();
                    let record = state.slots[slot].cell.filter(over);
                    let grace = record.and_then(Record::grace);
                    grace.is_some_and(|grace| grace.began >= newer)
                }
                _ => false,
            })
        }),
        Property::sometimes(MOVES_AHEAD, |_, state: &State| {
            let scans = state
                .threads
                .iter()
                .filter_map(|thread| thread.next.scan()?.met);
            let moves: Vec<_> = state.threads.iter().filter_map(moves).collect();
            scans
                .into_iter()
                .any(|met| moves.iter().any(|&(from, to)| to < from && from < met))
        }),
        Property::sometimes(MOVES_BACK, |_, state: &State| {
            let scans = state
                .threads
                .iter()
                .filter_map(|thread| thread.next.scan()?.met);
            let moves: Vec<_> = state.threads.iter().filter_map(moves).collect();
            scans.into_iter().any(|met| {
                let behind = |&(from, to): &(Key, Key)| from < met && met < to;
                moves.iter().any(|to| behind(to) && to.1.deadline <= NOW)
            })
        }),
        Property::sometimes(MET_BEFORE, |_, state: &State| {
            about_to(state, |step| match *step {
                Step::Swap {
                    slot,
                    version,
                    before,
                    op: Op::Expire { met, .. },
                    ..
                } => {
                    let wins = state.slots[slot].version == version;
                    wins && before.grace().is_some_and(|grace| grace.key > met)
                }
                _ => false,
            })
        }),
        Property::sometimes(LOOKS_AGAIN, |_, state: &State| {
            state.scans == 0 && about_to(state, |step| matches!(step, Step::LookAgain))
        }),
        Property::sometimes(TWO_SCAN, |_, state: &State| {
            let scans = state.threads.iter().filter_map(|thread| thread.next.scan());
            scans.count() > 1
        }),
    ]
}

/// The deadline that a thread is about to replace, and its replacement.
fn moves(thread: &Thread) -> Option<(Key, Key)> {
    match thread.next {
        Step::Swap {
            before,
            next: Some(next),
            op: Op::Grace { .. },
            ..
        } => {
            let from = before.grace()?.key;
            let to = next.grace()?.key;
            (from.deadline <= NOW).then_some((from, to))
        }
        _ => None,
    }
}
