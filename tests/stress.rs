//! Real threads released by a barrier. Each test names the invariant whose violation it would observe.

mod common;

use std::collections::HashSet;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use common::{Living, Wire, assert_counts_are_exact, at, labelled, seconds, wire};
use switchboard::{Cause, Conn, Counts, Displaced, RegisterError, Registry, Status};

const THREADS: usize = 4;

/// Runs `work` on `threads` threads at once and returns each thread's result.
fn together<T: Send>(threads: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let barrier = Barrier::new(threads);
    thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|i| {
                let (barrier, work) = (&barrier, &work);
                scope.spawn(move || {
                    barrier.wait();
                    work(i)
                })
            })
            .collect();
        let finished = handles.into_iter().map(|handle| handle.join().unwrap());
        finished.collect()
    })
}

/// A small random generator. The tests need many different orders, not good randomness.
struct Dice(u64);

impl Dice {
    fn new(seed: usize) -> Self {
        Self((seed as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) % sides
    }
}

/// Sets the flag when the thread that the others wait for ends, even by a panic.
struct Raise<'a>(&'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Decrements the count of running threads when a thread ends, even by a panic.
struct Fewer<'a>(&'a AtomicUsize);

impl Drop for Fewer<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// Where each phone ended up. Every phone must be accounted for exactly once (invariant 3).
struct Fates(Vec<AtomicU32>);

impl Fates {
    fn new(phones: usize) -> Self {
        Self((0..phones).map(|_| AtomicU32::new(0)).collect())
    }
    fn of(&self, wire: &Wire) {
        self.0[wire.label as usize].fetch_add(1, SeqCst);
    }
    fn of_all(&self, out: &Displaced<Wire>) {
        out.phones.iter().for_each(|phone| self.of(phone));
    }
    fn assert_one_each(&self) {
        for (label, fate) in self.0.iter().enumerate() {
            assert_eq!(fate.load(SeqCst), 1, "phone {label}");
        }
    }
}

mod one_winner {
    use super::*;

    #[test]
    fn of_a_claim_race_for_a_new_server_id() {
        for round in 0..3_000 {
            let registry = Registry::new();
            // In every other round the slot already exists, kept alive only by its phones.
            let orphan = (round % 2 == 0).then(|| {
                let claim = registry.claim_server("s", wire("before")).unwrap();
                let phone = registry.register_phone("s", wire("p")).unwrap();
                claim.release();
                phone
            });
            let results = together(THREADS, |i| {
                registry.claim_server("s", labelled("b", u32::try_from(i).unwrap()))
            });
            let winners: Vec<_> = results.iter().filter_map(|r| r.as_ref().ok()).collect();
            assert_eq!(winners.len(), 1);
            assert!(winners[0].is_current());
            for refused in results.iter().filter_map(|r| r.as_ref().err()) {
                assert_eq!(refused.incumbent_epoch(), winners[0].epoch());
                assert_eq!(refused.incumbent().label, winners[0].conn().label);
            }
            assert_eq!(registry.counts().binaries, 1);
            drop(orphan);
        }
    }

    #[test]
    fn of_a_take_over_race() {
        for _ in 0..2_000 {
            let registry = Registry::new();
            let old = registry.claim_server("s", wire("old")).unwrap();
            let conflicts: Vec<_> = (0..THREADS)
                .map(|_| Mutex::new(registry.claim_server("s", wire("new")).err()))
                .collect();
            let results = together(THREADS, |i| {
                conflicts[i].lock().unwrap().take().unwrap().take_over()
            });
            let mut winners: Vec<_> = results.into_iter().filter_map(Result::ok).collect();
            assert_eq!(
                winners.len(),
                1,
                "exactly one take-over must win: no other conflict named the winner as incumbent"
            );
            let out = winners[0].take_displaced().unwrap();
            assert_eq!(out.cause, Cause::TakenOver);
            assert!(!old.is_current());
        }
    }

