//! Litmus tests on the registry itself, for machines with weaker memory ordering than x86. Run them on a
//! multi-core ARM:
//!
//! ```text
//! cargo test --release --test litmus -- --nocapture
//! SWITCHBOARD_LITMUS_ROUNDS=5000000 cargo test --release --test litmus -- --nocapture
//! ```
//!
//! In each round two threads leave a barrier together. There are three patterns:
//!
//! - store buffering: each thread claims a server-id and then looks up the other's. No sequential order of
//!   the calls explains both lookups missing the other's claim.
//! - message passing: one thread claims a server-id and then releases another. The other thread looks up the
//!   second and then the first. A thread that sees the release must see the claim.
//! - bookkeeping: one thread changes something that the registry keeps outside of records, and then looks up
//!   a server-id. The other claims that server-id and then reads what the first one changed.
//!
//! Each test prints the count of each of the four outcomes, and fails if it saw the forbidden one. The other
//! counts show whether the run means anything: if the threads raced, each of them was sometimes first.
//! `the_control` runs store buffering on two `Relaxed` atomics. It has to see the forbidden outcome, on x86
//! too, or this machine and this harness show nothing; a single core shows nothing. Both conditions are only
//! enforced when `SWITCHBOARD_LITMUS_ROUNDS` is set, because a short run on a busy machine may be unlucky.

mod common;

use std::fmt::Display;
use std::hint;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use common::{Wire, at, wire};
use crossbeam_utils::CachePadded;
use switchboard::{Claim, Membership, Registry, Route};

/// The number of rounds that are prepared before they run.
const BATCH: usize = 500;

/// The time limit when no number of rounds is set.
const SHORT: Duration = Duration::from_millis(150);

fn rounds() -> Option<usize> {
    let rounds = std::env::var("SWITCHBOARD_LITMUS_ROUNDS").ok()?;
    Some(rounds.parse().unwrap())
}

/// A reusable barrier for two threads.
#[derive(Default)]
struct Meeting([CachePadded<AtomicUsize>; 2]);

impl Meeting {
    /// Waits for the other thread, then for a few nanoseconds; the delay varies from round to round.
    fn wait(&self, me: usize, round: usize) {
        self.0[me].store(round + 1, Ordering::SeqCst);
        let mut waited = 0;
        while self.0[1 - me].load(Ordering::SeqCst) <= round {
            waited += 1;
            if waited % 2048 == 0 {
                thread::yield_now();
            }
            hint::spin_loop();
        }
        let late = [round % 16, round / 16 % 16][me];
        for step in 0..late * 4 {
            hint::black_box(step);
        }
    }
}

/// The number of times each outcome occurred, indexed by the first thread's part and then the second's.
#[derive(Default)]
struct Tally([[usize; 2]; 2]);

impl Tally {
    fn of(&self, outcome: (bool, bool)) -> usize {
        self.0[usize::from(outcome.0)][usize::from(outcome.1)]
    }
}

/// Two racing operations, the outcome that their results amount to, and the forbidden outcome.
struct Litmus<A, B, RA, RB> {
    name: String,
    one: fn(&mut A) -> RA,
    other: fn(&mut B) -> RB,
    outcome: fn(RA, RB) -> (bool, bool),
    forbidden: (bool, bool),
    /// The outcomes which show that each thread was sometimes first.
    raced: [(bool, bool); 2],
}

impl<A: Send, B: Send, RA: Send, RB: Send> Litmus<A, B, RA, RB> {
    fn run(&self, mut prepare: impl FnMut(usize) -> (A, B)) -> Tally {
        /// Two tests at once would run four threads.
        static ALONE: Mutex<()> = Mutex::new(());
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);

