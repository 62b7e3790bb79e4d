//! `DashMap`: many maps, each behind its own lock.

use std::sync::Arc;

use dashmap::DashMap;

use super::{Entry, Peer, Wire, find};

#[derive(Default)]
pub struct Sharded(DashMap<String, Entry>);

impl Peer for Sharded {
    const NAME: &'static str = "DashMap";
    type Conn = Arc<Wire>;
    type Phones = Vec<Arc<Wire>>;

    fn claim(&self, server_id: &str, conn: Arc<Wire>) -> bool {
        let mut entry = self.0.entry(server_id.to_owned()).or_default();
        entry.claim(conn)
    }

    fn release(&self, server_id: &str) -> bool {
        let Some(mut entry) = self.0.get_mut(server_id) else {
            return false;
        };
        let binary = entry.binary.take();
        let empty = entry.is_empty();
        drop(entry);
        if empty {
            self.0.remove_if(server_id, |_, entry| entry.is_empty());
        }
        binary.is_some()
    }

    fn register(&self, server_id: &str, conn: Arc<Wire>) -> bool {
        let entry = self.0.get_mut(server_id);
        entry.is_some_and(|mut entry| entry.register(conn))
    }

    fn unregister(&self, server_id: &str, conn_id: &str) -> bool {
        let Some(mut entry) = self.0.get_mut(server_id) else {
            return false;
        };
        let Some(at) = find(&entry.phones, conn_id) else {
            return false;
        };
        let phone = entry.phones.swap_remove(at);
        let empty = entry.is_empty();
        drop(entry);
        if empty {
            self.0.remove_if(server_id, |_, entry| entry.is_empty());
        }
        drop(phone);
        true
    }

    fn evict(&self, server_id: &str) -> Option<(Option<Arc<Wire>>, Vec<Arc<Wire>>)> {
        let (_, entry) = self.0.remove(server_id)?;
        Some((entry.binary, entry.phones))
    }

    fn binary_for(&self, server_id: &str) -> Option<Arc<Wire>> {
        self.0.get(server_id)?.binary.clone()
    }

    fn phone_for(&self, server_id: &str, conn_id: &str) -> Option<Arc<Wire>> {
        self.0.get(server_id)?.phone(conn_id)
    }

    fn phones_for(&self, server_id: &str) -> Vec<Arc<Wire>> {
        let entry = self.0.get(server_id);
        entry.map_or_else(Vec::new, |entry| entry.phones.clone())
    }

    fn counts(&self) -> (usize, usize) {
        self.0.iter().fold((0, 0), |(binaries, phones), entry| {
            let held = usize::from(entry.binary.is_some());
            (binaries + held, phones + entry.phones.len())
        })
    }

    fn servers(&self) -> usize {
        let owned = self.0.iter().map(|entry| {
            let phones = entry.phones.clone();
            (entry.key().clone(), entry.binary.clone(), phones)
        });
        owned.collect::<Vec<_>>().len()
    }
}
