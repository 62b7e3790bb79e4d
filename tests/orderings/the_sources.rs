//! The crate's own files, compiled with loom's atomics.

use real_std::sync::Arc;

use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use loom::thread;

use crate::stand_ins::{Without, explore};
use crate::state::record::{Record, Tenure};
use crate::state::shared::Shared;
use crate::store::cell::{Cached, Cell, HasCell};
use crate::store::counts::{Change, Counts, StripedCounts};
use crate::store::epochs;

impl HasCell for Arc<Cell<u32>> {
    type Value = u32;

    fn cell(&self) -> &Cell<u32> {
        self
    }
}

/// Two threads each change one server-id and then read the other through a route (`Cached::load`). No
/// sequential order explains both missing the other's change.
fn changes_then_reads_a_route(without: Without) {
    fn change_and_ask(mine: &Cell<u32>, others: &mut Cached<Arc<Cell<u32>>>) -> bool {
        let before = mine.load().into_counted().unwrap();
        let next = Shared::new(1);
        assert!(mine.compare_and_swap(&before, Some(next)).is_ok());
        **others.load().unwrap() == 1
    }

    explore(without, || {
        let (x, y) = (Arc::new(Cell::new(0)), Arc::new(Cell::new(0)));
        let (mut to_x, mut to_y) = (Cached::new(Arc::clone(&x)), Cached::new(Arc::clone(&y)));
        let other = thread::spawn(move || change_and_ask(&y, &mut to_x));
        let one_sees = change_and_ask(&x, &mut to_y);
        let other_sees = other.join().unwrap();
        assert!(one_sees || other_sees, "neither saw the other's change");
    });
}

#[test]
fn of_two_threads_that_change_and_then_read_a_route_one_sees_the_others_change() {
    changes_then_reads_a_route(Without::Nothing);
}

#[test]
#[should_panic(expected = "neither saw the other's change")]
fn without_its_fence_a_route_misses_changes() {
    changes_then_reads_a_route(Without::Fences);
}

/// A change of the counts; `before` and `after` are `(binaries, phones)`. A server-id without either has no
/// record.
fn change(before: (bool, usize), after: (bool, usize)) -> Change {
    let record = |(held, phones)| {
        (held || phones > 0).then(|| Record::<()> {
            tenure: tenure_if_held(held),
            phones: vec![(); phones],
            ..Record::default()
        })
    };
    Change::between(record(before).as_ref(), record(after).as_ref())
}

fn tenure_if_held(held: bool) -> Option<Tenure> {
    held.then(Tenure::default)
}

fn counts(binaries: usize, phones: usize) -> Counts {
    Counts {
        binaries,
        phones,
        in_grace: 0,
    }
}

/// Touches every counter and the thread numbers before any other thread does.
fn one_binary() -> Arc<StripedCounts> {
    let all = Arc::new(StripedCounts::new());
    assert_eq!(all.sum(), counts(0, 0));
    all.add(change((false, 0), (true, 0)));
    all
}

/// One thread counts and returns. A thread that has seen it return must find the call counted.
fn counts_and_returns(seen_by: Ordering, counted_first: bool) {
    explore(Without::Nothing, move || {
        let all = one_binary();
        let returned = Arc::new(AtomicBool::new(false));
        let other = thread::spawn({
            let (all, returned) = (Arc::clone(&all), Arc::clone(&returned));
            move || {
                if counted_first {
                    all.add(change((true, 0), (true, 1)));
                }
                returned.store(true, Ordering::Release);
                if !counted_first {
                    all.add(change((true, 0), (true, 1)));
                }
            }
        });
        if returned.load(seen_by) {
            assert_eq!(
                all.sum(),
                counts(1, 1),
                "a call that has returned is not counted"
            );
        }
        other.join().unwrap();
        assert_eq!(all.sum(), counts(1, 1));
    });
}

#[test]
fn a_thread_that_saw_a_call_return_finds_it_counted() {
    counts_and_returns(Ordering::Acquire, true);
}

#[test]
#[should_panic(expected = "a call that has returned is not counted")]
fn a_thread_that_did_not_synchronize_with_a_return_may_miss_it() {
    counts_and_returns(Ordering::Relaxed, true);
}

#[test]
#[should_panic(expected = "a call that has returned is not counted")]
fn a_call_that_returns_before_it_counts_is_missed() {
    counts_and_returns(Ordering::Acquire, false);
}

/// Two threads count on different stripes and the main thread on one of those; it also reads the sum
/// meanwhile. The phone arrives on one stripe and leaves on another.
fn counts_while_others_count(without: Without) {
    explore(without, || {
        let all = one_binary();
        let count = |change| {
            let all = Arc::clone(&all);
            thread::spawn(move || all.add(change))
        };
        let (here, there) = (
            count(change((true, 0), (true, 1))),
            count(change((true, 1), (true, 0))),
        );
        let meanwhile = all.sum();
        assert!(meanwhile.binaries == 1 && meanwhile.phones <= 1);
        // On the stripe of `there`.
        all.add(change((true, 0), (true, 1)));
        here.join().unwrap();
        there.join().unwrap();
        assert_eq!(all.sum(), counts(1, 1), "the counts are not exact at rest");
        assert_eq!(
            all.servers(),
            1,
            "the number of server-ids is not exact at rest"
        );
    });
}

#[test]
fn counts_are_exact_once_all_have_returned() {
    counts_while_others_count(Without::Nothing);
}

#[test]
#[should_panic(expected = "the counts are not exact at rest")]
fn counts_updated_by_load_and_store_lose_changes() {
    counts_while_others_count(Without::AtomicUpdates);
}

/// Two claims. The second draws its epoch after it has seen the first return, or at the same time.
fn draws_of_epochs(without: Without) {
    explore(without, || {
        // The first draw of the execution.
        let first = epochs::draw();
        let returned = Arc::new(AtomicU64::new(0));
        let other = thread::spawn({
            let returned = Arc::clone(&returned);
            move || {
                let drawn = epochs::draw();
                returned.store(drawn.get(), Ordering::Release);
                drawn
            }
        });
        let before = returned.load(Ordering::Acquire);
        let drawn = epochs::draw();
        assert!(
            first < drawn && before < drawn.get(),
            "a later claim has a smaller epoch"
        );
        assert_ne!(other.join().unwrap(), drawn, "an epoch was drawn twice");
    });
}

#[test]
fn a_later_claim_has_a_larger_epoch_and_none_repeats() {
    draws_of_epochs(Without::Nothing);
}

#[test]
#[should_panic(expected = "an epoch was drawn twice")]
fn an_epoch_drawn_by_load_and_store_repeats() {
    draws_of_epochs(Without::AtomicUpdates);
}