        let mut tally = Tally::default();
        let begun = Instant::now();
        for batch in 0..rounds().unwrap_or(usize::MAX).div_ceil(BATCH) {
            if rounds().is_none() && begun.elapsed() > SHORT {
                break;
            }
            let sides = (0..BATCH).map(|round| prepare(batch * BATCH + round));
            let (mut ones, mut others): (Vec<_>, Vec<_>) = sides.unzip();
            let meeting = Meeting::default();
            let (ones, others) = thread::scope(|scope| {
                let ones = scope.spawn(|| play(&meeting, 0, &mut ones, self.one));
                let others = scope.spawn(|| play(&meeting, 1, &mut others, self.other));
                (ones.join().unwrap(), others.join().unwrap())
            });
            for (one, other) in ones.into_iter().zip(others) {
                let (one, other) = (self.outcome)(one, other);
                tally.0[usize::from(one)][usize::from(other)] += 1;
            }
        }
        self.print(&tally);
        tally
    }

    fn print(&self, tally: &Tally) {
        print!("{}:", self.name);
        for outcome in [(false, false), (false, true), (true, false), (true, true)] {
            let mark = if outcome == self.forbidden { "!" } else { "" };
            let (one, other) = (u8::from(outcome.0), u8::from(outcome.1));
            print!("  {mark}{one}{other}: {}", tally.of(outcome));
        }
        println!();
    }

    fn must_hold(&self, prepare: impl FnMut(usize) -> (A, B)) {
        let tally = self.run(prepare);
        assert_eq!(tally.of(self.forbidden), 0, "{}: forbidden", self.name);
        if rounds().is_some() {
            for raced in self.raced {
                assert_ne!(tally.of(raced), 0, "{}: nothing was raced", self.name);
            }
        }
    }
}

fn play<S, R>(meeting: &Meeting, me: usize, sides: &mut [S], act: fn(&mut S) -> R) -> Vec<R> {
    let sides = sides.iter_mut().enumerate();
    let results = sides.map(|(round, side)| {
        meeting.wait(me, round);
        act(side)
    });
    results.collect()
}

/// The place where a claim takes effect. Each becomes visible in a different way.
#[derive(Clone, Copy)]
enum Place {
    /// Not in the index yet: papaya inserts the slot.
    New,
    /// At a retired slot: papaya replaces the slot.
    Retired,
    /// In a slot that has a phone: arc-swap exchanges the record.
    Vacant,
}

/// How a thread looks up the binary of a server-id.
#[derive(Clone, Copy)]
enum By {
    Key,
    Membership,
    Route,
}

struct Ask {
    registry: Registry<Wire>,
    server_id: String,
    /// The handles of the phone that is registered there, if any.
    way: Option<(Membership<Wire>, Route<Wire>)>,
    by: By,
}

impl Ask {
    fn finds_a_binary(&mut self) -> bool {
        match (self.by, &mut self.way) {
            (By::Key, _) => self.registry.binary_for(&self.server_id).is_some(),
            (By::Membership, Some((member, _))) => member.binary().is_some(),
            (By::Route, Some((_, route))) => route.binary().is_some(),
            (_, None) => unreachable!("no phone is registered there"),
        }
    }
}

struct ToClaim {
    registry: Registry<Wire>,
    server_id: String,
    conn: Arc<Wire>,
    claimed: Option<Claim<Wire>>,
}

impl ToClaim {
    fn claim(&mut self) -> &Claim<Wire> {
        let conn = Arc::clone(&self.conn);
        let claim = self.registry.claim_server(&self.server_id, conn);
        self.claimed.insert(claim.unwrap())
    }
}

/// A server-id that can be claimed, and the handle to look it up with.
fn unclaimed(
    registry: &Registry<Wire>,
    name: impl Display,
    place: Place,
    by: By,
) -> (ToClaim, Ask) {
    let server_id = name.to_string();
    let mut way = None;
    if !matches!(place, Place::New) {
        let claim = registry.claim_server(&server_id, wire("b")).unwrap();
        if matches!(place, Place::Vacant) {
            let member = registry.register_phone(&server_id, wire("p")).unwrap();
            let route = member.route();
            way = Some((member, route));
        }
        assert!(claim.release());
        if let Some((_, route)) = &mut way {
            assert!(
                route.binary().is_none(),
                "the route starts without a binary"
            );
        }
    }
    let to_claim = ToClaim {
        registry: registry.clone(),
        server_id: server_id.clone(),
        conn: wire("b"),
        claimed: None,
    };
    let ask = Ask {
        registry: registry.clone(),
        server_id,
        way,
        by,
    };
    (to_claim, ask)
}