    /// A get-or-insert followed by a compare-and-swap loses this race: the claim lands on a slot that is
    /// being retired. A successful claim must hold the server-id until it is released.
    #[test]
    fn keeps_its_claim_while_slots_retire_and_are_replaced() {
        let registry: Registry<Wire> = Registry::new();
        let holders = AtomicUsize::new(0);
        together(THREADS, |i| {
            for _ in 0..30_000 {
                let Ok(claim) =
                    registry.claim_server("s", labelled("b", u32::try_from(i).unwrap()))
                else {
                    continue;
                };
                assert_eq!(
                    holders.fetch_add(1, SeqCst),
                    0,
                    "two claims hold one server-id"
                );
                assert!(claim.is_current());
                let binary = registry.binary_for("s").expect("the claim is lost");
                assert_eq!(binary.label, u32::try_from(i).unwrap());
                drop(binary);
                assert_eq!(holders.fetch_sub(1, SeqCst), 1);
                assert!(claim.release(), "the claim is lost");
            }
        });
        assert_eq!(registry.counts(), Counts::default());
        assert_eq!(registry.servers().count(), 0);
    }

    #[test]
    fn has_the_larger_epoch_when_it_came_later() {
        let registry: Registry<Wire> = Registry::new();
        // A thread claims only while it has the lock, so each claim begins after the previous one has ended.
        let last = Mutex::new(None);
        together(THREADS, |i| {
            for _ in 0..5_000 {
                let mut last = last.lock().unwrap();
                let claim = registry.claim_server(&format!("s{i}"), wire("b")).unwrap();
                assert!(last.replace(claim.epoch()) < Some(claim.epoch()));
            }
        });
    }
}

mod an_old_claim {
    use super::*;

    /// No call by the holder of an old epoch affects the present holder.
    #[test]
    fn touches_no_successor() {
        let registry: Registry<Wire> = Registry::new();
        let epochs = Mutex::new(Vec::new());
        let done = AtomicBool::new(false);
        together(THREADS, |i| {
            if i > 0 {
                let mut dice = Dice::new(i);
                while !done.load(Relaxed) {
                    let Some(epoch) = epochs.lock().unwrap().last().copied() else {
                        continue;
                    };
                    match dice.roll(3) {
                        0 => assert!(!registry.release_claim("s", epoch)),
                        1 => assert!(!registry.release_claim_after("s", epoch, seconds(0))),
                        _ => assert!(registry.expire(at(3600)).is_empty()),
                    }
                }
                return;
            }
            let _raise = Raise(&done);
            let mut current = registry.claim_server("s", wire("b")).unwrap();
            for round in 0..20_000 {
                let phone = registry.register_phone("s", wire("p")).unwrap();
                let next = registry.claim_server("s", wire("b")).unwrap_err();
                let next = next.take_over().expect("no other thread takes over");
                assert!(!phone.is_registered());
                epochs.lock().unwrap().push(current.epoch());
                match round % 3 {
                    0 => drop(current),
                    1 => assert!(!current.release()),
                    _ => assert!(!current.release_after(seconds(0))),
                }
                current = next;
                assert!(current.is_current(), "round {round}");
                assert_eq!(registry.server("s").unwrap().status(), Status::Held);
            }
        });
        assert_eq!(registry.next_deadline(), None);
    }

