//! The functions of the protocol. The relay's have the same names.

use crate::engine::{Fate, If, Revision, Write};
use crate::flaw::Flaw;
use crate::model::Cluster;
use crate::state::{
    Connected, Held, Kind, Lease, Next, Node, NodeId, Seen, ServerId, State, Visit, Wrong,
};

/// What a node knows of its write.
enum Outcome {
    Applied(Revision),
    Refused,
    Unknown,
}

impl State {
    pub(crate) fn fault(&mut self, id: NodeId) -> &mut Node {
        self.faults_left -= 1;
        &mut self.nodes[id]
    }

    /// Applies a write to the engine if it admits it, and checks what the write does to the owner.
    pub(crate) fn write(&mut self, write: Write) -> Option<Revision> {
        if !self.engine.admits(write) {
            return None;
        }
        if let Some(place) = self.engine.places[write.server] {
            let owner = &self.nodes[place.owner];
            let held =
                owner.held[write.server].filter(|held| held.revision == Some(place.revision));
            let healthy = owner.lease == Lease::Stands && held.is_some_and(|held| held.valid);
            if write.deletes {
                if held.is_some_and(|held| held.connected != Connected::Nobody) {
                    self.wrong.insert(Wrong::DeletedUnderSomebody);
                }
            } else if place.owner != write.node && healthy {
                self.wrong.insert(Wrong::MovedFromHealthy);
            }
        }
        Some(self.engine.apply(write))
    }

    fn swap(&mut self, write: Write, fate: Fate) -> Outcome {
        if fate != Fate::Answered {
            self.faults_left -= 1;
        }
        match fate {
            Fate::Answered => self.write(write).map_or(Outcome::Refused, Outcome::Applied),
            Fate::Lost => Outcome::Unknown,
            Fate::Delayed => {
                self.engine.delay(write);
                Outcome::Unknown
            }
            Fate::Unanswered => {
                self.write(write);
                Outcome::Unknown
            }
        }
    }

    fn proceed(&mut self, id: NodeId, next: Next) {
        if let Some(visit) = &mut self.nodes[id].visit {
            visit.next = next;
        }
    }

    /// 421, or a lost race: the visit looks again, at most twice, and is then refused with 503.
    fn look_again(&mut self, id: NodeId) {
        self.nodes[id].visit = self.nodes[id].visit.and_then(|visit| {
            let retries = visit.retries.checked_sub(1)?;
            Some(Visit {
                next: Next::LookUp,
                retries,
                ..visit
            })
        });
    }
}

impl Cluster {
    pub(crate) fn look_up(&self, state: &mut State, id: NodeId) {
        let Some(visit) = state.nodes[id].visit else {
            return;
        };
        let Visit { server, kind, .. } = visit;
        if state.nodes[id].held[server].is_some() {
            state.nodes[id].visit = None;
            self.let_in(state, id, server, kind);
            return;
        }
        if !state.nodes[id].can_ask() || !state.nodes[id].is_open() {
            state.nodes[id].visit = None;
            return;
        }
        let gone = |owner: NodeId| state.nodes[owner].lease == Lease::Gone;
        match (state.engine.places[server], kind) {
            (Some(place), _) if place.owner != id && !gone(place.owner) => {
                state.proceed(id, Next::Tunnel(place.owner));
            }
            (Some(place), Kind::Binary) => {
                if self.flaw == Flaw::AdoptsByReading && place.owner == id {
                    self.hold(state, id, visit, place.revision);
                } else {
                    state.proceed(id, Next::Replace(place.revision));
                }
            }
            (None, Kind::Binary) => state.proceed(id, Next::Create),
            (_, Kind::Phone) => state.nodes[id].visit = None,
        }
    }

    pub(crate) fn create(&self, state: &mut State, id: NodeId, fate: Fate) {
        self.claim(state, id, If::Absent, fate);
    }

    pub(crate) fn replace(&self, state: &mut State, id: NodeId, fate: Fate) {
        let Some(Next::Replace(revision)) = state.nodes[id].visit.map(|visit| visit.next) else {
            return;
        };
        let condition = match self.flaw {
            Flaw::ReplacesBlindly => If::Always,
            _ => If::At(revision),
        };
        self.claim(state, id, condition, fate);
    }

    fn claim(&self, state: &mut State, id: NodeId, condition: If, fate: Fate) {
        let Some(visit) = state.nodes[id].visit else {
            return;
        };
        let server = visit.server;
        let node = &mut state.nodes[id];
        if !node.can_ask() || !node.is_open() || node.held[server].is_some() {
            node.visit = None;
            return;
        }
        let write = Write {
            node: id,
            server,
            condition,
            deletes: false,
        };
        match state.swap(write, fate) {
            Outcome::Applied(revision) => {
                if condition != If::Absent {
                    state.seen = Some(Seen::Replaced);
                }
                self.hold(state, id, visit, revision);
            }
            Outcome::Refused => state.look_again(id),
            Outcome::Unknown => state.nodes[id].visit = None,
        }
    }

    fn hold(&self, state: &mut State, id: NodeId, visit: Visit, revision: Revision) {
        state.nodes[id].held[visit.server] = Some(Held {
            revision: Some(revision),
            valid: true,
            giving_up: false,
            connected: Connected::Nobody,
        });
        state.nodes[id].visit = None;
        self.let_in(state, id, visit.server, visit.kind);
    }

