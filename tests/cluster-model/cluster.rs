//! A model of the protocol by which several relays share one directory of server-ids, searched by Stateright.
//!
//! A server-id is owned by one node. The directory, a key-value store with revisions, names the owner. A connection
//! that reaches another node is carried to the owner through a tunnel. The model comes before the code: the relay's
//! functions will have the names of those in `protocol.rs`.
//!
//! | function | what it does | takes effect |
//! | --- | --- | --- |
//! | `look_up` | reads who owns a server-id | at the engine's read |
//! | `create` | places an unknown server-id here | at the engine's write, if the key is absent |
//! | `replace` | places the server-id of a node that is gone here | at the engine's write, at the revision that was read |
//! | `tunnel` | carries a connection to the owner, which lets it in or answers 421 | when the owner lets it in |
//! | `let_in` | adds a connection to the registry here | at once; excludes `give_up` |
//! | `give_up` | deletes a placement without connections | at the engine's delete, at the node's own revision |
//! | `renew` | renews the lease | at the engine's write |
//! | `revalidate` | after a lapse of the lease, writes each placement again | at the engine's write, at the node's own revision |
//! | `put_back` | creates again what the engine has forgotten | at the engine's write, if the key is absent |
//! | `evict_lost` | reads after a refusal, and evicts if another node owns the server-id | at once |
//!
//! Each write to the engine may be answered, lost, applied later, or applied with its answer lost. Nodes pause, are cut
//! off from the engine and die; the engine forgets everything. The search covers three nodes and two server-ids.
//!
//! # What the search has shown
//!
//! - **`revalidate` must write.** If it only compares revisions, another node that has already decided to `replace`
//!   does so afterwards, and both serve the server-id.
//! - **A node that reads its own name at a revision it does not know must `replace` it**, and not take it for its own:
//!   a delete of its own that timed out may still arrive, and would free the server-id under a new binary.
//!
//! Both are planted as flaws, beside the four that were feared from the beginning.
//!
//! # What is left out
//!
//! - Time. A lease is standing, adrift or gone, and a node is adrift before others hold it for gone. Whoever reads a
//!   lease reads the true one: a watch that lags is not modelled.
//! - Revisions never repeat, even after the engine forgot everything.
//! - Graces, probes, take-overs and tenures: the registry decides them on one node, and has models of its own.
//! - Nodes that cannot reach each other, drains, and how often a refused client comes back.

mod engine;
mod flaw;
mod model;
mod properties;
mod protocol;
mod state;

use std::collections::BTreeSet;

use stateright::{Checker, HasDiscoveries, Model};

use flaw::Flaw;
use model::Cluster;

const SOUND: Cluster = Cluster {
    visits: 2,
    faults: 2,
    flaw: Flaw::None,
};

#[test]
fn the_protocol_holds() {
    let checker = SOUND.checker().spawn_bfs().join();
    println!("{} states", checker.unique_state_count());
    checker.assert_properties();
}

/// Searches the protocol with a flaw until it finds that this property is violated.
fn assert_caught(flaw: Flaw, property: &'static str) {
    let model = Cluster { flaw, ..SOUND };
    let found = HasDiscoveries::AnyOf(BTreeSet::from([property]));
    let checker = model.checker().finish_when(found).spawn_bfs().join();
    println!("{} states", checker.unique_state_count());
    checker.assert_any_discovery(property);
}

#[test]
fn a_placement_replaced_without_its_revision_is_seen() {
    assert_caught(Flaw::ReplacesBlindly, properties::MOVES);
}

#[test]
fn a_time_out_that_is_taken_for_a_loss_is_seen() {
    assert_caught(Flaw::TimeoutIsLoss, properties::EVIDENCE);
}

#[test]
fn a_pause_without_revalidation_is_seen() {
    assert_caught(Flaw::NeverRevalidates, properties::DRIFT);
}

#[test]
fn a_placement_deleted_while_somebody_is_let_in_is_seen() {
    assert_caught(Flaw::LetsInWhileGivingUp, properties::DELETES);
}

#[test]
fn a_revalidation_that_only_reads_is_seen() {
    assert_caught(Flaw::RevalidatesByReading, properties::REST);
}

#[test]
fn a_placement_adopted_by_reading_is_seen() {
    assert_caught(Flaw::AdoptsByReading, properties::DELETES);
}
