//! Each sentence of the contract of waiting, watching and listening.

#![allow(
    clippy::similar_names,
    clippy::semicolon_if_nothing_returned,
    reason = "`change` and `changed` are what these tests are about; assignments stand for their values"
)]

mod common;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Instant;

use common::{Living, Wire, assert_at_rest, at, seconds, wire};
use switchboard::{
    Cause, Change, ConflictKind, Conn, Events, Lagged, Orphans, Registry, Status, Version,
};

fn registry() -> Registry<Wire> {
    Registry::new()
}

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Counts how often it was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

fn poll_with<F: Future + Unpin>(future: &mut F, woken: &Arc<Woken>) -> Poll<F::Output> {
    let waker = Waker::from(Arc::clone(woken));
    Pin::new(future).poll(&mut Context::from_waker(&waker))
}

mod wait_for_binary {
    use super::*;

    #[test]
    fn completes_at_once_if_a_binary_is_there() {
        let registry = registry();
        let _claim = registry.claim_server("s", wire("b")).unwrap();
        let Poll::Ready(binary) = poll(&mut registry.wait_for_binary("s")) else {
            panic!("it is there");
        };
        assert_eq!((binary.conn_id(), binary.status()), ("b", Status::Held));
        assert_eq!(registry.internals().watched, 0);
    }

    #[test]
    fn is_woken_by_the_claim_of_its_own_server_id() {
        let registry = registry();
        let mut wait = registry.wait_for_binary("s");
        let woken = Arc::default();
        assert!(poll_with(&mut wait, &woken).is_pending());
        let _other = registry.claim_server("other", wire("b")).unwrap();
        let _claim = registry.claim_server("s", wire("b")).unwrap();
        assert_eq!(woken.0.load(SeqCst), 1);
        assert!(poll(&mut wait).is_ready());
    }

    #[test]
    fn does_not_take_a_binary_in_grace_for_one_that_is_there() {
        let registry = registry();
        let claim = registry.claim_server("s", wire("b")).unwrap();
        claim.release_after(seconds(60));
        let mut wait = registry.wait_for_binary("s");
        assert!(poll(&mut wait).is_pending());
        let _back = registry.claim_server("s", wire("back")).unwrap();
        let Poll::Ready(binary) = poll(&mut wait) else {
            panic!("it is back");
        };
        assert_eq!(binary.conn_id(), "back");
    }

    #[test]
    fn goes_on_if_the_binary_has_gone_again_by_the_time_it_looks() {
        let registry = registry();
        let mut wait = registry.wait_for_binary("s");
        assert!(poll(&mut wait).is_pending());
        drop(registry.claim_server("s", wire("b")).unwrap());
        assert!(poll(&mut wait).is_pending());
        let _claim = registry.claim_server("s", wire("b")).unwrap();
        assert!(poll(&mut wait).is_ready());
    }

    #[test]
    fn makes_no_place_for_a_server_id_and_forgets_its_name() {
        let registry = registry();
        let name = "x".repeat(1 << 20);
        let mut waits: Vec<_> = (0..3).map(|_| registry.wait_for_binary(&name)).collect();
        for wait in &mut waits {
            assert!(poll(wait).is_pending());
        }
        assert_eq!(registry.servers().count(), 0);
        assert_eq!(registry.internals().watched, 1);
        waits.truncate(1);
        assert_eq!(registry.internals().watched, 1);
        waits.clear();
        assert_eq!(registry.internals().watched, 0);
        assert_at_rest(&registry);
    }

    #[test]
    fn that_is_dropped_takes_no_wake_up_from_another() {
        let registry = registry();
        let (mut gone, mut stays) = (registry.wait_for_binary("s"), registry.wait_for_binary("s"));
        let woken = Arc::default();
        assert!(poll(&mut gone).is_pending());
        assert!(poll_with(&mut stays, &woken).is_pending());
        drop(gone);
        let _claim = registry.claim_server("s", wire("b")).unwrap();
        assert_eq!(woken.0.load(SeqCst), 1);
    }

    #[test]
    fn blocks_a_thread_no_longer_than_until_the_deadline() {
        let registry = registry();
        let over = Instant::now();
        assert!(registry.wait_for_binary("s").block_until(over).is_none());
        let waiting = thread::spawn({
            let registry = registry.clone();
            move || {
                registry
                    .wait_for_binary("s")
                    .block_until(None)
                    .map(switchboard::ConnRef::into_arc)
            }
        });
        let _claim = registry.claim_server("s", wire("b")).unwrap();
        assert_eq!(waiting.join().unwrap().unwrap().conn_id(), "b");
    }

