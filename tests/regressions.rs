//! One test for each defect that was found and fixed, named after what went wrong.

mod common;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use common::{Living, Wire, assert_counts_are_exact, at, seconds, wire, wire_with_on_drop};
use switchboard::{Claim, Counts, Registry};

/// The destructor of a thread-local ran after papaya's own. The release in it aborted the process.
#[test]
fn a_claim_dropped_at_the_end_of_its_thread_aborted_the_process() {
    thread_local! {
        static KEPT: RefCell<Vec<Claim<Wire>>> = const { RefCell::new(Vec::new()) };
    }
    let registry: Registry<Wire> = Registry::new();
    let mine = registry.clone();
    let ended = thread::spawn(move || {
        KEPT.with_borrow_mut(|kept| {
            // One claim whose slot is removed at once, and more than the index lets linger: the last drops
            // make the index remove others.
            let long = "long".repeat(1_000);
            for server_id in (0..3_000).map(|i| i.to_string()).chain([long, "s".into()]) {
                kept.push(mine.claim_server(&server_id, wire("b")).unwrap());
            }
        });
    });
    assert!(ended.join().is_ok());
    assert_eq!(registry.counts(), Counts::default());
    assert_eq!(registry.servers().count(), 0);
    assert!(registry.claim_server("s", wire("b")).is_ok());
}

/// The expiry scan went forward, so a deadline that moved to an earlier time moved behind it.
#[test]
fn an_expiry_missed_graces_that_were_over_throughout() {
    const SERVERS: usize = 64;
    for _ in 0..300 {
        let registry: Registry<Wire> = Registry::new();
        let epochs: Vec<_> = (0..SERVERS)
            .map(|i| {
                let server_id = i.to_string();
                let claim = registry.claim_server(&server_id, wire("b")).unwrap();
                let epoch = claim.detach();
                registry.release_claim_after(&server_id, epoch, seconds(10));
                (server_id, epoch)
            })
            .collect();
        let barrier = Barrier::new(2);
        let expired = thread::scope(|scope| {
            scope.spawn(|| {
                barrier.wait();
                for (server_id, epoch) in epochs.iter().rev() {
                    registry.release_claim_after(server_id, *epoch, seconds(5));
                }
            });
            barrier.wait();
            registry.expire(at(20)).len()
        });
        assert_eq!(expired, SERVERS);
    }
}

/// The destructor's panic unwound through whichever call dropped the last reference. Here that was another
/// caller's release, which was lost.
#[test]
fn a_panic_in_a_destructor_lost_another_callers_release() {
    const BYSTANDERS: usize = 30_000;
    /// Bounds the time under a sanitizer, where each panic is slow.
    const LIMIT: Duration = Duration::from_secs(1);
    let registry: Registry<Wire> = Registry::new();
    let _holder = registry.claim_server("s", wire("b")).unwrap();
    let register = |conn_id: &str| registry.register_phone("s", wire(conn_id)).unwrap();
    // With this many phones, removing one takes longer than a bystander takes to come and go.
    let _phones: Vec<_> = (0..4_000).map(|i| register(&i.to_string())).collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let begun = Instant::now();
            for _ in 0..BYSTANDERS {
                if begun.elapsed() > LIMIT {
                    break;
                }
                let bystander =
                    wire_with_on_drop("bystander", || panic!("a destructor that panics"));
                registry.register_phone("s", bystander).unwrap().detach();
                let out = registry.unregister_phone("s", "bystander");
                // If this is the last reference, this thread gets the panic.
                let _ = catch_unwind(AssertUnwindSafe(|| drop(out)));
            }
            done.store(true, Relaxed);
        });
        let (mut left, mut lost) = (0, 0);
        while !done.load(Relaxed) {
            let (older, newest) = (register("older"), register("newest"));
            let result = catch_unwind(AssertUnwindSafe(|| older.unregister()));
            left += 1;
            lost += u32::from(result.is_err());
            drop(newest);
        }
        assert_eq!(lost, 0, "of {left}");
    });
    assert_eq!(registry.phones_for("s").len(), 4_000);
    assert_counts_are_exact(&registry);
}

