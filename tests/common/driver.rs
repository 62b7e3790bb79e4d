//! Runs a sequence of operations on a registry and on the model, and compares all observable state after each
//! operation.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use switchboard::{
    Claim, Displaced, Epoch, Event, Events, Membership, Orphans, RegisterError, Registry, Route,
    ServerIdConflict, Status, Version, Watch,
};

use super::call::{change, claim_outcome, displaced, phone, phones};
use super::model::{self, Change, Conflict, MayReclaim, Model, NEVER, Phone, Phones, Refusal};
use super::waiter::Waiter;
use super::{Wire, labelled};

pub const SERVERS: u8 = 3;

/// The number of conn-ids, and the cap on phones per server-id.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    conn_ids: u16,
    max_phones: usize,
}

/// Sizes at the boundaries of a leaf and of a branch of the phone list, and far beyond them.
const CAPS: [usize; 10] = [300, 17, usize::MAX, 9, 16, 18, 64, 65, 8, 130];
const RUNS: [u16; 14] = [17, 300, 1, 2, 7, 8, 9, 15, 16, 18, 33, 64, 65, 130];

impl Shape {
    /// So few conn-ids that most operations hit a registered one.
    pub const NARROW: Self = Self {
        conn_ids: 6,
        max_phones: 4,
    };

    /// Enough conn-ids for the phone list to split and to merge.
    pub fn wide(cap: u8) -> Self {
        let max_phones = CAPS[usize::from(cap) % CAPS.len()];
        let conn_ids = max_phones.min(500) + 10;
        Self {
            conn_ids: u16::try_from(conn_ids).unwrap(),
            max_phones,
        }
    }

    #[must_use]
    pub fn is_wide(self) -> bool {
        self.conn_ids > Self::NARROW.conn_ids
    }

    /// A cap for one call. With few conn-ids, at most about twice the cap of the registry.
    fn cap(self, cap: u8) -> usize {
        if self.is_wide() {
            cap.into()
        } else {
            usize::from(cap) % (2 * self.max_phones)
        }
    }

    /// The conn-ids of a run of registrations or removals.
    fn run(self, first: u8, count: u8) -> impl Iterator<Item = u16> {
        let first = u16::from(first) * 2;
        let count = RUNS[usize::from(count) % RUNS.len()].min(self.conn_ids);
        (0..count).map(move |i| (first + i) % self.conn_ids)
    }
}

/// One operation. Indices wrap modulo the number of candidates, so every sequence is meaningful.
#[cfg_attr(fuzzing, derive(arbitrary::Arbitrary))]
#[derive(Clone, Copy, Debug)]
pub enum Op {
    Claim {
        server: u8,
    },
    ClaimIf {
        server: u8,
        condition: u8,
    },
    TakeOver {
        conflict: u8,
        condition: u8,
    },
    DropConflict {
        conflict: u8,
    },
    ReleaseServer {
        server: u8,
    },
    ReleaseClaim {
        past: u8,
    },
    ReleaseClaimAfter {
        past: u8,
        grace: u8,
    },
    ReleaseClaimUntil {
        past: u8,
        grace: u8,
    },
    Release {
        claim: u8,
    },
    ReleaseAfter {
        claim: u8,
        grace: u8,
    },
    ReleaseUntil {
        claim: u8,
        grace: u8,
    },
    DropClaim {
        claim: u8,
    },
    DetachClaim {
        claim: u8,
    },
    EvictClaim {
        claim: u8,
    },
    Register {
        server: u8,
        conn_id: u8,
    },
    RegisterWithCap {
        server: u8,
        conn_id: u8,
        cap: u8,
    },
    UnregisterPhone {
        server: u8,
        conn_id: u8,
    },
    Unregister {
        membership: u8,
    },
    DropMembership {
        membership: u8,
    },
    DetachMembership {
        membership: u8,
    },
    EvictServer {
        server: u8,
    },
    Expire {
        hours: u8,
    },
    Drain,
    /// Begins to listen to events, or stops.
    Listen,
    /// Begins to wait for a binary and for changes, or stops.
    Wait {
        server: u8,
    },
    #[cfg_attr(fuzzing, arbitrary(skip))]
    RegisterMany {
        server: u8,
        first: u8,
        count: u8,
    },
    #[cfg_attr(fuzzing, arbitrary(skip))]
    UnregisterMany {
        server: u8,
        first: u8,
        count: u8,
    },
    #[cfg_attr(fuzzing, arbitrary(skip))]
    LeaveMany {
        membership: u8,
        count: u8,
    },
}