    /// Each round, a wait races the claim that it waits for. A lost wake-up leaves a thread blocked for ever.
    #[test]
    fn loses_no_wake_up_in_a_race() {
        let registry = registry();
        let rounds = 20_000;
        let barrier = Arc::new(Barrier::new(2));
        let waiting = thread::spawn({
            let (registry, barrier) = (registry.clone(), Arc::clone(&barrier));
            move || {
                for round in 0..rounds {
                    barrier.wait();
                    let wait = registry.wait_for_binary(&round.to_string());
                    assert!(wait.block_until(at(60)).is_some(), "a wake-up was lost");
                }
            }
        });
        for round in 0..rounds {
            barrier.wait();
            let claim = registry.claim_server(&round.to_string(), wire("b"));
            claim.unwrap().detach();
            if round > 0 {
                registry.release_server(&(round - 1).to_string());
            }
        }
        waiting.join().unwrap();
    }
}

mod a_watch {
    use super::*;

    #[test]
    fn shows_each_new_state_once_and_the_last_one_always() {
        let registry = registry();
        let mut watch = registry.watch("s");
        assert!(poll(&mut watch.changed()).is_pending());
        let claim = registry.claim_server("s", wire("b")).unwrap();
        let phone = registry.register_phone("s", wire("p")).unwrap();
        let Poll::Ready(Some(server)) = poll(&mut watch.changed()) else {
            panic!("it was claimed");
        };
        assert_eq!((server.status(), server.phones().len()), (Status::Held, 1));
        assert!(poll(&mut watch.changed()).is_pending());
        drop((claim, phone));
        assert!(matches!(poll(&mut watch.changed()), Poll::Ready(None)));
        assert!(poll(&mut watch.changed()).is_pending());
    }

    #[test]
    fn is_woken_by_every_kind_of_change() {
        let registry = Registry::builder().grace(seconds(60)).build();
        let mut watch = registry.watch("s");
        let mut changes = 0;
        let mut seen = |watch: &mut switchboard::Watch<Wire>, change: &mut dyn FnMut()| {
            let woken = Arc::default();
            assert!(poll_with(&mut watch.changed(), &woken).is_pending());
            let mut changed = watch.changed();
            assert!(poll_with(&mut changed, &woken).is_pending());
            change();
            assert_eq!(woken.0.load(SeqCst), 1, "change {changes}");
            assert!(poll(&mut changed).is_ready());
            changes += 1;
        };
        let (mut claim, mut phone) = (None, None);
        seen(&mut watch, &mut || {
            claim = registry.claim_server("s", wire("b")).ok()
        });
        seen(&mut watch, &mut || {
            phone = registry.register_phone("s", wire("p")).ok()
        });
        seen(&mut watch, &mut || phone = None);
        seen(&mut watch, &mut || {
            phone = registry.register_phone("s", wire("p")).ok()
        });
        seen(&mut watch, &mut || {
            drop(registry.unregister_phone("s", "p"))
        });
        seen(&mut watch, &mut || claim = None);
        seen(&mut watch, &mut || {
            claim = registry.claim_server("s", wire("b")).ok()
        });
        seen(&mut watch, &mut || claim = None);
        seen(&mut watch, &mut || {
            assert_eq!(registry.expire(at(61)).len(), 1)
        });
        seen(&mut watch, &mut || {
            claim = registry.claim_server("s", wire("b")).ok()
        });
        seen(&mut watch, &mut || drop(registry.evict_server("s")));
    }

    #[test]
    fn keeps_no_connection_alive() {
        let living = Living::default();
        let registry = registry();
        let mut watch = registry.watch("s");
        let claim = registry.claim_server("s", living.wire("b")).unwrap();
        drop(watch.current());
        claim.release();
        assert_eq!(living.count(), 0);
    }

    #[test]
    fn that_is_cancelled_continues_where_it_was() {
        let registry = registry();
        let mut watch = registry.watch("s");
        let mut cancelled = watch.changed();
        assert!(poll(&mut cancelled).is_pending());
        let _claim = registry.claim_server("s", wire("b")).unwrap();
        drop(cancelled);
        assert!(poll(&mut watch.changed()).is_ready());
    }
}

