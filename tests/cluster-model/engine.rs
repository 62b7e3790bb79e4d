//! The directory's engine: a linearizable key-value store with revisions.

use crate::state::{NodeId, SERVERS, ServerId};

pub(crate) type Revision = u8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) owner: NodeId,
    pub(crate) revision: Revision,
}

/// The condition of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum If {
    Absent,
    At(Revision),
    Always,
}

/// A compare-and-swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Write {
    pub(crate) node: NodeId,
    pub(crate) server: ServerId,
    pub(crate) condition: If,
    pub(crate) deletes: bool,
}

/// What becomes of a compare-and-swap. All but the first are time-outs for the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Applied and acknowledged, or refused.
    Answered,
    /// Never applied.
    Lost,
    /// Applied later.
    Delayed,
    /// Applied now; the answer is lost.
    Unanswered,
}

pub(crate) const FATES: [Fate; 4] = [Fate::Answered, Fate::Lost, Fate::Delayed, Fate::Unanswered];

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Engine {
    /// The identity of the stream: another one after each wipe.
    pub(crate) stream: u8,
    pub(crate) places: [Option<Place>; SERVERS],
    /// The last revision of each key. A wipe does not set it back.
    last: [Revision; SERVERS],
    /// Writes that timed out and will be applied later.
    pub(crate) delayed: Vec<Write>,
}

impl Engine {
    pub(crate) fn new() -> Self {
        Self {
            stream: 0,
            places: [None; SERVERS],
            last: [0; SERVERS],
            delayed: Vec::new(),
        }
    }

    pub(crate) fn admits(&self, write: Write) -> bool {
        let place = self.places[write.server];
        match write.condition {
            If::Absent => place.is_none(),
            If::At(revision) => place.is_some_and(|place| place.revision == revision),
            If::Always => true,
        }
    }

    /// Applies a write that it admits. Returns the new revision.
    pub(crate) fn apply(&mut self, write: Write) -> Revision {
        let last = &mut self.last[write.server];
        *last += 1;
        self.places[write.server] = (!write.deletes).then_some(Place {
            owner: write.node,
            revision: *last,
        });
        *last
    }

    pub(crate) fn delay(&mut self, write: Write) {
        self.delayed.push(write);
        self.delayed.sort_unstable();
    }

    pub(crate) fn wipe(&mut self) {
        self.stream += 1;
        self.places = [None; SERVERS];
    }
}
