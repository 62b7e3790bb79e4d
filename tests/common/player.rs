//! Plays random calls on one server-id, and writes down what they returned: the histories that
//! [`linear`](super::linear) checks against the [`model`].

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use switchboard::{
    Cause, Claim, Conn, Displaced, Epoch, Membership, Phones, RegisterError, Registry,
    ServerIdConflict, Status,
};

use super::linear::{Event, Sequential};
use super::model::{self, Phone, Refusal, Server, Tenure};
use super::{Wire, at, labelled};

pub const MAX_PHONES: usize = 2;
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
    DropClaim {
        claim: u32,
    },
    Evict {
        claim: Option<u32>,
        out: Option<model::Displaced>,
    },
    Expire(Option<model::Displaced>),
    Register {
        phone: Phone,
        result: Result<(), Refusal>,
    },
    Unregister {
        conn_id: u8,
        out: Option<Phone>,
    },
    Leave {
        phone: Phone,
        done: bool,
    },
    IsCurrent {
        claim: u32,
        current: bool,
    },
    PhonesOf {
        claim: u32,
        phones: Vec<Phone>,
    },
    BinaryFor(Option<u32>),
    PhonesFor(Vec<Phone>),
    PhoneFor {
        conn_id: u8,
        phone: Option<Phone>,
    },
    /// By a membership.
    BinaryOf {
        phone: Phone,
        binary: Option<u32>,
    },
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
            Call::DropClaim { claim } => {
                next.drop_claim(*claim, None);
                true
            }
            Call::Evict { claim, out } => next.evict(*claim, model::Cause::Evicted) == *out,
            Call::Expire(out) => next.expire(NOW) == *out,
            Call::Register { phone, result } => next.register(*phone, MAX_PHONES) == *result,
            Call::Unregister { conn_id, out } => next.unregister(*conn_id) == *out,
            Call::Leave { phone, done } => next.leave(*phone) == *done,
            Call::IsCurrent { claim, current } => next.is_current(*claim) == *current,
            Call::PhonesOf { claim, phones } => {
                let visible = next.phones.iter().filter(|_| next.is_current(*claim));
                visible.eq(phones)
            }
            Call::BinaryFor(found) => binary(&next) == *found,
            Call::PhonesFor(phones) => next.phones == *phones,
            Call::PhoneFor { conn_id, phone } => next.phone(*conn_id) == *phone,
            Call::BinaryOf {
                phone,
                binary: found,
            } => {
                let registered = next.phones.contains(phone);
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

pub fn phones(snapshot: &Phones<Wire>) -> Vec<Phone> {
    let mut phones: Vec<_> = snapshot.iter().map(|wire| phone(wire)).collect();
    phones.sort();
    phones
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
    let Some(server) = registry.server(server_id) else {
        return Server::default();
    };
    let hour = at(1800);
    Server {
        tenure: server.binary().map(|binary| Tenure {
            claim: binary.label,
            deadline: match server.status() {
                Status::Grace { deadline } if deadline > hour => Some(LATER),
                Status::Grace { .. } => Some(OVER),
                Status::Held | Status::Vacant => None,
            },
        }),
        phones: phones(&server.phones()),
    }
}

/// What the threads of a round share.
#[derive(Default)]
pub struct Shared {
    clock: AtomicU64,
    /// Every claim that succeeded: epochs may be used by anyone.
    epochs: Mutex<Vec<(u32, Epoch)>>,
}

/// One thread's part in a round.
pub struct Player<'a> {
    registry: &'a Registry<Wire>,
    server_id: &'a str,
    shared: &'a Shared,
    labels: u32,
    dice: u64,
    claims: Vec<(u32, Claim<Wire>)>,
    conflicts: Vec<(u32, ServerIdConflict<Wire>)>,
    members: Vec<Membership<Wire>>,
    history: Vec<Event<Call>>,
}

