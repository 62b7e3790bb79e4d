//! Plays random calls on a few server-ids, and writes down what they returned: the histories that
//! [`linear`](super::linear) checks against the [`model`], one for each server-id.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use switchboard::{
    Cause, Claim, Conn, Displaced, Epoch, Membership, Phones, RegisterError, Registry, Route,
    ServerIdConflict, Status,
};

use super::linear::{Event, Sequential, is_linearizable, smallest_window};
use super::model::{self, Phone, Phones as Known, Refusal, Server, Tenure};
use super::{Wire, at, labelled};

/// How many phones there are before anybody plays, and how many there can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    at_start: u16,
    /// How many conn-ids are in use.
    conn_ids: u16,
    max_phones: usize,
}

impl Size {
    /// Next to no conn-ids, so that calls meet at the same ones all the time.
    pub const NARROW: Self = Self {
        at_start: 0,
        conn_ids: 3,
        max_phones: 2,
    };

    /// So many that the list of phones splits and merges. Under shuttle no more than that needs, because each
    /// registration before the race is steps that its scheduler counts.
    pub fn wide(number: u64) -> Self {
        const SIZES: &[u16] = &[16, 9, 18, 8, 17, 15, 64, 300, 33, 65, 130];
        let sizes = if cfg!(switchboard_shuttle) {
            &SIZES[..6]
        } else {
            SIZES
        };
        let at_start = sizes[usize::try_from(number).unwrap() % sizes.len()];
        Self {
            at_start,
            conn_ids: at_start + 4,
            max_phones: usize::from(at_start) + 2,
        }
    }

    fn is_wide(self) -> bool {
        self != Self::NARROW
    }
}

/// Deadlines of the model: one that `expire` finds over, and one that it does not.
const OVER: u64 = 0;
const NOW: u64 = 1;
const LATER: u64 = 2;

/// What was called, and what it returned.
#[derive(Clone, Debug)]
pub enum Call {
    Claim {
        claim: u32,
        result: Result<Option<model::Displaced>, u32>,
    },
    TakeOver {
        incumbent: u32,
        claim: u32,
        result: Result<Option<model::Displaced>, u32>,
    },
    ReleaseServer(bool),
    ReleaseClaim {
        claim: u32,
        done: bool,
    },
    ReleaseAfter {
        claim: u32,
        deadline: u64,
        done: bool,
    },
    /// With the grace that the registry was built with.
    DropClaim {
        claim: u32,
        deadline: Option<u64>,
    },
    Evict {
        claim: Option<u32>,
        out: Option<model::Displaced>,
    },
    Drain(Option<model::Displaced>),
    Expire(Option<model::Displaced>),
    Register {
        phone: Phone,
        max_phones: usize,
        result: Result<(), Refusal>,
    },
    Unregister {
        conn_id: u16,
        out: Option<Phone>,
    },
    Leave {
        phone: Phone,
        done: bool,
    },
    DropMembership {
        phone: Phone,
    },
    IsCurrent {
        claim: u32,
        current: bool,
    },
    PhonesOf {
        claim: u32,
        phones: Known,
    },
    PhoneOf {
        claim: u32,
        conn_id: u16,
        phone: Option<Phone>,
    },
    BinaryFor(Option<u32>),
    PhonesFor(Known),
    PhoneFor {
        conn_id: u16,
        phone: Option<Phone>,
    },
    IsRegistered {
        phone: Phone,
        registered: bool,
    },
    /// By a membership.
    BinaryOf {
        phone: Phone,
        binary: Option<u32>,
    },
    /// `server()`, or its place in `servers()`.
    Look(Server),
}

impl Sequential for Server {
    type Call = Call;