impl Op {
    /// Turns an operation on one phone into a run over many phones. A fuzz input keeps its meaning whether
    /// there are few phones or many.
    #[must_use]
    pub fn widened(self) -> Self {
        match self {
            Self::Register { server, conn_id } => Self::RegisterMany {
                server,
                first: conn_id,
                count: server / SERVERS,
            },
            Self::UnregisterPhone { server, conn_id } => Self::UnregisterMany {
                server,
                first: conn_id,
                count: server / SERVERS,
            },
            Self::Unregister { membership } => Self::LeaveMany {
                membership,
                count: membership,
            },
            other => other,
        }
    }

    /// Whether the operation changes nothing but phones.
    fn changes_only_phones(self) -> bool {
        matches!(
            self,
            Self::Register { .. }
                | Self::RegisterWithCap { .. }
                | Self::RegisterMany { .. }
                | Self::UnregisterPhone { .. }
                | Self::UnregisterMany { .. }
                | Self::Unregister { .. }
                | Self::LeaveMany { .. }
                | Self::DropMembership { .. }
                | Self::DetachMembership { .. }
        )
    }
}

/// Graces last whole hours and the clock stands at half past, so the milliseconds that a test takes don't
/// matter.
const HOUR: Duration = Duration::from_secs(3600);

/// With many phones, only one in `SAMPLE` conn-ids and memberships is compared after an operation on phones.
const SAMPLE: usize = 37;

/// This many hours or more stand for a grace without end.
const ENDLESS: u8 = 15;

struct Held {
    server: u8,
    number: u32,
    claim: Claim<Wire>,
}

struct Refused {
    server: u8,
    number: u32,
    incumbent: u32,
    conflict: ServerIdConflict<Wire>,
}

struct Member {
    server: u8,
    phone: Phone,
    route: RefCell<Route<Wire>>,
    membership: Membership<Wire>,
}

/// Waits for one server-id.
#[derive(Default)]
struct Waits {
    /// `None` if a binary was there already.
    binary: Option<Waiter<u32>>,
    /// Returns the watch when it has shown a change.
    change: Option<Waiter<Watch<Wire>>>,
}

pub struct Driver {
    registry: Registry<Wire>,
    model: Model,
    shape: Shape,
    /// The grace with which the registry was built, in hours.
    grace: Option<u8>,
    start: Instant,
    now: u64,
    numbers: u32,
    claims: Vec<Held>,
    /// Every claim that ever succeeded.
    past: Vec<(u8, u32, Epoch)>,
    conflicts: Vec<Refused>,
    members: Vec<Member>,
    events: Option<Events<Wire>>,
    /// The last version of each server-id that was seen.
    versions: BTreeMap<u8, Version>,
    waits: BTreeMap<u8, Waits>,
    /// Waits for a deadline earlier than this one.
    earlier: Option<(Option<u64>, Waiter<Instant>)>,
}

fn pick<T>(things: &mut Vec<T>, index: u8) -> Option<T> {
    (!things.is_empty()).then(|| things.swap_remove(usize::from(index) % things.len()))
}

fn name(server: u8) -> String {
    format!("s{server}")
}