    /// Expiry, reclaim, take-over, release and re-arming race for one grace that is over. Exactly one of them
    /// ends it.
    #[test]
    fn in_grace_is_ended_once() {
        for round in 0..4_000_usize {
            let registry: Registry<Wire> = Registry::new();
            let claim = registry.claim_server("s", labelled("b", 7)).unwrap();
            let conflict = Mutex::new(registry.claim_server("s", wire("b2")).err());
            registry.register_phone("s", wire("p")).unwrap().detach();
            let epoch = claim.epoch();
            claim.release_after(Duration::ZERO);
            let out = Mutex::new(Vec::new());
            let claims = Mutex::new(Vec::new());
            let released = AtomicUsize::new(0);
            together(5, |i| match (i + round) % 5 {
                0 | 1 => out.lock().unwrap().extend(registry.expire(at(10))),
                2 => {
                    if let Ok(mut claim) = registry.claim_server("s", wire("b3")) {
                        out.lock().unwrap().extend(claim.take_displaced());
                        claims.lock().unwrap().push(claim);
                    }
                }
                3 => {
                    let conflict = conflict.lock().unwrap().take().unwrap();
                    if let Ok(mut claim) = conflict.take_over() {
                        out.lock().unwrap().extend(claim.take_displaced());
                        claims.lock().unwrap().push(claim);
                    }
                }
                _ if round % 2 == 0 => {
                    registry.release_claim_after("s", epoch, Duration::ZERO);
                }
                _ => {
                    let done = registry.release_claim("s", epoch);
                    released.fetch_add(usize::from(done), SeqCst);
                }
            });
            let mut out = out.into_inner().unwrap();
            out.extend(registry.expire(at(20)));
            let ended = out
                .iter()
                .filter(|out| out.binary.as_ref().is_some_and(|binary| binary.label == 7))
                .count();
            assert_eq!(ended + released.load(SeqCst), 1, "{out:?}");
            let claims = claims.into_inner().unwrap();
            assert_eq!(claims.iter().filter(|claim| claim.is_current()).count(), 1);
            assert_eq!(registry.next_deadline(), None, "a stale deadline remains");
            assert_counts_are_exact(&registry);
        }
    }

    /// Several threads re-arm the grace while others expire it. If an arming were lost, the server-id would
    /// never be given up.
    #[test]
    fn that_is_rearmed_again_and_again_expires_eventually() {
        for _ in 0..2_000 {
            let registry: Registry<Wire> = Registry::new();
            let epoch = registry.claim_server("s", wire("b")).unwrap().detach();
            let expired: usize = together(THREADS, |i| {
                let mut expired = 0;
                for _ in 0..5 {
                    if i % 2 == 0 {
                        registry.release_claim_after("s", epoch, Duration::ZERO);
                    } else {
                        expired += registry.expire(at(1)).len();
                    }
                }
                expired
            })
            .into_iter()
            .sum();
            let rest = registry.expire(at(2)).len();
            assert_eq!(expired + rest, 1);
            assert_eq!(registry.counts(), Counts::default());
            assert_eq!(registry.next_deadline(), None);
        }
    }

    /// An expiry that has read a deadline must not end the grace if the deadline has moved since.
    #[test]
    fn that_is_rearmed_is_not_ended_by_its_old_deadline() {
        let registry: Registry<Wire> = Registry::new();
        let done = AtomicBool::new(false);
        together(3, |i| {
            if i > 0 {
                while !done.load(Relaxed) {
                    drop(registry.expire(at(1)));
                }
                return;
            }
            let _raise = Raise(&done);
            for round in 0..30_000 {
                let epoch = registry.claim_server("s", wire("b")).unwrap().detach();
                registry.release_claim_after("s", epoch, Duration::ZERO);
                let in_time = registry.release_claim_after("s", epoch, seconds(3600));
                if in_time {
                    let server = registry.server("s");
                    assert!(server.is_some(), "round {round}: ended an hour early");
                    assert!(
                        registry.release_claim("s", epoch),
                        "round {round}: ended an hour early"
                    );
                }
            }
        });
        assert_eq!(registry.counts(), Counts::default());
    }

    /// An expiry that finds a deadline before its grace has begun must leave the deadline in the queue.
    #[test]
    fn that_begins_during_an_expiry_is_expired_by_the_next() {
        let registry: Registry<Wire> = Registry::new();
        let done = AtomicBool::new(false);
        together(3, |i| {
            if i > 0 {
                while !done.load(Relaxed) {
                    drop(registry.expire(at(1)));
                }
                return;
            }
            let _raise = Raise(&done);
            for round in 0..30_000 {
                let claim = registry.claim_server("s", wire("b")).unwrap();
                assert!(claim.release_after(Duration::ZERO));
                drop(registry.expire(at(1)));
                assert!(
                    registry.server("s").is_none(),
                    "round {round}: the grace never expires"
                );
            }
        });
        assert_eq!(registry.counts(), Counts::default());
    }

