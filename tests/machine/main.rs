//! Every run of a model of the implementation: not of what its verbs promise, as in `common::model`, but of the steps by which
//! they do it. Stateright searches all states that a few threads can come to, in whatever order they take their
//! steps.
//!
//! It checks the argument of `IMPLEMENTATION.md`, and not the code: `step::Step` names the line of `src/` that each step stands
//! for, and nothing but its reader compares the two. Bugs that are planted in the model show that it would see them.
//!
//! `SWITCHBOARD_MODEL=deep cargo test --test machine -- --nocapture` searches further.

mod effects;
mod model;
mod properties;
mod state;
mod step;
mod transition;

use std::time::Instant;

use model::{Fault, Machine, Program, Start};
use properties as p;
use stateright::{Checker, HasDiscoveries, Model};
use state::{LATE, NOW};
use step::Verb;

fn deep() -> bool {
    std::env::var("SWITCHBOARD_MODEL").is_ok_and(|how| how == "deep")
}

fn program(calls: u8, verbs: &[Verb]) -> Program {
    let verbs = verbs.to_vec();
    Program { calls, verbs, ends: false }
}

/// Each verb on the one name.
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

/// Two threads with two calls of any verb each, on one name.
fn two_threads() -> Machine {
    Machine {
        starts: every_start(),
        programs: vec![program(2, &every_verb()); 2],
        batch: 1,
        long: false,
        fault: None,
        sees: vec![p::REPLACES, p::TOO_LATE, p::SWAP_FAILS, p::REFUSED, p::STALE_ENTRY, p::OLD_CLAIM, p::TWO_WALK],
    }
}

/// Three threads with one call each.
fn three_threads() -> Machine {
    Machine {
        programs: vec![program(1, &every_verb()); 3],
        ..two_threads()
    }
}

fn search(name: &str, machine: Machine) {
    let begun = Instant::now();
    let checker = machine.checker().spawn_bfs().join();
    println!(
        "{name}: {} states, {} of them unique, {} steps deep, {:?}",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        begun.elapsed(),
    );
    checker.assert_properties();
}

#[test]
fn two_threads_hold() {
    search("two threads", two_threads());
}

#[test]
fn three_threads_hold() {
    search("three threads", three_threads());
}
