//! The guards that the task of a connection keeps, all of one server-id.

use std::sync::Arc;

use switchboard::{Claim, Membership, Registry, Route};

use super::{Wire, conn_id, visitor, wire};

pub struct Handles {
    pub claim: Arc<Claim<Wire>>,
    pub member: Membership<Wire>,
    pub route: Route<Wire>,
}

/// A server-id that hands out guards.
pub struct Guarded {
    registry: Registry<Wire>,
    claim: Arc<Claim<Wire>>,
}

impl Guarded {
    pub fn new(phones: usize) -> Self {
        let registry = Registry::new();
        let claim = Arc::new(registry.claim_server("s", wire("b")).unwrap());
        for phone in (0..phones).map(conn_id) {
            registry.register_phone("s", wire(phone)).unwrap().detach();
        }
        Self { registry, claim }
    }

    /// A set for one thread, whose phone is registered in addition to the others.
    pub fn handles(&self, thread: usize) -> Handles {
        let member = self.registry.register_phone("s", visitor(thread)).unwrap();
        Handles {
            claim: self.claim.clone(),
            route: member.route(),
            member,
        }
    }
}
