//! A model of the implementation: not of the contract, as in `common::model`, but of the steps by which the
//! verbs fulfil it. Stateright searches all states that a few threads can reach, in whatever order they take
//! their steps.
//!
//! It checks the argument of `IMPLEMENTATION.md`, not the code. `step::Step` names the function in `src/`
//! behind each step, and only a reader compares the two. Bugs planted in the model show that the search would
//! find them.
//!
//! The model omits `unregister_phone` and the count of removals, the cap, `drain`, reads, and graces without
//! end. `drain` takes the steps of `evict_server` for each slot that it has gathered. The others write
//! nothing shared, or take the steps of a call that is modelled. All threads use the same stripe, and see
//! each other's steps at once, in one order.
//!
//! `SWITCHBOARD_MODEL=deep cargo test -p switchboard-machine -- --nocapture` searches further.

mod effects;
mod model;
mod properties;
mod state;
mod step;
mod transition;

use std::time::Instant;

use model::{Fault, Machine, Program, Start};
use properties as p;
use state::{LATE, NOW};
use stateright::{Checker, HasDiscoveries, Model};
use step::Verb;

fn program(calls: u8, verbs: &[Verb]) -> Program {
    let verbs = verbs.to_vec();
    Program {
        calls,
        verbs,
        ends: false,
    }
}

/// Every verb, on a single name.
fn every_verb() -> Vec<Verb> {
    vec![
        Verb::Claim(0),
        Verb::TakeOver(0),
        Verb::Release(0),
        Verb::ReleaseAfter(0, 1),
        Verb::ReleaseAfter(0, LATE),
        Verb::Evict(0),
        Verb::Register(0),
        Verb::Leave,
        Verb::Expire,
    ]
}

fn every_start() -> Vec<Vec<Start>> {
    [
        Start::Absent,
        Start::Held,
        Start::Grace(NOW),
        Start::Grace(LATE),
        Start::Vacant,
        Start::Retired,
    ]
    .map(|start| vec![start])
    .to_vec()
}

/// Two threads with two calls each of any verb, on one name.
fn two_threads() -> Machine {
    Machine {
        starts: every_start(),
        programs: vec![program(2, &every_verb()); 2],
        batch: 1,
        long: false,
        fault: None,
        sees: vec![
            p::REPLACES,
            p::TOO_LATE,
            p::SWAP_FAILS,
            p::REFUSED,
            p::STALE_ENTRY,
            p::OLD_CLAIM,
            p::TWO_SCAN,
        ],
    }
}

/// Three threads with one call each.
fn three_threads() -> Machine {
    Machine {
        programs: vec![program(1, &every_verb()); 3],
        ..two_threads()
    }
}

/// Two names in grace. Over `moves` calls, deadlines move and claims arrive, while one or two threads run
/// `expire`.
fn moving_deadlines(moves: u8) -> Machine {
    let calls = [
        Verb::Claim(0),
        Verb::ReleaseAfter(0, 1),
        Verb::ReleaseAfter(0, NOW),
        Verb::ReleaseAfter(0, LATE),
        Verb::ReleaseAfter(1, 1),
    ];
    let other = [Verb::Expire, Verb::ReleaseAfter(0, 1)];
    Machine {
        starts: vec![
            vec![Start::Grace(1), Start::Grace(2)],
            vec![Start::Grace(NOW), Start::Held],
        ],
        programs: vec![
            program(1, &[Verb::Expire]),
            program(moves, &calls),
            program(1, &other),
        ],
        sees: vec![
            p::SWAP_FAILS,
            p::REFUSED,
            p::STALE_ENTRY,
            p::NEW_GRACE,
            p::MOVES_AHEAD,
            p::MOVES_BACK,
            p::MET_BEFORE,
            p::LOOKS_AGAIN,
            p::OLD_CLAIM,
            p::TWO_SCAN,
        ],
        ..two_threads()
    }
}

/// One thread runs `expire` twice. Meanwhile two graces come to be over, and the deadline of one moves to a
/// later time. Its entry can therefore be superseded before the first scan, between the two, or during the
/// second.
fn two_scans() -> Machine {
    Machine {
        starts: vec![vec![Start::Held, Start::Grace(LATE)]],
        programs: vec![
            program(2, &[Verb::Expire]),
            program(1, &[Verb::ReleaseAfter(1, 2)]),
            program(2, &[Verb::ReleaseAfter(0, 1), Verb::ReleaseAfter(0, NOW)]),
        ],
        sees: vec![p::MOVES_BACK, p::MET_BEFORE, p::LOOKS_AGAIN],
        ..two_threads()
    }
}