mod earlier_deadline {
    use super::*;

    #[test]
    fn is_woken_by_a_grace_that_the_drop_of_a_claim_begins() {
        let registry = Registry::builder().grace(seconds(60)).build();
        let claim = registry.claim_server("s", wire("b")).unwrap();
        let mut earlier = registry.earlier_deadline(None);
        let woken = Arc::default();
        assert!(poll_with(&mut earlier, &woken).is_pending());
        let panicked = thread::spawn(move || {
            let _claim = claim;
            std::panic::resume_unwind(Box::new("the task of the binary"));
        });
        panicked.join().unwrap_err();
        assert_eq!(woken.0.load(SeqCst), 1);
        let deadline = registry.next_deadline().unwrap();
        assert_eq!(poll(&mut earlier), Poll::Ready(deadline));
    }

    #[test]
    fn waits_for_one_that_is_earlier_than_the_one_known() {
        let registry = registry();
        let arm = |server_id, after| {
            let claim = registry.claim_server(server_id, wire("b")).unwrap();
            claim.release_after(seconds(after));
        };
        arm("known", 60);
        let known = registry.next_deadline();
        let mut earlier = registry.earlier_deadline(known);
        assert!(poll(&mut earlier).is_pending());
        arm("later", 90);
        assert!(poll(&mut earlier).is_pending());
        arm("earlier", 30);
        assert!(matches!(poll(&mut earlier), Poll::Ready(at) if Some(at) < known));
    }

    /// The loop of the documentation ends every grace, whoever begins it and whenever.
    #[test]
    fn lets_a_loop_end_every_grace() {
        let registry = Registry::builder().grace(seconds(0)).build();
        let drops = 2_000;
        let sweeper = thread::spawn({
            let registry = registry.clone();
            move || {
                let too_late = Instant::now() + seconds(60);
                let mut expired = 0;
                while expired < drops {
                    let next = registry.next_deadline();
                    let until = next.unwrap_or(too_late);
                    let _ = registry.earlier_deadline(next).block_until(until);
                    expired += registry.expire(Instant::now()).len();
                    assert!(Instant::now() < too_late, "{expired} graces ended");
                }
                expired
            }
        });
        for round in 0..drops {
            drop(
                registry
                    .claim_server(&round.to_string(), wire("b"))
                    .unwrap(),
            );
        }
        assert_eq!(sweeper.join().unwrap(), drops);
    }
}

mod events {
    use super::*;

    fn all(events: &mut Events<Wire>) -> Vec<switchboard::Event> {
        std::iter::from_fn(|| events.try_next())
            .map(|event| event.expect("nothing was missed"))
            .collect()
    }

    #[test]
    fn tell_every_change_with_its_cause() {
        let registry = registry();
        let mut events = registry.events();
        let claim = registry.claim_server("s", wire("b")).unwrap();
        let old = claim.epoch();
        registry.register_phone("s", wire("p")).unwrap().detach();
        claim.release_after(seconds(60));
        let claim = registry.claim_server("s", wire("back")).unwrap();
        let new = claim.epoch();
        let phone = registry.register_phone("s", wire("q")).unwrap();
        claim.release();
        drop(phone);
        let told: Vec<_> = all(&mut events)
            .into_iter()
            .map(|event| (event.change, event.epoch, event.status, event.phones))
            .map(|(change, epoch, status, phones)| match status {
                Some(Status::Grace { .. }) => (change, epoch, "grace", phones),
                Some(Status::Held) => (change, epoch, "held", phones),
                Some(Status::Vacant) => (change, epoch, "vacant", phones),
                None => (change, epoch, "gone", phones),
            })
            .collect();
        let claimed = |displaced| Change::Claimed { displaced };
        let registered = |conn_id: &str| Change::PhoneRegistered {
            conn_id: conn_id.into(),
        };
        let unregistered = |conn_id: &str| Change::PhoneUnregistered {
            conn_id: conn_id.into(),
        };
        assert_eq!(
            told,
            [
                (claimed(None), Some(old), "held", 0),
                (registered("p"), Some(old), "held", 1),
                (Change::GraceArmed, Some(old), "grace", 1),
                (claimed(Some(Cause::Reclaimed)), Some(new), "held", 0),
                (registered("q"), Some(new), "held", 1),
                (Change::Released, Some(new), "vacant", 1),
                (unregistered("q"), None, "gone", 0),
            ]
        );
    }