impl Driver {
    pub fn new(grace: Option<u8>, orphans: Orphans, shape: Shape) -> Self {
        let builder = Registry::builder()
            .max_phones(shape.max_phones)
            .orphans(orphans);
        let registry = match grace {
            Some(hours) => builder.grace(duration(hours)).build(),
            None => builder.build(),
        };
        Self {
            events: Some(registry.events()),
            registry,
            model: Model {
                orphans,
                ..Model::default()
            },
            shape,
            grace,
            start: Instant::now(),
            now: 0,
            numbers: 0,
            claims: Vec::new(),
            past: Vec::new(),
            conflicts: Vec::new(),
            members: Vec::new(),
            versions: BTreeMap::new(),
            waits: BTreeMap::from([(0, Waits::default())]),
            earlier: None,
        }
    }

    fn number(&mut self) -> u32 {
        self.numbers += 1;
        self.numbers
    }

    /// The model's deadline of a grace of that many hours. The registry reads the real clock, which barely
    /// advances during a test, so every deadline counts from the start.
    fn deadline(hours: u8) -> u64 {
        match hours {
            ENDLESS.. => NEVER,
            hours => u64::from(hours),
        }
    }

    /// As many hours, but not endless, and the deadline that a grace of them has now.
    fn until(hours: u8) -> (u64, Instant) {
        let hours = hours % ENDLESS;
        (u64::from(hours), Instant::now() + duration(hours))
    }

    fn instant(&self) -> Instant {
        self.start + HOUR * u32::try_from(self.now).unwrap() + HOUR / 2
    }

