//! Every interleaving of small programs, and a sample for larger ones, on the real papaya, arc-swap and skip
//! list. Shuttle's scheduler decides at each step which thread runs next.
//!
//! A failure prints its schedule; `shuttle::replay` runs it again. `SWITCHBOARD_SCHEDULES` runs more
//! programs.

extern crate switchboard_under_shuttle as switchboard;

#[path = "../common/mod.rs"]
mod common;

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::game::Game;
use common::player::{Dice, Player};
use common::{Living, Wire, assert_at_rest, at, labelled, seconds, wire};
use shuttle::future::block_on;
use shuttle::scheduler::{DfsScheduler, PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner, thread};
use switchboard::{
    Cause, Claim, ConflictKind, Conn, Counts, Displaced, Epoch, Membership, Orphans, Registry,
    Server, ServerIdConflict, Status,
};

/// The factor in `SWITCHBOARD_SCHEDULES`. Unset, the tests make their short run.
fn factor() -> Option<usize> {
    let factor = std::env::var("SWITCHBOARD_SCHEDULES").ok()?;
    Some(factor.parse().expect("a number"))
}

/// `short` in the short run, otherwise the factor times `unit`.
fn size(short: usize, unit: usize) -> usize {
    factor().map_or(short, |factor| unit * factor)
}

fn explore(
    scheduler: impl Scheduler + 'static,
    program: impl Fn() + Send + Sync + 'static,
) -> usize {
    let mut config = Config::new();
    config.max_steps = shuttle::MaxSteps::FailAfter(100_000);
    Runner::new(scheduler, config).run(program)
}

/// Runs the program under every possible schedule.
fn exhaust(name: &str, program: impl Fn() + Send + Sync + 'static) {
    let schedules = explore(DfsScheduler::new(None, false), program);
    println!("{name}: all {schedules} schedules");
    assert!(schedules > 10, "{schedules} schedules: no race");
}

/// A factor larger than any used so far: these schedules take hours.
const HOURS: usize = 1_000;

/// Like `exhaust`, but only from the factor `asked_for` on. Below it, tries a sample of the schedules.
fn exhaust_from(asked_for: usize, name: &str, program: impl Fn() + Clone + Send + Sync + 'static) {
    if factor().is_some_and(|factor| factor >= asked_for) {
        return exhaust(name, program);
    }
    let some = size(500, 5_000);
    explore(RandomScheduler::new_from_seed(0, some), program.clone());
    explore(PctScheduler::new_from_seed(0, 3, some), program);
}

/// Runs a generated program: the seed and the results so far decide each thread's calls. The model must
/// explain all results and the final state.
fn generated(seed: u64, threads: u32, calls: usize) {
    let game = Arc::new(Game::new(seed, vec!["a".to_owned(), "b".to_owned()]));
    let players: Vec<_> = (0..threads)
        .map(|thread| {
            let game = Arc::clone(&game);
            thread::spawn(move || {
                Player::new(&game, thread, Dice::seeded(seed, thread)).play(calls)
            })
        })
        .collect();
    let histories: Vec<_> = players
        .into_iter()
        .map(|player| player.join().unwrap())
        .collect();
    game.check(&histories, &format!("program {seed}"));
    game.assert_at_rest();
    drop(game.registry.drain());
    assert_eq!(game.registry.counts(), Counts::default());
    game.assert_at_rest();
}

fn generated_programs(scheduler: impl Fn(u64, usize) -> Box<dyn Scheduler + Send>) {
    const SCHEDULES: usize = 40;
    let mut total = 0;
    for seed in 0..size(1_000, 6_000) as u64 {
        let (threads, calls) =
            [(2, 6), (3, 4), (4, 3), (2, 12), (2, 24)][usize::try_from(seed % 5).unwrap()];
        total += explore(scheduler(seed, SCHEDULES), move || {
            generated(seed, threads, calls);
        });
    }
    println!("{total} schedules");
}

#[test]
fn generated_programs_under_random_schedules_are_linearizable() {
    generated_programs(|seed, schedules| Box::new(RandomScheduler::new_from_seed(seed, schedules)));
}

#[test]
fn generated_programs_under_adversarial_schedules_are_linearizable() {
    generated_programs(|seed, schedules| Box::new(PctScheduler::new_from_seed(seed, 3, schedules)));
}