    /// A thread that sees a server-id in grace can expire it: its deadline is already in the queue.
    #[test]
    fn that_is_seen_in_grace_can_be_expired() {
        for _ in 0..5_000 {
            let registry: Registry<Wire> = Registry::new();
            let claim = Mutex::new(Some(registry.claim_server("s", wire("b")).unwrap()));
            together(2, |i| {
                if i == 0 {
                    claim
                        .lock()
                        .unwrap()
                        .take()
                        .unwrap()
                        .release_after(Duration::ZERO);
                    return;
                }
                while registry.counts().in_grace == 0 {
                    if let Some(Status::Grace { .. }) = registry.server("s").map(|s| s.status()) {
                        break;
                    }
                    std::hint::spin_loop();
                }
                assert!(registry.next_deadline().is_some());
                assert_eq!(
                    registry.expire(at(1)).len(),
                    1,
                    "seen in grace but not expired"
                );
            });
        }
    }
}

mod phones {
    use super::*;

    /// Every operation at once on two server-ids. Each phone ends in exactly one place.
    #[test]
    fn are_never_lost_and_never_in_two_places() {
        const EACH: usize = 4_000;
        let registry: Registry<Wire> = Registry::builder().max_phones(8).build();
        let fates = Fates::new(THREADS * EACH);
        let living = AtomicUsize::new(0);
        together(THREADS, |thread| {
            let mut dice = Dice::new(thread + 1);
            let mut members = Vec::new();
            let mut claims = Vec::new();
            for n in 0..EACH {
                let label = u32::try_from(thread * EACH + n).unwrap();
                let server_id = ["a", "b"][usize::try_from(dice.roll(2)).unwrap()];
                let conn_id = dice.roll(12).to_string();
                match registry.register_phone(server_id, labelled(&conn_id, label)) {
                    Ok(member) => {
                        living.fetch_add(1, SeqCst);
                        members.push(member);
                    }
                    Err(refused) => fates.of(&refused.into_conn()),
                }
                match dice.roll(12) {
                    0..=2 => match registry.claim_server(server_id, wire("b")) {
                        Ok(claim) => claims.push(claim),
                        Err(conflict) if dice.roll(2) == 0 => claims.extend(conflict.take_over()),
                        Err(_) => {}
                    },
                    3 => drop(
                        claims
                            .pop()
                            .map(|claim| claim.release_after(Duration::ZERO)),
                    ),
                    4 => registry
                        .expire(at(1))
                        .iter()
                        .for_each(|out| fates.of_all(out)),
                    5 => drop(registry.release_server(server_id)),
                    6 if dice.roll(8) == 0 => {
                        registry
                            .evict_server(server_id)
                            .iter()
                            .for_each(|out| fates.of_all(out));
                    }
                    7 => {
                        let out = registry.unregister_phone(server_id, &conn_id);
                        if let Some(conn) = &out {
                            fates.of(conn);
                        }
                    }
                    8 => {
                        if let Some(member) = members.pop() {
                            let conn = Arc::clone(member.conn());
                            if member.unregister() {
                                fates.of(&conn);
                            }
                        }
                    }
                    9 => drop(claims.pop()),
                    10 if dice.roll(8) == 0 => {
                        let evicted = claims.pop().and_then(switchboard::Claim::evict);
                        if let Some(out) = &evicted {
                            fates.of_all(out);
                        }
                    }
                    _ => {}
                }
                for claim in &mut claims {
                    claim
                        .take_displaced()
                        .iter()
                        .for_each(|out| fates.of_all(out));
                }
            }
            for member in members {
                if dice.roll(2) == 0 {
                    member.detach();
                } else {
                    let conn = Arc::clone(member.conn());
                    if member.unregister() {
                        fates.of(&conn);
                    }
                }
            }
            for claim in claims {
                claim.detach();
            }
        });
        assert_counts_are_exact(&registry);
        assert!(
            living.load(SeqCst) > THREADS * EACH / 10,
            "too few phones were registered for a meaningful test"
        );
        registry.drain().iter().for_each(|out| fates.of_all(out));
        fates.assert_one_each();
        assert_eq!(registry.counts(), Counts::default());
        assert_eq!(registry.next_deadline(), None);
        assert_eq!(registry.servers().count(), 0);
    }

