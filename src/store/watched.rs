use std::sync::Arc;

use event_listener::{Event as Signal, EventListener};

use crate::store::Store;
use crate::store::audience::WATCHER;
use crate::store::slot::{Slot, Snapshot};
use crate::store::switch_point::switch_point;

/// A server-id that somebody watches, held or not.
pub(crate) struct Watched<C: ?Sized> {
    store: Arc<Store<C>>,
    hash: u64,
    server_id: Arc<str>,
    /// `None` until the first call of [`listen`](Self::listen).
    changed: Option<Arc<Signal>>,
}

impl<C: ?Sized> Watched<C> {
    pub(crate) fn new(store: &Arc<Store<C>>, hash: u64, server_id: &str) -> Self {
        Self {
            store: Arc::clone(store),
            hash,
            server_id: server_id.into(),
            changed: None,
        }
    }

    pub(crate) fn server_id(&self) -> &str {
        &self.server_id
    }

    pub(crate) fn snapshot(&self) -> Option<Snapshot<C>> {
        self.store.snapshot(self.hash, &self.server_id)
    }

    pub(crate) fn slot(&self) -> Option<Arc<Slot<C>>> {
        self.store.slot(self.hash, &self.server_id)
    }

    /// Listens for the next change. Whoever reads the server-id afterwards sees all changes that do not
    /// notify the listener: see [`Audience`](crate::store::audience::Audience). The listener ends with a full
    /// fence.
    pub(crate) fn listen(&mut self) -> EventListener {
        let ledger = &self.store.ledger;
        let changed = self.changed.get_or_insert_with(|| {
            let changed = ledger.watchers.join(self.hash, &self.server_id);
            ledger.audience.join(WATCHER);
            changed
        });
        switch_point();
        changed.listen()
    }
}

impl<C: ?Sized> Drop for Watched<C> {
    fn drop(&mut self) {
        if self.changed.is_some() {
            let ledger = &self.store.ledger;
            ledger.audience.leave(WATCHER);
            ledger.watchers.leave(self.hash, &self.server_id);
        }
    }
}