    #[allow(clippy::too_many_lines, reason = "one arm per operation")]
    pub fn run(&mut self, op: Op) {
        match op {
            Op::Claim { server } => self.claim(server % SERVERS),
            Op::ClaimIf { server, condition } => self.claim_if(server % SERVERS, condition),
            Op::TakeOver {
                conflict,
                condition,
            } => {
                if let Some(refused) = pick(&mut self.conflicts, conflict) {
                    self.take_over(refused, condition);
                }
            }
            Op::DropConflict { conflict } => drop(pick(&mut self.conflicts, conflict)),
            Op::ReleaseServer { server } => {
                let server = server % SERVERS;
                let expected = self.release(server, None);
                assert_eq!(self.registry.release_server(&name(server)), expected);
            }
            Op::ReleaseClaim { past } => {
                if let Some((server, number, epoch)) = self.past(past) {
                    let expected = self.release(server, Some(number));
                    assert_eq!(self.registry.release_claim(&name(server), epoch), expected);
                }
            }
            Op::ReleaseClaimAfter { past, grace } => {
                if let Some((server, number, epoch)) = self.past(past) {
                    let expected = self.release_after(server, number, Self::deadline(grace));
                    let grace = duration(grace);
                    let done = self
                        .registry
                        .release_claim_after(&name(server), epoch, grace);
                    assert_eq!(done, expected);
                }
            }
            Op::ReleaseClaimUntil { past, grace } => {
                if let Some((server, number, epoch)) = self.past(past) {
                    let (deadline, until) = Self::until(grace);
                    let expected = self.release_after(server, number, deadline);
                    let done = self
                        .registry
                        .release_claim_until(&name(server), epoch, until);
                    assert_eq!(done, expected);
                }
            }
            Op::Release { claim } => {
                if let Some(held) = pick(&mut self.claims, claim) {
                    let expected = self.release(held.server, Some(held.number));
                    assert_eq!(held.claim.release(), expected);
                }
            }
            Op::ReleaseAfter { claim, grace } => {
                if let Some(held) = pick(&mut self.claims, claim) {
                    let deadline = Self::deadline(grace);
                    let expected = self.release_after(held.server, held.number, deadline);
                    assert_eq!(held.claim.release_after(duration(grace)), expected);
                }
            }
            Op::ReleaseUntil { claim, grace } => {
                if let Some(held) = pick(&mut self.claims, claim) {
                    let (deadline, until) = Self::until(grace);
                    let expected = self.release_after(held.server, held.number, deadline);
                    assert_eq!(held.claim.release_until(until), expected);
                }
            }
            Op::DropClaim { claim } => {
                if let Some(held) = pick(&mut self.claims, claim) {
                    let deadline = self.grace.map(Self::deadline);
                    let change = deadline.map_or(Change::Released, |_| Change::GraceArmed);
                    self.model.call(
                        held.server,
                        |server| server.drop_claim(held.number, deadline),
                        |done| done.then_some(change),
                    );
                    drop(held);
                }
            }
            Op::DetachClaim { claim } => {
                if let Some(held) = pick(&mut self.claims, claim) {
                    held.claim.detach();
                }
            }
            Op::EvictClaim { claim } => {
                if let Some(held) = pick(&mut self.claims, claim) {
                    let expected = self.evict(held.server, Some(held.number));
                    let out = held.claim.evict();
                    assert_eq!(out.as_ref().map(displaced), expected);
                }
            }
            Op::Register { server, conn_id } => {
                self.register(server % SERVERS, conn_id.into(), None);
            }
            Op::RegisterWithCap {
                server,
                conn_id,
                cap,
            } => self.register(server % SERVERS, conn_id.into(), Some(cap)),
            Op::RegisterMany {
                server,
                first,
                count,
            } => {
                for conn_id in self.shape.run(first, count) {
                    self.register(server % SERVERS, conn_id, None);
                }
            }
            Op::UnregisterPhone { server, conn_id } => {
                self.unregister(server % SERVERS, u16::from(conn_id) % self.shape.conn_ids);
            }
            Op::UnregisterMany {
                server,
                first,
                count,
            } => {
                for conn_id in self.shape.run(first, count) {
                    self.unregister(server % SERVERS, conn_id);
                }
            }
            Op::Unregister { membership } => self.leave(membership),
            Op::LeaveMany { membership, count } => {
                for _ in self.shape.run(0, count) {
                    self.leave(membership);
                }
            }
            Op::DropMembership { membership } => {
                if let Some(member) = pick(&mut self.members, membership) {
                    self.model_leaves(&member);
                    drop(member);
                }
            }
            Op::DetachMembership { membership } => {
                if let Some(member) = pick(&mut self.members, membership) {
                    member.membership.detach();
                }
            }
            Op::EvictServer { server } => {
                let server = server % SERVERS;
                let expected = self.evict(server, None);
                let out = self.registry.evict_server(&name(server));
                assert_eq!(out.as_ref().map(displaced), expected);
            }
            Op::Expire { hours } => {
                self.now += u64::from(hours % 4);
                let now = self.now;
                self.compare_displaced(
                    |server| server.expire(now),
                    &self.registry.expire(self.instant()),
                );
            }
            Op::Drain => {
                self.compare_displaced(
                    |server| server.evict(None, model::Cause::Drained),
                    &self.registry.drain(),
                );
            }
            Op::Listen => {
                self.events = match self.events {
                    Some(_) => None,
                    None => Some(self.registry.events()),
                };
            }
            Op::Wait { server } => {
                let server = server % SERVERS;
                if self.waits.remove(&server).is_none() {
                    self.waits.insert(server, Waits::default());
                }
            }
        }
        // After an operation on phones, compare a sample. The next operation of another kind compares all of
        // them.
        let sample = if self.shape.is_wide() && op.changes_only_phones() {
            SAMPLE
        } else {
            1
        };
        self.compare(sample);
    }

    fn release(&mut self, server: u8, claim: Option<u32>) -> bool {
        self.model.call(
            server,
            |server| server.release(claim),
            |done| done.then_some(Change::Released),
        )
    }

    fn release_after(&mut self, server: u8, claim: u32, deadline: u64) -> bool {
        self.model.call(
            server,
            |server| server.release_after(claim, deadline),
            |done| done.then_some(Change::GraceArmed),
        )
    }