mod store_buffering {
    use super::*;

    /// For each of the two server-ids: where the claim takes effect, and how the other thread looks it up.
    fn neither_misses_the_other(name: &str, x: (Place, By), y: (Place, By)) {
        fn claim_and_ask((mine, others): &mut (ToClaim, Ask)) -> bool {
            mine.claim();
            others.finds_a_binary()
        }

        let litmus = Litmus {
            name: format!("store buffering, {name}"),
            one: claim_and_ask,
            other: claim_and_ask,
            outcome: |one_finds, other_finds| (one_finds, other_finds),
            forbidden: (false, false),
            raced: [(false, true), (true, false)],
        };
        let registry = Registry::<Wire>::builder().build();
        litmus.must_hold(|round| {
            let (claim_x, ask_x) = unclaimed(&registry, format_args!("{round}x"), x.0, x.1);
            let (claim_y, ask_y) = unclaimed(&registry, format_args!("{round}y"), y.0, y.1);
            ((claim_x, ask_y), (claim_y, ask_x))
        });
    }

    #[test]
    fn of_two_first_claims_and_lookups_by_key() {
        let x = (Place::New, By::Key);
        neither_misses_the_other("new, by key", x, x);
    }

    #[test]
    fn of_two_claims_of_retired_places_and_lookups_by_key() {
        let x = (Place::Retired, By::Key);
        neither_misses_the_other("retired, by key", x, x);
    }

    #[test]
    fn of_two_changes_and_lookups_by_key() {
        let x = (Place::Vacant, By::Key);
        neither_misses_the_other("vacant, by key", x, x);
    }

    #[test]
    fn of_two_changes_and_lookups_by_membership() {
        let x = (Place::Vacant, By::Membership);
        neither_misses_the_other("vacant, by membership", x, x);
    }

    #[test]
    fn of_two_changes_and_lookups_by_route() {
        let x = (Place::Vacant, By::Route);
        neither_misses_the_other("vacant, by route", x, x);
    }

    #[test]
    fn of_a_first_claim_by_key_and_a_change_by_route() {
        let (x, y) = ((Place::New, By::Key), (Place::Vacant, By::Route));
        neither_misses_the_other("new by key, vacant by route", x, y);
    }
}

mod message_passing {
    use super::*;

    struct Tell {
        first: ToClaim,
        second: Claim<Wire>,
    }

    /// One thread claims `x` and then releases `y`; the other looks up `y` and then `x`, in the given ways.
    fn seeing_the_release_implies_seeing_the_claim(name: &str, x: (Place, By), by: By) {
        fn tell(tell: &mut Option<Tell>) -> Claim<Wire> {
            let Tell { mut first, second } = tell.take().unwrap();
            first.claim();
            assert!(second.release());
            first.claimed.unwrap()
        }

        let litmus = Litmus {
            name: format!("message passing, {name}"),
            one: tell,
            other: |(x, y): &mut (Ask, Ask)| {
                let released = !y.finds_a_binary();
                (released, x.finds_a_binary())
            },
            outcome: |_claim, seen| seen,
            forbidden: (true, false),
            raced: [(false, false), (true, true)],
        };
        let registry = Registry::<Wire>::builder().build();
        litmus.must_hold(|round| {
            let (first, ask_x) = unclaimed(&registry, format_args!("{round}x"), x.0, x.1);
            let name = format_args!("{round}y");
            let (mut second, mut ask_y) = unclaimed(&registry, name, Place::Vacant, by);
            second.claim();
            assert!(ask_y.finds_a_binary());
            let second = second.claimed.take().unwrap();
            (Some(Tell { first, second }), (ask_x, ask_y))
        });
    }

    #[test]
    fn by_key_of_a_first_claim() {
        seeing_the_release_implies_seeing_the_claim("new, by key", (Place::New, By::Key), By::Key);
    }

