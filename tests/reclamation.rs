//! Drops are prompt on every way out, a million cycles leave nothing behind, and reads allocate nothing.
//!
//! A separate test binary, because it replaces the global allocator with a counting one.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicIsize, AtomicUsize};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use common::{Living, Wire, at, seconds, wire};
use switchboard::{Claim, Counts, Registry};

struct Counting;

static BYTES: AtomicIsize = AtomicIsize::new(0);
static LARGEST: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is forwarded unchanged to the system allocator.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size().cast_signed(), Relaxed);
        LARGEST.fetch_max(layout.size(), Relaxed);
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller upholds the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size().cast_signed(), Relaxed);
        // SAFETY: the caller upholds the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes are counted for the whole process, so the tests run one at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> impl Drop {
    ALONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn allocations(of: impl Fn()) -> usize {
    of();
    let before = ALLOCATIONS.get();
    of();
    ALLOCATIONS.get() - before
}

#[test]
fn reads_allocate_nothing() {
    let _alone = alone();
    for phones in [0, 1, 16, 1_000] {
        let registry: Registry<Wire> = Registry::new();
        let claim = registry.claim_server("s", wire("b")).unwrap();
        let first = registry.register_phone("s", wire("first")).unwrap();
        for i in 0..phones {
            let phone = registry.register_phone("s", wire(&i.to_string()));
            phone.unwrap().detach();
        }
        let route = RefCell::new(first.route());
        let reads: [(&str, &dyn Fn()); 16] = [
            ("binary_for", &|| drop(black_box(registry.binary_for("s")))),
            ("binary_for, unknown", &|| {
                drop(black_box(registry.binary_for("?")));
            }),
            ("phones_for", &|| drop(black_box(registry.phones_for("s")))),
            ("phones_for, unknown", &|| {
                drop(black_box(registry.phones_for("?")));
            }),
            ("phone_for", &|| {
                drop(black_box(registry.phone_for("s", "first")));
            }),
            ("server", &|| drop(black_box(registry.server("s")))),
            ("counts", &|| {
                black_box(registry.counts());
            }),
            ("next_deadline", &|| {
                black_box(registry.next_deadline());
            }),
            ("Claim::phones", &|| drop(black_box(claim.phones()))),
            ("Claim::phone", &|| drop(black_box(claim.phone("first")))),
            ("Claim::is_current", &|| {
                black_box(claim.is_current());
            }),
            ("Membership::binary", &|| drop(black_box(first.binary()))),
            ("Membership::route", &|| drop(black_box(first.route()))),
            ("Route::binary", &|| {
                assert!(route.borrow_mut().binary().is_some());
            }),
            ("iterate", &|| {
                assert_eq!(claim.phones().iter().count(), phones + 1);
            }),
            ("clone and get", &|| {
                assert!(claim.phones().clone().contains("first"));
            }),
        ];
        for (name, read) in reads {
            assert_eq!(allocations(read), 0, "{name} with {phones} phones");
        }
    }
}

type Exit = fn(&Registry<Wire>, Claim<Wire>);

/// Every way in which a binary and its phones can leave the registry.
const EXITS: [(&str, Exit); 8] = [
    ("drop", |registry, claim| {
        drop(claim);
        registry.unregister_phone("s", "p");
        registry.unregister_phone("s", "q");
    }),
    ("release", |registry, claim| {
        claim.release();
        registry.evict_server("s");
    }),
    ("evict", |registry, claim| {
        registry.evict_server("s");
        drop(claim);
    }),
    ("evict by its claim", |_, claim| drop(claim.evict())),
    ("expire", |registry, claim| {
        claim.release_after(Duration::ZERO);
        drop(registry.expire(at(1)));
    }),
    ("reclaim", |registry, claim| {
        claim.release_after(seconds(30));
        let mut next = registry.claim_server("s", wire("next")).unwrap();
        drop(next.take_displaced());
        // The successor stays; the displaced connections are dropped nevertheless.
        next.detach();
    }),
    ("take over", |registry, claim| {
        let conflict = registry.claim_server("s", wire("next")).unwrap_err();
        let mut next = conflict.take_over().unwrap();
        drop(next.take_displaced());
        drop(claim);
        next.detach();
    }),
    ("drain", |registry, claim| {
        drop(registry.drain());
        drop(claim);
    }),
];

#[test]
fn drops_are_prompt_on_every_way_out_while_the_registry_is_quiet() {
    let _alone = alone();
    for (name, exit) in EXITS {
        let registry: Registry<Wire> = Registry::new();
        let living = Living::default();
        let claim = registry.claim_server("s", living.wire("b")).unwrap();
        for conn_id in ["p", "q"] {
            let phone = registry.register_phone("s", living.wire(conn_id));
            phone.unwrap().detach();
        }
        assert_eq!(living.count(), 3);
        exit(&registry, claim);
        assert_eq!(living.count(), 0, "after {name}");
    }
}