    fn evict(&mut self, server: u8, claim: Option<u32>) -> Option<model::Displaced> {
        let evict = |server: &mut model::Server| server.evict(claim, model::Cause::Evicted);
        self.model.call(server, evict, displacement)
    }

    fn claim(&mut self, server: u8) {
        let number = self.number();
        let claim = |server: &mut model::Server| server.claim(number, MayReclaim::Always);
        let expected = self.model.call(server, claim, admission);
        let result = self
            .registry
            .claim_server(&name(server), labelled("b", number));
        self.claimed(server, number, result, &expected);
    }

    fn claim_if(&mut self, server: u8, condition: u8) {
        let number = self.number();
        let may_reclaim = may_reclaim(condition);
        let before = self.model.server(server).clone();
        let claim = |server: &mut model::Server| server.claim(number, may_reclaim);
        let expected = self.model.call(server, claim, admission);
        let asked = Cell::new(0);
        let result =
            self.registry
                .claim_server_if(&name(server), labelled("b", number), |server| {
                    asked.set(asked.get() + 1);
                    let incumbent = before.tenure.map(|tenure| tenure.claim);
                    assert_eq!(server.binary().map(|binary| binary.label), incumbent);
                    assert_eq!(phones(&server.phones()), before.phones);
                    may_reclaim.allows(server.phones().len())
                });
        let in_grace = matches!(before.status(), Some(model::Status::Grace(_)));
        assert_eq!(asked.get(), u32::from(in_grace));
        self.claimed(server, number, result, &expected);
    }

    fn take_over(&mut self, refused: Refused, condition: u8) {
        let may_reclaim = may_reclaim(condition);
        let take_over = |server: &mut model::Server| {
            server.take_over(refused.incumbent, refused.number, may_reclaim)
        };
        let expected = self.model.call(refused.server, take_over, admission);
        let result = match may_reclaim {
            MayReclaim::Always => refused.conflict.take_over(),
            _ => refused
                .conflict
                .take_over_if(|server| may_reclaim.allows(server.phones().len())),
        };
        self.claimed(refused.server, refused.number, result, &expected);
    }

    fn claimed(
        &mut self,
        server: u8,
        number: u32,
        result: Result<Claim<Wire>, ServerIdConflict<Wire>>,
        expected: &Result<Option<model::Displaced>, Conflict>,
    ) {
        assert_eq!(&claim_outcome(&result), expected);
        match result {
            Ok(mut claim) => {
                drop(claim.take_displaced());
                let epoch = claim.epoch();
                assert!(self.past.iter().all(|(_, _, earlier)| *earlier < epoch));
                self.past.push((server, number, epoch));
                self.claims.push(Held {
                    server,
                    number,
                    claim,
                });
            }
            Err(conflict) => {
                let incumbent = conflict.incumbent().label;
                assert_eq!(conflict.conn().label, number);
                self.conflicts.push(Refused {
                    server,
                    number,
                    incumbent,
                    conflict,
                });
            }
        }
    }

    fn unregister(&mut self, server: u8, conn_id: u16) {
        let expected = self.model.call(
            server,
            |server| server.unregister(conn_id),
            |out| out.map(|phone| Change::PhoneUnregistered(phone.conn_id)),
        );
        let out = self
            .registry
            .unregister_phone(&name(server), &conn_id.to_string());
        assert_eq!(out.as_deref().map(phone), expected);
    }

    fn leave(&mut self, membership: u8) {
        if let Some(member) = pick(&mut self.members, membership) {
            let expected = self.model_leaves(&member);
            assert_eq!(member.membership.unregister(), expected);
        }
    }

    fn model_leaves(&mut self, member: &Member) -> bool {
        self.model.call(
            member.server,
            |server| server.leave(member.phone),
            |done| done.then_some(Change::PhoneUnregistered(member.phone.conn_id)),
        )
    }