    fn step(&self, call: &Call) -> Option<Self> {
        let mut next = self.clone();
        let binary = |server: &Self| server.tenure.map(|tenure| tenure.claim);
        let explained = match call {
            Call::Claim { claim, result } => next.claim(*claim) == *result,
            Call::TakeOver {
                incumbent,
                claim,
                result,
            } => next.take_over(*incumbent, *claim) == *result,
            Call::ReleaseServer(done) => next.release(None) == *done,
            Call::ReleaseClaim { claim, done } => next.release(Some(*claim)) == *done,
            Call::ReleaseAfter {
                claim,
                deadline,
                done,
            } => next.release_after(*claim, *deadline) == *done,
            Call::DropClaim { claim, deadline } => {
                next.drop_claim(*claim, *deadline);
                true
            }
            Call::Evict { claim, out } => next.evict(*claim, model::Cause::Evicted) == *out,
            Call::Drain(out) => next.evict(None, model::Cause::Drained) == *out,
            Call::Expire(out) => next.expire(NOW) == *out,
            Call::Register {
                phone,
                max_phones,
                result,
            } => next.register(*phone, *max_phones) == *result,
            Call::Unregister { conn_id, out } => next.unregister(*conn_id) == *out,
            Call::Leave { phone, done } => next.leave(*phone) == *done,
            Call::DropMembership { phone } => {
                next.leave(*phone);
                true
            }
            Call::IsCurrent { claim, current } => next.is_current(*claim) == *current,
            Call::PhonesOf { claim, phones } => {
                let visible = Some(&next.phones).filter(|_| next.is_current(*claim));
                visible.unwrap_or(&Known::default()) == phones
            }
            Call::PhoneOf {
                claim,
                conn_id,
                phone,
            } => {
                let visible = next.phone(*conn_id).filter(|_| next.is_current(*claim));
                visible == *phone
            }
            Call::BinaryFor(found) => binary(&next) == *found,
            Call::PhonesFor(phones) => next.phones == *phones,
            Call::PhoneFor { conn_id, phone } => next.phone(*conn_id) == *phone,
            Call::IsRegistered { phone, registered } => next.phones.has(*phone) == *registered,
            Call::BinaryOf {
                phone,
                binary: found,
            } => {
                let registered = next.phones.has(*phone);
                binary(&next).filter(|_| registered) == *found
            }
            Call::Look(seen) => next == *seen,
        };
        explained.then_some(next)
    }
}

pub fn phone(wire: &Wire) -> Phone {
    Phone {
        conn_id: wire.conn_id().parse().unwrap(),
        number: wire.label,
    }
}

pub fn phones(snapshot: &Phones<Wire>) -> Known {
    assert_eq!(snapshot.iter().count(), snapshot.len());
    snapshot.iter().map(|wire| phone(wire)).collect()
}

pub fn displaced(out: &Displaced<Wire>) -> model::Displaced {
    model::Displaced {
        claim: out.binary.as_ref().map(|wire| wire.label),
        phones: phones(&out.phones),
        cause: match out.cause {
            Cause::Reclaimed => model::Cause::Reclaimed,
            Cause::TakenOver => model::Cause::TakenOver,
            Cause::Expired => model::Cause::Expired,
            Cause::Evicted => model::Cause::Evicted,
            Cause::Drained => model::Cause::Drained,
        },
    }
}

/// `server()`: binary, status and phones of one instant.
pub fn look(registry: &Registry<Wire>, server_id: &str) -> Server {
    let server = registry.server(server_id);
    server.as_ref().map(seen).unwrap_or_default()
}

fn seen(server: &switchboard::Server<Wire>) -> Server {
    let soon = at(1800);
    Server {
        tenure: server.binary().map(|binary| Tenure {
            claim: binary.label,
            deadline: match server.status() {
                Status::Grace { deadline } if deadline > soon => Some(LATER),
                Status::Grace { .. } => Some(OVER),
                Status::Held | Status::Vacant => None,
            },
        }),
        phones: phones(&server.phones()),
    }
}

/// A registry to play on.
pub struct Table {
    pub registry: Registry<Wire>,
    server_ids: Vec<String>,
    size: Size,
    /// The grace that the registry was built with.
    grace: Option<u64>,
    /// What each server-id is before anybody plays.
    starts: Vec<Server>,
    clock: AtomicU64,
    /// Every claim that succeeded, with its server-id: epochs may be used by anyone.
    epochs: Mutex<Vec<(usize, u32, Epoch)>>,
    /// Of some of the phones that are there at the start, for whoever comes to play.
    members: Mutex<Vec<(usize, Membership<Wire>)>>,
}