    /// Lets a connection into the node's registry, or refuses it. Excludes `give_up`.
    pub(crate) fn let_in(&self, state: &mut State, id: NodeId, server: ServerId, kind: Kind) {
        let ignores = self.flaw == Flaw::LetsInWhileGivingUp;
        let node = &mut state.nodes[id];
        let open = node.is_open();
        let Some(held) = node.held[server].as_mut() else {
            return;
        };
        if !open || (held.giving_up && !ignores) {
            return;
        }
        held.connected = match (kind, held.connected) {
            (Kind::Binary, Connected::Nobody) => Connected::Binary,
            (Kind::Phone, Connected::Binary | Connected::Pair) => Connected::Pair,
            _ => return,
        };
        let forgotten = node.stream != state.engine.stream;
        if node.drifted {
            state.wrong.insert(Wrong::LetInAdrift);
        }
        if !forgotten && state.engine.places[server].is_none_or(|place| place.owner != id) {
            state.wrong.insert(Wrong::LetInUnderAnotherOwner);
        }
    }

    /// Carries the visit to the owner, which lets it in or answers 421.
    pub(crate) fn tunnel(&self, state: &mut State, id: NodeId) {
        let Some(visit) = state.nodes[id].visit else {
            return;
        };
        let Next::Tunnel(owner) = visit.next else {
            return;
        };
        let server = visit.server;
        if !state.nodes[owner].runs() {
            state.nodes[id].visit = None;
        } else if state.nodes[owner].held[server].is_some() {
            state.nodes[id].visit = None;
            self.let_in(state, owner, server, visit.kind);
            state.seen = Some(Seen::Tunnelled);
        } else {
            state.look_again(id);
            forget_unknown(state, owner, server);
            state.seen = Some(Seen::Misdirected);
        }
    }

    /// Deletes the placement at the node's own revision. After a time-out the node no longer holds it, either.
    pub(crate) fn give_up(state: &mut State, id: NodeId, server: ServerId, fate: Fate) {
        let Some(held) = state.nodes[id].held[server] else {
            return;
        };
        let condition = held.revision.map_or(If::Absent, If::At);
        state.swap(
            Write {
                node: id,
                server,
                condition,
                deletes: true,
            },
            fate,
        );
        state.nodes[id].held[server] = None;
        settle(&mut state.nodes[id]);
        state.seen = Some(Seen::GaveUp);
    }

    pub(crate) fn renew(&self, state: &mut State, id: NodeId) {
        let stream = state.engine.stream;
        let node = &mut state.nodes[id];
        node.lease = Lease::Stands;
        node.stream = stream;
        if self.flaw != Flaw::NeverRevalidates {
            for held in node.held.iter_mut().flatten() {
                held.valid = false;
            }
            settle(node);
        }
    }

    /// Writes the placement again at the node's own revision, so that no older write can apply any more.
    pub(crate) fn revalidate(&self, state: &mut State, id: NodeId, server: ServerId, fate: Fate) {
        let Some(revision) = state.nodes[id].held[server].and_then(|held| held.revision) else {
            return;
        };
        if self.flaw == Flaw::RevalidatesByReading {
            let place = state.engine.places[server];
            match place.filter(|place| place.owner == id && place.revision == revision) {
                Some(_) => validate(&mut state.nodes[id], server, revision),
                None => evict_lost(state, id, server),
            }
            return;
        }
        self.rewrite(state, id, server, If::At(revision), fate);
    }

    /// Creates again the placement that the engine has forgotten.
    pub(crate) fn put_back(&self, state: &mut State, id: NodeId, server: ServerId, fate: Fate) {
        self.rewrite(state, id, server, If::Absent, fate);
        state.seen = state.seen.or(Some(Seen::PutBack));
    }

    fn rewrite(&self, state: &mut State, id: NodeId, server: ServerId, condition: If, fate: Fate) {
        let write = Write {
            node: id,
            server,
            condition,
            deletes: false,
        };
        match state.swap(write, fate) {
            Outcome::Applied(revision) => validate(&mut state.nodes[id], server, revision),
            Outcome::Refused => evict_lost(state, id, server),
            Outcome::Unknown if self.flaw == Flaw::TimeoutIsLoss => evict(state, id, server),
            Outcome::Unknown => {}
        }
    }
}

/// Reads after a refusal. Evicts if another owns the placement, and otherwise notes the revision to write at next.
fn evict_lost(state: &mut State, id: NodeId, server: ServerId) {
    let place = state.engine.places[server];
    if place.is_some_and(|place| place.owner != id) {
        evict(state, id, server);
    } else if let Some(held) = &mut state.nodes[id].held[server] {
        held.revision = place.map(|place| place.revision);
    }
}

fn evict(state: &mut State, id: NodeId, server: ServerId) {
    if state.engine.places[server].is_none_or(|place| place.owner == id) {
        state.wrong.insert(Wrong::EvictedHealthy);
    }
    state.nodes[id].held[server] = None;
    settle(&mut state.nodes[id]);
    state.seen = Some(Seen::Evicted);
}

fn validate(node: &mut Node, server: ServerId, revision: Revision) {
    if let Some(held) = &mut node.held[server] {
        held.revision = Some(revision);
        held.valid = true;
    }
    settle(node);
}

/// Notes that nothing is left to revalidate.
fn settle(node: &mut Node) {
    if node.is_valid() {
        node.drifted = false;
    }
}

/// Deletes a key that names a node which does not hold the server-id.
fn forget_unknown(state: &mut State, id: NodeId, server: ServerId) {
    let named = state.engine.places[server].filter(|place| place.owner == id);
    if let Some(place) = named.filter(|_| state.nodes[id].can_ask()) {
        let condition = If::At(place.revision);
        state.write(Write {
            node: id,
            server,
            condition,
            deletes: true,
        });
    }
}