/// Runs two closures, each on a thread of its own.
fn race<A: Send + 'static, B: Send + 'static>(
    one: impl FnOnce() -> A + Send + 'static,
    other: impl FnOnce() -> B + Send + 'static,
) -> (A, B) {
    let one = thread::spawn(one);
    let other = thread::spawn(other);
    (one.join().unwrap(), other.join().unwrap())
}

fn registry() -> Registry<Wire> {
    Registry::new()
}

fn claim(registry: &Registry<Wire>) -> Claim<Wire> {
    registry.claim_server("s", wire("b")).unwrap()
}

#[test]
fn a_claim_racing_the_retirement_of_its_slot_is_kept_or_refused() {
    exhaust("claim and retire", || {
        let registry = registry();
        let old = claim(&registry);
        let mine = registry.clone();
        let (released, new) = race(
            move || old.release(),
            move || mine.claim_server("s", wire("new")),
        );
        assert!(released);
        if let Ok(new) = new {
            assert!(new.is_current());
            assert_eq!(registry.binary_for("s").unwrap().conn_id(), "new");
            assert_eq!(registry.servers().count(), 1);
        } else {
            assert!(registry.server("s").is_none());
        }
        assert_at_rest(&registry);
    });
}

/// With three threads there are too many schedules to try them all.
#[test]
fn two_claims_racing_the_retirement_of_their_slot_have_at_most_one_winner() {
    explore(
        PctScheduler::new_from_seed(0, 3, size(2_000, 20_000)),
        || {
            let registry = registry();
            let old = claim(&registry);
            let (one, other) = (registry.clone(), registry.clone());
            let first = thread::spawn(move || one.claim_server("s", wire("one")).map_err(drop));
            let (released, second) = race(
                move || old.release(),
                move || other.claim_server("s", wire("other")).map_err(drop),
            );
            let first = first.join().unwrap();
            assert!(released);
            let winners: Vec<_> = [first, second].into_iter().flatten().collect();
            assert!(winners.len() <= 1);
            assert!(winners.iter().all(Claim::is_current));
            assert_eq!(registry.counts().binaries, winners.len());
            assert_at_rest(&registry);
        },
    );
}

#[test]
fn a_phone_racing_a_release_is_refused_or_stays_registered() {
    exhaust("register and release", || {
        let registry = registry();
        let binary = claim(&registry);
        let mine = registry.clone();
        let (released, phone) = race(
            move || binary.release(),
            move || mine.register_phone("s", wire("p")),
        );
        assert!(released);
        assert_eq!(registry.phones_for("s").len(), usize::from(phone.is_ok()));
        if let Ok(phone) = phone {
            assert!(phone.is_registered() && phone.binary().is_none());
        }
        assert!(registry.server("s").is_none());
        assert_at_rest(&registry);
    });
}

#[test]
fn an_expiry_racing_a_reclaim_displaces_every_connection_once() {
    exhaust_from(1, "expire and reclaim", || {
        let registry = registry();
        claim(&registry).release_after(Duration::ZERO);
        registry.register_phone("s", wire("p")).unwrap().detach();
        let (one, other) = (registry.clone(), registry.clone());
        let (expired, reclaimed) = race(
            move || one.expire(at(1)),
            move || {
                other
                    .claim_server("s", wire("new"))
                    .expect("no claim is held")
            },
        );
        let displaced = reclaimed.displaced();
        assert_eq!(expired.len() + displaced.iter().count(), 1);
        assert!(
            expired
                .iter()
                .chain(displaced)
                .all(|out| out.phones.len() == 1)
        );
        assert!(reclaimed.is_current());
        assert_eq!(registry.next_deadline(), None);
        assert_at_rest(&registry);
    });
}

#[test]
fn a_take_over_racing_the_drop_of_the_incumbent_succeeds() {
    exhaust("take over and drop", || {
        let registry = registry();
        let old = claim(&registry);
        let conflict = registry.claim_server("s", wire("new")).unwrap_err();
        let ((), new) = race(move || drop(old), move || conflict.take_over().unwrap());
        assert!(new.is_current());
        assert_eq!(registry.servers().count(), 1);
        assert_at_rest(&registry);
    });
}