/// Of this many phones that are there at the start each player gets the membership.
const MEMBERS: usize = 4;
/// The first label of what is there at the start. Those of players are below.
const AT_START: u32 = 1 << 20;

impl Table {
    /// `number` chooses one of the ways to build a registry; one table in five has many phones from the start.
    pub fn new(number: u64, server_ids: Vec<String>) -> Self {
        let size = if number / 3 % 5 == 4 {
            Size::wide(number / 15)
        } else {
            Size::NARROW
        };
        Self::sized(number, size, server_ids)
    }

    pub fn sized(number: u64, size: Size, server_ids: Vec<String>) -> Self {
        let builder = Registry::builder().max_phones(size.max_phones);
        let (registry, grace) = match number % 3 {
            0 => (builder.build(), None),
            1 => (builder.grace(duration(OVER)).build(), Some(OVER)),
            _ => (builder.grace(duration(LATER)).build(), Some(LATER)),
        };
        let mut table = Self {
            registry,
            starts: vec![Server::default(); server_ids.len()],
            server_ids,
            size,
            grace,
            clock: AtomicU64::new(0),
            epochs: Mutex::default(),
            members: Mutex::default(),
        };
        if size.is_wide() {
            table.fill(number);
        }
        table
    }

    /// Other server-ids on the same registry. Nobody has used them.
    pub fn next(self, server_ids: Vec<String>) -> Self {
        Self {
            starts: vec![Server::default(); server_ids.len()],
            server_ids,
            clock: AtomicU64::new(0),
            epochs: Mutex::default(),
            members: Mutex::default(),
            ..self
        }
    }

    /// Each server-id with its phones: held, vacant, in a grace that is over, in one that is not. Under shuttle only the
    /// first one.
    fn fill(&mut self, number: u64) {
        let mut labels = AT_START..;
        let mut members = Vec::new();
        let filled = if cfg!(switchboard_shuttle) {
            1
        } else {
            usize::MAX
        };
        for (key, server_id) in self.server_ids.iter().enumerate().take(filled) {
            let start = &mut self.starts[key];
            let claim = labels.next().unwrap();
            let conn = labelled("0", claim);
            let epoch = self
                .registry
                .claim_server(server_id, conn)
                .unwrap()
                .detach();
            start.claim(claim).unwrap();
            for conn_id in 0..self.size.at_start {
                let number = labels.next().unwrap();
                let conn = labelled(&conn_id.to_string(), number);
                let member = self.registry.register_phone(server_id, conn).unwrap();
                let phone = Phone { conn_id, number };
                start.register(phone, self.size.max_phones).unwrap();
                if usize::from(conn_id) < 2 * MEMBERS {
                    members.push((key, member));
                } else {
                    member.detach();
                }
            }
            match (number / 3 + key as u64) % 4 {
                0 => {}
                1 => {
                    assert!(self.registry.release_claim(server_id, epoch));
                    start.release(Some(claim));
                }
                later => {
                    let deadline = if later == 2 { OVER } else { LATER };
                    let grace = duration(deadline);
                    assert!(self.registry.release_claim_after(server_id, epoch, grace));
                    start.release_after(claim, deadline);
                }
            }
            self.epochs.lock().unwrap().push((key, claim, epoch));
        }
        // Some of each server-id for each player.
        members.sort_by_key(|(_, member)| phone(member.conn()).conn_id);
        self.members = Mutex::new(members);
    }

    fn some_members(&self) -> Vec<(usize, Membership<Wire>)> {
        let mut members = self.members.lock().unwrap();
        let left = members.len().saturating_sub(MEMBERS);
        members.split_off(left)
    }

    /// What a call that concerns all server-ids handed out of one of them.
    fn handed_out(&self, out: &[Displaced<Wire>], key: usize) -> Option<model::Displaced> {
        let mine = |out: &&Displaced<Wire>| *out.server_id == *self.server_ids[key];
        let mine: Vec<_> = out.iter().filter(mine).collect();
        assert!(mine.len() <= 1, "one call handed a server-id out twice");
        mine.first().map(|out| displaced(out))
    }

