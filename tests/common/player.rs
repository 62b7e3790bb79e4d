//! Makes random calls on a few server-ids and records their results. The histories, one per server-id, are
//! checked by [`linearizability`](super::linearizability) against the [`model`](super::model).

use std::sync::atomic::Ordering::SeqCst;

use switchboard::{Claim, Epoch, Membership, RegisterError, Route, ServerIdConflict};

use super::call::{
    Call, LATER, OVER, claim_outcome, displaced, duration, phone, phones, seen, until,
};
use super::follower::Follower;
use super::game::{Game, Listening, Size};
use super::linearizability::Event;
use super::model::{MayReclaim, Phone, Refusal};
use super::waiter::Waiter;
use super::{Wire, at, labelled};

/// The source of a player's decisions.
pub enum Dice {
    /// Pseudo-random, from a seed.
    Seeded(u64),
    /// Supplied by the caller. The player stops when they are used up.
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

/// One thread of a recorded run.
pub struct Player<'a> {
    game: &'a Game,
    labels: u32,
    dice: Dice,
    claims: Vec<(usize, u32, Claim<Wire>)>,
    conflicts: Vec<(usize, u32, ServerIdConflict<Wire>)>,
    members: Vec<(usize, Membership<Wire>)>,
    /// Routes outlive the memberships that made them.
    routes: Vec<(usize, Phone, Route<Wire>)>,
    /// Waits that were not ready. Those for a binary return its label.
    waiters: Vec<Waiter<Option<u32>>>,
    /// One history per server-id.
    histories: Vec<Vec<Event<Call>>>,
}

impl<'a> Player<'a> {
    /// `thread` keeps the labels of different players distinct.
    pub fn new(game: &'a Game, thread: u32, dice: Dice) -> Self {
        Self {
            game,
            labels: thread * 100_000,
            dice,
            claims: Vec::new(),
            conflicts: Vec::new(),
            members: game.take_members(),
            routes: Vec::new(),
            waiters: Vec::new(),
            histories: vec![Vec::new(); game.server_ids.len()],
        }
    }

