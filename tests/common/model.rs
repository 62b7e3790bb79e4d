//! The contract as a plain sequential program: no threads and no shared state.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

/// A registration. `number` distinguishes it from a later one with the same conn-id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Phone {
    pub conn_id: u16,
    pub number: u32,
}

/// Phones sorted by conn-id, each conn-id at most once.
///
/// Clones share the list until one of them changes, and the hash is cached. The linearizability search
/// clones, hashes and compares many identical lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Phones {
    /// The sum of the phones' hashes. Declared first, so that comparing unequal lists seldom reaches the
    /// second field.
    hash: u64,
    sorted: Arc<Vec<Phone>>,
}

impl Phone {
    fn spread(self) -> u64 {
        let number = u64::from(self.conn_id) << 32 | u64::from(self.number);
        let mixed = (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed ^ mixed >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9)
    }
}

impl Phones {
    fn place(&self, conn_id: u16) -> Result<usize, usize> {
        self.sorted
            .binary_search_by_key(&conn_id, |phone| phone.conn_id)
    }

    pub fn get(&self, conn_id: u16) -> Option<Phone> {
        self.place(conn_id).ok().map(|at| self.sorted[at])
    }

    pub fn has(&self, phone: Phone) -> bool {
        self.get(phone.conn_id) == Some(phone)
    }

    /// Returns `false` if the conn-id is already registered.
    fn insert(&mut self, phone: Phone) -> bool {
        let Err(at) = self.place(phone.conn_id) else {
            return false;
        };
        Arc::make_mut(&mut self.sorted).insert(at, phone);
        self.hash = self.hash.wrapping_add(phone.spread());
        true
    }

    fn remove(&mut self, phone: Phone) -> bool {
        let Some(at) = self.place(phone.conn_id).ok().filter(|_| self.has(phone)) else {
            return false;
        };
        Arc::make_mut(&mut self.sorted).remove(at);
        self.hash = self.hash.wrapping_sub(phone.spread());
        true
    }
}

impl Deref for Phones {
    type Target = [Phone];

    fn deref(&self) -> &[Phone] {
        &self.sorted
    }
}

/// Builds the list from a registry's snapshot, which must not show a conn-id twice.
impl FromIterator<Phone> for Phones {
    fn from_iter<I: IntoIterator<Item = Phone>>(phones: I) -> Self {
        let mut sorted: Vec<_> = phones.into_iter().collect();
        sorted.sort_unstable();
        let twice = sorted
            .windows(2)
            .find(|two| two[0].conn_id == two[1].conn_id);
        assert_eq!(twice, None, "the same conn-id twice");
        let hash = sorted
            .iter()
            .fold(0_u64, |sum, phone| sum.wrapping_add(phone.spread()));
        Self {
            hash,
            sorted: Arc::new(sorted),
        }
    }
}

impl Hash for Phones {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tenure {
    /// The number of the claim, counted from 1. Stands for the epoch.
    pub claim: u32,
    /// The end of the grace, or [`NEVER`]; `None` while the binary is connected.
    pub deadline: Option<u64>,
}

/// The deadline of a grace without end.
pub const NEVER: u64 = u64::MAX;

/// The state of one server-id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Server {
    pub tenure: Option<Tenure>,
    pub phones: Phones,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    Reclaimed,
    TakenOver,
    Expired,
    Released,
    Evicted,
    Drained,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Displaced {
    pub claim: Option<u32>,
    pub phones: Phones,
    pub cause: Cause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    NoServer,
    AtCapacity,
    DuplicateConnId,
}

impl Server {
    fn displace(&mut self, cause: Cause) -> Displaced {
        Displaced {
            claim: self.tenure.take().map(|tenure| tenure.claim),
            phones: std::mem::take(&mut self.phones),
            cause,
        }
    }

    /// `Err` holds the incumbent claim.
    pub fn claim(&mut self, claim: u32) -> Result<Option<Displaced>, u32> {
        let displaced = match self.tenure {
            Some(Tenure {
                claim,
                deadline: None,
            }) => return Err(claim),
            Some(_) => Some(self.displace(Cause::Reclaimed)),
            None => None,
        };
        self.tenure = Some(Tenure {
            claim,
            deadline: None,
        });
        Ok(displaced)
    }

