//! Runs a sequence of operations on a registry and on the model, and compares all observable state after each
//! operation.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use switchboard::{
    Claim, Displaced, Epoch, Membership, RegisterError, Registry, Route, ServerIdConflict, Status,
};

use super::call::{displaced, phone, phones};
use super::model::{self, Model, NEVER, Phone, Phones, Refusal};
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
    TakeOver {
        conflict: u8,
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
    Release {
        claim: u8,
    },
    ReleaseAfter {
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
}

fn pick<T>(things: &mut Vec<T>, index: u8) -> Option<T> {
    (!things.is_empty()).then(|| things.swap_remove(usize::from(index) % things.len()))
}

fn name(server: u8) -> String {
    format!("s{server}")
}

impl Driver {
    pub fn new(grace: Option<u8>, shape: Shape) -> Self {
        let builder = Registry::builder().max_phones(shape.max_phones);
        let registry = match grace {
            Some(hours) => builder.grace(duration(hours)).build(),
            None => builder.build(),
        };
        Self {
            registry,
            model: Model::default(),
            shape,
            grace,
            start: Instant::now(),
            now: 0,
            numbers: 0,
            claims: Vec::new(),
            past: Vec::new(),
            conflicts: Vec::new(),
            members: Vec::new(),
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

    fn instant(&self) -> Instant {
        self.start + HOUR * u32::try_from(self.now).unwrap() + HOUR / 2
    }

    #[allow(clippy::too_many_lines, reason = "one arm per operation")]
    pub fn run(&mut self, op: Op) {
        match op {
            Op::Claim { server } => self.claim(server % SERVERS),
            Op::TakeOver { conflict } => {
                if let Some(refused) = pick(&mut self.conflicts, conflict) {
                    self.take_over(refused);
                }
            }
            Op::DropConflict { conflict } => drop(pick(&mut self.conflicts, conflict)),
            Op::ReleaseServer { server } => {
                let server = server % SERVERS;
                let expected = self.model.server(server).release(None);
                assert_eq!(self.registry.release_server(&name(server)), expected);
            }
            Op::ReleaseClaim { past } => {
                if let Some((server, number, epoch)) = self.past(past) {
                    let expected = self.model.server(server).release(Some(number));
                    assert_eq!(self.registry.release_claim(&name(server), epoch), expected);
                }
            }
            Op::ReleaseClaimAfter { past, grace } => {
                if let Some((server, number, epoch)) = self.past(past) {
                    let deadline = Self::deadline(grace);
                    let expected = self.model.server(server).release_after(number, deadline);
                    let grace = duration(grace);
                    let done = self
                        .registry
                        .release_claim_after(&name(server), epoch, grace);
                    assert_eq!(done, expected);
                }
            }
            Op::Release { claim } => {
                if let Some(held) = pick(&mut self.claims, claim) {
                    let expected = self.model.server(held.server).release(Some(held.number));
                    assert_eq!(held.claim.release(), expected);
                }
            }
            Op::ReleaseAfter { claim, grace } => {
                if let Some(held) = pick(&mut self.claims, claim) {
                    let deadline = Self::deadline(grace);
                    let server = self.model.server(held.server);
                    let expected = server.release_after(held.number, deadline);
                    assert_eq!(held.claim.release_after(duration(grace)), expected);
                }
            }
            Op::DropClaim { claim } => {
                if let Some(held) = pick(&mut self.claims, claim) {
                    let deadline = self.grace.map(Self::deadline);
                    let server = self.model.server(held.server);
                    server.drop_claim(held.number, deadline);
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
                    let server = self.model.server(held.server);
                    let expected = server.evict(Some(held.number), model::Cause::Evicted);
                    let out = held.claim.evict();
                    assert_eq!(out.as_ref().map(displaced), expected);
                }
            }
            Op::Register { server, conn_id } => {
                self.register(server % SERVERS, u16::from(conn_id) % self.shape.conn_ids);
            }
            Op::RegisterMany {
                server,
                first,
                count,
            } => {
                for conn_id in self.shape.run(first, count) {
                    self.register(server % SERVERS, conn_id);
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
                    self.model.server(member.server).leave(member.phone);
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
                let expected = self.model.server(server).evict(None, model::Cause::Evicted);
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

    fn claim(&mut self, server: u8) {
        let number = self.number();
        let expected = self.model.server(server).claim(number);
        let result = self
            .registry
            .claim_server(&name(server), labelled("b", number));
        self.claimed(server, number, result, &expected);
    }

    fn take_over(&mut self, refused: Refused) {
        let server = self.model.server(refused.server);
        let expected = server.take_over(refused.incumbent, refused.number);
        let result = refused.conflict.take_over();
        self.claimed(refused.server, refused.number, result, &expected);
    }

    fn claimed(
        &mut self,
        server: u8,
        number: u32,
        result: Result<Claim<Wire>, ServerIdConflict<Wire>>,
        expected: &Result<Option<model::Displaced>, u32>,
    ) {
        match result {
            Ok(mut claim) => {
                assert_eq!(&Ok(claim.displaced().map(displaced)), expected);
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
                assert_eq!(&Err(incumbent), expected);
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
        let expected = self.model.server(server).unregister(conn_id);
        let out = self
            .registry
            .unregister_phone(&name(server), &conn_id.to_string());
        assert_eq!(out.as_deref().map(phone), expected);
    }

    fn leave(&mut self, membership: u8) {
        if let Some(member) = pick(&mut self.members, membership) {
            let expected = self.model.server(member.server).leave(member.phone);
            assert_eq!(member.membership.unregister(), expected);
        }
    }

    fn register(&mut self, server: u8, conn_id: u16) {
        let phone = Phone {
            conn_id,
            number: self.number(),
        };
        let conn = labelled(&conn_id.to_string(), phone.number);
        let expected = self
            .model
            .server(server)
            .register(phone, self.shape.max_phones);
        match self.registry.register_phone(&name(server), conn) {
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
            .filter_map(|server| Some((name(server), change(self.model.server(server))?)))
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
        assert_eq!(
            self.registry.next_deadline().map(|at| self.hours(at)),
            self.model.next_deadline(),
        );
        self.compare_internals();
        // Vary the sample.
        let first = usize::try_from(self.numbers).unwrap() % sample;
        let conn_ids = (0..self.shape.conn_ids).skip(first).step_by(sample);
        for server in 0..SERVERS {
            self.compare_server(server, conn_ids.clone());
        }
        let mut listed: Vec<_> = self
            .registry
            .servers()
            .map(|server| server.server_id().to_owned())
            .collect();
        listed.sort();
        let expected: Vec<_> = (0..SERVERS)
            .filter(|server| !self.model.server(*server).is_gone())
            .map(name)
            .collect();
        assert_eq!(listed, expected);

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
        assert_eq!(internals.deadlines, self.model.deadlines().count());
        assert!(
            internals.retired_slots <= internals.lingering_slots,
            "a retired slot will stay in the index forever: {internals:?}"
        );
    }

    fn compare_server(&mut self, number: u8, conn_ids: impl Iterator<Item = u16>) {
        let server_id = name(number);
        let model = self.model.server(number).clone();
        let claim = model.tenure.map(|tenure| tenure.claim);
        let binary = self.registry.binary_for(&server_id);
        assert_eq!(binary.map(|conn| conn.label), claim);
        assert_eq!(phones(&self.registry.phones_for(&server_id)), model.phones);
        for conn_id in conn_ids {
            let found = self.registry.phone_for(&server_id, &conn_id.to_string());
            assert_eq!(found.as_deref().map(phone), model.phone(conn_id));
        }
        let server = self.registry.server(&server_id);
        assert_eq!(server.is_none(), model.is_gone());
        let Some(server) = server else { return };
        assert_eq!(server.binary().map(|conn| conn.label), claim);
        assert_eq!(phones(&server.phones()), model.phones);
        let epoch_of = |claim| self.past.iter().find(|(_, number, _)| *number == claim);
        let epoch = claim.and_then(epoch_of).map(|(_, _, epoch)| *epoch);
        assert_eq!(server.epoch(), epoch);
        match (server.status(), model.tenure) {
            (Status::Vacant, None) => {}
            (Status::Held, Some(tenure)) => assert_eq!(tenure.deadline, None),
            (Status::Grace { deadline }, Some(tenure)) => {
                let hours = match self.hours(deadline) {
                    1_000.. => NEVER,
                    hours => hours,
                };
                assert_eq!(Some(hours), tenure.deadline);
            }
            (status, tenure) => panic!("{status:?} does not match {tenure:?}"),
        }
    }

    fn hours(&self, at: Instant) -> u64 {
        at.duration_since(self.start).as_secs() / HOUR.as_secs()
    }
}

fn duration(hours: u8) -> Duration {
    match hours {
        ENDLESS.. => Duration::MAX,
        hours => HOUR * u32::from(hours),
    }
}
