//! The steps of the nodes, of the engine and of the faults. The functions of the protocol are in `protocol.rs`.

use stateright::{Model, Property};

use crate::engine::{FATES, Fate};
use crate::flaw::Flaw;
use crate::properties;
use crate::state::{
    Connected, Held, Kind, Lease, Life, NODES, Next, NodeId, SERVERS, ServerId, State, Visit,
};

/// The protocol, and the bounds of the search.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    /// How many connections come.
    pub(crate) visits: u8,
    /// How many writes are not answered, and how often a node or the engine fails.
    pub(crate) faults: u8,
    pub(crate) flaw: Flaw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Come(NodeId, ServerId, Kind),
    Leave(NodeId, ServerId),
    LookUp(NodeId),
    Create(NodeId, Fate),
    Replace(NodeId, Fate),
    Tunnel(NodeId),
    /// Decides to give up: from here on it lets nobody in.
    BeginGivingUp(NodeId, ServerId),
    GiveUp(NodeId, ServerId, Fate),
    Renew(NodeId),
    Revalidate(NodeId, ServerId, Fate),
    PutBack(NodeId, ServerId, Fate),
    /// A delayed write reaches the engine.
    Arrive(usize),
    Pause(NodeId),
    Resume(NodeId),
    CutOff(NodeId),
    Reconnect(NodeId),
    Die(NodeId),
    Wipe,
    /// 10 s, and then 15 s, have passed since the last renewal.
    Age(NodeId),
}

impl Model for Cluster {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.visits, self.faults)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let fates = if state.faults_left > 0 {
            &FATES[..]
        } else {
            &FATES[..1]
        };
        for node in 0..NODES {
            visits(state, node, fates, actions);
            placements(state, node, fates, actions);
            faults(state, node, actions);
        }
        actions.extend((0..state.engine.delayed.len()).map(Action::Arrive));
        if state.faults_left > 0 {
            actions.push(Action::Wipe);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        state.seen = None;
        self.step(&mut state, action);
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

fn visits(state: &State, id: NodeId, fates: &[Fate], actions: &mut Vec<Action>) {
    let node = &state.nodes[id];
    if !node.runs() {
        return;
    }
    match node.visit.map(|visit| visit.next) {
        Some(Next::LookUp) => actions.push(Action::LookUp(id)),
        Some(Next::Create) => actions.extend(fates.iter().map(|&fate| Action::Create(id, fate))),
        Some(Next::Replace(_)) => {
            actions.extend(fates.iter().map(|&fate| Action::Replace(id, fate)));
        }
        Some(Next::Tunnel(_)) => actions.push(Action::Tunnel(id)),
        None if state.visits_left > 0 => {
            for server in 0..SERVERS {
                actions.push(Action::Come(id, server, Kind::Binary));
                actions.push(Action::Come(id, server, Kind::Phone));
            }
        }
        None => {}
    }
}

fn placements(state: &State, id: NodeId, fates: &[Fate], actions: &mut Vec<Action>) {
    let node = &state.nodes[id];
    if !node.runs() {
        return;
    }
    for (server, held) in node.held.iter().enumerate() {
        let Some(held) = held else { continue };
        if held.connected != Connected::Nobody {
            actions.push(Action::Leave(id, server));
        }
        if !node.can_ask() {
            continue;
        }
        if held.giving_up {
            actions.extend(fates.iter().map(|&fate| Action::GiveUp(id, server, fate)));
        } else if node.lease != Lease::Stands {
            // It renews first.
        } else if held.valid {
            if held.connected == Connected::Nobody {
                actions.push(Action::BeginGivingUp(id, server));
            }
        } else if held.revision.is_some() {
            actions.extend(
                fates
                    .iter()
                    .map(|&fate| Action::Revalidate(id, server, fate)),
            );
        } else {
            actions.extend(fates.iter().map(|&fate| Action::PutBack(id, server, fate)));
        }
    }
    if node.can_ask() && (node.lease != Lease::Stands || node.stream != state.engine.stream) {
        actions.push(Action::Renew(id));
    }
}

fn faults(state: &State, id: NodeId, actions: &mut Vec<Action>) {
    let node = &state.nodes[id];
    if state.faults_left > 0 && node.runs() {
        actions.extend([Action::Pause(id), Action::Die(id)]);
        if !node.cut_off {
            actions.push(Action::CutOff(id));
        }
    }
    if node.life == Life::Paused {
        actions.push(Action::Resume(id));
    }
    if node.cut_off {
        actions.push(Action::Reconnect(id));
    }
    if !node.can_ask() && node.lease != Lease::Gone {
        actions.push(Action::Age(id));
    }
}

impl Cluster {
    fn step(&self, state: &mut State, action: Action) {
        match action {
            Action::Come(id, server, kind) => {
                state.visits_left -= 1;
                state.nodes[id].visit = Some(Visit {
                    server,
                    kind,
                    next: Next::LookUp,
                    retries: 2,
                });
            }
            Action::Leave(id, server) => leave(state.nodes[id].held[server].as_mut()),
            Action::LookUp(id) => self.look_up(state, id),
            Action::Create(id, fate) => self.create(state, id, fate),
            Action::Replace(id, fate) => self.replace(state, id, fate),
            Action::Tunnel(id) => self.tunnel(state, id),
            Action::BeginGivingUp(id, server) => {
                if let Some(held) = &mut state.nodes[id].held[server] {
                    held.giving_up = true;
                }
            }
            Action::GiveUp(id, server, fate) => Self::give_up(state, id, server, fate),
            Action::Renew(id) => self.renew(state, id),
            Action::Revalidate(id, server, fate) => self.revalidate(state, id, server, fate),
            Action::PutBack(id, server, fate) => self.put_back(state, id, server, fate),
            Action::Arrive(index) => {
                let write = state.engine.delayed.remove(index);
                state.write(write);
            }
            Action::Pause(id) => state.fault(id).life = Life::Paused,
            Action::Resume(id) => state.nodes[id].life = Life::Running,
            Action::CutOff(id) => state.fault(id).cut_off = true,
            Action::Reconnect(id) => state.nodes[id].cut_off = false,
            Action::Die(id) => {
                let node = state.fault(id);
                node.life = Life::Dead;
                node.held = [None; SERVERS];
                node.visit = None;
            }
            Action::Wipe => {
                state.faults_left -= 1;
                state.engine.wipe();
            }
            Action::Age(id) => {
                let node = &mut state.nodes[id];
                node.lease = match node.lease {
                    Lease::Stands => Lease::Adrift,
                    _ => Lease::Gone,
                };
                node.drifted = true;
            }
        }
    }
}

fn leave(held: Option<&mut Held>) {
    if let Some(held) = held {
        held.connected = Connected::Nobody;
    }
}
