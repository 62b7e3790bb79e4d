//! Litmus tests on the registry itself, for machines that forgive less than x86. Run them on an ARM with several cores:
//!
//! ```text
//! cargo test --release --test litmus -- --nocapture
//! SWITCHBOARD_LITMUS_ROUNDS=5000000 cargo test --release --test litmus -- --nocapture
//! ```
//!
//! Round by round, two threads leave a barrier together. There are three patterns:
//!
//! - store buffering: each claims a server-id and then asks for the other one's. That neither finds the other's claim
//!   cannot be explained by calls that come one after the other.
//! - message passing: one claims a server-id and then releases another one, the other thread asks for the second and then
//!   for the first. Whoever finds the release finds the claim.
//! - books: one does something that the registry keeps outside of records, and then asks for a server-id. The other one
//!   claims that, and then looks at the books.
//!
//! Each test prints how often it saw each of four outcomes, and fails where it saw the forbidden one. Whether that means
//! something shows in the others: where the threads have raced, sometimes one was first and sometimes the other one.
//! And `the_control` does the same to two atomics that are `Relaxed`. It has to see the forbidden outcome, on x86
//! too, or this machine and this harness show nothing: one core shows nothing. Both are demanded only where
//! `SWITCHBOARD_LITMUS_ROUNDS` is set, since a short run on a busy machine may be unlucky.

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

/// So many rounds are prepared before they are run.
const BATCH: usize = 500;

/// Where no number of rounds is asked for.
const SHORT: Duration = Duration::from_millis(150);

fn rounds() -> Option<usize> {
    let rounds = std::env::var("SWITCHBOARD_LITMUS_ROUNDS").ok()?;
    Some(rounds.parse().unwrap())
}

/// Two threads meet here again and again.
#[derive(Default)]
struct Meeting([CachePadded<AtomicUsize>; 2]);

impl Meeting {
    /// Waits for the other thread, and then a few nanoseconds, more or less of them from round to round.
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

/// How often each outcome came: the first thread's part of it, then the second one's.
#[derive(Default)]
struct Tally([[usize; 2]; 2]);

impl Tally {
    fn of(&self, outcome: (bool, bool)) -> usize {
        self.0[usize::from(outcome.0)][usize::from(outcome.1)]
    }
}

/// What two threads do, what it comes to, and what must not come.
struct Litmus<A, B, RA, RB> {
    name: String,
    one: fn(&mut A) -> RA,
    other: fn(&mut B) -> RB,
    outcome: fn(RA, RB) -> (bool, bool),
    forbidden: (bool, bool),
    /// Those that show that now the one was first and now the other.
    raced: [(bool, bool); 2],
}

impl<A: Send, B: Send, RA: Send, RB: Send> Litmus<A, B, RA, RB> {
    fn run(&self, mut prepare: impl FnMut(usize) -> (A, B)) -> Tally {
        /// Two tests at a time would be four threads.
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

/// Where a claim takes effect: each is another way of becoming visible.
#[derive(Clone, Copy)]
enum Place {
    /// Nowhere yet: papaya inserts.
    New,
    /// Under a retired slot: papaya replaces.
    Retired,
    /// In a slot that has a phone: arc-swap exchanges the record.
    Vacant,
}

/// How one asks for the binary of a server-id.
#[derive(Clone, Copy)]
enum By {
    Key,
    Membership,
    Route,
}

struct Ask {
    registry: Registry<Wire>,
    server_id: String,
    /// Of the phone that is left there, if one is.
    way: Option<(Membership<Wire>, Route<Wire>)>,
    by: By,
}

impl Ask {
    fn finds_a_binary(&mut self) -> bool {
        match (self.by, &mut self.way) {
            (By::Key, _) => self.registry.binary_for(&self.server_id).is_some(),
            (By::Membership, Some((member, _))) => member.binary().is_some(),
            (By::Route, Some((_, route))) => route.binary().is_some(),
            (_, None) => unreachable!("nobody is registered there"),
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

/// A server-id that can be claimed, and whoever will ask for it.
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
            assert!(route.binary().is_none(), "it remembers nothing older");
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

    /// What one thread claims and how the other one asks for it, for each of the two.
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
    fn of_two_changes_asked_for_by_memberships() {
        let x = (Place::Vacant, By::Membership);
        neither_misses_the_other("vacant, by membership", x, x);
    }

    #[test]
    fn of_two_changes_asked_for_by_routes() {
        let x = (Place::Vacant, By::Route);
        neither_misses_the_other("vacant, by route", x, x);
    }

    #[test]
    fn of_a_first_claim_and_a_change_asked_for_by_a_route() {
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

    /// One claims what the other asks for so, and releases what the other asks for so.
    fn whoever_finds_the_release_finds_the_claim(name: &str, x: (Place, By), by: By) {
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
        whoever_finds_the_release_finds_the_claim("new, by key", (Place::New, By::Key), By::Key);
    }

    #[test]
    fn by_key_of_a_change() {
        whoever_finds_the_release_finds_the_claim(
            "vacant, by key",
            (Place::Vacant, By::Key),
            By::Key,
        );
    }

    #[test]
    fn by_route_of_a_first_claim() {
        whoever_finds_the_release_finds_the_claim(
            "new by key, by route",
            (Place::New, By::Key),
            By::Route,
        );
    }

    #[test]
    fn by_routes_of_a_change() {
        whoever_finds_the_release_finds_the_claim(
            "vacant, by route",
            (Place::Vacant, By::Route),
            By::Route,
        );
    }
}

mod books {
    use super::*;

    /// The grace began before the expiry where whoever began it did not find what was claimed before the expiry.
    #[test]
    fn an_expiry_meets_a_grace_that_began_before_it() {
        let litmus = Litmus {
            name: "books, grace and expire".to_owned(),
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

    /// The one claim came before the other where whoever claimed it did not find what was claimed before the other.
    #[test]
    fn a_later_claim_has_a_larger_epoch() {
        let litmus = Litmus {
            name: "books, epochs".to_owned(),
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

/// Store buffering by atomics that nothing orders.
#[test]
fn the_control_sees_what_is_forbidden() {
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
        assert_ne!(tally.of(litmus.forbidden), 0, "this machine shows nothing");
    }
}
