//! Histories of real threads, checked for linearizability: each server-id against the sequential model.
//!
//! The number of rounds is small here; `SWITCHBOARD_HISTORY_ROUNDS` asks for more.

#![allow(
    missing_docs,
    unreachable_pub,
    reason = "the calls are part of a public trait"
)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::Duration;

use common::linear::{Event, Sequential, is_linearizable, smallest_window};
use common::model::{self, Phone, Refusal, Server, Tenure};
use common::{Wire, at, labelled};
use switchboard::{
    Cause, Claim, Conn, Displaced, Epoch, Membership, Phones, RegisterError, Registry,
    ServerIdConflict, Status,
};

const THREADS: usize = 3;
const CALLS: usize = 40;
const MAX_PHONES: usize = 2;
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

fn phone(wire: &Wire) -> Phone {
    Phone {
        conn_id: wire.conn_id().parse().unwrap(),
        number: wire.label,
    }
}

fn phones(snapshot: &Phones<Wire>) -> Vec<Phone> {
    let mut phones: Vec<_> = snapshot.iter().map(|wire| phone(wire)).collect();
    phones.sort();
    phones
}

fn displaced(out: &Displaced<Wire>) -> model::Displaced {
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
fn look(registry: &Registry<Wire>, server_id: &str) -> Server {
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

/// One thread's part of a round.
struct Player<'a> {
    registry: &'a Registry<Wire>,
    server_id: &'a str,
    clock: &'a AtomicU64,
    /// Every claim that succeeded, of all threads: epochs may be used by anyone.
    epochs: &'a Mutex<Vec<(u32, Epoch)>>,
    labels: u32,
    dice: u64,
    claims: Vec<(u32, Claim<Wire>)>,
    conflicts: Vec<(u32, ServerIdConflict<Wire>)>,
    members: Vec<Membership<Wire>>,
    history: Vec<Event<Call>>,
}

impl Player<'_> {
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
        let begun = self.clock.fetch_add(1, SeqCst);
        let result = run(self);
        let ended = self.clock.fetch_add(1, SeqCst);
        let call = told(&result);
        self.history.push(Event { begun, ended, call });
        result
    }

    fn claimed(&mut self, label: u32, result: Result<Claim<Wire>, ServerIdConflict<Wire>>) {
        match result {
            Ok(mut claim) => {
                self.epochs.lock().unwrap().push((label, claim.epoch()));
                drop(claim.take_displaced());
                self.claims.push((label, claim));
            }
            Err(conflict) => self.conflicts.push((label, conflict)),
        }
    }

    #[allow(clippy::too_many_lines, reason = "one arm a call")]
    fn play(&mut self) {
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
                let count = u64::try_from(self.epochs.lock().unwrap().len()).unwrap();
                if count == 0 {
                    return;
                }
                // The newest ones matter most.
                let back = self.roll(count.min(3)) + 1;
                let index = usize::try_from(count - back).unwrap();
                let (claim, epoch) = self.epochs.lock().unwrap()[index];
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
                    |out| Call::Expire(out.first().map(displaced)),
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

/// One round: all threads play on a server-id that nobody has used before.
fn round(registry: &Registry<Wire>, server_id: &str, seed: u64) -> (Vec<Vec<Event<Call>>>, Server) {
    let (clock, epochs) = (AtomicU64::new(0), Mutex::default());
    let barrier = Arc::new(Barrier::new(THREADS));
    let histories = thread::scope(|scope| {
        let players: Vec<_> = (0..THREADS)
            .map(|thread| {
                let mut player = Player {
                    registry,
                    server_id,
                    clock: &clock,
                    epochs: &epochs,
                    labels: u32::try_from(thread * 1_000).unwrap(),
                    dice: (seed * 8 + thread as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15),
                    claims: Vec::new(),
                    conflicts: Vec::new(),
                    members: Vec::new(),
                    history: Vec::new(),
                };
                let barrier = Arc::clone(&barrier);
                scope.spawn(move || {
                    barrier.wait();
                    for _ in 0..CALLS {
                        player.play();
                    }
                    for (_, claim) in player.claims {
                        claim.detach();
                    }
                    player.members.into_iter().for_each(Membership::detach);
                    player.history
                })
            })
            .collect();
        players
            .into_iter()
            .map(|player| player.join().unwrap())
            .collect()
    });
    (histories, look(registry, server_id))
}

#[test]
fn every_history_of_a_server_id_can_be_explained_one_call_after_the_other() {
    let rounds = std::env::var("SWITCHBOARD_HISTORY_ROUNDS");
    let rounds: u64 = rounds.map_or(3_000, |rounds| rounds.parse().unwrap());
    let registry: Registry<Wire> = Registry::builder().max_phones(MAX_PHONES).build();
    let (mut calls, mut overlapping) = (0, 0);
    for seed in 0..rounds {
        let server_id = format!("s{seed}");
        let (histories, last) = round(&registry, &server_id, seed);
        let explained = is_linearizable(&Server::default(), &histories, |end| *end == last);
        assert!(
            explained,
            "round {seed}, which ended in {last:?}, cannot be explained: {}",
            smallest_window(&Server::default(), &histories),
        );
        let events = || histories.iter().flatten();
        calls += events().count();
        // A call that nobody else's tick came into did not overlap with any.
        overlapping += events()
            .filter(|event| event.ended > event.begun + 1)
            .count();
        drop(registry.evict_server(&server_id));
    }
    println!("{calls} calls, {overlapping} of them overlapped with others");
    assert!(
        overlapping > calls / 100,
        "{overlapping} of {calls}: nothing was raced"
    );
}

mod the_checker {
    use super::*;

    fn event(begun: u64, ended: u64, call: Call) -> Event<Call> {
        Event { begun, ended, call }
    }

    fn explains(threads: &[Vec<Event<Call>>]) -> bool {
        is_linearizable(&Server::default(), threads, |_| true)
    }

    #[test]
    fn accepts_what_overlaps_in_some_order() {
        let claim = event(
            0,
            9,
            Call::Claim {
                claim: 1,
                result: Ok(None),
            },
        );
        assert!(explains(&[
            vec![claim.clone()],
            vec![event(1, 2, Call::BinaryFor(None))]
        ]));
        assert!(explains(&[
            vec![claim],
            vec![event(1, 2, Call::BinaryFor(Some(1)))]
        ]));
    }

    #[test]
    fn refuses_a_stale_read_two_winners_and_a_wrong_end() {
        let claim = event(
            0,
            1,
            Call::Claim {
                claim: 1,
                result: Ok(None),
            },
        );
        let stale = event(2, 3, Call::BinaryFor(None));
        assert!(!explains(&[vec![claim.clone()], vec![stale]]));
        let second = event(
            0,
            5,
            Call::Claim {
                claim: 2,
                result: Ok(None),
            },
        );
        assert!(!explains(&[vec![claim.clone()], vec![second]]));
        assert!(!is_linearizable(
            &Server::default(),
            &[vec![claim]],
            Server::is_gone
        ));
    }

    #[test]
    fn shows_the_window_that_cannot_be_explained() {
        let claim = event(
            0,
            1,
            Call::Claim {
                claim: 1,
                result: Ok(None),
            },
        );
        let stale = event(2, 3, Call::BinaryFor(None));
        let after = event(4, 5, Call::ReleaseServer(true));
        let window = smallest_window(&Server::default(), &[vec![claim, after], vec![stale]]);
        assert!(window.starts_with("2 calls"), "{window}");
        assert!(window.contains("BinaryFor(None)") && !window.contains("ReleaseServer"));
    }
}