    /// `cap` replaces the cap of the registry.
    fn register(&mut self, server: u8, conn_id: u16, cap: Option<u8>) {
        let conn_id = conn_id % self.shape.conn_ids;
        let phone = Phone {
            conn_id,
            number: self.number(),
        };
        let conn = labelled(&conn_id.to_string(), phone.number);
        let shape = self.shape;
        let cap = cap.map(|cap| shape.cap(cap));
        let expected = self.model.call(
            server,
            |server| server.register(phone, cap.unwrap_or(shape.max_phones)),
            |result| result.is_ok().then_some(Change::PhoneRegistered(conn_id)),
        );
        let result = match cap {
            Some(cap) => self
                .registry
                .register_phone_with_cap(&name(server), conn, cap),
            None => self.registry.register_phone(&name(server), conn),
        };
        match result {
            Ok(membership) => {
                assert_eq!(expected, Ok(()));
                self.members.push(Member {
                    server,
                    phone,
                    route: RefCell::new(membership.route()),
                    membership,
                });
            }
            Err(refused) => {
                let refusal = match &refused {
                    RegisterError::NoServer(_) => Refusal::NoServer,
                    RegisterError::AtCapacity(_) => Refusal::AtCapacity,
                    RegisterError::DuplicateConnId(_) => Refusal::DuplicateConnId,
                    _ => panic!("a refusal unknown to the model: {refused:?}"),
                };
                assert_eq!(expected, Err(refusal));
                assert_eq!(refused.into_conn().label, phone.number);
            }
        }
    }

    fn past(&self, index: u8) -> Option<(u8, u32, Epoch)> {
        let count = self.past.len().max(1);
        self.past.get(usize::from(index) % count).copied()
    }

    fn compare_displaced(
        &mut self,
        change: impl Fn(&mut model::Server) -> Option<model::Displaced>,
        out: &[Displaced<Wire>],
    ) {
        let mut expected: Vec<_> = (0..SERVERS)
            .filter_map(|server| {
                let out = self.model.call(server, &change, displacement)?;
                Some((name(server), out))
            })
            .collect();
        let mut seen: Vec<_> = out
            .iter()
            .map(|out| (out.server_id.to_string(), displaced(out)))
            .collect();
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        seen.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(seen, expected);
    }

    /// Compares all observable state, by key and by handle, for one in `sample` conn-ids and memberships.
    fn compare(&mut self, sample: usize) {
        let counts = self.registry.counts();
        let seen = (counts.binaries, counts.phones, counts.in_grace);
        assert_eq!(seen, self.model.counts());
        let is_there = |server: &u8| !self.model.server(*server).is_gone();
        let there: Vec<_> = (0..SERVERS).filter(is_there).map(name).collect();
        assert_eq!(self.registry.len(), there.len());
        assert_eq!(self.registry.is_empty(), there.is_empty());
        assert_eq!(
            self.registry.next_deadline().map(|at| self.hours(at)),
            self.model.next_deadline(),
        );
        let events = std::mem::take(&mut self.model.events);
        let has_changed = |server| events.iter().any(|event| event.server == server);
        self.compare_waits(has_changed);
        self.compare_events(&events);
        self.compare_internals();
        // Vary the sample.
        let first = usize::try_from(self.numbers).unwrap() % sample;
        let conn_ids = (0..self.shape.conn_ids).skip(first).step_by(sample);
        for server in 0..SERVERS {
            self.compare_server(server, has_changed(server), conn_ids.clone());
        }
        let mut listed: Vec<_> = self
            .registry
            .servers()
            .map(|server| server.server_id().to_owned())
            .collect();
        listed.sort();
        assert_eq!(listed, there);

        for held in &self.claims {
            let server = self.model.server(held.server);
            let current = server.is_current(held.number);
            assert_eq!(held.claim.is_current(), current);
            let none = Phones::default();
            let visible = if current { &server.phones } else { &none };
            assert_eq!(&phones(&held.claim.phones()), visible);
            for conn_id in conn_ids.clone() {
                let found = held.claim.phone(&conn_id.to_string());
                assert_eq!(found.as_deref().map(phone), visible.get(conn_id));
            }
        }
        for member in self.members.iter().skip(first).step_by(sample) {
            let server = self.model.server(member.server);
            let registered = server.phones.has(member.phone);
            assert_eq!(member.membership.is_registered(), registered);
            let binary = member.membership.binary().map(|conn| conn.label);
            let expected = server.tenure.map(|tenure| tenure.claim);
            assert_eq!(binary, expected.filter(|_| registered));
            let mut route = member.route.borrow_mut();
            assert_eq!(route.binary().map(|conn| conn.label), binary);
        }
    }