impl<'a> Player<'a> {
    /// `thread` tells the labels of the threads of a round apart, `seed` the rounds.
    pub fn new(
        registry: &'a Registry<Wire>,
        server_id: &'a str,
        shared: &'a Shared,
        thread: u32,
        seed: u64,
    ) -> Self {
        let dice = (seed * 8 + u64::from(thread) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Self {
            registry,
            server_id,
            shared,
            labels: thread * 1_000,
            dice,
            claims: Vec::new(),
            conflicts: Vec::new(),
            members: Vec::new(),
            history: Vec::new(),
        }
    }

    /// Plays that many calls, and leaves everything where it is.
    pub fn play(mut self, calls: usize) -> Vec<Event<Call>> {
        for _ in 0..calls {
            self.turn();
        }
        for (_, claim) in self.claims {
            claim.detach();
        }
        self.members.into_iter().for_each(Membership::detach);
        self.history
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice >> 33) % sides
    }

    fn label(&mut self) -> u32 {
        self.labels += 1;
        self.labels
    }

    /// Runs what is to be checked between two ticks, and writes down what came of it.
    fn record<T>(&mut self, run: impl FnOnce(&mut Self) -> T, told: impl FnOnce(&T) -> Call) -> T {
        let begun = self.shared.clock.fetch_add(1, SeqCst);
        // Lets others in while this call is under way, though it has not done anything yet.
        if self.roll(4) == 0 {
            std::thread::yield_now();
        }
        let result = run(self);
        let ended = self.shared.clock.fetch_add(1, SeqCst);
        let call = told(&result);
        self.history.push(Event { begun, ended, call });
        result
    }

    fn claimed(&mut self, label: u32, result: Result<Claim<Wire>, ServerIdConflict<Wire>>) {
        match result {
            Ok(mut claim) => {
                self.shared
                    .epochs
                    .lock()
                    .unwrap()
                    .push((label, claim.epoch()));
                drop(claim.take_displaced());
                self.claims.push((label, claim));
            }
            Err(conflict) => self.conflicts.push((label, conflict)),
        }
    }