#[test]
fn a_grace_that_begins_during_an_expiry_is_ended_by_it_or_by_the_next() {
    exhaust_from(10, "release after and expire", || {
        let registry = registry();
        let binary = claim(&registry);
        let mine = registry.clone();
        let (_, expired) = race(
            move || binary.release_after(Duration::ZERO),
            move || {
                let seen = mine.counts().in_grace > 0
                    || matches!(
                        mine.server("s").map(|s| s.status()),
                        Some(Status::Grace { .. })
                    );
                let expired = mine.expire(at(1)).len();
                assert!(!seen || expired == 1, "seen in grace but not expired");
                expired
            },
        );
        assert_eq!(expired + registry.expire(at(1)).len(), 1);
        assert_at_rest(&registry);
    });
}

#[test]
fn a_grace_rearmed_during_an_expiry_is_either_extended_or_expired() {
    exhaust_from(10, "re-arm and expire", || {
        let registry = registry();
        let epoch = claim(&registry).detach();
        registry.release_claim_after("s", epoch, Duration::ZERO);
        let (one, other) = (registry.clone(), registry.clone());
        let (in_time, expired) = race(
            move || one.release_claim_after("s", epoch, Duration::from_secs(3600)),
            move || other.expire(at(1)).len(),
        );
        assert_eq!(usize::from(in_time) + expired, 1);
        assert_at_rest(&registry);
    });
}

/// The grace is over when the expiry begins. If it is released meanwhile, its phones wait to be displaced,
/// and the same expiry displaces them.
#[test]
fn a_grace_released_during_an_expiry_leaves_no_phone_behind() {
    exhaust_from(10, "release and expire, with orphans to displace", || {
        let registry = Registry::builder().orphans(Orphans::Displace).build();
        claim(&registry).release_after(Duration::ZERO);
        registry.register_phone("s", wire("p")).unwrap().detach();
        let (one, other) = (registry.clone(), registry.clone());
        let (_, expired) = race(move || one.release_server("s"), move || other.expire(at(1)));
        assert_eq!(expired.len(), 1);
        assert_eq!(expired[0].phones.len(), 1);
        assert_at_rest(&registry);
    });
}

fn in_grace(registry: &Registry<Wire>, server_id: &str, grace: u64) -> Epoch {
    let claim = registry.claim_server(server_id, wire("b")).unwrap();
    let epoch = claim.detach();
    registry.release_claim_after(server_id, epoch, seconds(grace));
    epoch
}

/// Moves a deadline to a time that the scan may already have passed when it reaches the grace that stays.
fn deadline_moves_during_an_expiry(name: &str, from: u64, to: u64) {
    exhaust_from(HOURS, name, move || {
        let registry = registry();
        let moves = in_grace(&registry, "moves", from);
        in_grace(&registry, "stays", 7);
        let (one, other) = (registry.clone(), registry.clone());
        let (_, expired) = race(
            move || one.release_claim_after("moves", moves, seconds(to)),
            move || other.expire(at(20)),
        );
        let mut expired: Vec<_> = expired.iter().map(|out| &*out.server_id).collect();
        expired.sort_unstable();
        assert_eq!(expired, ["moves", "stays"]);
        assert_at_rest(&registry);
    });
}

#[test]
fn a_deadline_moved_earlier_during_an_expiry_is_found_by_it() {
    deadline_moves_during_an_expiry("arm earlier and expire", 10, 5);
}

#[test]
fn a_deadline_moved_later_during_an_expiry_is_found_by_it() {
    deadline_moves_during_an_expiry("arm later and expire", 5, 10);
}

/// The expiry that ends during the race removes superseded entries. It must leave the one that the other
/// expiry still needs.
#[test]
fn a_deadline_moved_during_two_expiries_is_found_by_the_one_for_which_it_is_over() {
    let program = || {
        let registry = registry();
        let moves = in_grace(&registry, "moves", 5);
        in_grace(&registry, "stays", 7);
        let early = registry.clone();
        let early = thread::spawn(move || early.expire(at(1)).len());
        let (one, other) = (registry.clone(), registry.clone());
        let (_, expired) = race(
            move || one.release_claim_after("moves", moves, seconds(10)),
            move || other.expire(at(20)).len(),
        );
        assert_eq!((early.join().unwrap(), expired), (0, 2));
        assert_at_rest(&registry);
    };
    let schedules = size(5_000, 100_000);
    explore(RandomScheduler::new_from_seed(0, schedules), program);
    explore(PctScheduler::new_from_seed(0, 4, schedules), program);
}

