//! What must hold, and what the search must reach.

use stateright::Property;

use crate::model::Cluster;
use crate::state::{Connected, Held, Seen, State, Wrong};

pub(crate) const MOVES: &str = "a placement moves only from a node that is gone or gave it up";
pub(crate) const EVIDENCE: &str = "evicts on positive evidence only";
pub(crate) const DRIFT: &str = "lets nobody in while adrift or not revalidated";
pub(crate) const DELETES: &str = "no placement is deleted under somebody";
pub(crate) const REST: &str = "at rest, who holds is who is named";

pub(crate) fn all() -> Vec<Property<Cluster>> {
    vec![
        Property::always(
            "lets in only what the directory places here, unless the engine forgot",
            |_, state: &State| !state.wrong.contains(&Wrong::LetInUnderAnotherOwner),
        ),
        Property::always(DRIFT, |_, state: &State| {
            !state.wrong.contains(&Wrong::LetInAdrift)
        }),
        Property::always(MOVES, |_, state: &State| {
            !state.wrong.contains(&Wrong::MovedFromHealthy)
        }),
        Property::always(EVIDENCE, |_, state: &State| {
            !state.wrong.contains(&Wrong::EvictedHealthy)
        }),
        Property::always(DELETES, |_, state: &State| {
            !state.wrong.contains(&Wrong::DeletedUnderSomebody)
        }),
        Property::always(REST, |_, state: &State| {
            !state.is_at_rest() || holders_are_named(state)
        }),
        Property::sometimes("replaced", |_, state: &State| {
            state.seen == Some(Seen::Replaced)
        }),
        Property::sometimes("evicted", |_, state: &State| {
            state.seen == Some(Seen::Evicted)
        }),
        Property::sometimes("put back", |_, state: &State| {
            state.seen == Some(Seen::PutBack)
        }),
        Property::sometimes("tunnelled", |_, state: &State| {
            state.seen == Some(Seen::Tunnelled)
        }),
        Property::sometimes("gave up", |_, state: &State| {
            state.seen == Some(Seen::GaveUp)
        }),
        Property::sometimes("misdirected", |_, state: &State| {
            state.seen == Some(Seen::Misdirected)
        }),
        Property::sometimes("two binaries of one server-id", |_, state: &State| {
            binaries(state, 0) > 1
        }),
        Property::sometimes(
            "at rest with a pair and no faults left",
            |_, state: &State| state.faults_left == 0 && state.is_at_rest() && pairs(state) > 0,
        ),
    ]
}

fn holders_are_named(state: &State) -> bool {
    state.nodes.iter().enumerate().all(|(id, node)| {
        let named =
            |server: usize| state.engine.places[server].is_some_and(|place| place.owner == id);
        !node.runs()
            || (0..node.held.len()).all(|server| node.held[server].is_none() || named(server))
    })
}

fn binaries(state: &State, server: usize) -> usize {
    let holds = |held: &&Held| held.connected != Connected::Nobody;
    let held = state.nodes.iter().filter(|node| node.runs());
    held.filter_map(|node| node.held[server].as_ref())
        .filter(holds)
        .count()
}

fn pairs(state: &State) -> usize {
    let held = state
        .nodes
        .iter()
        .flat_map(|node| node.held.iter().flatten());
    held.filter(|held| held.connected == Connected::Pair)
        .count()
}