    /// A registration races with a take-over. Its membership must show at once whether the take-over
    /// displaced it.
    #[test]
    fn that_register_during_a_take_over_are_in_or_out() {
        for _ in 0..4_000 {
            let registry: Registry<Wire> = Registry::new();
            let _old = registry.claim_server("s", wire("old")).unwrap();
            let conflict = Mutex::new(registry.claim_server("s", wire("new")).err());
            let new = Mutex::new(None);
            let member = Mutex::new(None);
            together(2, |i| {
                if i == 0 {
                    let conflict = conflict.lock().unwrap().take().unwrap();
                    *new.lock().unwrap() = conflict.take_over().ok();
                } else {
                    let phone = registry.register_phone("s", wire("p"));
                    *member.lock().unwrap() = phone.ok();
                }
            });
            let new = new
                .into_inner()
                .unwrap()
                .expect("no other thread takes over");
            let member = member
                .into_inner()
                .unwrap()
                .expect("there is always a binary");
            let out = new.displaced().unwrap().phones.contains("p");
            assert_eq!(member.is_registered(), !out);
            assert_eq!(new.phone("p").is_some(), !out);
            let routed = member.binary().map(|binary| binary.conn_id().to_owned());
            assert_eq!(routed.as_deref(), (!out).then_some("new"));
        }
    }

    #[test]
    fn never_exceed_the_cap() {
        const CAP: usize = 5;
        for _ in 0..300 {
            let registry: Registry<Wire> = Registry::builder().max_phones(CAP).build();
            let claim = registry.claim_server("s", wire("b")).unwrap();
            let members = together(THREADS, |thread| {
                let mut members = Vec::new();
                for n in 0..20 {
                    match registry.register_phone("s", wire(&format!("{thread}-{n}"))) {
                        Ok(member) => members.push(member),
                        Err(refused) => assert!(matches!(refused, RegisterError::AtCapacity(_))),
                    }
                    assert!(claim.phones().len() <= CAP);
                    if n % 3 == 0 {
                        members.pop();
                    }
                }
                members
            });
            let held: usize = members.iter().map(Vec::len).sum();
            assert_eq!(registry.phones_for("s").len(), held);
            assert!(held <= CAP);
        }
    }

    #[test]
    fn with_one_conn_id_are_registered_once() {
        for _ in 0..3_000 {
            let registry: Registry<Wire> = Registry::new();
            let _claim = registry.claim_server("s", wire("b")).unwrap();
            let results = together(THREADS, |_| registry.register_phone("s", wire("p")));
            assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
        }
    }

    #[test]
    fn survive_a_concurrent_change_of_their_siblings() {
        let registry: Registry<Wire> = Registry::new();
        let claim = registry.claim_server("s", wire("b")).unwrap();
        together(THREADS, |thread| {
            let mine = registry
                .register_phone("s", wire(&thread.to_string()))
                .unwrap();
            for n in 0..10_000 {
                let other = registry
                    .register_phone("s", wire(&format!("{thread}-{n}")))
                    .unwrap();
                assert!(mine.is_registered() && other.is_registered());
                // Read once, however often the compare-and-swap failed (invariant 5).
                assert_eq!(other.conn().conn_id_reads.load(Relaxed), 1);
                if n % 2 == 0 {
                    assert!(other.unregister());
                } else {
                    assert!(registry.unregister_phone("s", other.conn_id()).is_some());
                    assert!(other.binary().is_none());
                }
                assert!(mine.binary().is_some());
                assert!(claim.phone(mine.conn_id()).is_some());
            }
        });
        assert!(claim.phones().is_empty());
    }
}