/// Ends a grace or moves its deadline. Takes the epoch of the grace, and a conflict from before it began.
type Way = fn(&Registry<Wire>, Epoch, ServerIdConflict<Wire>) -> Vec<Displaced<Wire>>;

const WAYS: [(&str, Way); 9] = [
    ("reclaim", |registry, _, conflict| {
        displaced_by(registry.claim_server("s", conflict.into_conn()))
    }),
    ("take over", |_, _, conflict| {
        displaced_by(conflict.take_over())
    }),
    ("release", |registry, _, _| {
        registry.release_server("s");
        Vec::new()
    }),
    ("evict", |registry, _, _| {
        registry.evict_server("s").into_iter().collect()
    }),
    ("drain", |registry, _, _| registry.drain()),
    ("expire", |registry, _, _| registry.expire(at(20))),
    ("arm earlier", |registry, epoch, _| {
        registry.release_claim_after("s", epoch, seconds(5));
        Vec::new()
    }),
    ("arm later", |registry, epoch, _| {
        registry.release_claim_after("s", epoch, seconds(30));
        Vec::new()
    }),
    ("arm forever", |registry, epoch, _| {
        registry.release_claim_after("s", epoch, Duration::MAX);
        Vec::new()
    }),
];

fn displaced_by(claimed: Result<Claim<Wire>, ServerIdConflict<Wire>>) -> Vec<Displaced<Wire>> {
    let Ok(mut claim) = claimed else {
        return Vec::new();
    };
    let displaced = claim.take_displaced();
    claim.detach();
    displaced.into_iter().collect()
}

#[test]
fn two_ways_out_of_a_grace_leave_no_deadline_and_lose_no_phone() {
    for (i, (one_name, one)) in WAYS.into_iter().enumerate() {
        for (other_name, other) in WAYS.into_iter().skip(i) {
            let name = format!("out of a grace: {one_name} and {other_name}");
            // Arming takes many more steps while an expiry scan runs.
            let is_long = one_name == "expire" && other_name.starts_with("arm");
            exhaust_from(if is_long { HOURS } else { 10 }, &name, move || {
                let registry = registry();
                let epoch = claim(&registry).detach();
                registry.register_phone("s", wire("p")).unwrap().detach();
                let conflict = || registry.claim_server("s", wire("new")).unwrap_err();
                let conflicts = (conflict(), conflict());
                registry.release_claim_after("s", epoch, seconds(10));
                let handles = (registry.clone(), registry.clone());
                let (out, more) = race(
                    move || one(&handles.0, epoch, conflicts.0),
                    move || other(&handles.1, epoch, conflicts.1),
                );
                let handed_out: usize = out.iter().chain(&more).map(|out| out.phones.len()).sum();
                assert_eq!(handed_out + registry.phones_for("s").len(), 1);
                assert_at_rest(&registry);
            });
        }
    }
}

#[test]
fn the_next_deadline_is_never_later_than_the_rest_while_one_moves() {
    for (from, to) in [(10, 30), (30, 10)] {
        exhaust("next deadline and re-arm", move || {
            let registry = registry();
            let moves = registry.claim_server("moves", wire("b")).unwrap().detach();
            registry.release_claim_after("moves", moves, Duration::from_secs(from));
            let stays = registry.claim_server("stays", wire("b")).unwrap().detach();
            registry.release_claim_after("stays", stays, Duration::from_secs(20));
            let (one, other) = (registry.clone(), registry.clone());
            let (done, next) = race(
                move || one.release_claim_after("moves", moves, Duration::from_secs(to)),
                move || other.next_deadline(),
            );
            assert!(done);
            let next = next.expect("a deadline is in the queue throughout");
            assert!(next < at(25), "later than the deadline that stays");
            assert_at_rest(&registry);
        });
    }
}