    /// What a listing said of one server-id.
    fn listed(&self, servers: &[switchboard::Server<Wire>], key: usize) -> Server {
        let mine = |server: &&switchboard::Server<Wire>| server.server_id() == self.server_ids[key];
        let mine: Vec<_> = servers.iter().filter(mine).collect();
        assert!(mine.len() <= 1, "one listing showed a server-id twice");
        mine.first().map(|server| seen(server)).unwrap_or_default()
    }

    /// Nobody plays any more: what the threads have written down must be explained, one server-id after the
    /// other, and end in what is there now. How many calls that were, and how many of them overlapped.
    pub fn check(&self, threads: &[Vec<Vec<Event<Call>>>], about: &str) -> (usize, usize) {
        let (mut calls, mut overlapping) = (0, 0);
        for (key, server_id) in self.server_ids.iter().enumerate() {
            let histories: Vec<_> = threads.iter().map(|keys| keys[key].clone()).collect();
            let (start, last) = (&self.starts[key], look(&self.registry, server_id));
            assert!(
                is_linearizable(start, &histories, |end| *end == last),
                "{about}: server-id {key}, which began as {start:?} and ended in {last:?}, cannot be explained: {}",
                smallest_window(start, &histories),
            );
            let events = || histories.iter().flatten();
            calls += events().count();
            // A call that nobody else's tick came into did not overlap with any.
            overlapping += events()
                .filter(|event| event.ended > event.begun + 1)
                .count();
        }
        (calls, overlapping)
    }
}

fn duration(deadline: u64) -> Duration {
    match deadline {
        OVER => Duration::ZERO,
        _ => Duration::from_secs(3600),
    }
}

/// What decides over the next call.
pub enum Dice {
    /// Pseudo-random from a seed.
    Seeded(u64),
    /// Written down by somebody else. Once they are used up, nobody plays on.
    Written(std::vec::IntoIter<u8>),
}