mod counts {
    use super::*;

    #[test]
    fn are_off_by_at_most_the_calls_in_flight_and_exact_at_rest() {
        /// The most that one round below can change while it runs: a claim, a phone, the phone's removal, and
        /// an expiry of all five server-ids.
        const A_ROUND: usize = 10;
        let registry: Registry<Wire> = Registry::new();
        let _base = registry.claim_server("base", wire("b")).unwrap();
        let _phone = registry.register_phone("base", wire("p")).unwrap();
        let working = AtomicUsize::new(THREADS - 1);
        let (begun, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
        together(THREADS, |i| {
            if i == 0 {
                while working.load(SeqCst) > 0 {
                    let ended_before = ended.load(SeqCst);
                    let Counts {
                        binaries,
                        phones,
                        in_grace,
                    } = registry.counts();
                    let overlapping = (begun.load(SeqCst) - ended_before) * A_ROUND;
                    // Five server-ids and the base; one phone per thread and the base's.
                    assert!(binaries <= 6 + overlapping, "{binaries}, {overlapping}");
                    assert!(phones <= THREADS + overlapping, "{phones}, {overlapping}");
                    assert!(in_grace <= binaries, "{in_grace}");
                }
                return;
            }
            let _fewer = Fewer(&working);
            for n in 0..20_000 {
                begun.fetch_add(1, SeqCst);
                let server_id = format!("s{}", n % 5);
                if let Ok(claim) = registry.claim_server(&server_id, wire("b")) {
                    let phone = registry.register_phone(&server_id, wire(&i.to_string()));
                    if n % 2 == 0 {
                        claim.release_after(Duration::ZERO);
                        drop(registry.expire(at(1)));
                    }
                    drop(phone);
                }
                ended.fetch_add(1, SeqCst);
            }
        });
        drop(registry.expire(at(60)));
        let counts = Counts {
            binaries: 1,
            phones: 1,
            in_grace: 0,
        };
        assert_eq!(registry.counts(), counts);
        assert_counts_are_exact(&registry);
    }
}

mod enumeration {
    use super::*;

    /// Server-ids that stay throughout are seen exactly once, while others come and go and the index grows.
    #[test]
    fn sees_every_server_id_that_stays_throughout() {
        let registry: Registry<Wire> = Registry::new();
        let fixed: Vec<_> = (0..200)
            .map(|i| {
                registry
                    .claim_server(&format!("fixed {i}"), wire("b"))
                    .unwrap()
            })
            .collect();
        let done = AtomicBool::new(false);
        together(3, |thread| {
            if thread == 0 {
                let _raise = Raise(&done);
                for _ in 0..200 {
                    let mut seen = HashSet::new();
                    for server in registry.servers() {
                        assert!(seen.insert(server.server_id().to_owned()), "seen twice");
                    }
                    for claim in &fixed {
                        assert!(seen.contains(claim.server_id()), "{claim:?} was not seen");
                    }
                }
                return;
            }
            while !done.load(Relaxed) {
                let passing: Vec<_> = (0..500)
                    .map(|n| {
                        registry
                            .claim_server(&format!("{thread} {n}"), wire("b"))
                            .unwrap()
                    })
                    .collect();
                drop(passing);
            }
        });
        assert_eq!(registry.servers().count(), fixed.len());
    }

