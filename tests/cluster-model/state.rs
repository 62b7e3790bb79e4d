//! The state of the nodes and of the engine.

use std::collections::BTreeSet;

use crate::engine::{Engine, Revision};

pub(crate) type NodeId = usize;
pub(crate) type ServerId = usize;

pub(crate) const NODES: usize = 3;
pub(crate) const SERVERS: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Life {
    Running,
    Paused,
    Dead,
}

/// How long ago a node sent its last renewal that was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Lease {
    Stands,
    /// Over 10 s: the node takes itself for adrift if it runs.
    Adrift,
    /// Over 15 s: others may hold the node for gone.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Binary,
    Phone,
}

/// Who is in a node's registry under a server-id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Connected {
    Nobody,
    Binary,
    Pair,
}

/// A server-id that a node takes for placed here, and its registry's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Held {
    /// `None`: the engine has forgotten the placement.
    pub(crate) revision: Option<Revision>,
    /// Whether it was revalidated since the node was last adrift or saw a new stream.
    pub(crate) valid: bool,
    pub(crate) giving_up: bool,
    pub(crate) connected: Connected,
}

/// What a connection that is not yet let in does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Next {
    LookUp,
    Create,
    Replace(Revision),
    Tunnel(NodeId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Visit {
    pub(crate) server: ServerId,
    pub(crate) kind: Kind,
    pub(crate) next: Next,
    /// How often it may look again.
    pub(crate) retries: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) life: Life,
    pub(crate) cut_off: bool,
    pub(crate) lease: Lease,
    /// The stream in which it last renewed.
    pub(crate) stream: u8,
    pub(crate) held: [Option<Held>; SERVERS],
    pub(crate) visit: Option<Visit>,
    /// History: it was adrift and has not revalidated everything since.
    pub(crate) drifted: bool,
}

impl Node {
    pub(crate) fn runs(&self) -> bool {
        self.life == Life::Running
    }

    pub(crate) fn can_ask(&self) -> bool {
        self.runs() && !self.cut_off
    }

    pub(crate) fn is_valid(&self) -> bool {
        self.held.iter().flatten().all(|held| held.valid)
    }

    /// Whether it may let anybody in or claim anything.
    pub(crate) fn is_open(&self) -> bool {
        self.runs() && self.lease == Lease::Stands && self.is_valid()
    }
}

/// Violations that are detected in the step that causes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Wrong {
    LetInUnderAnotherOwner,
    LetInAdrift,
    MovedFromHealthy,
    EvictedHealthy,
    DeletedUnderSomebody,
}

/// What the search has seen on the way to a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Seen {
    Replaced,
    Evicted,
    PutBack,
    Tunnelled,
    GaveUp,
    Misdirected,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) engine: Engine,
    pub(crate) nodes: [Node; NODES],
    pub(crate) visits_left: u8,
    pub(crate) faults_left: u8,
    pub(crate) wrong: BTreeSet<Wrong>,
    /// What the last step did.
    pub(crate) seen: Option<Seen>,
}

impl State {
    pub(crate) fn new(visits_left: u8, faults_left: u8) -> Self {
        let node = Node {
            life: Life::Running,
            cut_off: false,
            lease: Lease::Stands,
            stream: 0,
            held: [None; SERVERS],
            visit: None,
            drifted: false,
        };
        Self {
            engine: Engine::new(),
            nodes: [node.clone(), node.clone(), node],
            visits_left,
            faults_left,
            wrong: BTreeSet::new(),
            seen: None,
        }
    }

    /// Whether no step but a visit, a fault or a leaving connection remains.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.engine.delayed.is_empty()
            && self.nodes.iter().all(|node| {
                let quiet = node.is_open()
                    && !node.cut_off
                    && node.visit.is_none()
                    && node.stream == self.engine.stream;
                let giving_up = node.held.iter().flatten().any(|held| held.giving_up);
                node.life == Life::Dead || (quiet && !giving_up)
            })
    }
}