    /// Compares internal state that no public call shows. Anything left behind here is a leak.
    fn compare_internals(&self) {
        let internals = self.registry.internals();
        assert_eq!(internals.watched, self.waits.len());
        assert_eq!(internals.deadlines, self.model.deadlines().count());
        assert!(
            internals.retired_slots <= internals.lingering_slots,
            "a retired slot will stay in the index forever: {internals:?}"
        );
    }

    /// The events must be the changes that the model made.
    fn compare_events(&mut self, changes: &[model::Event]) {
        let Some(events) = &mut self.events else {
            return;
        };
        let heard: Vec<_> = std::iter::from_fn(|| events.try_next())
            .map(|event| event.expect("nothing was missed"))
            .collect();
        let mut heard: Vec<_> = heard.iter().map(|event| self.heard(event)).collect();
        let mut expected = changes.to_vec();
        // No order is promised among the server-ids that one call displaces.
        heard.sort_by_key(|event| event.server);
        expected.sort_by_key(|event| event.server);
        assert_eq!(heard, expected);
    }

    fn heard(&mut self, event: &Event) -> model::Event {
        let is_its_name = |server: &u8| name(*server) == *event.server_id;
        let server = (0..SERVERS).find(is_its_name).unwrap();
        let last = self.versions.insert(server, event.version);
        assert!(last < Some(event.version), "versions ascend");
        model::Event {
            server,
            change: change(&event.change),
            claim: event.epoch.map(|epoch| self.number_of(epoch)),
            status: event.status.map(|status| self.status(status)),
            phones: event.phones,
        }
    }

    /// A wait must be ready exactly if what it waits for is there, and must have been woken if that is new.
    fn compare_waits(&mut self, changed: impl Fn(u8) -> bool) {
        for (server, waits) in &mut self.waits {
            let (server, model) = (*server, self.model.server(*server));
            let binary = waits.binary.get_or_insert_with(|| {
                let wait = self.registry.wait_for_binary(&name(server));
                Waiter::new(async move { wait.await.label })
            });
            let found = binary.poll_at_rest();
            assert_eq!(found, model.present_binary());
            if found.is_some() {
                waits.binary = None;
            }

            let next = |mut watch: Watch<Wire>| {
                let mut waiter = Waiter::new(async move {
                    drop(watch.changed().await);
                    watch
                });
                assert!(waiter.poll().is_none(), "nothing has changed");
                waiter
            };
            let Some(waiter) = &mut waits.change else {
                waits.change = Some(next(self.registry.watch(&name(server))));
                continue;
            };
            let shown = waiter.poll_at_rest();
            assert_eq!(shown.is_some(), changed(server));
            if let Some(mut watch) = shown {
                let current = watch.current();
                assert_eq!(current.is_none(), model.is_gone());
                let seen = self.registry.server(&name(server));
                let version = |server: switchboard::Server<Wire>| server.version();
                assert_eq!(current.map(version), seen.map(version));
                waits.change = Some(next(watch));
            }
        }
        self.compare_earlier_deadline();
    }