    #[test]
    fn server_shows_one_instant() {
        // Each binary's phones carry its label, so a mixture would come from two instants.
        let registry: Registry<Wire> = Registry::new();
        let done = AtomicBool::new(false);
        together(THREADS, |thread| {
            if thread > 1 {
                while !done.load(Relaxed) {
                    let Some(server) = registry.server("s") else {
                        continue;
                    };
                    let binary = server.binary().map(|binary| binary.label);
                    for phone in &server.phones() {
                        assert_eq!(Some(phone.label), binary, "a phone of another tenure");
                    }
                }
                return;
            }
            if thread == 1 {
                while !done.load(Relaxed) {
                    for server in registry.servers() {
                        drop(server);
                    }
                }
                return;
            }
            let _raise = Raise(&done);
            for label in 0..20_000 {
                let claim = match registry.claim_server("s", labelled("b", label)) {
                    Ok(claim) => claim,
                    Err(conflict) => conflict.take_over().unwrap(),
                };
                for conn_id in ["p", "q"] {
                    registry
                        .register_phone("s", labelled(conn_id, label))
                        .unwrap()
                        .detach();
                }
                // Mostly take-overs, so that one slot sees many tenures; sometimes a new slot.
                if label % 64 == 0 {
                    drop(claim.evict());
                } else {
                    claim.detach();
                }
            }
        });
    }
}

mod drops {
    use super::*;
    use common::wire_with_on_drop;

    /// Destructors of connections call the registry while other threads do. Nothing deadlocks, and the counts
    /// are exact afterwards.
    #[test]
    fn may_call_back_under_contention() {
        let registry: Registry<Wire> = Registry::new();
        together(THREADS, |thread| {
            let mut dice = Dice::new(thread + 1);
            for _ in 0..3_000 {
                let server_id = ["a", "b"][usize::try_from(dice.roll(2)).unwrap()];
                let meddler = |conn_id: &str| {
                    let registry = registry.clone();
                    wire_with_on_drop(conn_id, move || {
                        let _ = registry.counts();
                        let _ = registry.binary_for("a").map(|conn| conn.label);
                        drop(registry.claim_server("b", wire("from a drop")));
                        drop(registry.register_phone("a", wire("from a drop")));
                        let _ = registry.unregister_phone("b", "p");
                    })
                };
                match registry.claim_server(server_id, meddler("b")) {
                    Ok(claim) => {
                        let _ = registry
                            .register_phone(server_id, meddler("p"))
                            .map(switchboard::Membership::detach);
                        match dice.roll(4) {
                            0 => drop(claim),
                            1 => drop(claim.evict()),
                            2 => {
                                claim.release_after(Duration::ZERO);
                                drop(registry.expire(at(1)));
                            }
                            _ => drop(claim.detach()),
                        }
                    }
                    Err(conflict) => drop(conflict.take_over()),
                }
            }
        });
        // A drain drops connections whose destructors may claim again, with plain connections.
        while !registry.drain().is_empty() {}
        assert_eq!(registry.counts(), Counts::default());
    }

    /// Once all calls have returned, every connection that left the registry has been dropped, even though
    /// the registry lives on and no further call runs.
    #[test]
    fn are_prompt_under_contention() {
        for _ in 0..20 {
            let registry: Registry<Wire> = Registry::new();
            let living = Living::default();
            together(THREADS, |thread| {
                let mut dice = Dice::new(thread + 1);
                for _ in 0..500 {
                    let server_id = ["a", "b", "c"][usize::try_from(dice.roll(3)).unwrap()];
                    let claim = match registry.claim_server(server_id, living.wire("b")) {
                        Ok(claim) => Some(claim),
                        Err(conflict) => conflict.take_over().ok(),
                    };
                    let phone =
                        registry.register_phone(server_id, living.wire(&thread.to_string()));
                    let snapshot = registry.phones_for(server_id);
                    match dice.roll(4) {
                        0 => drop(registry.evict_server(server_id)),
                        1 => drop(claim.map(|claim| claim.release_after(Duration::ZERO))),
                        2 => drop(claim),
                        _ => drop(registry.expire(at(1))),
                    }
                    drop((snapshot, phone));
                }
            });
            drop(registry.expire(at(1)));
            let counts = registry.counts();
            assert_eq!(living.count(), counts.binaries + counts.phones);
            drop(registry.drain());
            assert_eq!(living.count(), 0);
        }
    }
}