    #[test]
    fn tell_why_a_server_id_was_displaced() {
        let registry = registry();
        let mut events = registry.events();
        let claim = |server_id| registry.claim_server(server_id, wire("b")).unwrap();
        claim("expired").release_after(seconds(0));
        let _taken = claim("taken over");
        let conflict = registry.claim_server("taken over", wire("c")).unwrap_err();
        let _claim = conflict.take_over().unwrap();
        drop(claim("evicted").evict());
        drop(registry.expire(at(1)));
        drop(registry.drain());
        let causes: BTreeMap<_, _> = all(&mut events)
            .into_iter()
            .filter_map(|event| match event.change {
                Change::Displaced(cause) => Some(((event.server_id, 1), cause)),
                Change::Claimed { displaced } => Some(((event.server_id, 0), displaced?)),
                _ => None,
            })
            .collect();
        let told: Vec<_> = causes
            .iter()
            .map(|((id, _), cause)| (&**id, *cause))
            .collect();
        assert_eq!(
            told,
            [
                ("evicted", Cause::Evicted),
                ("expired", Cause::Expired),
                ("taken over", Cause::TakenOver),
                ("taken over", Cause::Drained),
            ]
        );
    }

    #[test]
    fn have_ascending_versions_beyond_a_retirement() {
        let registry = registry();
        let mut events = registry.events();
        for _ in 0..3 {
            let claim = registry.claim_server("s", wire("b")).unwrap();
            drop(registry.register_phone("s", wire("p")).unwrap());
            let shown = registry.server("s").unwrap().version();
            let last = all(&mut events).last().map(|event| event.version);
            assert_eq!(last, Some(shown));
            claim.release();
            assert!(all(&mut events).iter().all(|event| event.version > shown));
        }
    }

    #[test]
    fn are_bounded_and_tell_once_who_lagged() {
        let registry = registry();
        let mut events = registry.events();
        for _ in 0..5_000 {
            drop(registry.claim_server("s", wire("b")).unwrap());
        }
        assert!(matches!(events.try_next(), Some(Err(Lagged { .. }))));
        assert_eq!(events.try_next(), None);
        let long = "x".repeat(1 << 19);
        for _ in 0..2 {
            drop(registry.claim_server(&long, wire("b")).unwrap());
        }
        assert!(matches!(events.try_next(), Some(Err(Lagged { .. }))));
        let _claim = registry.claim_server("s", wire("b")).unwrap();
        assert_eq!(all(&mut events).len(), 1);
    }

    #[test]
    fn wake_a_listener_that_waits() {
        let registry = registry();
        let mut events = registry.events();
        let woken = Arc::default();
        let mut next = events.next();
        assert!(poll_with(&mut next, &woken).is_pending());
        let _claim = registry.claim_server("s", wire("b")).unwrap();
        assert_eq!(woken.0.load(SeqCst), 1);
        assert!(matches!(poll(&mut next), Poll::Ready(Ok(_))));
    }

    /// What a listener knows of a server-id: the version, the status without its deadline, the phones.
    type Known = BTreeMap<String, (Version, std::mem::Discriminant<Status>, usize)>;

    fn snapshot(registry: &Registry<Wire>) -> Known {
        let known = |server: switchboard::Server<Wire>| {
            let status = std::mem::discriminant(&server.status());
            let state = (server.version(), status, server.phones().len());
            (server.server_id().to_owned(), state)
        };
        registry.servers().map(known).collect()
    }

    /// Follows the events until it is told to stop and nothing is left. Returns the state that it arrived at.
    fn follow(registry: &Registry<Wire>, over: &AtomicBool) -> Known {
        let mut events = registry.events();
        let mut known = snapshot(registry);
        loop {
            let last_round = over.load(SeqCst);
            while let Some(event) = events.try_next() {
                let Ok(event) = event else {
                    known = snapshot(registry);
                    continue;
                };
                let server_id = event.server_id.to_string();
                let seen = known.get(&server_id).map(|(version, ..)| *version);
                if seen.is_some_and(|seen| seen >= event.version) {
                    continue;
                }
                match event.status {
                    Some(status) => {
                        let status = std::mem::discriminant(&status);
                        known.insert(server_id, (event.version, status, event.phones));
                    }
                    None => drop(known.remove(&server_id)),
                }
            }
            if last_round {
                return known;
            }
        }
    }