impl Dice {
    pub fn seeded(seed: u64, thread: u32) -> Self {
        Self::Seeded((seed * 8 + u64::from(thread) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn roll(&mut self, sides: u64) -> u64 {
        match self {
            Self::Seeded(state) => {
                *state ^= *state << 13;
                *state ^= *state >> 7;
                *state ^= *state << 17;
                (*state >> 33) % sides
            }
            Self::Written(rolls) => u64::from(rolls.next().unwrap_or(0)) % sides,
        }
    }

    fn is_used_up(&self) -> bool {
        matches!(self, Self::Written(rolls) if rolls.len() == 0)
    }
}

/// One thread's part.
pub struct Player<'a> {
    table: &'a Table,
    labels: u32,
    dice: Dice,
    claims: Vec<(usize, u32, Claim<Wire>)>,
    conflicts: Vec<(usize, u32, ServerIdConflict<Wire>)>,
    members: Vec<(usize, Membership<Wire>)>,
    /// They outlive the memberships that made them.
    routes: Vec<(usize, Phone, Route<Wire>)>,
    /// One for each server-id.
    histories: Vec<Vec<Event<Call>>>,
}

impl<'a> Player<'a> {
    /// `thread` tells apart what the threads put into the registry.
    pub fn new(table: &'a Table, thread: u32, dice: Dice) -> Self {
        Self {
            table,
            labels: thread * 100_000,
            dice,
            claims: Vec::new(),
            conflicts: Vec::new(),
            members: table.some_members(),
            routes: Vec::new(),
            histories: vec![Vec::new(); table.server_ids.len()],
        }
    }

    /// Plays that many calls at the most, and leaves everything where it is.
    pub fn play(mut self, calls: usize) -> Vec<Vec<Event<Call>>> {
        for _ in 0..calls {
            if self.dice.is_used_up() {
                break;
            }
            self.turn();
        }
        for (_, _, claim) in self.claims {
            claim.detach();
        }
        self.members
            .into_iter()
            .for_each(|(_, member)| member.detach());
        self.histories
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.dice.roll(sides)
    }

    /// One of a few, or, where there are many, one of those that come last, or any.
    fn conn_id(&mut self) -> u16 {
        let Size { conn_ids, .. } = self.table.size;
        let (first, count) = match conn_ids {
            ..=3 => (0, conn_ids),
            _ if self.roll(2) == 0 => (conn_ids - 6, 6),
            _ => (0, conn_ids),
        };
        first + u16::try_from(self.roll(u64::from(count))).unwrap()
    }

    fn label(&mut self) -> u32 {
        self.labels += 1;
        self.labels
    }

    fn phone(&mut self) -> Phone {
        Phone {
            conn_id: self.conn_id(),
            number: self.label(),
        }
    }

    /// A claim that succeeded lately, whoever made it.
    fn epoch(&mut self) -> Option<(usize, u32, Epoch)> {
        let epochs = self.table.epochs.lock().unwrap();
        // The newest ones matter most.
        let recent = &epochs[epochs.len().saturating_sub(4)..];
        if recent.is_empty() {
            return None;
        }
        let index = self.dice.roll(u64::try_from(recent.len()).unwrap());
        Some(recent[usize::try_from(index).unwrap()])
    }

    /// Runs what is to be checked between two ticks. `told` is what it was to each server-id that it concerns.
    fn record_all<T>(
        &mut self,
        run: impl FnOnce() -> T,
        told: impl Fn(usize, &T) -> Option<Call>,
    ) -> T {
        let begun = self.table.clock.fetch_add(1, SeqCst);
        // Lets others in while this call is under way, though it has not done anything yet. Shuttle does not
        // need to be asked.
        if cfg!(not(switchboard_shuttle)) && self.roll(4) == 0 {
            std::thread::yield_now();
        }
        let result = run();
        let ended = self.table.clock.fetch_add(1, SeqCst);
        for (key, history) in self.histories.iter_mut().enumerate() {
            if let Some(call) = told(key, &result) {
                history.push(Event { begun, ended, call });
            }
        }
        result
    }

    fn record<T>(
        &mut self,
        concerned: usize,
        run: impl FnOnce() -> T,
        told: impl Fn(&T) -> Call,
    ) -> T {
        self.record_all(run, |key, result| (key == concerned).then(|| told(result)))
    }

    fn claimed(
        &mut self,
        key: usize,
        label: u32,
        result: Result<Claim<Wire>, ServerIdConflict<Wire>>,
    ) {
        match result {
            Ok(mut claim) => {
                let mut epochs = self.table.epochs.lock().unwrap();
                epochs.push((key, label, claim.epoch()));
                drop(epochs);
                drop(claim.take_displaced());
                self.claims.push((key, label, claim));
            }
            Err(conflict) => self.conflicts.push((key, label, conflict)),
        }
    }

    fn turn(&mut self) {
        let runs = if self.table.size.is_wide() { 2 } else { 0 };
        match self.roll(9 + runs) {
            9.. => self.run(),
            0..3 => self.turn_by_key(),
            3..6 => self.turn_by_guard(),
            6 => self.turn_by_epoch(),
            7 => self.turn_over_all(),
            _ => self.turn_by_route(),
        }
    }

    fn turn_by_key(&mut self) {
        let table = self.table;
        let registry = &table.registry;
        let key = usize::try_from(self.roll(table.server_ids.len() as u64)).unwrap();
        let server_id = table.server_ids[key].as_str();
        match self.roll(16) {
            0..4 => {
                let claim = self.label();
                let conn = labelled("0", claim);
                let result = self.record(
                    key,
                    || registry.claim_server(server_id, conn),
                    |result| Call::Claim {
                        claim,
                        result: told(result),
                    },
                );
                self.claimed(key, claim, result);
            }
            4 => drop(self.record(
                key,
                || registry.release_server(server_id),
                |done| Call::ReleaseServer(*done),
            )),
            5 => drop(self.record(
                key,
                || registry.evict_server(server_id),
                |out| Call::Evict {
                    claim: None,
                    out: out.as_ref().map(displaced),
                },
            )),
            6..10 => {
                let phone = self.phone();
                self.register(key, phone);
            }
            10 => {
                let conn_id = self.conn_id();
                self.unregister(key, conn_id);
            }
            11 => drop(self.record(
                key,
                || registry.binary_for(server_id),
                |found| Call::BinaryFor(found.as_ref().map(|wire| wire.label)),
            )),
            12 => drop(self.record(
                key,
                || registry.phones_for(server_id),
                |found| Call::PhonesFor(phones(found)),
            )),
            13 => {
                let conn_id = self.conn_id();
                drop(self.record(
                    key,
                    || registry.phone_for(server_id, &conn_id.to_string()),
                    |found| Call::PhoneFor {
                        conn_id,
                        phone: found.as_deref().map(phone),
                    },
                ));
            }
            _ => drop(self.record(
                key,
                || look(registry, server_id),
                |seen| Call::Look(seen.clone()),
            )),
        }
    }

    fn register(&mut self, key: usize, phone: Phone) {
        let table = self.table;
        let max_phones = table.size.max_phones;
        let conn = labelled(&phone.conn_id.to_string(), phone.number);
        let result = self.record(
            key,
            || table.registry.register_phone(&table.server_ids[key], conn),
            |result| Call::Register {
                phone,
                max_phones,
                result: match result {
                    Ok(_) => Ok(()),
                    Err(RegisterError::NoServer(_)) => Err(Refusal::NoServer),
                    Err(RegisterError::AtCapacity(_)) => Err(Refusal::AtCapacity),
                    Err(_) => Err(Refusal::DuplicateConnId),
                },
            },
        );
        self.members.extend(result.map(|member| (key, member)));
    }

    fn unregister(&mut self, key: usize, conn_id: u16) {
        let table = self.table;
        let server_id = table.server_ids[key].as_str();
        self.record(
            key,
            || {
                table
                    .registry
                    .unregister_phone(server_id, &conn_id.to_string())
            },
            |out| Call::Unregister {
                conn_id,
                out: out.as_deref().map(phone),
            },
        );
    }

    /// Many registrations or removals, one after the other: past a border of the list.
    fn run(&mut self) {
        let table = self.table;
        let Size {
            conn_ids, at_start, ..
        } = table.size;
        let key = usize::try_from(self.roll(table.server_ids.len() as u64)).unwrap();
        let longest = if cfg!(switchboard_shuttle) {
            10
        } else {
            at_start
        };
        let length = [2, 5, 10, 18, longest][usize::try_from(self.roll(5)).unwrap()];
        let length = length.min(longest);
        let first = self.conn_id();
        let registers = self.roll(2) == 0;
        for conn_id in (0..length).map(|i| (first + i) % conn_ids) {
            if registers {
                let number = self.label();
                self.register(key, Phone { conn_id, number });
            } else {
                self.unregister(key, conn_id);
            }
        }
    }

    fn turn_by_guard(&mut self) {
        match self.roll(5) {
            0..3 => {
                if let Some((key, label, claim)) = self.claims.pop() {
                    self.turn_by_claim(key, label, claim);
                }
            }
            3 => {
                if let Some((key, member)) = self.members.pop() {
                    self.turn_by_member(key, member);
                }
            }
            _ => {
                let Some((key, claim, conflict)) = self.conflicts.pop() else {
                    return;
                };
                let incumbent = conflict.incumbent().label;
                let result = self.record(
                    key,
                    || conflict.take_over(),
                    |result| Call::TakeOver {
                        incumbent,
                        claim,
                        result: told(result),
                    },
                );
                self.claimed(key, claim, result);
            }
        }
    }

    fn turn_by_claim(&mut self, key: usize, claim: u32, guard: Claim<Wire>) {
        match self.roll(8) {
            0 => drop(self.record(
                key,
                || guard.release(),
                |done| Call::ReleaseClaim { claim, done: *done },
            )),
            1 => {
                let deadline = [OVER, LATER][usize::try_from(self.roll(2)).unwrap()];
                self.record(
                    key,
                    || guard.release_after(duration(deadline)),
                    |done| Call::ReleaseAfter {
                        claim,
                        deadline,
                        done: *done,
                    },
                );
            }
            2 => drop(self.record(
                key,
                || guard.evict(),
                |out| Call::Evict {
                    claim: Some(claim),
                    out: out.as_ref().map(displaced),
                },
            )),
            3..5 => {
                let deadline = self.table.grace;
                self.record(
                    key,
                    || drop(guard),
                    |()| Call::DropClaim { claim, deadline },
                );
            }
            5 => {
                let conn_id = self.conn_id();
                drop(self.record(
                    key,
                    || guard.phone(&conn_id.to_string()),
                    |found| Call::PhoneOf {
                        claim,
                        conn_id,
                        phone: found.as_deref().map(phone),
                    },
                ));
                self.claims.push((key, claim, guard));
            }
            6 => {
                self.record(
                    key,
                    || guard.is_current(),
                    |current| Call::IsCurrent {
                        claim,
                        current: *current,
                    },
                );
                self.claims.push((key, claim, guard));
            }
            _ => {
                drop(self.record(
                    key,
                    || guard.phones(),
                    |found| Call::PhonesOf {
                        claim,
                        phones: phones(found),
                    },
                ));
                self.claims.push((key, claim, guard));
            }
        }
    }

    fn turn_by_member(&mut self, key: usize, member: Membership<Wire>) {
        let phone = phone(member.conn());
        match self.roll(5) {
            0 => drop(self.record(
                key,
                || member.unregister(),
                |done| Call::Leave { phone, done: *done },
            )),
            1 => self.record(key, || drop(member), |()| Call::DropMembership { phone }),
            2 => {
                self.record(
                    key,
                    || member.is_registered(),
                    |registered| Call::IsRegistered {
                        phone,
                        registered: *registered,
                    },
                );
                self.members.push((key, member));
            }
            3 => {
                self.routes.push((key, phone, member.route()));
                self.members.push((key, member));
            }
            _ => {
                drop(self.record(
                    key,
                    || member.binary(),
                    |found| Call::BinaryOf {
                        phone,
                        binary: found.as_ref().map(|wire| wire.label),
                    },
                ));
                self.members.push((key, member));
            }
        }
    }

    fn turn_by_route(&mut self) {
        if self.routes.is_empty() {
            return;
        }
        let at = usize::try_from(self.roll(self.routes.len() as u64)).unwrap();
        let (key, phone, mut route) = self.routes.swap_remove(at);
        let label = |route: &mut Route<Wire>| route.binary().map(|wire| wire.label);
        self.record(
            key,
            || label(&mut route),
            |binary| Call::BinaryOf {
                phone,
                binary: *binary,
            },
        );
        self.routes.push((key, phone, route));
    }

    fn turn_by_epoch(&mut self) {
        let Some((key, claim, epoch)) = self.epoch() else {
            return;
        };
        let table = self.table;
        let server_id = table.server_ids[key].as_str();
        match self.roll(3) {
            0 => drop(self.record(
                key,
                || table.registry.release_claim(server_id, epoch),
                |done| Call::ReleaseClaim { claim, done: *done },
            )),
            later => {
                let deadline = if later == 1 { OVER } else { LATER };
                let grace = duration(deadline);
                self.record(
                    key,
                    || table.registry.release_claim_after(server_id, epoch, grace),
                    |done| Call::ReleaseAfter {
                        claim,
                        deadline,
                        done: *done,
                    },
                );
            }
        }
    }

    fn turn_over_all(&mut self) {
        let table = self.table;
        match self.roll(6) {
            0 => drop(self.record_all(
                || table.registry.drain(),
                |key, out| Some(Call::Drain(table.handed_out(out, key))),
            )),
            1 => drop(self.record_all(
                || table.registry.servers().collect::<Vec<_>>(),
                |key, servers| Some(Call::Look(table.listed(servers, key))),
            )),
            _ => drop(self.record_all(
                || table.registry.expire(at(60)),
                |key, out| Some(Call::Expire(table.handed_out(out, key))),
            )),
        }
    }
}

/// How a claim ended: with whom it pushed out, or who stood in its way.
fn told(
    result: &Result<Claim<Wire>, ServerIdConflict<Wire>>,
) -> Result<Option<model::Displaced>, u32> {
    match result {
        Ok(claim) => Ok(claim.displaced().map(displaced)),
        Err(conflict) => Err(conflict.incumbent().label),
    }
}