/// Two names that come and go, and a thread that is ending. It holds a claim and a phone of the first name,
/// and cannot remove anything from the index.
fn a_thread_ends(batch: usize, long: bool) -> Machine {
    let at_its_end = [
        Verb::Release(0),
        Verb::DropInto(1),
        Verb::ReleaseAfter(0, 1),
        Verb::Leave,
    ];
    let of_another = [
        Verb::Claim(0),
        Verb::Claim(1),
        Verb::Evict(0),
        Verb::Evict(1),
        Verb::Release(0),
        Verb::Expire,
    ];
    let mut sees = vec![p::REPLACES, p::SWAP_FAILS, p::OVERDUE];
    if !long {
        sees.push(p::SUCCESSOR_STAYS);
    }
    Machine {
        starts: vec![
            vec![Start::Held, Start::Retired],
            vec![Start::Held, Start::Held],
            vec![Start::Grace(1), Start::Retired],
            vec![Start::Vacant, Start::Retired],
        ],
        programs: vec![
            Program {
                ends: true,
                ..program(2, &at_its_end)
            },
            program(3, &of_another),
        ],
        batch,
        long,
        sees,
        ..two_threads()
    }
}

fn search(name: &str, machine: Machine) {
    check(name, machine.checker().spawn_bfs());
}

/// Searches depth-first, which needs less memory.
fn search_deep(name: &str, machine: Machine) {
    if std::env::var("SWITCHBOARD_MODEL").is_ok_and(|how| how == "deep") {
        check(name, machine.checker().spawn_dfs());
    }
}

fn check(name: &str, checker: impl Checker<Machine>) {
    let begun = Instant::now();
    let checker = checker.join();
    let (all, states) = (checker.state_count(), checker.unique_state_count());
    let (depth, took) = (checker.max_depth(), begun.elapsed());
    println!("{name}: {states} states by {all} steps, {depth} deep, {took:?}");
    checker.assert_properties();
}

/// Asserts that the search finds the planted bug through this property.
fn sees(fault: Fault, property: &'static str, machine: Machine) {
    let fault = Some(fault);
    let begun = Instant::now();
    let found = HasDiscoveries::AnyOf([property].into());
    let checker = Machine { fault, ..machine }
        .checker()
        .finish_when(found)
        .spawn_bfs()
        .join();
    println!(
        "{fault:?}: {} states, {:?}",
        checker.unique_state_count(),
        begun.elapsed()
    );
    let path = checker
        .discovery(property)
        .expect("the search finds the bug");
    println!("{:#?}", path.into_actions());
}

/// Sets the number of calls of the first thread.
fn with_calls(calls: u8, mut machine: Machine) -> Machine {
    machine.programs[0].calls = calls;
    machine
}

#[test]
fn two_threads_keep_every_property() {
    search("two threads", two_threads());
    search_deep(
        "two threads, three calls and two",
        with_calls(3, two_threads()),
    );
}

#[test]
fn three_threads_keep_every_property() {
    search("three threads", three_threads());
    search_deep(
        "three threads, one with two calls",
        with_calls(2, three_threads()),
    );
}

#[test]
fn deadlines_that_move_during_expire_keep_every_property() {
    search("moving deadlines", moving_deadlines(1));
    search_deep("two scans in turn", two_scans());
    search_deep(
        "moving deadlines, two expire in turn",
        with_calls(2, moving_deadlines(1)),
    );
    search_deep("moving deadlines, two moves", moving_deadlines(2));
}

#[test]
fn a_thread_that_ends_keeps_every_property() {
    search("a thread ends", a_thread_ends(1, false));
    search(
        "a thread ends, two are removed at a time",
        a_thread_ends(2, false),
    );
    search("a thread ends, long names", a_thread_ends(1, true));
    let mut with_a_third = a_thread_ends(2, false);
    with_a_third.programs[1].calls = 2;
    with_a_third
        .programs
        .push(program(1, &[Verb::Claim(0), Verb::Evict(0), Verb::Expire]));
    search_deep("a thread ends, two others run", with_a_third);
}

#[test]
fn the_model_sees_a_deadline_that_is_inserted_late() {
    sees(Fault::InsertsLate, p::GRACE_QUEUED, two_threads());
}