    pub fn take_over(&mut self, incumbent: u32, claim: u32) -> Result<Option<Displaced>, u32> {
        match self.tenure {
            Some(held) if held.claim == incumbent && held.deadline.is_none() => {
                let displaced = self.displace(Cause::TakenOver);
                self.claim(claim).expect("the server-id is vacant");
                Ok(Some(displaced))
            }
            _ => self.claim(claim),
        }
    }

    /// Releases `claim`, or any holder if `claim` is `None`.
    pub fn release(&mut self, claim: Option<u32>) -> bool {
        let mine = self
            .tenure
            .is_some_and(|held| claim.is_none_or(|claim| held.claim == claim));
        if mine {
            self.tenure = None;
        }
        mine
    }

    pub fn release_after(&mut self, claim: u32, deadline: u64) -> bool {
        match &mut self.tenure {
            Some(held) if held.claim == claim => {
                held.deadline = Some(deadline);
                true
            }
            _ => false,
        }
    }

    /// Drops the claim's guard. `deadline` is `None` if the registry was built without a grace.
    pub fn drop_claim(&mut self, claim: u32, deadline: Option<u64>) {
        if self.is_present(claim) {
            match deadline {
                Some(deadline) => self.release_after(claim, deadline),
                None => self.release(Some(claim)),
            };
        }
    }

    pub fn is_current(&self, claim: u32) -> bool {
        self.tenure.is_some_and(|held| held.claim == claim)
    }

    fn is_present(&self, claim: u32) -> bool {
        self.tenure
            == Some(Tenure {
                claim,
                deadline: None,
            })
    }

    pub fn register(&mut self, phone: Phone, max_phones: usize) -> Result<(), Refusal> {
        if self.tenure.is_none() {
            return Err(Refusal::NoServer);
        }
        if self.phones.len() >= max_phones {
            return Err(Refusal::AtCapacity);
        }
        if !self.phones.insert(phone) {
            return Err(Refusal::DuplicateConnId);
        }
        Ok(())
    }

    pub fn phone(&self, conn_id: u16) -> Option<Phone> {
        self.phones.get(conn_id)
    }

    pub fn unregister(&mut self, conn_id: u16) -> Option<Phone> {
        let phone = self.phone(conn_id)?;
        self.leave(phone);
        Some(phone)
    }

    pub fn leave(&mut self, phone: Phone) -> bool {
        self.phones.remove(phone)
    }

    /// Evicts `claim`. With `None`, evicts any holder, and orphaned phones too.
    pub fn evict(&mut self, claim: Option<u32>, cause: Cause) -> Option<Displaced> {
        match claim {
            Some(claim) if !self.is_current(claim) => None,
            _ if self.is_gone() => None,
            _ => Some(self.displace(cause)),
        }
    }

    pub fn expire(&mut self, now: u64) -> Option<Displaced> {
        let deadline = self.tenure?.deadline?;
        (deadline != NEVER && deadline <= now).then(|| self.displace(Cause::Expired))
    }

    pub fn is_gone(&self) -> bool {
        self.tenure.is_none() && self.phones.is_empty()
    }
}

/// A registry: independent server-ids.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub servers: BTreeMap<u8, Server>,
}

impl Model {
    pub fn server(&mut self, server_id: u8) -> &mut Server {
        self.servers.entry(server_id).or_default()
    }

    pub fn counts(&self) -> (usize, usize, usize) {
        let tenures = || self.servers.values().filter_map(|server| server.tenure);
        (
            tenures().count(),
            self.servers
                .values()
                .map(|server| server.phones.len())
                .sum(),
            tenures().filter(|tenure| tenure.deadline.is_some()).count(),
        )
    }

    /// The deadlines of the graces that end by themselves.
    pub fn deadlines(&self) -> impl Iterator<Item = u64> {
        self.servers
            .values()
            .filter_map(|server| server.tenure?.deadline)
            .filter(|deadline| *deadline != NEVER)
    }

    pub fn next_deadline(&self) -> Option<u64> {
        self.deadlines().min()
    }
}