    #[test]
    fn and_a_snapshot_join_without_a_gap() {
        for round in 0..200 {
            let registry = registry();
            let over = AtomicBool::new(false);
            thread::scope(|scope| {
                let follower = scope.spawn(|| follow(&registry, &over));
                let changers: Vec<_> = (0..2)
                    .map(|number| {
                        scope.spawn({
                            let registry = &registry;
                            move || change(registry, round * 2 + number)
                        })
                    })
                    .collect();
                for changer in changers {
                    changer.join().unwrap();
                }
                over.store(true, SeqCst);
                assert_eq!(follower.join().unwrap(), snapshot(&registry));
            });
        }
    }

    /// Some changes of four server-ids.
    fn change(registry: &Registry<Wire>, seed: u64) {
        let mut dice = seed * 2 + 1;
        for turn in 0..60_u64 {
            dice = dice.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(turn);
            let server_id = ["a", "b", "c", "d"][usize::try_from(dice >> 33 & 3).unwrap()];
            match dice >> 40 & 7 {
                0..=2 => drop(
                    registry
                        .claim_server(server_id, wire("b"))
                        .map(switchboard::Claim::detach),
                ),
                3 | 4 => {
                    let conn_id = format!("{}", dice >> 50);
                    let phone = registry.register_phone(server_id, wire(&conn_id));
                    drop(phone.map(switchboard::Membership::detach));
                }
                5 => drop(registry.release_server(server_id)),
                6 => drop(registry.evict_server(server_id)),
                _ => {
                    let epoch = registry.server(server_id).and_then(|server| server.epoch());
                    if let Some(epoch) = epoch {
                        registry.release_claim_after(server_id, epoch, seconds(60));
                    }
                }
            }
        }
    }
}

mod claim_server_if {
    use super::*;

    #[test]
    fn refuses_a_reclaim_without_the_proof_and_says_so() {
        let registry = registry();
        let claim = registry.claim_server("s", wire("b")).unwrap();
        let proof = claim.epoch();
        let _phone = registry.register_phone("s", wire("p")).unwrap();
        claim.release_after(seconds(60));
        let refused = registry.claim_server_if("s", wire("stranger"), |_| false);
        let conflict = refused.unwrap_err();
        assert_eq!(conflict.kind(), ConflictKind::ReclaimDenied);
        assert_eq!(
            (conflict.incumbent().conn_id(), conflict.incumbent_epoch()),
            ("b", proof)
        );
        assert!(matches!(
            registry.server("s").unwrap().status(),
            Status::Grace { .. }
        ));
        let back = registry.claim_server_if("s", wire("back"), |server| {
            assert_eq!(server.phones().len(), 1);
            server.epoch() == Some(proof)
        });
        assert_eq!(back.unwrap().displaced().unwrap().cause, Cause::Reclaimed);
    }

    #[test]
    fn asks_nobody_where_there_is_no_grace() {
        let registry = registry();
        let ask = |_: &switchboard::Server<Wire>| panic!("asked");
        let claim = registry.claim_server_if("s", wire("b"), ask).unwrap();
        let conflict = registry.claim_server_if("s", wire("c"), ask).unwrap_err();
        assert_eq!(conflict.kind(), ConflictKind::Held);
        let _phone = registry.register_phone("s", wire("p")).unwrap();
        claim.release();
        assert!(registry.claim_server_if("s", wire("d"), ask).is_ok());
    }

    #[test]
    fn changes_nothing_if_the_condition_panics() {
        let registry = registry();
        let claim = registry.claim_server("s", wire("b")).unwrap();
        let phone = registry.register_phone("s", wire("p")).unwrap();
        registry.release_claim_after("s", claim.epoch(), seconds(60));
        let stranger = wire("stranger");
        let panicked = thread::scope(|scope| {
            let claim = || {
                let asked = |_: &switchboard::Server<Wire>| panic!("asked");
                registry
                    .claim_server_if("s", stranger.clone(), asked)
                    .is_ok()
            };
            scope.spawn(claim).join()
        });
        panicked.unwrap_err();
        assert_eq!(Arc::strong_count(&stranger), 1);
        assert!(claim.is_current() && phone.is_registered());
        assert_at_rest(&registry);
    }