#[test]
fn a_refused_connection_lives_as_long_as_its_error() {
    let _alone = alone();
    let registry: Registry<Wire> = Registry::new();
    let living = Living::default();
    drop(registry.register_phone("s", living.wire("p")));
    let _claim = registry.claim_server("s", wire("b")).unwrap();
    let conflict = registry.claim_server("s", living.wire("b")).unwrap_err();
    assert_eq!(living.count(), 1);
    drop(conflict);
    assert_eq!(living.count(), 0);
}

#[test]
fn a_departed_phone_lives_as_long_as_the_last_snapshot() {
    let _alone = alone();
    let registry: Registry<Wire> = Registry::new();
    let living = Living::default();
    let _claim = registry.claim_server("s", living.wire("b")).unwrap();
    let phone = registry.register_phone("s", living.wire("p")).unwrap();
    // More snapshots than a thread has cheap arc-swap guards.
    let snapshots: Vec<_> = (0..20).map(|_| registry.phones_for("s")).collect();
    let looked_up = registry.binary_for("s");
    drop(phone);
    assert_eq!(living.count(), 2);
    drop(snapshots);
    assert_eq!(
        living.count(),
        2,
        "a looked-up binary keeps its whole record alive"
    );
    drop(looked_up);
    assert_eq!(living.count(), 1);
}

#[test]
fn a_departed_phone_lives_as_long_as_a_conflict_from_before_it_left() {
    let _alone = alone();
    let registry: Registry<Wire> = Registry::new();
    let living = Living::default();
    let claim = registry.claim_server("s", living.wire("b")).unwrap();
    let phone = registry.register_phone("s", living.wire("p")).unwrap();
    let conflict = registry.claim_server("s", wire("b2")).unwrap_err();
    drop(phone);
    drop(claim);
    assert_eq!(living.count(), 2);
    drop(conflict);
    assert_eq!(living.count(), 0);
}

#[test]
fn a_route_keeps_what_it_saw_until_it_looks_again_or_is_dropped() {
    let _alone = alone();
    let registry: Registry<Wire> = Registry::new();
    let living = Living::default();
    let claim = registry.claim_server("s", living.wire("b")).unwrap();
    let phone = registry.register_phone("s", living.wire("p")).unwrap();
    let sibling = registry.register_phone("s", living.wire("q")).unwrap();
    let mut route = phone.route();
    assert!(route.binary().is_some());
    drop(claim);
    drop(sibling);
    assert_eq!(living.count(), 3, "the route has not looked since");
    assert!(route.binary().is_none());
    assert_eq!(
        living.count(),
        1,
        "the route has looked: only the phone is left"
    );
    let _claim = registry.claim_server("s", living.wire("b2")).unwrap();
    assert!(route.binary().is_some());
    drop(phone);
    assert_eq!(living.count(), 2, "the route keeps its own phone alive");
    assert!(route.binary().is_none());
    assert_eq!(
        living.count(),
        1,
        "the phone is gone: the route keeps nothing alive"
    );

    let phone = registry.register_phone("s", living.wire("p")).unwrap();
    let route = phone.route();
    drop(phone);
    assert_eq!(living.count(), 2);
    drop(route);
    assert_eq!(living.count(), 1);
}

#[test]
fn dropping_the_last_handle_drops_every_connection() {
    let _alone = alone();
    let living = Living::default();
    let registry: Registry<Wire> = Registry::new();
    for i in 0..1_000 {
        let server_id = i.to_string();
        let claim = registry.claim_server(&server_id, living.wire("b")).unwrap();
        let phone = registry.register_phone(&server_id, living.wire("p"));
        phone.unwrap().detach();
        if i % 2 == 0 {
            claim.detach();
        } else {
            claim.release_after(seconds(30));
        }
    }
    let other = registry.clone();
    drop(registry);
    assert_eq!(living.count(), 2_000);
    drop(other);
    assert_eq!(living.count(), 0);
}

/// A random choice. A leak could hide behind a periodic one.
struct Choice(u64);

impl Choice {
    fn of(&mut self, sides: u64) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 33) % sides).unwrap()
    }
}

/// One life of a server-id, including refused calls.
fn cycle(registry: &Registry<Wire>, server_id: &str, turn: usize) {
    let refused = registry.register_phone(server_id, wire("p"));
    assert!(refused.is_err());
    let claim = registry.claim_server(server_id, wire("b")).unwrap();
    assert!(registry.claim_server(server_id, wire("late")).is_err());
    let phone = registry.register_phone(server_id, wire("p")).unwrap();
    assert!(registry.register_phone(server_id, wire("p")).is_err());
    match turn % 4 {
        0 => drop((claim, phone)),
        1 => drop((claim.release_after(Duration::ZERO), phone)),
        2 => drop(claim.evict()),
        _ => {
            claim.release();
            phone.unregister();
        }
    }
    drop(registry.expire(at(1)));
    assert!(registry.server(server_id).is_none());
}

