//! The shared part of a recorded run: one registry, and the server-ids that the players call it with.

use std::mem;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use switchboard::{Displaced, Epoch, Membership, Orphans, Registry};

use super::call::{Call, LATER, OVER, displaced, duration, look, phone, seen};
use super::follower::Follower;
use super::linearizability::{Event, is_linearizable, smallest_window};
use super::model::{self, MayReclaim, Phone, Server};
use super::waiter::Waiter;
use super::{Wire, assert_at_rest_with, labelled};

/// How many phones are registered before the race, and how many there can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub(super) at_start: u16,
    /// The number of conn-ids in use.
    pub(super) conn_ids: u16,
    pub(super) max_phones: usize,
}

impl Size {
    /// So few conn-ids that calls keep colliding on them.
    pub const NARROW: Self = Self {
        at_start: 0,
        conn_ids: 3,
        max_phones: 2,
    };

    /// Enough phones for the phone list to split and merge. Under shuttle no more than that takes: its
    /// scheduler counts the steps of every registration before the race.
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

    pub(super) fn is_wide(self) -> bool {
        self != Self::NARROW
    }
}

/// Who listens to the events of the registry. While anybody does, changes take turns.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Listening {
    Nobody,
    /// One listener from before the race to its end.
    Throughout,
    /// Players begin to listen, and stop.
    AtTimes,
}

/// A registry, the initial state of each server-id, and the clock that orders the recorded calls.
pub struct Game {
    pub registry: Registry<Wire>,
    pub(super) server_ids: Vec<String>,
    pub(super) size: Size,
    /// The model's deadline of the grace with which the registry was built.
    pub(super) grace: Option<u64>,
    pub(super) orphans: Orphans,
    pub(super) listening: Listening,
    /// The state of each server-id before the race.
    starts: Vec<Server>,
    pub(super) clock: AtomicU64,
    /// Every successful claim with its server-id. Any player may use any epoch.
    pub(super) epochs: Mutex<Vec<(usize, u32, Epoch)>>,
    /// Memberships of some of the initial phones, not yet given to a player.
    members: Mutex<Vec<(usize, Membership<Wire>)>>,
    pub(super) followers: Mutex<Vec<Follower>>,
    /// Waits of players that have played.
    pub(super) waiters: Mutex<Vec<Waiter<Option<u32>>>>,
}

/// Each player gets the memberships of this many initial phones.
const MEMBERS: usize = 4;
/// The first label of the initial connections. Players use smaller labels.
const AT_START: u32 = 1 << 20;

impl Game {
    /// `number` selects how the registry is built. One game in five starts with many phones.
    pub fn new(number: u64, server_ids: Vec<String>) -> Self {
        let size = if number / 3 % 5 == 4 {
            Size::wide(number / 15)
        } else {
            Size::NARROW
        };
        Self::sized(number, size, server_ids)
    }

    pub fn sized(number: u64, size: Size, server_ids: Vec<String>) -> Self {
        let orphans = [Orphans::Keep, Orphans::Displace][usize::from(number / 3 % 2 == 1)];
        let listening = match number / 6 % 3 {
            0 => Listening::Nobody,
            1 => Listening::Throughout,
            _ => Listening::AtTimes,
        };
        let builder = Registry::builder()
            .max_phones(size.max_phones)
            .orphans(orphans);
        let (registry, grace) = match number % 3 {
            0 => (builder.build(), None),
            1 => (builder.grace(duration(OVER)).build(), Some(OVER)),
            _ => (builder.grace(duration(LATER)).build(), Some(LATER)),
        };
        let mut game = Self {
            registry,
            starts: vec![Server::new(orphans); server_ids.len()],
            server_ids,
            size,
            grace,
            orphans,
            listening,
            clock: AtomicU64::new(0),
            epochs: Mutex::default(),
            members: Mutex::default(),
            followers: Mutex::default(),
            waiters: Mutex::default(),
        };
        if size.is_wide() {
            game.fill(number);
        }
        if listening == Listening::Throughout {
            let follower = Follower::new(&game.registry);
            game.followers = Mutex::new(vec![follower]);
        }
        game
    }

