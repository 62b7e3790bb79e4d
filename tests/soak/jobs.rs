//! The jobs that the threads of the soak repeat, on server-ids of their own or on shared ones.
//!
//! The working set is bounded by construction. A job keeps a fixed number of values. A server-id that never
//! returns is either released in the same turn or held by one of these values.

use std::any::Any;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::{Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use switchboard::{
    Cause, Claim, ConnRef, Displaced, Epoch, Membership, Orphans, RegisterError, Registry,
    ServerIdConflict,
};

use crate::common::waiter::Waiter;
use crate::common::{Living, Wire, at};

/// Longer than the names that linger in the index.
const LONG: usize = 1_100;
/// The cap of the registry.
const MAX_PHONES: usize = 400;

/// A small random generator. The soak needs many different orders, not good randomness.
pub(crate) struct Dice(u64);

impl Dice {
    fn seeded(seed: u64, thread: usize) -> Self {
        let mixed = seed.wrapping_add(thread as u64 + 1);
        Self(mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) % sides
    }
    fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }
    fn millis(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.roll(most))
    }
    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.roll(len as u64)).unwrap()
    }
}

/// The load must have caused each of these at least once, or the soak exercises nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    Armed,
    Reclaimed,
    TakenOver,
    Expired,
    Evicted,
    Drained,
    Released,
    Conflict,
    NoServer,
    AtCapacity,
    DuplicateConnId,
}

const EVENTS: [Event; 11] = [
    Event::Armed,
    Event::Reclaimed,
    Event::TakenOver,
    Event::Expired,
    Event::Evicted,
    Event::Drained,
    Event::Released,
    Event::Conflict,
    Event::NoServer,
    Event::AtCapacity,
    Event::DuplicateConnId,
];

/// A value to be dropped on another thread.
pub(crate) type Parcel = Box<dyn Any + Send>;

/// The channels to the threads that drop what a job hands over. Once the receivers are gone, values are
/// dropped at once.
#[derive(Clone)]
pub(crate) struct Hands {
    pub(crate) guards: SyncSender<Parcel>,
    pub(crate) snapshots: SyncSender<Parcel>,
}

impl Hands {
    fn keep(&self, snapshot: impl Any + Send) {
        let _ = self.snapshots.send(Box::new(snapshot));
    }
}

/// Ends the soak when a thread ends, even by a panic.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

pub(crate) struct Soak {
    pub(crate) registry: Registry<Wire>,
    /// The registry of the threads that only claim and only drop.
    pub(crate) handed_over: Registry<Wire>,
    pub(crate) living: Living,
    seed: u64,
    over: AtomicBool,
    /// Numbers the names that never return.
    fresh: AtomicU64,
    turns: [AtomicU64; JOBS.len()],
    turns_of_warm_up: AtomicU64,
    events: [AtomicU64; EVENTS.len()],
}

type Turn<'a> = Box<dyn FnMut(&mut Dice) + 'a>;
type Job = for<'a> fn(&'a Soak, &'a Hands) -> Turn<'a>;

pub(crate) const JOBS: [(&str, Job); 10] = [
    ("lives", |soak, hands| Box::new(soak.lives(hands))),
    ("more lives", |soak, hands| Box::new(soak.lives(hands))),
    ("claims dropped elsewhere", |soak, hands| {
        Box::new(|_| soak.claims_dropped_elsewhere(hands))
    }),
    ("threads that end", |soak, _| {
        Box::new(|dice| soak.a_thread_that_ends(dice))
    }),
    ("crowds", |soak, hands| Box::new(soak.crowds(hands))),
    ("graces", |soak, hands| Box::new(soak.graces(hands))),
    ("more graces", |soak, hands| Box::new(soak.graces(hands))),
    ("the clock", |soak, _| Box::new(|dice| soak.the_clock(dice))),
    ("snapshots", |soak, hands| {
        Box::new(|dice| soak.snapshots(dice, hands))
    }),
    ("other registries", |soak, hands| {
        Box::new(soak.other_registries(hands))
    }),
];

impl Soak {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            registry: Registry::builder().max_phones(MAX_PHONES).build(),
            handed_over: Registry::new(),
            living: Living::default(),
            seed,
            over: AtomicBool::new(false),
            fresh: AtomicU64::new(0),
            turns: [const { AtomicU64::new(0) }; JOBS.len()],
            turns_of_warm_up: AtomicU64::new(0),
            events: [const { AtomicU64::new(0) }; EVENTS.len()],
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    pub(crate) fn end(&self) {
        self.over.store(true, Relaxed);
    }