#[test]
fn server_shows_one_instant_during_a_take_over() {
    exhaust("server and take over", || {
        let registry = registry();
        let _old = registry.claim_server("s", labelled("b", 1)).unwrap();
        registry
            .register_phone("s", labelled("p", 1))
            .unwrap()
            .detach();
        let conflict = registry.claim_server("s", labelled("b", 2)).unwrap_err();
        let (mine, other) = (registry.clone(), registry.clone());
        let (server, new) = race(
            move || mine.server("s").unwrap(),
            move || {
                let new = conflict.take_over().unwrap();
                other
                    .register_phone("s", labelled("p", 2))
                    .unwrap()
                    .detach();
                new
            },
        );
        let binary = server.binary().unwrap().label;
        assert!(server.phones().iter().all(|phone| phone.label == binary));
        drop(new);
    });
}

#[test]
fn a_drain_racing_a_registration_loses_no_phone() {
    exhaust("drain and register", || {
        let living = Living::default();
        let registry = registry();
        let binary = registry.claim_server("s", living.wire("b")).unwrap();
        let (one, other) = (registry.clone(), registry.clone());
        let phone = living.wire("p");
        let (out, phone) = race(
            move || one.drain(),
            move || other.register_phone("s", phone),
        );
        let handed_out: usize = out.iter().map(|out| out.phones.len()).sum();
        assert!(out.iter().all(|out| out.cause == Cause::Drained));
        assert_eq!(handed_out, usize::from(phone.is_ok()));
        assert!(phone.as_ref().map_or(true, |phone| !phone.is_registered()));
        drop((out, phone, binary));
        assert_eq!(living.count(), 0, "not dropped at once");
        assert_at_rest(&registry);
    });
}

#[test]
fn two_evictions_displace_every_connection_once() {
    exhaust("evict and evict", || {
        let registry = registry();
        let binary = claim(&registry);
        let phone = registry.register_phone("s", wire("p")).unwrap();
        let mine = registry.clone();
        let (one, other) = race(move || mine.evict_server("s"), move || binary.evict());
        assert_eq!(one.iter().chain(&other).count(), 1);
        assert!(!phone.is_registered());
        assert_at_rest(&registry);
    });
}

#[test]
fn a_membership_sees_no_binary_once_its_phone_and_a_sibling_are_removed() {
    exhaust("membership and unregister", || {
        let registry = registry();
        let _binary = claim(&registry);
        let phone = registry.register_phone("s", wire("p")).unwrap();
        registry.register_phone("s", wire("q")).unwrap().detach();
        let gone = Arc::new(AtomicUsize::new(0));
        let (mine, flag) = (registry.clone(), Arc::clone(&gone));
        let (phone, ()) = race(
            move || {
                let was_gone = gone.load(SeqCst) == 2;
                assert!(
                    !was_gone || phone.binary().is_none(),
                    "a binary was seen after the phone was removed"
                );
                phone
            },
            move || {
                assert!(mine.unregister_phone("s", "q").is_some());
                flag.store(1, SeqCst);
                assert!(mine.unregister_phone("s", "p").is_some());
                flag.store(2, SeqCst);
            },
        );
        assert!(!phone.is_registered());
        assert!(!Membership::unregister(phone));
        assert_at_rest(&registry);
    });
}

#[test]
fn a_membership_sees_no_binary_once_its_phone_is_removed_and_its_server_id_released() {
    exhaust("membership, unregister and release", || {
        let registry = registry();
        let binary = claim(&registry);
        let phone = registry.register_phone("s", wire("p")).unwrap();
        registry.register_phone("s", wire("q")).unwrap().detach();
        let gone = Arc::new(AtomicUsize::new(0));
        let (mine, flag) = (registry.clone(), Arc::clone(&gone));
        let (phone, _next) = race(
            move || {
                let was_gone = gone.load(SeqCst) == 1;
                let found = phone.binary();
                assert!(
                    !was_gone || found.is_none(),
                    "a binary was seen after the phone was removed"
                );
                drop(found);
                phone
            },
            move || {
                assert!(mine.unregister_phone("s", "p").is_some());
                flag.store(1, SeqCst);
                assert!(binary.release());
                mine.claim_server("s", wire("next")).unwrap()
            },
        );
        assert!(phone.binary().is_none() && !phone.is_registered());
        assert_at_rest(&registry);
    });
}