/// papaya copies its table when a probe sequence is full of removed keys. Without lingering slots, claiming
/// and releasing one server-id in a loop would fill its own probe sequence again and again, and every copy
/// costs as much as all registered server-ids.
#[test]
fn a_server_id_that_comes_and_goes_does_not_make_the_index_copy_its_table() {
    let _alone = alone();
    let registry: Registry<Wire> = Registry::new();
    for i in 0..20_000 {
        let claim = registry.claim_server(&i.to_string(), wire("b"));
        claim.unwrap().detach();
    }
    LARGEST.store(0, Relaxed);
    for turn in 0..50_000 {
        let server_id = format!("in a loop {}", turn % 500);
        drop(registry.claim_server(&server_id, wire("b")).unwrap());
    }
    let largest = LARGEST.load(Relaxed);
    assert!(
        largest < 64 * 1024,
        "{largest} bytes at once: a copied table"
    );
}

#[test]
fn a_million_cycles_leave_nothing_behind() {
    const CYCLES: usize = 1_000_000;
    let _alone = alone();
    let registry: Registry<Wire> = Registry::new();
    let warm = CYCLES / 20;
    let mut after_warm_up = 0;
    let mut choice = Choice(1);
    for turn in 0..CYCLES {
        // Half of the server-ids return; the other half are never seen again.
        let server_id = match choice.of(2) {
            0 => format!("s{}", choice.of(50)),
            _ => format!("once {turn}"),
        };
        cycle(&registry, &server_id, choice.of(4));
        if turn == warm {
            after_warm_up = BYTES.load(Relaxed);
        }
    }
    let grown = BYTES.load(Relaxed) - after_warm_up;
    assert_eq!(registry.counts(), Counts::default());
    assert_eq!(registry.servers().count(), 0);
    let internals = registry.internals();
    assert_eq!(internals.deadlines, 0);
    assert!(
        internals.retired_slots <= internals.lingering_slots && internals.lingering_slots <= 1_024,
        "{internals:?}"
    );
    // A leak of one byte per cycle would be a million bytes. Memory waiting for a batch to fill is far less.
    assert!(
        grown < 256 * 1024,
        "{grown} bytes more than after the warm-up"
    );
}

/// No server-id returns, so no slot has been replaced: every retired slot must be a tracked one.
fn assert_every_retired_slot_is_tracked(registry: &Registry<Wire>) {
    let internals = registry.internals();
    assert_eq!(
        internals.retired_slots, internals.lingering_slots,
        "a retired slot will stay in the index forever, or a removed one is still tracked"
    );
    assert_eq!(internals.deadlines, 0);
}

/// A leak of one slot in many would be too small to see in bytes.
#[test]
fn no_retired_slot_is_forgotten() {
    let _alone = alone();
    let registry: Registry<Wire> = Registry::new();
    let mut choice = Choice(2);
    for turn in 0..8_000 {
        cycle(&registry, &format!("once {turn}"), choice.of(4));
        // Lingering slots are removed once there are too many of them.
        if turn < 100 || turn % 100 == 0 {
            assert_every_retired_slot_is_tracked(&registry);
        }
    }
    assert_every_retired_slot_is_tracked(&registry);
    assert!(registry.internals().lingering_slots <= 1_024);
}

/// Covers the longest name that lingers and the shortest that does not.
#[test]
fn no_retired_slot_with_a_long_name_is_forgotten() {
    let _alone = alone();
    let registry: Registry<Wire> = Registry::new();
    let mut choice = Choice(3);
    let mut linger = 0;
    // First fewer than may linger, then more.
    for turn in 0..4_000 {
        let length = 1_023 + choice.of(4);
        cycle(&registry, &format!("{turn:length$}"), choice.of(4));
        linger += usize::from(length <= 1_024);
        if turn == 1_000 {
            assert_every_retired_slot_is_tracked(&registry);
            assert_eq!(registry.internals().lingering_slots, linger);
        }
    }
    // Others take their places in the queues, so that one of them that was forgotten is one too many.
    for turn in 0..2_000 {
        cycle(&registry, &format!("short {turn}"), choice.of(4));
    }
    assert_every_retired_slot_is_tracked(&registry);
    assert!(registry.internals().lingering_slots <= 1_024);
}

