//! The design that the registry replaces: one reader-writer lock around two maps.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Peer, Wire, find};

#[derive(Default)]
pub struct Maps {
    binaries: HashMap<String, Arc<Wire>>,
    phones: HashMap<String, Vec<Arc<Wire>>>,
}

pub trait Lock: Default + Send + Sync {
    const NAME: &'static str;
    fn read<R>(&self, read: impl FnOnce(&Maps) -> R) -> R;
    fn write<R>(&self, write: impl FnOnce(&mut Maps) -> R) -> R;
}

#[derive(Default)]
pub struct StdLock(std::sync::RwLock<Maps>);

impl Lock for StdLock {
    const NAME: &'static str = "std RwLock";

    fn read<R>(&self, read: impl FnOnce(&Maps) -> R) -> R {
        read(&self.0.read().unwrap())
    }

    fn write<R>(&self, write: impl FnOnce(&mut Maps) -> R) -> R {
        write(&mut self.0.write().unwrap())
    }
}

#[derive(Default)]
pub struct ParkingLot(parking_lot::RwLock<Maps>);

impl Lock for ParkingLot {
    const NAME: &'static str = "parking_lot RwLock";

    fn read<R>(&self, read: impl FnOnce(&Maps) -> R) -> R {
        read(&self.0.read())
    }

    fn write<R>(&self, write: impl FnOnce(&mut Maps) -> R) -> R {
        write(&mut self.0.write())
    }
}

#[derive(Default)]
pub struct Locked<L>(L);

impl<L: Lock> Peer for Locked<L> {
    const NAME: &'static str = L::NAME;
    type Conn = Arc<Wire>;
    type Phones = Vec<Arc<Wire>>;

    fn claim(&self, server_id: &str, conn: Arc<Wire>) -> bool {
        self.0.write(|maps| {
            let free = !maps.binaries.contains_key(server_id);
            if free {
                maps.binaries.insert(server_id.to_owned(), conn);
            }
            free
        })
    }

    fn release(&self, server_id: &str) -> bool {
        let removed = self.0.write(|maps| maps.binaries.remove(server_id));
        removed.is_some()
    }

    fn register(&self, server_id: &str, conn: Arc<Wire>) -> bool {
        self.0.write(|maps| {
            if !maps.binaries.contains_key(server_id) {
                return false;
            }
            if let Some(phones) = maps.phones.get_mut(server_id) {
                phones.push(conn);
            } else {
                maps.phones.insert(server_id.to_owned(), vec![conn]);
            }
            true
        })
    }

    fn unregister(&self, server_id: &str, conn_id: &str) -> bool {
        let removed = self.0.write(|maps| {
            let phones = maps.phones.get_mut(server_id)?;
            let removed = phones.swap_remove(find(phones, conn_id)?);
            if phones.is_empty() {
                maps.phones.remove(server_id);
            }
            Some(removed)
        });
        removed.is_some()
    }

    fn evict(&self, server_id: &str) -> Option<(Option<Arc<Wire>>, Vec<Arc<Wire>>)> {
        let (binary, phones) = self.0.write(|maps| {
            let binary = maps.binaries.remove(server_id);
            (binary, maps.phones.remove(server_id))
        });
        (binary.is_some() || phones.is_some()).then(|| (binary, phones.unwrap_or_default()))
    }

    fn binary_for(&self, server_id: &str) -> Option<Arc<Wire>> {
        self.0.read(|maps| maps.binaries.get(server_id).cloned())
    }

    fn phone_for(&self, server_id: &str, conn_id: &str) -> Option<Arc<Wire>> {
        self.0.read(|maps| {
            let phones = maps.phones.get(server_id)?;
            Some(phones[find(phones, conn_id)?].clone())
        })
    }

    fn phones_for(&self, server_id: &str) -> Vec<Arc<Wire>> {
        let phones = self.0.read(|maps| maps.phones.get(server_id).cloned());
        phones.unwrap_or_default()
    }

    fn counts(&self) -> (usize, usize) {
        self.0.read(|maps| {
            let phones = maps.phones.values().map(Vec::len).sum();
            (maps.binaries.len(), phones)
        })
    }

    fn servers(&self) -> usize {
        let servers: Vec<_> = self.0.read(|maps| {
            let orphaned = maps.phones.keys();
            let orphaned = orphaned.filter(|id| !maps.binaries.contains_key(*id));
            maps.binaries
                .keys()
                .chain(orphaned)
                .map(|id| {
                    let binary = maps.binaries.get(id).cloned();
                    (id.clone(), binary, maps.phones.get(id).cloned())
                })
                .collect()
        });
        servers.len()
    }
}