#[test]
fn a_route_sees_no_binary_once_its_phone_is_removed() {
    for by_its_membership in [false, true] {
        exhaust("route and leave", move || {
            let registry = registry();
            let _binary = claim(&registry);
            let phone = registry.register_phone("s", wire("p")).unwrap();
            let mut route = phone.route();
            assert!(route.binary().is_some());
            let gone = Arc::new(AtomicUsize::new(0));
            let (mine, flag) = (registry.clone(), Arc::clone(&gone));
            let (mut route, ()) = race(
                move || {
                    let was_gone = gone.load(SeqCst) == 1;
                    assert!(
                        !was_gone || route.binary().is_none(),
                        "a binary was seen after the phone was removed"
                    );
                    route
                },
                move || {
                    if by_its_membership {
                        assert!(phone.unregister());
                    } else {
                        phone.detach();
                        assert!(mine.unregister_phone("s", "p").is_some());
                    }
                    flag.store(1, SeqCst);
                },
            );
            assert!(route.binary().is_none());
            assert_at_rest(&registry);
        });
    }
}

/// A long server-id leaves the index as soon as it is released. So it is new in the index each time.
#[test]
fn the_version_of_a_server_id_that_leaves_and_comes_back_ascends() {
    exhaust_from(10, "leave and come back", || {
        let registry = registry();
        let server_id = "x".repeat(1025);
        let versions = Arc::new(Mutex::new(Vec::new()));
        let come_and_go = |registry: Registry<Wire>| {
            let (server_id, versions) = (server_id.clone(), Arc::clone(&versions));
            move || {
                let claim = registry.claim_server(&server_id, wire("b")).ok()?;
                // Only one thread at a time gets here.
                let version = registry.server(&server_id)?.version();
                versions.lock().unwrap().push(version);
                Some(claim.release())
            }
        };
        race(come_and_go(registry.clone()), come_and_go(registry.clone()));
        assert!(versions.lock().unwrap().is_sorted());
    });
}

/// The other tests are meaningful only if the scheduler can switch within a call. It does.
#[test]
fn the_scheduler_switches_within_calls() {
    static WINNERS: Mutex<Vec<(bool, bool)>> = Mutex::new(Vec::new());
    explore(RandomScheduler::new_from_seed(0, 1_000), || {
        let registry = registry();
        let (one, other) = (registry.clone(), registry.clone());
        let (one, other) = race(
            move || one.claim_server("s", wire("one")).is_ok(),
            move || other.claim_server("s", wire("other")).is_ok(),
        );
        WINNERS.lock().unwrap().push((one, other));
    });
    // In some schedules, neither claim is dropped before the other is made.
    let winners = WINNERS.lock().unwrap();
    for outcome in [(true, false), (false, true), (true, true)] {
        assert!(winners.contains(&outcome), "{outcome:?} never happened");
    }
}

/// A thread that waits for a binary, and one that claims. Shuttle reports a wait that is never woken.
#[test]
fn a_wait_for_a_binary_racing_its_claim_is_woken() {
    exhaust_from(HOURS, "wait and claim", || {
        let registry = registry();
        let mine = registry.clone();
        let (binary, claim) = race(
            move || block_on(mine.wait_for_binary("s")).into_arc(),
            move || claim(&registry),
        );
        assert_eq!(binary.conn_id(), "b");
        drop(claim);
    });
}

/// The claim finds a retired slot, or the binary in grace: neither is a binary that is there.
#[test]
fn a_wait_for_a_binary_racing_a_reclaim_is_woken() {
    for grace in [None, Some(seconds(60))] {
        exhaust_from(HOURS, "wait and reclaim", move || {
            let registry = registry();
            let old = claim(&registry);
            match grace {
                Some(grace) => assert!(old.release_after(grace)),
                None => assert!(old.release()),
            }
            let mine = registry.clone();
            let (binary, claim) = race(
                move || block_on(mine.wait_for_binary("s")).into_arc(),
                move || registry.claim_server("s", wire("new")).unwrap(),
            );
            assert_eq!(binary.conn_id(), "new");
            drop(claim);
        });
    }
}

#[test]
fn a_watch_racing_a_change_shows_the_last_state() {
    exhaust_from(HOURS, "watch and change", || {
        let registry = registry();
        let claim = claim(&registry);
        let mut watch = registry.watch("s");
        race(
            move || {
                while block_on(watch.changed()).is_some() {}
                assert!(watch.current().is_none());
            },
            move || claim.release(),
        );
    });
}