    /// Makes at most `calls` turns, then detaches its claims and memberships.
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
        self.game.waiters.lock().unwrap().extend(self.waiters);
        self.histories
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.dice.roll(sides)
    }

    /// A conn-id: any of a few, or, of many, as often one of the last six as any.
    fn conn_id(&mut self) -> u16 {
        let Size { conn_ids, .. } = self.game.size;
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

    fn deadline(&mut self) -> u64 {
        [OVER, LATER][usize::try_from(self.roll(2)).unwrap()]
    }

    /// A recent successful claim of any player.
    fn epoch(&mut self) -> Option<(usize, u32, Epoch)> {
        let epochs = self.game.epochs.lock().unwrap();
        // The newest claims matter most.
        let recent = &epochs[epochs.len().saturating_sub(4)..];
        if recent.is_empty() {
            return None;
        }
        let index = self.dice.roll(u64::try_from(recent.len()).unwrap());
        Some(recent[usize::try_from(index).unwrap()])
    }

    /// Runs a call between two ticks. `describe` gives the recorded call for each server-id that it concerns.
    fn record_all<T>(
        &mut self,
        run: impl FnOnce() -> T,
        describe: impl Fn(usize, &T) -> Option<Call>,
    ) -> T {
        let begun = self.game.clock.fetch_add(1, SeqCst);
        // Lets other threads run while this call is in flight but has not done anything yet. Shuttle does
        // that by itself.
        if cfg!(not(switchboard_shuttle)) && self.roll(4) == 0 {
            std::thread::yield_now();
        }
        let result = run();
        let ended = self.game.clock.fetch_add(1, SeqCst);
        for (key, history) in self.histories.iter_mut().enumerate() {
            if let Some(call) = describe(key, &result) {
                history.push(Event { begun, ended, call });
            }
        }
        result
    }

    fn record<T>(
        &mut self,
        concerned: usize,
        run: impl FnOnce() -> T,
        describe: impl Fn(&T) -> Call,
    ) -> T {
        self.record_all(run, |key, result| {
            (key == concerned).then(|| describe(result))
        })
    }

    fn claimed(
        &mut self,
        key: usize,
        label: u32,
        result: Result<Claim<Wire>, ServerIdConflict<Wire>>,
    ) {
        match result {
            Ok(mut claim) => {
                let mut epochs = self.game.epochs.lock().unwrap();
                epochs.push((key, label, claim.epoch()));
                drop(epochs);
                drop(claim.take_displaced());
                self.claims.push((key, label, claim));
            }
            Err(conflict) => self.conflicts.push((key, label, conflict)),
        }
    }

    fn turn(&mut self) {
        let runs = if self.game.size.is_wide() { 2 } else { 0 };
        match self.roll(10 + runs) {
            10.. => self.turn_on_many_phones(),
            0..3 => self.turn_by_key(),
            3..6 => self.turn_by_guard(),
            6 => self.turn_by_epoch(),
            7 => self.turn_by_registry(),
            8 => self.turn_by_waiting(),
            _ => self.turn_by_route(),
        }
    }

    fn turn_by_key(&mut self) {
        let game = self.game;
        let registry = &game.registry;
        let key = usize::try_from(self.roll(game.server_ids.len() as u64)).unwrap();
        let server_id = game.server_ids[key].as_str();
        match self.roll(18) {
            0..3 => self.claim(key, MayReclaim::Always),
            3 => {
                let condition = self.condition();
                self.claim(key, condition);
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
                self.register(key, phone, game.size.max_phones);
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
            14 => {
                let phone = self.phone();
                let cap = game.size.max_phones - usize::try_from(self.roll(2)).unwrap();
                self.register(key, phone, cap);
            }
            15 => drop(self.record(
                key,
                || registry.contains(server_id),
                |contained| Call::Contains(*contained),
            )),
            _ => drop(self.record(
                key,
                || game.look(server_id),
                |seen| Call::Look(seen.clone()),
            )),
        }
    }

    fn condition(&mut self) -> MayReclaim {
        let conditions = [MayReclaim::Never, MayReclaim::WithoutPhones];
        conditions[usize::try_from(self.roll(2)).unwrap()]
    }

    fn claim(&mut self, key: usize, may_reclaim: MayReclaim) {
        let registry = &self.game.registry;
        let server_id = self.game.server_ids[key].as_str();
        let claim = self.label();
        let conn = labelled("0", claim);
        let result = self.record(
            key,
            || match may_reclaim {
                MayReclaim::Always => registry.claim_server(server_id, conn),
                _ => registry.claim_server_if(server_id, conn, |server| {
                    may_reclaim.allows(server.phones().len())
                }),
            },
            |result| Call::Claim {
                claim,
                may_reclaim,
                result: claim_outcome(result),
            },
        );
        self.claimed(key, claim, result);
    }

    fn register(&mut self, key: usize, phone: Phone, max_phones: usize) {
        let Game {
            registry,
            server_ids,
            size,
            ..
        } = self.game;
        let conn = labelled(&phone.conn_id.to_string(), phone.number);
        let server_id = server_ids[key].as_str();
        let result = self.record(
            key,
            || {
                if max_phones == size.max_phones {
                    registry.register_phone(server_id, conn)
                } else {
                    registry.register_phone_with_cap(server_id, conn, max_phones)
                }
            },
            |result| Call::Register {
                phone,
                max_phones,
                result: match result {
                    Ok(_) => Ok(()),
                    Err(RegisterError::NoServer(_)) => Err(Refusal::NoServer),
                    Err(RegisterError::AtCapacity(_)) => Err(Refusal::AtCapacity),
                    Err(RegisterError::DuplicateConnId(_)) => Err(Refusal::DuplicateConnId),
                    Err(other) => panic!("a refusal unknown to the model: {other:?}"),
                },
            },
        );
        self.members.extend(result.map(|member| (key, member)));
    }

    fn unregister(&mut self, key: usize, conn_id: u16) {
        let game = self.game;
        let server_id = game.server_ids[key].as_str();
        self.record(
            key,
            || {
                game.registry
                    .unregister_phone(server_id, &conn_id.to_string())
            },
            |out| Call::Unregister {
                conn_id,
                out: out.as_deref().map(phone),
            },
        );
    }

    /// A run of registrations or removals, long enough to cross a boundary of the list.
    fn turn_on_many_phones(&mut self) {
        let game = self.game;
        let Size {
            conn_ids, at_start, ..
        } = game.size;
        let key = usize::try_from(self.roll(game.server_ids.len() as u64)).unwrap();
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
                self.register(key, Phone { conn_id, number }, game.size.max_phones);
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
                let may_reclaim = match self.roll(3) {
                    0 => self.condition(),
                    _ => MayReclaim::Always,
                };
                let incumbent = conflict.incumbent().label;
                let result = self.record(
                    key,
                    || match may_reclaim {
                        MayReclaim::Always => conflict.take_over(),
                        _ => conflict
                            .take_over_if(|server| may_reclaim.allows(server.phones().len())),
                    },
                    |result| Call::TakeOver {
                        incumbent,
                        claim,
                        may_reclaim,
                        result: claim_outcome(result),
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
                let deadline = self.deadline();
                let is_instant = self.roll(2) == 0;
                self.record(
                    key,
                    || {
                        if is_instant {
                            guard.release_until(until(deadline))
                        } else {
                            guard.release_after(duration(deadline))
                        }
                    },
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
                let deadline = self.game.grace;
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
        let game = self.game;
        let server_id = game.server_ids[key].as_str();
        match self.roll(4) {
            0 => drop(self.record(
                key,
                || game.registry.release_claim(server_id, epoch),
                |done| Call::ReleaseClaim { claim, done: *done },
            )),
            1 => {
                let deadline = self.deadline();
                self.record(
                    key,
                    || {
                        game.registry
                            .release_claim_until(server_id, epoch, until(deadline))
                    },
                    |done| Call::ReleaseAfter {
                        claim,
                        deadline,
                        done: *done,
                    },
                );
            }
            later => {
                let deadline = if later == 2 { OVER } else { LATER };
                let grace = duration(deadline);
                self.record(
                    key,
                    || game.registry.release_claim_after(server_id, epoch, grace),
                    |done| Call::ReleaseAfter {
                        claim,
                        deadline,
                        done: *done,
                    },
                );
            }
        }
    }

    fn turn_by_registry(&mut self) {
        let game = self.game;
        match self.roll(6) {
            0 => drop(self.record_all(
                || game.registry.drain(),
                |key, out| Some(Call::Drain(game.displaced_of(out, key))),
            )),
            1 => drop(self.record_all(
                || game.registry.servers().collect::<Vec<_>>(),
                |key, servers| Some(Call::Look(game.listed(servers, key))),
            )),
            _ => drop(self.record_all(
                || game.registry.expire(at(60)),
                |key, out| Some(Call::Expire(game.displaced_of(out, key))),
            )),
        }
    }

    fn turn_by_waiting(&mut self) {
        let game = self.game;
        let registry = &game.registry;
        let key = usize::try_from(self.roll(game.server_ids.len() as u64)).unwrap();
        let server_id = game.server_ids[key].as_str();
        match self.roll(5) {
            0 => {
                let wait = registry.wait_for_binary(server_id);
                let mut waiter = Waiter::new(async move { Some(wait.await.label) });
                let found = self.record(
                    key,
                    || waiter.poll(),
                    |found| Call::PresentBinary(found.flatten()),
                );
                self.waiters.extend(found.is_none().then_some(waiter));
            }
            1 => {
                let mut watch = registry.watch(server_id);
                self.record(
                    key,
                    || watch.current(),
                    |shown| Call::Look(seen(shown.as_ref(), game.orphans)),
                );
                self.wait(async move { drop(watch.changed().await) });
            }
            2 => {
                let earlier = registry.earlier_deadline(registry.next_deadline());
                self.wait(async move {
                    let _ = earlier.await;
                });
            }
            _ => self.turn_by_listening(),
        }
    }

    fn wait(&mut self, future: impl Future<Output = ()> + Send + 'static) {
        let mut waiter = Waiter::new(async move {
            future.await;
            None
        });
        let ready = waiter.poll();
        self.waiters.extend(ready.is_none().then_some(waiter));
    }

    fn turn_by_listening(&mut self) {
        let Game {
            registry,
            followers,
            listening,
            ..
        } = self.game;
        // The lock is not kept: shuttle does not know it.
        let follower = followers.lock().unwrap().pop();
        let follower = match follower {
            Some(mut follower) => {
                follower.catch_up(registry);
                let stops = *listening == Listening::AtTimes && self.roll(2) == 0;
                (!stops).then_some(follower)
            }
            None => (*listening == Listening::AtTimes).then(|| Follower::new(registry)),
        };
        followers.lock().unwrap().extend(follower);
    }
}