    fn all_turns(&self) -> u64 {
        self.turns.iter().map(|turns| turns.load(Relaxed)).sum()
    }

    pub(crate) fn turns_of_warm_up(&self) {
        self.turns_of_warm_up.store(self.all_turns(), Relaxed);
    }

    #[expect(clippy::cast_precision_loss, reason = "for a mean")]
    pub(crate) fn turns_since_warm_up(&self) -> f64 {
        (self.all_turns() - self.turns_of_warm_up.load(Relaxed)) as f64
    }

    pub(crate) fn report(&self) {
        for ((name, _), turns) in JOBS.iter().zip(&self.turns) {
            println!("{:>12} turns of {name}", turns.load(Relaxed));
        }
        println!("{:>12} turns of all", self.all_turns());
        let seen = EVENTS.map(|event| (event, self.times(event)));
        println!("{seen:?}");
    }

    /// The events that never occurred.
    pub(crate) fn missing(&self) -> Vec<Event> {
        let never = |event: &Event| self.times(*event) == 0;
        EVENTS.into_iter().filter(never).collect()
    }

    fn times(&self, event: Event) -> u64 {
        self.events[event as usize].load(Relaxed)
    }

    fn saw(&self, event: Event) {
        self.events[event as usize].fetch_add(1, Relaxed);
    }