    /// The next game: fresh server-ids on the same registry.
    pub fn next(self, server_ids: Vec<String>) -> Self {
        Self {
            starts: vec![Server::new(self.orphans); server_ids.len()],
            server_ids,
            clock: AtomicU64::new(0),
            epochs: Mutex::default(),
            members: Mutex::default(),
            ..self
        }
    }

    /// Gives each server-id its phones, and makes it held, vacant, in a grace that is over, or in one that is
    /// not. Under shuttle only the first server-id is filled.
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
            start.claim(claim, MayReclaim::Always).unwrap();
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
        // Interleave the server-ids, so that each player gets memberships of each.
        members.sort_by_key(|(_, member)| phone(member.conn()).conn_id);
        self.members = Mutex::new(members);
    }

    pub(super) fn take_members(&self) -> Vec<(usize, Membership<Wire>)> {
        let mut members = self.members.lock().unwrap();
        let left = members.len().saturating_sub(MEMBERS);
        members.split_off(left)
    }

    /// The part of a registry-wide call's result that concerns one server-id.
    pub(super) fn displaced_of(
        &self,
        out: &[Displaced<Wire>],
        key: usize,
    ) -> Option<model::Displaced> {
        let mine = |out: &&Displaced<Wire>| *out.server_id == *self.server_ids[key];
        let mine: Vec<_> = out.iter().filter(mine).collect();
        assert!(mine.len() <= 1, "one call returned a server-id twice");
        mine.first().map(|out| displaced(out))
    }

    pub(super) fn look(&self, server_id: &str) -> Server {
        look(&self.registry, server_id, self.orphans)
    }

    /// The state of one server-id in an enumeration.
    pub(super) fn listed(&self, servers: &[switchboard::Server<Wire>], key: usize) -> Server {
        let mine = |server: &&switchboard::Server<Wire>| server.server_id() == self.server_ids[key];
        let mine: Vec<_> = servers.iter().filter(mine).collect();
        assert!(mine.len() <= 1, "one enumeration showed a server-id twice");
        seen(mine.first().copied(), self.orphans)
    }

    pub fn assert_at_rest(&self) {
        assert_at_rest_with(&self.registry, self.orphans);
    }

    /// Checks the histories of all threads, once no player runs: each server-id must be linearizable and end
    /// in its present state. No wait may sleep that has something to show, and all listeners must know that
    /// state. Returns the number of calls, and how many of them overlapped with others.
    pub fn check(&self, threads: &[Vec<Vec<Event<Call>>>], about: &str) -> (usize, usize) {
        let (mut calls, mut overlapping) = (0, 0);
        for (key, server_id) in self.server_ids.iter().enumerate() {
            let histories: Vec<_> = threads.iter().map(|keys| keys[key].clone()).collect();
            let (start, last) = (&self.starts[key], self.look(server_id));
            assert!(
                is_linearizable(start, &histories, |end| *end == last),
                "{about}: server-id {key}, which began as {start:?} and ended in {last:?}, is not linearizable: {}",
                smallest_window(start, &histories),
            );
            let events = || histories.iter().flatten();
            calls += events().count();
            // A call overlapped with none if no other tick fell between its two.
            overlapping += events()
                .filter(|event| event.ended > event.begun + 1)
                .count();
        }
        for mut waiter in mem::take(&mut *self.waiters.lock().unwrap()) {
            waiter.poll_at_rest();
        }
        let mut followers = mem::take(&mut *self.followers.lock().unwrap());
        for follower in &mut followers {
            follower.check(&self.registry, about);
        }
        *self.followers.lock().unwrap() = followers;
        (calls, overlapping)
    }
}
