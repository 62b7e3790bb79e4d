//! scc: a map with one lock per bucket.

use std::sync::Arc;

use scc::HashMap;

use super::{Entry, Peer, Wire, find};

#[derive(Default)]
pub struct Buckets(HashMap<String, Entry>);

impl Buckets {
    /// Changes an entry and removes it if it becomes empty, under one lock of its bucket.
    fn take<R>(&self, server_id: &str, take: impl FnOnce(&mut Entry) -> Option<R>) -> Option<R> {
        let mut taken = None;
        self.0.remove_if_sync(server_id, |entry| {
            taken = take(entry);
            entry.is_empty()
        });
        taken
    }
}

impl Peer for Buckets {
    const NAME: &'static str = "scc";
    type Conn = Arc<Wire>;
    type Phones = Vec<Arc<Wire>>;

    fn claim(&self, server_id: &str, conn: Arc<Wire>) -> bool {
        let mut entry = self.0.entry_sync(server_id.to_owned()).or_default();
        entry.claim(conn)
    }

    fn release(&self, server_id: &str) -> bool {
        let binary = self.take(server_id, |entry| entry.binary.take());
        binary.is_some()
    }

    fn register(&self, server_id: &str, conn: Arc<Wire>) -> bool {
        let registered = self
            .0
            .update_sync(server_id, |_, entry| entry.register(conn));
        registered == Some(true)
    }

    fn unregister(&self, server_id: &str, conn_id: &str) -> bool {
        let phone = self.take(server_id, |entry| {
            let at = find(&entry.phones, conn_id)?;
            Some(entry.phones.swap_remove(at))
        });
        phone.is_some()
    }

    fn evict(&self, server_id: &str) -> Option<(Option<Arc<Wire>>, Vec<Arc<Wire>>)> {
        let (_, entry) = self.0.remove_sync(server_id)?;
        Some((entry.binary, entry.phones))
    }

    fn binary_for(&self, server_id: &str) -> Option<Arc<Wire>> {
        let binary = self.0.read_sync(server_id, |_, entry| entry.binary.clone());
        binary.flatten()
    }

    fn phone_for(&self, server_id: &str, conn_id: &str) -> Option<Arc<Wire>> {
        let phone = self.0.read_sync(server_id, |_, entry| entry.phone(conn_id));
        phone.flatten()
    }

    fn phones_for(&self, server_id: &str) -> Vec<Arc<Wire>> {
        let phones = self.0.read_sync(server_id, |_, entry| entry.phones.clone());
        phones.unwrap_or_default()
    }

    fn counts(&self) -> (usize, usize) {
        let (mut binaries, mut phones) = (0, 0);
        self.0.iter_sync(|_, entry| {
            binaries += usize::from(entry.binary.is_some());
            phones += entry.phones.len();
            true
        });
        (binaries, phones)
    }

    fn servers(&self) -> usize {
        let mut servers = Vec::new();
        self.0.iter_sync(|id, entry| {
            servers.push((id.clone(), entry.binary.clone(), entry.phones.clone()));
            true
        });
        servers.len()
    }
}