#[test]
fn long_names_of_retired_slots_are_not_kept() {
    let _alone = alone();
    let registry: Registry<Wire> = Registry::new();
    let before = BYTES.load(Relaxed);
    for turn in 0..200 {
        let server_id = format!("{turn}").repeat(100_000);
        drop(registry.claim_server(&server_id, wire("b")).unwrap());
    }
    // 50 MiB of names have come and gone. Lingering slots are bounded in bytes, not only in number.
    let kept = BYTES.load(Relaxed) - before;
    assert!(kept < 4 << 20, "{kept} bytes");
}

#[test]
fn cycles_on_several_threads_leave_nothing_behind() {
    let _alone = alone();
    let registry: Registry<Wire> = Registry::new();
    let storm = |round: u64| {
        thread::scope(|scope| {
            for thread in 0..4 {
                let registry = &registry;
                scope.spawn(move || {
                    let mut choice = Choice(round * 4 + thread + 1);
                    for turn in 0..10_000 {
                        let server_id = format!("{round} {thread} {turn}");
                        cycle(registry, &server_id, choice.of(4));
                    }
                });
            }
        });
        assert_every_retired_slot_is_tracked(&registry);
        BYTES.load(Relaxed)
    };
    storm(0);
    let first = storm(1);
    for round in 2..6 {
        storm(round);
    }
    let grown = BYTES.load(Relaxed) - first;
    assert_eq!(registry.counts(), Counts::default());
    // 160,000 cycles on threads that have ended. This would not see a leak of one byte each, but would see
    // one of a slot each.
    assert!(grown < 512 * 1024, "{grown} bytes more");
}

/// The queue of deadlines once used crossbeam-epoch's default collector, which all its users share.
#[test]
fn a_foreign_epoch_pin_delays_no_reclamation() {
    let _alone = alone();
    let registry: Registry<Wire> = Registry::new();
    let epoch = registry.claim_server("s", wire("b")).unwrap().detach();
    let rearm = |times: u64| {
        for turn in 0..times {
            assert!(registry.release_claim_after("s", epoch, seconds(turn)));
        }
    };
    rearm(10_000);
    let _pinned = crossbeam_epoch::pin();
    let before = BYTES.load(Relaxed);
    rearm(100_000);
    let grown = BYTES.load(Relaxed) - before;
    assert!(
        grown < 256 * 1024,
        "{grown} bytes more after 100,000 armings"
    );
}

/// A thread that is ending cannot remove the slots that it retires from the index. The next claims remove
/// them.
#[test]
fn claims_dropped_at_the_end_of_a_thread_leave_nothing_behind() {
    thread_local! {
        static KEPT: RefCell<Vec<Claim<Wire>>> = const { RefCell::new(Vec::new()) };
    }
    let _alone = alone();
    let registry: Registry<Wire> = Registry::new();
    let come_and_go = |from: usize| {
        for i in from..from + 20_000 {
            drop(registry.claim_server(&i.to_string(), wire("b")).unwrap());
        }
    };
    come_and_go(0);
    let before = BYTES.load(Relaxed);
    for round in 0..4 {
        let mine = registry.clone();
        let ended = thread::spawn(move || {
            KEPT.with_borrow_mut(|kept| {
                for i in 0..20_000 {
                    let server_id = format!("{round} {i} {}", "x".repeat(900));
                    kept.push(mine.claim_server(&server_id, wire("b")).unwrap());
                }
            });
        });
        assert!(ended.join().is_ok());
    }
    come_and_go(20_000);
    assert_every_retired_slot_is_tracked(&registry);
    let grown = BYTES.load(Relaxed) - before;
    assert!(
        grown < 4 << 20,
        "{grown} bytes more: 20,000 names are 18 MB"
    );
}

/// Tables that papaya had replaced waited in the claiming thread's batch, where a whole table counts as one
/// entry.
#[test]
fn claims_on_one_thread_and_drops_on_another_leave_nothing_behind() {
    const CLAIMS: usize = 600_000;
    let _alone = alone();
    let registry: Registry<Wire> = Registry::new();
    let (claims, claimed) = mpsc::sync_channel(64);
    let lookups = registry.clone();
    let dropping = thread::spawn(move || {
        // A thread that has never used papaya would leave all removals to the claiming thread, whose batch they would fill.
        assert!(lookups.binary_for("nobody").is_none());
        for claim in claimed {
            drop::<Claim<Wire>>(claim);
        }
    });
    let mut before = 0;
    for i in 0..CLAIMS {
        if i == CLAIMS / 6 {
            before = BYTES.load(Relaxed);
        }
        let claim = registry.claim_server(&format!("{i}"), wire("b")).unwrap();
        claims.send(claim).unwrap();
    }
    drop(claims);
    assert!(dropping.join().is_ok());
    let grown = BYTES.load(Relaxed) - before;
    assert!(
        grown < 2 << 20,
        "{grown} bytes more than after a sixth of the claims"
    );
}
