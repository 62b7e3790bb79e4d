use std::collections::HashMap;
use std::sync::Arc;

use event_listener::Event;

use crate::state::hash::DefaultHashBuilder;
use crate::store::lock::Lock;
use crate::store::striped::Striped;
use crate::store::switch_point::switch_point;

/// The server-ids that somebody watches. Each has one event, for all who watch it, and is forgotten with the
/// last of them.
///
/// They are not in the index: watching a server-id that nobody holds leaves no trace there.
pub(crate) struct Watchers(Striped<Lock<Places>>);

type Places = HashMap<Arc<str>, Place, DefaultHashBuilder>;

struct Place {
    watchers: usize,
    changed: Arc<Event>,
}

impl Watchers {
    pub(crate) fn new() -> Self {
        Self(Striped::new(|| Lock::new(Places::default())))
    }

    /// Adds one who watches this server-id. The event is notified after every change.
    pub(crate) fn join(&self, hash: u64, server_id: &Arc<str>) -> Arc<Event> {
        switch_point();
        let mut places = self.0.at(hash).lock();
        let place = places
            .entry(Arc::clone(server_id))
            .or_insert_with(|| Place {
                watchers: 0,
                changed: Arc::default(),
            });
        place.watchers += 1;
        Arc::clone(&place.changed)
    }

    pub(crate) fn leave(&self, hash: u64, server_id: &str) {
        switch_point();
        let mut places = self.0.at(hash).lock();
        if let Some(place) = places.get_mut(server_id) {
            place.watchers -= 1;
            if place.watchers == 0 {
                places.remove(server_id);
            }
        }
    }

    /// Wakes all who watch this server-id. The lock is free by then: waking runs code of their executors.
    /// Only the event's own lock is held, so a waker must not come back to this event.
    pub(crate) fn notify(&self, hash: u64, server_id: &str) {
        switch_point();
        let changed = {
            let places = self.0.at(hash).lock();
            places
                .get(server_id)
                .map(|place| Arc::clone(&place.changed))
        };
        if let Some(changed) = changed {
            switch_point();
            changed.notify(usize::MAX);
        }
    }

    /// The number of server-ids that somebody watches.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|places| places.lock().len()).sum()
    }
}