    fn compare_earlier_deadline(&mut self) {
        let next = self.model.next_deadline();
        if let Some((than, waiter)) = &mut self.earlier {
            let earlier = waiter.poll_at_rest();
            let is_earlier = next.is_some_and(|next| than.is_none_or(|than| next < than));
            // Deadlines within an hour are equal for the model.
            assert!(earlier.is_some() == is_earlier || next == *than);
            if earlier.is_none() && next == *than {
                return;
            }
        }
        let earlier = self
            .registry
            .earlier_deadline(self.registry.next_deadline());
        let mut waiter = Waiter::new(earlier);
        assert_eq!(waiter.poll(), None);
        self.earlier = Some((next, waiter));
    }

    fn compare_server(&mut self, number: u8, changed: bool, conn_ids: impl Iterator<Item = u16>) {
        let server_id = name(number);
        let model = self.model.server(number).clone();
        let claim = model.tenure.map(|tenure| tenure.claim);
        let status = |status: Option<Status>| status.map(|status| self.status(status));
        let binary = self.registry.binary_for(&server_id);
        assert_eq!(binary.as_ref().map(|conn| conn.label), claim);
        let seen = status(binary.map(|conn| conn.status()));
        assert_eq!(seen, model.status().filter(|_| claim.is_some()));
        assert_eq!(phones(&self.registry.phones_for(&server_id)), model.phones);
        for conn_id in conn_ids {
            let found = self.registry.phone_for(&server_id, &conn_id.to_string());
            assert_eq!(found.as_deref().map(phone), model.phone(conn_id));
            let seen = status(found.map(|conn| conn.status()));
            assert_eq!(
                seen,
                model.status().filter(|_| model.phone(conn_id).is_some())
            );
        }
        assert_eq!(self.registry.contains(&server_id), !model.is_gone());
        let server = self.registry.server(&server_id);
        assert_eq!(
            status(server.as_ref().map(switchboard::Server::status)),
            model.status()
        );
        let Some(server) = server else { return };
        assert_eq!(server.binary().map(|conn| conn.label), claim);
        assert_eq!(phones(&server.phones()), model.phones);
        assert_eq!(server.epoch().map(|epoch| self.number_of(epoch)), claim);
        let last = self.versions.insert(number, server.version());
        if changed && self.events.is_none() {
            assert!(last < Some(server.version()), "versions ascend");
        } else {
            assert_eq!(last, Some(server.version()));
        }
    }

    fn number_of(&self, epoch: Epoch) -> u32 {
        let is_it = |(_, _, past): &&(u8, u32, Epoch)| *past == epoch;
        let (_, number, _) = self.past.iter().find(is_it).expect("a past claim");
        *number
    }

    fn status(&self, status: Status) -> model::Status {
        match status {
            Status::Held => model::Status::Held,
            Status::Vacant => model::Status::Vacant,
            Status::Grace { deadline } => model::Status::Grace(match self.hours(deadline) {
                1_000.. => NEVER,
                hours => hours,
            }),
        }
    }

    /// An instant before the start counts as the start.
    fn hours(&self, at: Instant) -> u64 {
        at.duration_since(self.start).as_secs() / HOUR.as_secs()
    }
}

/// The change that a claim makes with this result.
fn admission(result: &Result<Option<model::Displaced>, Conflict>) -> Option<Change> {
    let displaced = result.as_ref().ok()?;
    Some(Change::Claimed(displaced.as_ref().map(|out| out.cause)))
}

/// The change that displaces these connections.
#[allow(
    clippy::ref_option,
    reason = "`Model::call` passes a result by reference"
)]
fn displacement(out: &Option<model::Displaced>) -> Option<Change> {
    Some(Change::Displaced(out.as_ref()?.cause))
}

fn duration(hours: u8) -> Duration {
    match hours {
        ENDLESS.. => Duration::MAX,
        hours => HOUR * u32::from(hours),
    }
}

fn may_reclaim(condition: u8) -> MayReclaim {
    use MayReclaim::{Always, Never, WithoutPhones};
    [Always, Never, WithoutPhones][usize::from(condition) % 3]
}
