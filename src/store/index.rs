//! The index: finds the slot of a server-id.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crossbeam_utils::CachePadded;

use crate::store::set::{Equivalent, Set};

/// What the index knows of a slot.
pub(crate) trait HasServerId {
    fn hash(&self) -> u64;

    fn server_id(&self) -> &str;
}

pub(crate) struct Index<S> {
    /// Padded: the reference count of the store lies next to this field, and removals change it. Lookups must
    /// not share its cache line.
    slots: CachePadded<Set<Key<S>>>,
}

/// A slot with a longer server-id is removed as soon as it is retired: 1 MiB of names per stripe is enough.
const LONG: usize = 1024;

pub(crate) fn is_long<S: HasServerId>(slot: &Arc<S>) -> bool {
    slot.server_id().len() > LONG
}

/// A slot as a key. Its hash is in the slot only: a lookup reads the slot in any case, and papaya rarely
/// offers it the wrong one. A resize reads every slot.
struct Key<S>(Arc<S>);

impl<S: HasServerId> Index<S> {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self {
            slots: CachePadded::new(Set::with_capacity(capacity)),
        }
    }

    /// Calls `read` with the slot of a server-id and returns the result. The slot may be retired by then.
    pub(crate) fn read<T>(
        &self,
        hash: u64,
        server_id: &str,
        read: impl FnOnce(&Arc<S>) -> T,
    ) -> Option<T> {
        self.slots
            .read(&Probe { hash, server_id }, |key| read(&key.0))
    }

    /// Inserts a slot. It replaces `retired`, or nothing. Returns `false` if the server-id has another slot
    /// by now.
    pub(crate) fn insert(&self, slot: &Arc<S>, retired: Option<&Arc<S>>) -> bool {
        let key = Key(Arc::clone(slot));
        let may_replace =
            |found: &Key<S>| retired.is_some_and(|retired| Arc::ptr_eq(&found.0, retired));
        self.slots.insert(key, may_replace)
    }

    /// Removes a retired slot. A successor with the same server-id stays. A long server-id is freed without
    /// waiting for others.
    pub(crate) fn remove(&self, slot: &Arc<S>) {
        let probe = Probe {
            hash: slot.hash(),
            server_id: slot.server_id(),
        };
        let meant = |key: &Key<S>| Arc::ptr_eq(&key.0, slot);
        self.slots.remove_if(&probe, meant, is_long(slot));
    }

    /// All slots that are there throughout the call, and perhaps some that come or go meanwhile.
    pub(crate) fn slots(&self) -> Vec<Arc<S>> {
        self.slots.read_all(|key| Arc::clone(&key.0))
    }
}

impl<S: HasServerId> PartialEq for Key<S> {
    fn eq(&self, other: &Self) -> bool {
        self.0.hash() == other.0.hash() && self.0.server_id() == other.0.server_id()
    }
}

impl<S: HasServerId> Eq for Key<S> {}

impl<S: HasServerId> Hash for Key<S> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash());
    }
}

/// The part of a key that a lookup knows.
struct Probe<'a> {
    hash: u64,
    server_id: &'a str,
}

impl<S: HasServerId> Equivalent<Key<S>> for Probe<'_> {
    fn equivalent(&self, key: &Key<S>) -> bool {
        self.hash == key.0.hash() && *self.server_id == *key.0.server_id()
    }
}

impl Hash for Probe<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Named(&'static str);

    /// All hashes collide.
    impl HasServerId for Named {
        fn hash(&self) -> u64 {
            1
        }

        fn server_id(&self) -> &str {
            self.0
        }
    }

    #[test]
    fn server_ids_whose_hashes_collide_are_told_apart() {
        let index = Index::with_capacity(0);
        let (one, other) = (Arc::new(Named("one")), Arc::new(Named("other")));
        assert!(index.insert(&one, None));
        assert!(index.insert(&other, None));
        let found = |name| index.read(1, name, Arc::clone);
        assert!(Arc::ptr_eq(&found("one").expect("inserted"), &one));
        assert!(Arc::ptr_eq(&found("other").expect("inserted"), &other));
        assert!(found("third").is_none());
        let successor = Arc::new(Named("one"));
        assert!(!index.insert(&successor, None), "one is there");
        assert!(Arc::ptr_eq(&found("one").expect("kept"), &one));
        assert!(index.insert(&successor, Some(&one)));
        index.remove(&one);
        assert!(Arc::ptr_eq(&found("one").expect("stays"), &successor));
        assert_eq!(index.slots().len(), 2);
    }
}