    #[allow(clippy::too_many_lines, reason = "one arm a call")]
    fn turn(&mut self) {
        let (registry, server_id) = (self.registry, self.server_id);
        let told = |result: &Result<Claim<Wire>, ServerIdConflict<Wire>>| match result {
            Ok(claim) => Ok(claim.displaced().map(displaced)),
            Err(conflict) => Err(conflict.incumbent().label),
        };
        match self.roll(22) {
            0..=2 => {
                let claim = self.label();
                let conn = labelled("0", claim);
                let result = self.record(
                    |_| registry.claim_server(server_id, conn),
                    |result| Call::Claim {
                        claim,
                        result: told(result),
                    },
                );
                self.claimed(claim, result);
            }
            3 => {
                let Some((claim, conflict)) = self.conflicts.pop() else {
                    return;
                };
                let incumbent = conflict.incumbent().label;
                let result = self.record(
                    |_| conflict.take_over(),
                    |result| Call::TakeOver {
                        incumbent,
                        claim,
                        result: told(result),
                    },
                );
                self.claimed(claim, result);
            }
            4 => drop(self.record(
                |_| registry.release_server(server_id),
                |done| Call::ReleaseServer(*done),
            )),
            5 => {
                let Some((claim, guard)) = self.claims.pop() else {
                    return;
                };
                self.record(
                    |_| guard.release(),
                    |done| Call::ReleaseClaim { claim, done: *done },
                );
            }
            6 => {
                let Some((claim, guard)) = self.claims.pop() else {
                    return;
                };
                self.record(|_| drop(guard), |()| Call::DropClaim { claim });
            }
            7 => {
                let Some((claim, guard)) = self.claims.pop() else {
                    return;
                };
                drop(self.record(
                    |_| guard.evict(),
                    |out| Call::Evict {
                        claim: Some(claim),
                        out: out.as_ref().map(displaced),
                    },
                ));
            }
            8 if self.roll(2) == 0 => {
                drop(self.record(
                    |_| registry.evict_server(server_id),
                    |out| Call::Evict {
                        claim: None,
                        out: out.as_ref().map(displaced),
                    },
                ));
            }
            8..=10 => {
                let count = u64::try_from(self.shared.epochs.lock().unwrap().len()).unwrap();
                if count == 0 {
                    return;
                }
                // The newest ones matter most.
                let back = self.roll(count.min(3)) + 1;
                let index = usize::try_from(count - back).unwrap();
                let (claim, epoch) = self.shared.epochs.lock().unwrap()[index];
                let (deadline, grace) = match self.roll(2) {
                    0 => (OVER, Duration::ZERO),
                    _ => (LATER, Duration::from_secs(3600)),
                };
                self.record(
                    |_| registry.release_claim_after(server_id, epoch, grace),
                    |done| Call::ReleaseAfter {
                        claim,
                        deadline,
                        done: *done,
                    },
                );
            }
            11 => {
                drop(self.record(
                    |_| registry.expire(at(60)),
                    |out| {
                        assert!(out.len() <= 1, "one server-id expired twice in one call");
                        Call::Expire(out.first().map(displaced))
                    },
                ));
            }
            12..=14 => {
                let phone = Phone {
                    conn_id: u8::try_from(self.roll(3)).unwrap(),
                    number: self.label(),
                };
                let conn = labelled(&phone.conn_id.to_string(), phone.number);
                let result = self.record(
                    |_| registry.register_phone(server_id, conn),
                    |result| Call::Register {
                        phone,
                        result: match result {
                            Ok(_) => Ok(()),
                            Err(RegisterError::NoServer(_)) => Err(Refusal::NoServer),
                            Err(RegisterError::AtCapacity(_)) => Err(Refusal::AtCapacity),
                            Err(_) => Err(Refusal::DuplicateConnId),
                        },
                    },
                );
                self.members.extend(result);
            }
            15 => {
                let conn_id = u8::try_from(self.roll(3)).unwrap();
                self.record(
                    |_| registry.unregister_phone(server_id, &conn_id.to_string()),
                    |out| Call::Unregister {
                        conn_id,
                        out: out.as_deref().map(phone),
                    },
                );
            }
            16 => {
                let Some(member) = self.members.pop() else {
                    return;
                };
                let phone = phone(member.conn());
                self.record(
                    |_| member.unregister(),
                    |done| Call::Leave { phone, done: *done },
                );
            }
            17 => {
                let Some((claim, guard)) = self.claims.pop() else {
                    return;
                };
                if self.roll(2) == 0 {
                    self.record(
                        |_| guard.is_current(),
                        |current| Call::IsCurrent {
                            claim,
                            current: *current,
                        },
                    );
                } else {
                    drop(self.record(
                        |_| guard.phones(),
                        |found| Call::PhonesOf {
                            claim,
                            phones: phones(found),
                        },
                    ));
                }
                self.claims.push((claim, guard));
            }
            18 => {
                let Some(member) = self.members.pop() else {
                    return;
                };
                let phone = phone(member.conn());
                drop(self.record(
                    |_| member.binary(),
                    |found| Call::BinaryOf {
                        phone,
                        binary: found.as_ref().map(|wire| wire.label),
                    },
                ));
                self.members.push(member);
            }
            19 => {
                drop(self.record(
                    |_| registry.binary_for(server_id),
                    |found| Call::BinaryFor(found.as_ref().map(|wire| wire.label)),
                ));
            }
            20 if self.roll(2) == 0 => {
                let conn_id = u8::try_from(self.roll(3)).unwrap();
                drop(self.record(
                    |_| registry.phone_for(server_id, &conn_id.to_string()),
                    |found| Call::PhoneFor {
                        conn_id,
                        phone: found.as_deref().map(phone),
                    },
                ));
            }
            20 => {
                drop(self.record(
                    |_| registry.phones_for(server_id),
                    |found| Call::PhonesFor(phones(found)),
                ));
            }
            _ => {
                self.record(
                    |_| look(registry, server_id),
                    |seen| Call::Look(seen.clone()),
                );
            }
        }
    }
}
