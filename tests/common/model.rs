//! The contract as a plain sequential program: no threads and no shared state.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use switchboard::Orphans;

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
    /// A setting of its registry.
    pub orphans: Orphans,
}

/// The binary or the phones of a server-id that is not gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Held,
    /// Until this deadline, or [`NEVER`].
    Grace(u64),
    Vacant,
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

/// The condition of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MayReclaim {
    Always,
    Never,
    WithoutPhones,
}

impl MayReclaim {
    pub fn allows(self, phones: usize) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::WithoutPhones => phones == 0,
        }
    }
}

/// A claim that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conflict {
    pub incumbent: u32,
    /// The incumbent is in grace, and the condition did not hold.
    pub denied: bool,
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

    pub fn new(orphans: Orphans) -> Self {
        Self {
            orphans,
            ..Self::default()
        }
    }

    pub fn claim(
        &mut self,
        claim: u32,
        may_reclaim: MayReclaim,
    ) -> Result<Option<Displaced>, Conflict> {
        let refuse = |incumbent, denied| Err(Conflict { incumbent, denied });
        let displaced = match self.tenure {
            Some(held) if held.deadline.is_none() => return refuse(held.claim, false),
            Some(held) if !may_reclaim.allows(self.phones.len()) => {
                return refuse(held.claim, true);
            }
            Some(_) => Some(self.displace(Cause::Reclaimed)),
            None if self.has_orphans_to_displace() => Some(self.displace(Cause::Released)),
            None => None,
        };
        self.tenure = Some(Tenure {
            claim,
            deadline: None,
        });
        Ok(displaced)
    }

    pub fn take_over(
        &mut self,
        incumbent: u32,
        claim: u32,
        may_reclaim: MayReclaim,
    ) -> Result<Option<Displaced>, Conflict> {
        if !self.is_present(incumbent) {
            return self.claim(claim, may_reclaim);
        }
        let displaced = self.displace(Cause::TakenOver);
        self.claim(claim, MayReclaim::Always)
            .expect("the server-id is vacant");
        Ok(Some(displaced))
    }

    /// Whether phones of an earlier claim wait for the next call of `expire`, or for the next claim.
    fn has_orphans_to_displace(&self) -> bool {
        self.orphans == Orphans::Displace && self.tenure.is_none() && !self.phones.is_empty()
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
    pub fn drop_claim(&mut self, claim: u32, deadline: Option<u64>) -> bool {
        self.is_present(claim)
            && match deadline {
                Some(deadline) => self.release_after(claim, deadline),
                None => self.release(Some(claim)),
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
        let cause = match self.tenure {
            Some(_) => Cause::Expired,
            None => Cause::Released,
        };
        (self.deadline()? <= now).then(|| self.displace(cause))
    }

    /// The time from which on `expire` displaces what is there. Orphans that are to be displaced wait for no
    /// particular time.
    fn deadline(&self) -> Option<u64> {
        match self.tenure {
            Some(held) => held.deadline.filter(|deadline| *deadline != NEVER),
            None => self.has_orphans_to_displace().then_some(0),
        }
    }

    pub fn is_gone(&self) -> bool {
        self.tenure.is_none() && self.phones.is_empty()
    }

    /// The claim of a binary that has not gone away.
    pub fn present_binary(&self) -> Option<u32> {
        let held = self.tenure?;
        held.deadline.is_none().then_some(held.claim)
    }

    /// `None` if the server-id is gone.
    pub fn status(&self) -> Option<Status> {
        match self.tenure {
            Some(held) => Some(held.deadline.map_or(Status::Held, Status::Grace)),
            None => (!self.is_gone()).then_some(Status::Vacant),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Claimed(Option<Cause>),
    Released,
    GraceArmed,
    Displaced(Cause),
    PhoneRegistered(u16),
    PhoneUnregistered(u16),
}

/// A change, and the state after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub server: u8,
    pub change: Change,
    /// The claim that holds the server-id, or held it before the change.
    pub claim: Option<u32>,
    pub status: Option<Status>,
    pub phones: usize,
}

/// A registry: independent server-ids.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub servers: BTreeMap<u8, Server>,
    pub orphans: Orphans,
    /// The changes that were made and not taken out yet.
    pub events: Vec<Event>,
}

impl Model {
    pub fn server(&mut self, server_id: u8) -> &mut Server {
        let orphans = self.orphans;
        let new = || Server::new(orphans);
        self.servers.entry(server_id).or_insert_with(new)
    }

    /// Calls a verb. `told` is the change that its result stands for.
    pub fn call<T>(
        &mut self,
        server_id: u8,
        verb: impl FnOnce(&mut Server) -> T,
        told: impl FnOnce(&T) -> Option<Change>,
    ) -> T {
        let server = self.server(server_id);
        let before = server.tenure;
        let result = verb(server);
        let event = told(&result).map(|change| Event {
            server: server_id,
            change,
            claim: server.tenure.or(before).map(|tenure| tenure.claim),
            status: server.status(),
            phones: server.phones.len(),
        });
        self.events.extend(event);
        result
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

    /// The deadlines from which on `expire` has something to do.
    pub fn deadlines(&self) -> impl Iterator<Item = u64> {
        self.servers.values().filter_map(Server::deadline)
    }

    pub fn next_deadline(&self) -> Option<u64> {
        self.deadlines().min()
    }
}
