//! A listener that knows the state of the whole registry: a snapshot, and every change since then.

use std::collections::{BTreeMap, BTreeSet};

use switchboard::{Change, Epoch, Event, Events, Registry, Server, Status, Version};

use super::Wire;

/// What is known of a server-id.
#[derive(Debug, PartialEq, Eq)]
struct Known {
    version: Version,
    epoch: Option<Epoch>,
    status: Status,
    conn_ids: BTreeSet<String>,
}

type Snapshot = BTreeMap<String, Known>;

pub struct Follower {
    events: Events<Wire>,
    known: Snapshot,
    /// The version of the last event of each server-id.
    heard: BTreeMap<String, Version>,
}

fn snapshot(registry: &Registry<Wire>) -> Snapshot {
    let known = |server: &Server<Wire>| Known {
        version: server.version(),
        epoch: server.epoch(),
        status: server.status(),
        conn_ids: super::ids(&server.phones()).into_iter().collect(),
    };
    let named = |server: Server<Wire>| (server.server_id().to_owned(), known(&server));
    registry.servers().map(named).collect()
}

/// The conn-ids after a change.
fn changed(mut conn_ids: BTreeSet<String>, change: &Change) -> BTreeSet<String> {
    let fits = match change {
        Change::PhoneRegistered { conn_id } => conn_ids.insert(conn_id.to_string()),
        Change::PhoneUnregistered { conn_id } => conn_ids.remove(&**conn_id),
        Change::Claimed { displaced: None } | Change::Released | Change::GraceArmed => true,
        Change::Claimed { .. } | Change::Displaced(_) => {
            conn_ids.clear();
            true
        }
        other => panic!("a change unknown to this listener: {other:?}"),
    };
    assert!(fits, "{change:?} does not follow");
    conn_ids
}

impl Follower {
    /// Listens first and looks afterwards.
    pub fn new(registry: &Registry<Wire>) -> Self {
        Self {
            events: registry.events(),
            known: snapshot(registry),
            heard: BTreeMap::new(),
        }
    }

    pub fn catch_up(&mut self, registry: &Registry<Wire>) {
        while let Some(event) = self.events.try_next() {
            match event {
                Ok(event) => self.hear(&event),
                Err(_) => self.known = snapshot(registry),
            }
        }
    }

    fn hear(&mut self, event: &Event) {
        let server_id = event.server_id.to_string();
        let last = self.heard.insert(server_id.clone(), event.version);
        assert!(last < Some(event.version), "an old version: {event:?}");
        let conn_ids = match self.known.get(&server_id) {
            Some(known) if known.version >= event.version => return,
            Some(known) => changed(known.conn_ids.clone(), &event.change),
            // A change from before the snapshot, in which the server-id was gone.
            None if event.phones > 0 => return,
            None => BTreeSet::new(),
        };
        assert_eq!(conn_ids.len(), event.phones, "{event:?} does not follow");
        self.known.remove(&server_id);
        let Some(status) = event.status else { return };
        let known = Known {
            version: event.version,
            epoch: event.epoch.filter(|_| status != Status::Vacant),
            status,
            conn_ids,
        };
        self.known.insert(server_id, known);
    }

    /// Catches up while no other call is in flight. Then the listener must know the state of the registry.
    pub fn check(&mut self, registry: &Registry<Wire>, about: &str) {
        self.catch_up(registry);
        assert_eq!(
            self.known,
            snapshot(registry),
            "{about}: what a listener knows differs"
        );
    }
}
