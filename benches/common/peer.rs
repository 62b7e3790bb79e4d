//! The design that the registry replaces: one reader-writer lock over two maps.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use super::Wire;

#[derive(Default)]
struct Maps {
    binaries: HashMap<String, Arc<Wire>>,
    phones: HashMap<String, Vec<Arc<Wire>>>,
}

#[derive(Default)]
pub struct Locked(RwLock<Maps>);

impl Locked {
    pub fn claim(&self, server_id: &str, conn: Arc<Wire>) -> bool {
        let mut maps = self.0.write();
        if maps.binaries.contains_key(server_id) {
            return false;
        }
        maps.binaries.insert(server_id.to_owned(), conn);
        true
    }

    pub fn release(&self, server_id: &str) -> bool {
        self.0.write().binaries.remove(server_id).is_some()
    }

    pub fn register(&self, server_id: &str, conn: Arc<Wire>) -> bool {
        let mut maps = self.0.write();
        if !maps.binaries.contains_key(server_id) {
            return false;
        }
        if let Some(phones) = maps.phones.get_mut(server_id) {
            phones.push(conn);
        } else {
            maps.phones.insert(server_id.to_owned(), vec![conn]);
        }
        true
    }

    pub fn unregister(&self, server_id: &str, conn_id: &str) -> bool {
        let mut maps = self.0.write();
        let Some(phones) = maps.phones.get_mut(server_id) else {
            return false;
        };
        let Some(at) = phones.iter().position(|phone| phone.0 == conn_id) else {
            return false;
        };
        phones.swap_remove(at);
        if phones.is_empty() {
            maps.phones.remove(server_id);
        }
        true
    }

    pub fn binary_for(&self, server_id: &str) -> Option<Arc<Wire>> {
        self.0.read().binaries.get(server_id).cloned()
    }

    pub fn phones_for(&self, server_id: &str) -> Vec<Arc<Wire>> {
        let maps = self.0.read();
        maps.phones.get(server_id).cloned().unwrap_or_default()
    }

    pub fn counts(&self) -> (usize, usize) {
        let maps = self.0.read();
        let phones = maps.phones.values().map(Vec::len).sum();
        (maps.binaries.len(), phones)
    }
}
