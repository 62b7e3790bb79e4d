//! papaya with a whole record as its value: a lock-free map with one atomic pointer per key.
//!
//! Every change creates a new record and swaps the pointer in the map; the phones are copied on write. That
//! is the design of the fastest relay known to us, which is written in a garbage-collected language. Here a
//! lookup must take a counted reference, because its result outlives papaya's guard. [`Borrowed`] is the same
//! lookup without that.

use std::sync::Arc;

use papaya::{Compute, Guard, HashMap, Operation};
use switchboard::DefaultHashBuilder;

use super::{Peer, Wire, find};

pub struct Record {
    binary: Option<Arc<Wire>>,
    phones: Arc<[Arc<Wire>]>,
}

impl Record {
    fn phone(&self, conn_id: &str) -> Option<Arc<Wire>> {
        find(&self.phones, conn_id).map(|at| self.phones[at].clone())
    }
}

#[derive(Default)]
pub struct Records(HashMap<String, Arc<Record>>);

impl Records {
    /// The only compare-and-swap: stores the new record, or removes the entry for `None`. On `Err` nothing
    /// changes.
    fn change(
        &self,
        server_id: &str,
        mut next: impl FnMut(&Record) -> Result<Option<Record>, ()>,
    ) -> bool {
        let records = self.0.pin();
        let done = records.compute(server_id.to_owned(), |entry| {
            let Some((_, record)) = entry else {
                return Operation::Abort(());
            };
            match next(record) {
                Ok(Some(next)) => Operation::Insert(Arc::new(next)),
                Ok(None) => Operation::Remove,
                Err(()) => Operation::Abort(()),
            }
        });
        !matches!(done, Compute::Aborted(()))
    }
}

impl Peer for Records {
    const NAME: &'static str = "papaya record";
    type Conn = Arc<Wire>;
    type Phones = Arc<[Arc<Wire>]>;

    fn claim(&self, server_id: &str, conn: Arc<Wire>) -> bool {
        let records = self.0.pin();
        if let Some(record) = records.get(server_id) {
            // A refusal allocates no key.
            if record.binary.is_some() {
                return false;
            }
        } else {
            // Only an insertion grows the table in time. In a table filled by `compute`, lookups take several
            // times as long.
            let record = Record {
                binary: Some(conn.clone()),
                phones: Arc::default(),
            };
            let inserted = records.try_insert(server_id.to_owned(), Arc::new(record));
            if inserted.is_ok() {
                return true;
            }
        }
        self.change(server_id, |record| {
            if record.binary.is_some() {
                return Err(());
            }
            let (binary, phones) = (Some(conn.clone()), record.phones.clone());
            Ok(Some(Record { binary, phones }))
        })
    }

    fn release(&self, server_id: &str) -> bool {
        self.change(server_id, |record| {
            record.binary.as_ref().ok_or(())?;
            let phones = record.phones.clone();
            let rest = Record {
                binary: None,
                phones,
            };
            Ok((!rest.phones.is_empty()).then_some(rest))
        })
    }

    fn register(&self, server_id: &str, conn: Arc<Wire>) -> bool {
        self.change(server_id, |record| {
            let binary = Some(record.binary.clone().ok_or(())?);
            let phones = record.phones.iter().chain([&conn]).cloned().collect();
            Ok(Some(Record { binary, phones }))
        })
    }

    fn unregister(&self, server_id: &str, conn_id: &str) -> bool {
        self.change(server_id, |record| {
            let at = find(&record.phones, conn_id).ok_or(())?;
            let (before, after) = (&record.phones[..at], &record.phones[at + 1..]);
            let phones: Arc<[_]> = before.iter().chain(after).cloned().collect();
            let binary = record.binary.clone();
            let empty = binary.is_none() && phones.is_empty();
            Ok((!empty).then_some(Record { binary, phones }))
        })
    }

    fn evict(&self, server_id: &str) -> Option<(Option<Arc<Wire>>, Self::Phones)> {
        let guard = self.0.guard();
        let record = self.0.remove(server_id, &guard)?;
        let out = (record.binary.clone(), record.phones.clone());
        // Without this, the record and its connections would wait until a batch of others is reclaimed.
        guard.flush();
        Some(out)
    }

    fn binary_for(&self, server_id: &str) -> Option<Arc<Wire>> {
        self.0.pin().get(server_id)?.binary.clone()
    }

    fn phone_for(&self, server_id: &str, conn_id: &str) -> Option<Arc<Wire>> {
        self.0.pin().get(server_id)?.phone(conn_id)
    }

    fn phones_for(&self, server_id: &str) -> Self::Phones {
        let records = self.0.pin();
        let record = records.get(server_id);
        record.map_or_else(Arc::default, |record| record.phones.clone())
    }

    fn counts(&self) -> (usize, usize) {
        let records = self.0.pin();
        records.values().fold((0, 0), |(binaries, phones), record| {
            let held = usize::from(record.binary.is_some());
            (binaries + held, phones + record.phones.len())
        })
    }

    fn servers(&self) -> usize {
        let records = self.0.pin();
        let owned = records
            .iter()
            .map(|(id, record)| (id.clone(), record.clone()));
        owned.collect::<Vec<_>>().len()
    }

    fn register_all(&self, server_id: &str, conns: Vec<Arc<Wire>>) {
        let mut conns = Some(conns);
        let filled = self.change(server_id, |record| {
            let (binary, more) = (record.binary.clone(), conns.take().ok_or(())?);
            let phones = record.phones.iter().cloned().chain(more).collect();
            Ok(Some(Record { binary, phones }))
        });
        assert!(filled, "no other thread changes the entry meanwhile");
    }
}

/// Only the lookup of that design, with switchboard's hasher, under papaya's guard. The result cannot be
/// kept.
#[derive(Default)]
pub struct Borrowed(HashMap<String, Arc<Record>, DefaultHashBuilder>);

impl Borrowed {
    pub fn claim(&self, server_id: &str, conn: Arc<Wire>) {
        let record = Record {
            binary: Some(conn),
            phones: Arc::default(),
        };
        self.0.pin().insert(server_id.to_owned(), Arc::new(record));
    }

    pub fn with_binary<R>(&self, server_id: &str, see: impl FnOnce(&Arc<Wire>) -> R) -> Option<R> {
        self.0.pin().get(server_id)?.binary.as_ref().map(see)
    }
}