    #[test]
    fn by_key_of_a_change() {
        seeing_the_release_implies_seeing_the_claim(
            "vacant, by key",
            (Place::Vacant, By::Key),
            By::Key,
        );
    }

    #[test]
    fn by_route_of_a_first_claim() {
        seeing_the_release_implies_seeing_the_claim(
            "new by key, by route",
            (Place::New, By::Key),
            By::Route,
        );
    }

    #[test]
    fn by_routes_of_a_change() {
        seeing_the_release_implies_seeing_the_claim(
            "vacant, by route",
            (Place::Vacant, By::Route),
            By::Route,
        );
    }
}

mod bookkeeping {
    use super::*;

    /// If the thread that began the grace did not see the claim made before the expiry, then the grace began
    /// before the expiry.
    #[test]
    fn an_expiry_ends_a_grace_that_began_before_it() {
        let litmus = Litmus {
            name: "bookkeeping, grace and expire".to_owned(),
            one: |(claim, ask): &mut (Option<Claim<Wire>>, Ask)| {
                assert!(claim.take().unwrap().release_after(Duration::ZERO));
                ask.finds_a_binary()
            },
            other: |(claim, x): &mut (ToClaim, String)| {
                claim.claim();
                let out = claim.registry.expire(at(60));
                out.iter().any(|out| *out.server_id == **x)
            },
            outcome: |finds, expires| (finds, expires),
            forbidden: (false, false),
            raced: [(false, true), (true, false)],
        };
        let registry = Registry::<Wire>::builder().build();
        litmus.must_hold(|round| {
            let (mut x, _) = unclaimed(&registry, format_args!("{round}x"), Place::New, By::Key);
            x.claim();
            let name = format_args!("{round}y");
            let (claim_y, ask_y) = unclaimed(&registry, name, Place::Vacant, By::Route);
            ((x.claimed.take(), ask_y), (claim_y, x.server_id))
        });
    }

    /// If the thread that made the first claim did not see the claim made before the second, then the first
    /// claim came before the second.
    #[test]
    fn a_later_claim_has_a_larger_epoch() {
        let litmus = Litmus {
            name: "bookkeeping, epochs".to_owned(),
            one: |(x, ask): &mut (ToClaim, Ask)| {
                let epoch = x.claim().epoch();
                (ask.finds_a_binary(), epoch)
            },
            other: |(y, z): &mut (ToClaim, ToClaim)| {
                y.claim();
                z.claim().epoch()
            },
            outcome: |(finds, earlier), later| (finds, earlier < later),
            forbidden: (false, false),
            raced: [(false, true), (true, false)],
        };
        let registry = Registry::<Wire>::builder().build();
        litmus.must_hold(|round| {
            let unclaimed =
                |name, place, by| unclaimed(&registry, format_args!("{round}{name}"), place, by);
            let (x, _) = unclaimed("x", Place::Vacant, By::Key);
            let (y, ask_y) = unclaimed("y", Place::Vacant, By::Route);
            let (z, _) = unclaimed("z", Place::Vacant, By::Key);
            ((x, ask_y), (y, z))
        });
    }
}

/// Store buffering on atomics without ordering.
#[test]
fn the_control_sees_the_forbidden_outcome() {
    type Flags = Arc<[CachePadded<AtomicBool>; 2]>;
    fn raise_and_look(flags: &Flags, me: usize) -> bool {
        flags[me].store(true, Ordering::Relaxed);
        flags[1 - me].load(Ordering::Relaxed)
    }

    let litmus = Litmus {
        name: "control, relaxed atomics".to_owned(),
        one: |flags: &mut Flags| raise_and_look(flags, 0),
        other: |flags: &mut Flags| raise_and_look(flags, 1),
        outcome: |one_sees, other_sees| (one_sees, other_sees),
        forbidden: (false, false),
        raced: [(false, true), (true, false)],
    };
    let tally = litmus.run(|_| {
        let flags = Flags::default();
        (Arc::clone(&flags), flags)
    });
    if rounds().is_some() {
        assert_ne!(
            tally.of(litmus.forbidden),
            0,
            "the forbidden outcome never occurred: this machine shows nothing"
        );
    }
}