    fn saw_out<'a>(&self, out: impl IntoIterator<Item = &'a Displaced<Wire>>) {
        for displaced in out {
            self.saw(match displaced.cause {
                Cause::Reclaimed => Event::Reclaimed,
                Cause::TakenOver => Event::TakenOver,
                Cause::Expired => Event::Expired,
                Cause::Evicted => Event::Evicted,
                Cause::Drained => Event::Drained,
                Cause::Released => Event::Released,
                other => unreachable!("the soak never asks for {other:?}"),
            });
        }
    }

    /// Takes at least one turn, then repeats until the soak is over.
    pub(crate) fn repeat(&self, number: usize, hands: &Hands) {
        let _ending = Ending(&self.over);
        let mut dice = Dice::seeded(self.seed, number);
        let (_, job) = JOBS[number];
        let mut turn = job(self, hands);
        loop {
            turn(&mut dice);
            self.turns[number].fetch_add(1, Relaxed);
            if self.is_over() {
                return;
            }
        }
    }

    pub(crate) fn drop_elsewhere(&self, guards: Receiver<Parcel>) {
        let _ending = Ending(&self.over);
        guards.into_iter().for_each(drop);
    }

    /// Keeps the last 256 snapshots.
    pub(crate) fn keep_for_a_while(&self, snapshots: Receiver<Parcel>) {
        let _ending = Ending(&self.over);
        let mut kept = VecDeque::new();
        for snapshot in snapshots {
            kept.push_back(snapshot);
            if kept.len() > 256 {
                kept.pop_front();
            }
        }
    }

    /// A name that never returns; one in eight is long.
    fn fresh(&self, dice: &mut Dice) -> String {
        let number = self.fresh.fetch_add(1, Relaxed);
        let padding = if dice.one_in(8) { LONG } else { 0 };
        format!("fresh {number} {}", "-".repeat(padding))
    }

    /// Half of these names never return.
    fn server_id(&self, dice: &mut Dice) -> String {
        if dice.one_in(2) {
            self.fresh(dice)
        } else {
            returning(dice)
        }
    }

    fn claim(
        &self,
        registry: &Registry<Wire>,
        server_id: &str,
    ) -> Result<Claim<Wire>, ServerIdConflict<Wire>> {
        let claim = registry.claim_server(server_id, self.living.wire("b"));
        match &claim {
            Ok(claim) => self.saw_out(claim.displaced()),
            Err(_) => self.saw(Event::Conflict),
        }
        claim
    }

    fn take_over(&self, conflict: ServerIdConflict<Wire>) -> Option<Claim<Wire>> {
        let claim = conflict.take_over().ok()?;
        self.saw_out(claim.displaced());
        Some(claim)
    }

    fn evict(&self, registry: &Registry<Wire>, server_id: &str) -> Option<Displaced<Wire>> {
        let displaced = registry.evict_server(server_id)?;
        self.saw_out([&displaced]);
        Some(displaced)
    }

    fn expire(&self, registry: &Registry<Wire>, now: Instant) {
        self.saw_out(&registry.expire(now));
    }

    /// Registers a phone, usually one that is not yet registered.
    fn register(
        &self,
        registry: &Registry<Wire>,
        server_id: &str,
        dice: &mut Dice,
    ) -> Option<Membership<Wire>> {
        let padding = if dice.one_in(16) { LONG } else { 0 };
        let conn_id = format!("{}{}", dice.roll(2_000), "-".repeat(padding));
        self.register_as(registry, server_id, &conn_id)
    }

    fn register_as(
        &self,
        registry: &Registry<Wire>,
        server_id: &str,
        conn_id: &str,
    ) -> Option<Membership<Wire>> {
        let phone = registry.register_phone(server_id, self.living.wire(conn_id));
        match &phone {
            Ok(_) => {}
            Err(RegisterError::NoServer(_)) => self.saw(Event::NoServer),
            Err(RegisterError::AtCapacity(_)) => self.saw(Event::AtCapacity),
            Err(RegisterError::DuplicateConnId(_)) => self.saw(Event::DuplicateConnId),
            Err(other) => unreachable!("the soak knows no such refusal: {other:?}"),
        }
        phone.ok()
    }

    /// Claims and phones from registration to removal, on names that other threads use too.
    fn lives<'a>(&'a self, hands: &'a Hands) -> impl FnMut(&mut Dice) + 'a {
        let mut kept = VecDeque::new();
        move |dice| {
            if let Some(life) = self.life(dice, hands) {
                kept.push_back(life);
            }
            if kept.len() > 256 {
                kept.pop_front();
            }
            if dice.one_in(256) {
                self.expire(&self.registry, at(10));
            }
        }
    }

    fn life(&self, dice: &mut Dice, hands: &Hands) -> Option<(Claim<Wire>, Vec<Membership<Wire>>)> {
        let registry = &self.registry;
        let server_id = self.server_id(dice);
        drop(self.register(registry, &server_id, dice));
        let mut claim = match self.claim(registry, &server_id) {
            Ok(claim) => claim,
            Err(conflict) => match dice.roll(4) {
                0 => {
                    hands.keep(conflict);
                    return None;
                }
                1 => {
                    drop(self.evict(registry, &server_id));
                    return None;
                }
                _ => self.take_over(conflict)?,
            },
        };
        if let Some(displaced) = claim.take_displaced() {
            hands.keep(displaced);
        }
        let mut phones = Vec::new();
        for _ in 0..dice.roll(4) {
            let conn_id = dice.roll(2_000).to_string();
            phones.extend(self.register_as(registry, &server_id, &conn_id));
            // Refused, unless the first one has already been removed.
            phones.extend(self.register_as(registry, &server_id, &conn_id));
        }
        match dice.roll(8) {
            0 => drop((claim, phones)),
            1 => drop((phones, claim)),
            2 => drop((claim.evict(), phones)),
            3 => {
                let epoch = claim.detach();
                registry.release_claim_after(&server_id, epoch, dice.millis(2_000));
                phones.pop().into_iter().for_each(Membership::detach);
            }
            4 => {
                phones.into_iter().for_each(Membership::detach);
                claim.release();
                hands.keep(self.evict(registry, &server_id));
            }
            5 => {
                claim.release_after(dice.millis(2_000));
            }
            _ => return Some((claim, phones)),
        }
        None
    }

    /// One thread only claims and another only drops. The second frees what the first allocates, and the
    /// first keeps copying the index's table. They have a registry of their own: elsewhere a claim also
    /// removes slots left by ended threads, which, if a name is long, also frees replaced tables.
    fn claims_dropped_elsewhere(&self, hands: &Hands) {
        let claims: Vec<_> = (0..64)
            .filter_map(|_| {
                let server_id = format!("fresh {}", self.fresh.fetch_add(1, Relaxed));
                self.claim(&self.handed_over, &server_id).ok()
            })
            .collect();
        let _ = hands.guards.send(Box::new(claims));
    }

    /// Runs a thread whose guards are dropped by a thread-local. That is destroyed before papaya's own if it
    /// was set up later, and after it if it was set up earlier.
    fn a_thread_that_ends(&self, dice: &mut Dice) {
        thread_local! {
            static KEPT: RefCell<Vec<Box<dyn Any>>> = const { RefCell::new(Vec::new()) };
        }
        let names: Vec<_> = (0..16).map(|_| self.fresh(dice)).collect();
        let earlier = dice.one_in(2);
        let mut own = Dice::seeded(dice.roll(u64::MAX), 0);
        let ended = thread::scope(|scope| {
            let thread = scope.spawn(move || {
                if earlier {
                    KEPT.with_borrow(|_| ());
                }
                for name in &names {
                    let claim = self.claim(&self.registry, name);
                    let phone = self.register(&self.registry, name, &mut own);
                    KEPT.with_borrow_mut(|kept| kept.push(Box::new((claim.ok(), phone))));
                }
            });
            thread.join()
        });
        ended.unwrap();
    }

    /// Hundreds of phones come and go at a few server-ids, so that leaves of the phone list split and merge.
    fn crowds<'a>(&'a self, hands: &'a Hands) -> impl FnMut(&mut Dice) + 'a {
        let mut crowds: Vec<_> = (0..4).map(Crowd::new).collect();
        move |dice| {
            let at = dice.index(crowds.len());
            self.crowd(&mut crowds[at], dice, hands);
        }
    }

    fn crowd(&self, crowd: &mut Crowd, dice: &mut Dice, hands: &Hands) {
        let registry = &self.registry;
        let server_id = &crowd.server_id;
        if crowd.claim.as_ref().is_none_or(|claim| !claim.is_current()) {
            let claim = self.claim(registry, server_id);
            crowd.claim = claim.map_or_else(|conflict| self.take_over(conflict), Some);
        }
        for _ in 0..16 {
            if crowd.grows {
                crowd
                    .phones
                    .extend(self.register(registry, server_id, dice));
            } else if !crowd.phones.is_empty() {
                let at = dice.index(crowd.phones.len());
                let phone = crowd.phones.swap_remove(at);
                match dice.roll(3) {
                    0 => drop(phone),
                    1 => drop(registry.unregister_phone(server_id, phone.conn_id())),
                    _ => drop(hands.guards.send(Box::new(phone))),
                }
            }
        }
        if crowd.phones.len() > MAX_PHONES + 50
            || registry.phones_for(server_id).len() >= MAX_PHONES
        {
            crowd.grows = false;
            // Refused: the server-id is at capacity.
            crowd
                .phones
                .extend(self.register(registry, server_id, dice));
        } else if crowd.phones.len() < 4 {
            crowd.grows = true;
            // Evict all phones at once, together with the claim.
            if dice.one_in(4) {
                hands.keep(self.evict(registry, server_id));
                crowd.phones.clear();
            } else if dice.one_in(3) {
                crowd.claim = None;
            }
        }
    }

    /// Re-arms graces again and again. Some are reclaimed, some released, and the clock ends the others.
    fn graces<'a>(&'a self, hands: &'a Hands) -> impl FnMut(&mut Dice) + 'a {
        let mut epochs: Vec<Option<Epoch>> = vec![None; 256];
        move |dice| {
            let registry = &self.registry;
            for _ in 0..16 {
                // Use two server-ids far more often than the others: there the two threads collide.
                let many = if dice.one_in(2) { epochs.len() } else { 2 };
                let at = dice.index(many);
                let server_id = format!("grace {at}");
                let epoch = &mut epochs[at];
                let Some(old) = *epoch else {
                    let claim = self.claim(registry, &server_id);
                    let claim = claim.map_or_else(|conflict| self.take_over(conflict), Some);
                    *epoch = claim.map(Claim::detach);
                    if let Some(phone) = self.register(registry, &server_id, dice) {
                        phone.detach();
                    }
                    continue;
                };
                match dice.roll(32) {
                    // Over at once, and left for the clock to end.
                    0 => {
                        registry.release_claim_after(&server_id, old, Duration::ZERO);
                        *epoch = None;
                    }
                    1 => {
                        registry.release_claim(&server_id, old);
                        drop(self.evict(registry, &server_id));
                    }
                    2 => {
                        if let Ok(mut claim) = self.claim(registry, &server_id) {
                            hands.keep(claim.take_displaced());
                            *epoch = Some(claim.detach());
                        }
                    }
                    _ => {
                        let after = dice.millis(20_000);
                        if registry.release_claim_after(&server_id, old, after) {
                            self.saw(Event::Armed);
                        } else {
                            *epoch = None;
                        }
                    }
                }
            }
        }
    }

    /// Time leaps forward and back.
    fn the_clock(&self, dice: &mut Dice) {
        let registry = &self.registry;
        self.expire(registry, at(dice.roll(10)));
        let _ = registry.next_deadline();
        let counts = registry.counts();
        assert!(counts.in_grace <= counts.binaries);
        let shown = registry.servers().take(dice.index(10_000));
        shown.for_each(|server| assert!(server.phones().len() <= MAX_PHONES));
        thread::yield_now();
    }

    /// Takes snapshots of every kind, more at a time than a thread has cheap arc-swap guards.
    fn snapshots(&self, dice: &mut Dice, hands: &Hands) {
        let registry = &self.registry;
        let server_id = match dice.roll(4) {
            0 => format!("crowd {}", dice.roll(4)),
            1 => format!("grace {}", dice.roll(256)),
            _ => returning(dice),
        };
        let conn_id = dice.roll(2_000).to_string();
        let brief: Vec<_> = (0..dice.roll(12))
            .map(|_| registry.phones_for(&server_id))
            .collect();
        match dice.roll(8) {
            0 => hands.keep(registry.phones_for(&server_id)),
            1 => hands.keep(registry.binary_for(&server_id)),
            2 => hands.keep(registry.phone_for(&server_id, &conn_id)),
            3 => hands.keep(registry.server(&server_id)),
            4 => hands.keep(
                registry
                    .phone_for(&server_id, &conn_id)
                    .map(ConnRef::into_arc),
            ),
            5 => self.waits(&server_id, dice, hands),
            6 if dice.one_in(16) => {
                let mut events = registry.events();
                hands.keep(registry.server(&server_id));
                while events.try_next().is_some() {}
            }
            _ => {
                if let Some(phone) = self.register(registry, &server_id, dice) {
                    let mut route = phone.route();
                    let _ = route.binary();
                    hands.keep((route, phone.binary()));
                    hands.keep(phone);
                }
            }
        }
        drop(brief);
    }

    /// Waits for a server-id, or for a fresh name that nobody claims. Most waits are dropped before they end.
    fn waits(&self, server_id: &str, dice: &mut Dice, hands: &Hands) {
        let fresh = self.fresh(dice);
        let server_id = if dice.one_in(2) { server_id } else { &fresh };
        let wait = self.registry.wait_for_binary(server_id);
        let mut watch = self.registry.watch(server_id);
        let mut waiters = [
            Waiter::new(async move { drop(wait.await) }),
            Waiter::new(async move { drop(watch.changed().await) }),
        ];
        for waiter in &mut waiters {
            let _ = waiter.poll();
        }
        hands.keep(waiters);
    }

    /// Registries of their own, from creation to drop. The guards, a conflict and a snapshot of the last four
    /// outlive their handles. These keep large parts of a registry alive, so their number is fixed.
    fn other_registries<'a>(&'a self, hands: &'a Hands) -> impl FnMut(&mut Dice) + 'a {
        let mut left = VecDeque::new();
        move |dice| {
            left.push_back(self.another_registry(dice));
            if left.len() > 4 {
                let _ = hands.guards.send(Box::new(left.pop_front()));
            }
        }
    }

    fn another_registry(&self, dice: &mut Dice) -> impl Any + Send + use<> {
        let registry: Registry<Wire> = Registry::builder()
            .capacity(dice.index(1_000))
            .max_phones(3)
            .grace(dice.millis(2_000))
            .orphans(if dice.one_in(2) {
                Orphans::Keep
            } else {
                Orphans::Displace
            })
            .build();
        let (mut claims, mut phones, mut conflicts) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..64 {
            let server_id = self.server_id(dice);
            let Ok(claim) = self.claim(&registry, &server_id) else {
                continue;
            };
            for _ in 0..dice.roll(6) {
                phones.extend(self.register(&registry, &server_id, dice));
            }
            match dice.roll(5) {
                0 => drop(claim),
                1 => drop(claim.detach()),
                2 => {
                    claim.release();
                }
                3 => {
                    conflicts.extend(self.claim(&registry, &server_id).err());
                    claim.detach();
                }
                _ => claims.push(claim),
            }
        }
        self.expire(&registry, at(1));
        let snapshot = registry.servers().next();
        if dice.one_in(2) {
            self.saw_out(&registry.drain());
        }
        // Keep at most one conflict, because each keeps its whole registry alive.
        conflicts.truncate(dice.index(2));
        (claims, phones, conflicts, snapshot)
    }
}

/// One of a thousand names; the last hundred are long.
fn returning(dice: &mut Dice) -> String {
    let number = dice.roll(1_000);
    let padding = if number < 900 { 0 } else { LONG };
    format!("returning {number} {}", "-".repeat(padding))
}

struct Crowd {
    server_id: String,
    claim: Option<Claim<Wire>>,
    phones: Vec<Membership<Wire>>,
    grows: bool,
}

impl Crowd {
    fn new(number: usize) -> Self {
        Self {
            server_id: format!("crowd {number}"),
            claim: None,
            phones: Vec::new(),
            grows: true,
        }
    }
}