#[test]
fn a_sweeper_racing_the_drop_of_a_claim_hears_of_its_grace() {
    exhaust("sleep and drop", || {
        let registry = Registry::builder().grace(seconds(60)).build();
        let claim = claim(&registry);
        let mine = registry.clone();
        race(
            move || block_on(mine.earlier_deadline(None)),
            move || drop(claim),
        );
        assert!(registry.next_deadline().is_some());
    });
}

/// A listener that begins during a change: the change is in its snapshot, among its events, or it is told that
/// it has missed something.
#[test]
fn events_and_a_snapshot_racing_a_change_join_without_a_gap() {
    exhaust_from(HOURS, "listen and register", || {
        let registry = registry();
        let _claim = claim(&registry);
        let mine = registry.clone();
        let phones = |registry: &Registry<Wire>| registry.phones_for("s").len();
        let (mut listened, phone) = race(
            move || {
                let events = mine.events();
                let seen = phones(&mine);
                (events, seen)
            },
            {
                let registry = registry.clone();
                move || registry.register_phone("s", wire("p")).unwrap()
            },
        );
        let (events, seen) = &mut listened;
        while let Some(event) = events.try_next() {
            *seen = event.map_or_else(|_| phones(&registry), |event| event.phones);
        }
        assert_eq!(*seen, 1);
        drop(phone);
    });
}

/// The newcomer's inbox may only open once changes reach it even without the other listener: with the first
/// change in it, the second one must not be missing.
#[test]
fn a_listener_that_begins_while_another_one_ends_misses_nothing() {
    exhaust_from(1, "listen while another listener ends", || {
        let registry = registry();
        let _claim = claim(&registry);
        let phones = ["p", "q"].map(|name| registry.register_phone("s", wire(name)).unwrap());
        let other = registry.events();
        let (mut events, ()) = race(
            move || registry.events(),
            move || {
                let [first, second] = phones;
                assert!(first.unregister());
                drop(other);
                assert!(second.unregister());
            },
        );
        let told: Vec<_> = std::iter::from_fn(|| events.try_next()).collect();
        if let Some(Ok(last)) = told.last() {
            assert_eq!(
                last.phones, 0,
                "the first change was told, and not the second"
            );
        }
    });
}

#[test]
fn events_come_in_the_order_of_the_changes() {
    exhaust_from(HOURS, "two changes and a listener", || {
        let registry = registry();
        let _claim = claim(&registry);
        let mut events = registry.events();
        let (one, other) = (registry.clone(), registry.clone());
        let phones = race(
            move || one.register_phone("s", wire("p")).unwrap(),
            move || other.register_phone("s", wire("q")).unwrap(),
        );
        let told: Vec<_> = std::iter::from_fn(|| events.try_next())
            .map(|event| event.unwrap().phones)
            .collect();
        assert_eq!(told, [1, 2]);
        drop(phones);
    });
}

#[test]
fn a_listener_that_sleeps_racing_a_change_is_woken() {
    exhaust_from(HOURS, "listen, sleep and claim", || {
        let registry = registry();
        let mut events = registry.events();
        let (event, claim) = race(
            move || block_on(events.next()).unwrap(),
            move || claim(&registry),
        );
        assert_eq!(event.epoch, Some(claim.epoch()));
    });
}

/// Asks for the state that the claim replaces: between the question and the swap, the phone may leave.
#[test]
fn a_condition_racing_a_change_holds_at_the_instant_of_the_claim() {
    exhaust("reclaim on a condition and unregister", || {
        let registry = registry();
        claim(&registry).release_after(seconds(60));
        registry.register_phone("s", wire("p")).unwrap().detach();
        let (one, other) = (registry.clone(), registry.clone());
        let (phone, claim) = race(
            move || one.unregister_phone("s", "p"),
            move || {
                let new = wire("new");
                let has_phones = |server: &Server<Wire>| !server.phones().is_empty();
                other.claim_server_if("s", new, has_phones)
            },
        );
        match claim {
            Ok(claim) => {
                assert_eq!(claim.displaced().unwrap().phones.len(), 1);
                assert!(phone.is_none());
            }
            Err(conflict) => {
                assert_eq!(conflict.kind(), ConflictKind::ReclaimDenied);
                assert!(phone.is_some());
            }
        }
        assert_at_rest(&registry);
    });
}