#[test]
fn the_model_sees_an_entry_that_a_refused_arming_leaves() {
    sees(Fault::KeepsRefused, p::ENTRY_LOOKED_AFTER, two_threads());
    sees(Fault::KeepsRefused, p::QUEUE_AT_REST, two_threads());
}

#[test]
fn the_model_sees_an_entry_that_a_grace_leaves() {
    sees(Fault::KeepsDisarmed, p::ENTRY_LOOKED_AFTER, two_threads());
    sees(Fault::KeepsDisarmed, p::QUEUE_AT_REST, two_threads());
}

#[test]
fn the_model_sees_an_entry_that_is_removed_early() {
    sees(Fault::RemovesEarly, p::GRACE_QUEUED, two_threads());
    sees(Fault::RemovesEarly, p::ENDS_AT_REST, two_threads());
}

#[test]
fn the_model_sees_an_expire_that_takes_new_graces() {
    let mut of_two = moving_deadlines(2);
    of_two.programs.truncate(2);
    sees(Fault::TakesNewGraces, p::EXPIRED_ONCE, of_two);
}

#[test]
fn the_model_sees_a_grace_that_forgets_when_it_began() {
    sees(Fault::BeginsAnew, p::NONE_MISSED, moving_deadlines(1));
}

#[test]
fn the_model_sees_a_superseded_entry_that_is_removed_at_once() {
    sees(
        Fault::RemovesSuperseded,
        p::NONE_MISSED,
        moving_deadlines(1),
    );
}

#[test]
fn the_model_sees_a_superseded_entry_that_is_never_removed() {
    sees(
        Fault::LeavesSuperseded,
        p::QUEUE_AT_REST,
        moving_deadlines(1),
    );
    sees(Fault::EndsUntidily, p::QUEUE_AT_REST, moving_deadlines(1));
}

#[test]
fn the_model_sees_a_superseded_entry_that_a_new_scan_needs() {
    sees(Fault::LooksBeforeTheKey, p::NONE_MISSED, two_scans());
}

#[test]
fn the_model_sees_a_tidying_that_waits_for_scans() {
    sees(Fault::WaitsForScans, p::CALLS_END, moving_deadlines(1));
}

#[test]
fn the_model_sees_a_removal_by_name() {
    sees(
        Fault::RemovesByName,
        p::ONE_LIVE_SLOT,
        a_thread_ends(1, false),
    );
}

#[test]
fn the_model_sees_a_replacement_by_name() {
    sees(Fault::ReplacesAnything, p::ONE_LIVE_SLOT, three_threads());
}

#[test]
fn the_model_sees_a_retired_slot_that_is_claimed() {
    sees(Fault::RevivesRetired, p::RETIRED_FOR_GOOD, two_threads());
}

#[test]
fn the_model_sees_a_store_in_place_of_a_swap() {
    sees(Fault::Stores, p::ONE_PLACE, two_threads());
    sees(Fault::Stores, p::SUCCESSOR_UNTOUCHED, two_threads());
}

#[test]
fn the_model_sees_an_old_claim_that_ends_its_successor() {
    sees(Fault::AnyEpoch, p::SUCCESSOR_UNTOUCHED, two_threads());
}

#[test]
fn the_model_sees_a_lingering_slot_that_is_lost() {
    sees(
        Fault::ForgetsLingering,
        p::RETIRED_LOOKED_AFTER,
        a_thread_ends(1, false),
    );
    sees(
        Fault::ForgetsLingering,
        p::LEAVES_AT_REST,
        a_thread_ends(1, false),
    );
}

#[test]
fn the_model_sees_an_overdue_slot_that_is_lost() {
    sees(
        Fault::ForgetsOverdue,
        p::RETIRED_LOOKED_AFTER,
        a_thread_ends(1, false),
    );
}

#[test]
fn the_model_sees_overdue_slots_that_are_never_removed() {
    sees(
        Fault::NeverDrains,
        p::LEAVES_AT_REST,
        a_thread_ends(1, false),
    );
}

#[test]
fn the_model_sees_a_claim_that_waits_for_others() {
    sees(Fault::WaitsForRemoval, p::CALLS_END, two_threads());
}

#[test]
fn the_model_sees_a_change_that_is_counted_twice() {
    sees(Fault::CountsLosers, p::COUNTS_AT_REST, two_threads());
}