/// The panic lost the call's return value. A second panic in the same call aborted the process, and so did a
/// panic payload that itself panicked when dropped.
#[test]
fn a_panic_in_a_destructor_lost_the_return_value() {
    struct Grenade;
    impl Drop for Grenade {
        fn drop(&mut self) {
            panic!("a payload that panics");
        }
    }
    let panics = |conn_id: &str| wire_with_on_drop(conn_id, || panic_any(Grenade));
    let registry: Registry<Wire> = Registry::new();
    assert!(registry.claim_server("s", panics("b")).unwrap().release());
    let claim = registry.claim_server("s", panics("b")).unwrap();
    for conn_id in ["p", "q"] {
        let phone = registry.register_phone("s", panics(conn_id)).unwrap();
        assert!(registry.register_phone("s", wire(conn_id)).is_err());
        phone.detach();
    }
    drop(registry.claim_server("s", panics("refused")).unwrap_err());
    let epoch = claim.detach();
    assert!(registry.release_claim("s", epoch));
    // Both panic in one call.
    drop(registry.evict_server("s"));
    assert_eq!(registry.counts(), Counts::default());
}

/// The panic also unwound through papaya's drop of the whole map, and the remaining entries leaked.
#[test]
fn a_panic_in_a_destructor_leaked_the_rest_of_the_registry() {
    for panicking in [1, 50] {
        let living = Living::default();
        let registry: Registry<Wire> = Registry::new();
        for i in 0..500 {
            let server_id = i.to_string();
            registry
                .claim_server(&server_id, living.wire("b"))
                .unwrap()
                .detach();
            for conn_id in ["p", "q"] {
                let last = living.wire(conn_id);
                let phone = if i < panicking {
                    wire_with_on_drop(conn_id, move || {
                        let _ = &last;
                        panic!("a destructor that panics");
                    })
                } else {
                    last
                };
                registry.register_phone(&server_id, phone).unwrap().detach();
            }
        }
        assert_eq!(living.count(), 1_500);
        let _ = catch_unwind(AssertUnwindSafe(|| drop(registry)));
        assert_eq!(living.count(), 0);
    }
}

/// As above, `next_deadline` missed a deadline that moved to an earlier time.
#[test]
fn the_next_deadline_was_none_although_a_grace_was_armed_throughout() {
    let registry: Registry<Wire> = Registry::new();
    let epoch = registry.claim_server("s", wire("b")).unwrap().detach();
    registry.release_claim_after("s", epoch, seconds(10));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..50_000 {
                registry.release_claim_after("s", epoch, seconds(5));
                registry.release_claim_after("s", epoch, seconds(10));
            }
            done.store(true, Relaxed);
        });
        while !done.load(Relaxed) {
            assert!(registry.next_deadline().is_some());
        }
    });
}

/// A retired slot lingers in the index for a while. It must not be seen there, and is later replaced or
/// removed.
#[test]
fn lingering_slots_are_neither_shown_nor_counted() {
    let registry: Registry<Wire> = Registry::new();
    for round in 0..3 {
        for i in 0..2_500 {
            let server_id = i.to_string();
            let claim = registry.claim_server(&server_id, wire("b")).unwrap();
            assert!(claim.displaced().is_none(), "round {round}");
            drop(claim);
            assert!(registry.server(&server_id).is_none());
            assert!(registry.binary_for(&server_id).is_none());
            assert!(registry.phones_for(&server_id).is_empty());
            assert!(registry.register_phone(&server_id, wire("p")).is_err());
            assert!(registry.evict_server(&server_id).is_none());
            assert!(!registry.release_server(&server_id));
        }
    }
    assert_eq!(registry.servers().count(), 0);
    assert!(registry.drain().is_empty());
    assert_counts_are_exact(&registry);
}