    #[test]
    fn decides_about_a_take_over_too_if_the_incumbent_is_gone() {
        let registry = registry();
        let conflict_with = |claim: &switchboard::Claim<Wire>| {
            let conflict = registry.claim_server("s", wire("stranger")).unwrap_err();
            assert_eq!(conflict.incumbent_epoch(), claim.epoch());
            conflict
        };
        let claim = registry.claim_server("s", wire("a")).unwrap();
        let [in_grace, replaced] = [(); 2].map(|()| conflict_with(&claim));
        claim.release_after(seconds(60));
        // It is still the incumbent, and has gone away.
        let refused = in_grace.take_over_if(|server| server.binary().is_none());
        assert_eq!(refused.unwrap_err().kind(), ConflictKind::ReclaimDenied);
        let other = registry.claim_server("s", wire("b")).unwrap();
        other.release_after(seconds(60));
        // Whoever may replace "a" may not replace "b".
        let refused = replaced.take_over_if(|server| server.binary().unwrap().conn_id() == "a");
        let conflict = refused.unwrap_err();
        assert_eq!(conflict.incumbent().conn_id(), "b");
        let back = conflict.take_over_if(|server| server.binary().unwrap().conn_id() == "b");
        let displaced = back.unwrap().take_displaced().unwrap();
        assert_eq!(displaced.cause, Cause::Reclaimed);

        let claim = registry.claim_server("t", wire("a")).unwrap();
        let conflict = registry.claim_server("t", wire("b")).unwrap_err();
        let new = conflict.take_over_if(|_| panic!("asked")).unwrap();
        assert_eq!(new.displaced().unwrap().cause, Cause::TakenOver);
        assert!(!claim.is_current());
    }

    #[test]
    fn may_call_the_registry_in_the_condition() {
        let registry = registry();
        let claim = registry.claim_server("s", wire("b")).unwrap();
        claim.release_after(seconds(60));
        let claimed = registry.claim_server_if("s", wire("c"), |server| {
            registry.release_server(server.server_id());
            true
        });
        let claim = claimed.unwrap();
        assert!(claim.displaced().is_none(), "it was released meanwhile");
    }
}

mod orphans_that_are_displaced {
    use super::*;

    fn registry() -> Registry<Wire> {
        Registry::builder().orphans(Orphans::Displace).build()
    }

    fn release_with_a_phone(registry: &Registry<Wire>) -> switchboard::Membership<Wire> {
        let claim = registry.claim_server("s", wire("b")).unwrap();
        let phone = registry.register_phone("s", wire("p")).unwrap();
        assert!(claim.release());
        phone
    }

    #[test]
    fn come_out_of_the_next_expiry_whatever_its_time() {
        let registry = registry();
        let long_ago = Instant::now();
        let phone = release_with_a_phone(&registry);
        assert!(registry.binary_for("s").is_none());
        assert!(phone.is_registered() && registry.next_deadline() <= Some(long_ago));
        let out = registry.expire(long_ago);
        assert_eq!((out[0].cause, out[0].phones.len()), (Cause::Released, 1));
        assert!(out[0].binary.is_none() && !phone.is_registered());
        assert_at_rest(&registry);
    }

    #[test]
    fn come_out_of_the_next_claim() {
        let registry = registry();
        let phone = release_with_a_phone(&registry);
        let claim = registry.claim_server("s", wire("stranger")).unwrap();
        let out = claim.displaced().unwrap();
        assert_eq!((out.cause, out.phones.len()), (Cause::Released, 1));
        assert!(phone.binary().is_none());
        assert_eq!(registry.next_deadline(), None);
        assert_at_rest(&registry);
    }

    #[test]
    fn may_leave_by_themselves() {
        let registry = registry();
        drop(release_with_a_phone(&registry));
        assert_eq!(registry.next_deadline(), None);
        assert!(registry.server("s").is_none());
        assert_at_rest(&registry);
    }

    #[test]
    fn leave_nothing_behind_where_there_are_none() {
        let registry = registry();
        assert!(registry.claim_server("s", wire("b")).unwrap().release());
        drop(registry.claim_server("s", wire("b")).unwrap());
        assert_eq!(registry.next_deadline(), None);
        assert_eq!(registry.counts(), switchboard::Counts::default());
        assert_at_rest(&registry);
    }

    #[test]
    fn wake_whoever_ends_graces() {
        let registry = registry();
        let mut earlier = pin!(registry.earlier_deadline(None));
        assert!(poll(&mut earlier).is_pending());
        let _phone = release_with_a_phone(&registry);
        assert!(poll(&mut earlier).is_ready());
    }
}
