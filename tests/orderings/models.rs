//! The ordered steps of the files that `the_sources` leaves out. Each step is a loom access with the ordering
//! of the source. A cell is an `AtomicUsize`; `SWAP` and `LOAD` are what remains of arc-swap's `SeqCst` under
//! loom.

use real_std::sync::Arc;

use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use loom::thread;

use Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

/// arc-swap 1.9.5, `HybridStrategy`: `compare_and_swap` exchanges with `SeqCst`.
const SWAP: Ordering = AcqRel;
/// Likewise: `attempt` and `fallback` load with `SeqCst`.
const LOAD: Ordering = Acquire;
/// `Ledger::grace_of`.
pub(crate) const DRAW_OF_ARMING: Ordering = SeqCst;
/// `Ledger::armings`.
pub(crate) const READ_OF_ARMING: Ordering = SeqCst;
/// `Membership::record`, both the load and the store.
pub(crate) const SEEN: Ordering = Relaxed;

/// Runs a model with fresh shared memory in every execution.
fn explore<T: Default + Send + Sync + 'static>(model: impl Fn(&Arc<T>) + Send + Sync + 'static) {
    loom::model(move || model(&Arc::new(T::default())));
}

/// Spawns a thread with access to the shared memory.
fn spawn_with<T: Send + Sync + 'static, R: 'static>(
    shared: &Arc<T>,
    run: impl FnOnce(&T) -> R + 'static,
) -> thread::JoinHandle<R> {
    let shared = Arc::clone(shared);
    thread::spawn(move || run(&shared))
}

mod a_grace_that_begins_after_an_expiry {
    use super::*;

    #[derive(Default)]
    struct Registry {
        armings: AtomicU64,
        cell: AtomicUsize,
    }

    const OUT: usize = 1;

    #[derive(Clone, Copy)]
    struct Steps {
        swap: Ordering,
        load: Ordering,
        reads_before_it_swaps: bool,
        draws_after_it_loads: bool,
    }

    const RIGHT: Steps = Steps {
        swap: SWAP,
        load: LOAD,
        reads_before_it_swaps: true,
        draws_after_it_loads: true,
    };

    /// `Registry::expire` reads `Ledger::armings` and then hands a server-id out. A thread that claims it
    /// again and begins a grace (`Slot::begin_grace`) has already loaded a later record when it draws its
    /// number (`Ledger::grace_of`).
    ///
    /// A load stands for the draw. Loom shows a read-modify-write only the newest value. The language
    /// promises for it what it promises for a load: it reads nothing older than what is already known.
    fn draws_a_number_that_expire_did_not_read(steps: Steps) {
        explore(move |registry: &Arc<Registry>| {
            let other_arming = spawn_with(registry, |registry| {
                registry.armings.fetch_add(1, DRAW_OF_ARMING);
            });
            let expire = spawn_with(registry, move |registry| {
                let read = || registry.armings.load(READ_OF_ARMING);
                let swap = || registry.cell.swap(OUT, steps.swap);
                if steps.reads_before_it_swaps {
                    let newer = read();
                    swap();
                    newer
                } else {
                    swap();
                    read()
                }
            });
            let load = || registry.cell.load(steps.load);
            let draw = || registry.armings.load(DRAW_OF_ARMING);
            let (record, number) = if steps.draws_after_it_loads {
                let record = load();
                (record, draw())
            } else {
                let number = draw();
                (load(), number)
            };
            let newer = expire.join().unwrap();
            assert!(record != OUT || number >= newer, "handed out twice");
            other_arming.join().unwrap();
        });
    }

    #[test]
    fn is_new_to_it() {
        draws_a_number_that_expire_did_not_read(RIGHT);
    }

    #[test]
    #[should_panic(expected = "handed out twice")]
    fn needs_a_swap_that_releases() {
        draws_a_number_that_expire_did_not_read(Steps {
            swap: Relaxed,
            ..RIGHT
        });
    }

    #[test]
    #[should_panic(expected = "handed out twice")]
    fn needs_a_load_that_acquires() {
        draws_a_number_that_expire_did_not_read(Steps {
            load: Relaxed,
            ..RIGHT
        });
    }

    #[test]
    #[should_panic(expected = "handed out twice")]
    fn needs_a_number_that_is_read_before_the_swap() {
        draws_a_number_that_expire_did_not_read(Steps {
            reads_before_it_swaps: false,
            ..RIGHT
        });
    }

    #[test]
    #[should_panic(expected = "handed out twice")]
    fn needs_a_draw_after_the_load() {
        draws_a_number_that_expire_did_not_read(Steps {
            draws_after_it_loads: false,
            ..RIGHT
        });
    }
}

mod a_grace_that_began_before_an_expiry {
    use super::*;

    #[derive(Default)]
    struct Registry {
        armings: AtomicU64,
        returned: AtomicU64,
        other_cell: AtomicUsize,
    }

    /// The caller of `Registry::expire` has seen `Slot::begin_grace` return.
    fn that_was_seen_to_begin(seen_by: Ordering) {
        explore(move |registry: &Arc<Registry>| {
            let arm = spawn_with(registry, |registry| {
                let number = registry.armings.fetch_add(1, DRAW_OF_ARMING);
                registry.returned.store(number + 1, Release);
            });
            let returned = registry.returned.load(seen_by);
            let newer = registry.armings.load(READ_OF_ARMING);
            assert!(returned <= newer, "an old grace was taken for a new one");
            arm.join().unwrap();
        });
    }

    #[test]
    fn is_old_to_a_thread_that_has_seen_it_begin() {
        that_was_seen_to_begin(Acquire);
    }

    #[test]
    #[should_panic(expected = "an old grace was taken for a new one")]
    fn may_be_new_to_others() {
        that_was_seen_to_begin(Relaxed);
    }

    /// One thread arms a grace and then looks at another server-id. The other thread changes that server-id
    /// and then expires. If the first thread has not seen the change, then the grace began before the call to
    /// `expire`.
    ///
    /// All four accesses are `SeqCst`. Loom treats them as weaker, so fences stand in for that.
    fn that_must_have_begun(are_in_one_order: bool) {
        explore(move |registry: &Arc<Registry>| {
            let arm = spawn_with(registry, move |registry| {
                let number = registry.armings.fetch_add(1, Relaxed);
                if are_in_one_order {
                    fence(SeqCst);
                }
                (number, registry.other_cell.load(LOAD))
            });
            registry.other_cell.swap(1, SWAP);
            if are_in_one_order {
                fence(SeqCst);
            }
            let newer = registry.armings.load(Relaxed);
            let (number, other_cell) = arm.join().unwrap();
            assert!(
                other_cell == 1 || number < newer,
                "an old grace was taken for a new one"
            );
        });
    }

    #[test]
    fn is_old_even_if_only_another_server_id_shows_it() {
        that_must_have_begun(true);
    }

    /// The language allows this, and ARM may do it. On x86 the swap is a locked instruction, which no later
    /// load overtakes.
    #[test]
    #[should_panic(expected = "an old grace was taken for a new one")]
    fn may_be_new_if_the_numbers_are_drawn_and_read_in_no_order() {
        that_must_have_begun(false);
    }
}

mod a_grace_that_is_rearmed_during_a_scan {
    use super::*;

    #[derive(Default)]
    struct Queue {
        scans: AtomicUsize,
        new_entry: AtomicBool,
    }

    /// `Deadlines::supersede` runs after the new entry has been inserted, and removes the old one if no scan
    /// is running. `Expiry::new` announces the scan, then pins and searches. All but the search are `SeqCst`,
    /// and a pin is a fence.
    fn has_an_entry_that_is_found(are_in_one_order: bool) {
        explore(move |queue: &Arc<Queue>| {
            let arm = spawn_with(queue, move |queue| {
                queue.new_entry.store(true, Release);
                if are_in_one_order {
                    fence(SeqCst);
                }
                queue.scans.load(Acquire) > 0
            });
            queue.scans.fetch_add(1, AcqRel);
            if are_in_one_order {
                fence(SeqCst);
            }
            let met = queue.new_entry.load(Acquire);
            let old_entry_stays = arm.join().unwrap();
            assert!(met || old_entry_stays, "the scan finds neither entry");
        });
    }

    #[test]
    fn has_an_entry_that_the_scan_finds() {
        has_an_entry_that_is_found(true);
    }

    #[test]
    #[should_panic(expected = "the scan finds neither entry")]
    fn needs_one_order_of_entries_and_scans() {
        has_an_entry_that_is_found(false);
    }
}

mod a_wait_that_begins_during_a_change {
    use super::*;

    #[derive(Default)]
    struct Registry {
        audience: AtomicUsize,
        cell: AtomicUsize,
    }

    /// `Audience::join` counts whoever waits or listens, and then they look at the cell. A change swaps the
    /// cell, or inserts a slot and passes a fence, and then looks at the audience (`Ledger::announce`).
    ///
    /// The swap and the load of the audience are `SeqCst`. Loom treats them as weaker, so a fence stands in for
    /// that.
    fn sees_the_change_or_is_seen_by_it(fence_of_join: bool, order_of_change: bool) {
        explore(move |registry: &Arc<Registry>| {
            let wait = spawn_with(registry, move |registry| {
                registry.audience.fetch_add(1, AcqRel);
                if fence_of_join {
                    fence(SeqCst);
                }
                registry.cell.load(LOAD) == 1
            });
            registry.cell.swap(1, SWAP);
            if order_of_change {
                fence(SeqCst);
            }
            let wakes = registry.audience.load(Acquire) > 0;
            let has_seen = wait.join().unwrap();
            assert!(wakes || has_seen, "it waits for a change that was made");
        });
    }

    #[test]
    fn misses_nothing() {
        sees_the_change_or_is_seen_by_it(true, true);
    }

    #[test]
    #[should_panic(expected = "it waits for a change that was made")]
    fn needs_the_fence_of_those_who_join() {
        sees_the_change_or_is_seen_by_it(false, true);
    }

    #[test]
    #[should_panic(expected = "it waits for a change that was made")]
    fn needs_one_order_of_the_swap_and_the_look_at_the_audience() {
        sees_the_change_or_is_seen_by_it(true, false);
    }
}

mod a_grace_that_is_seen {
    use super::*;

    #[derive(Default)]
    struct Registry {
        deadline: AtomicBool,
        cell: AtomicUsize,
    }

    const GRACE: usize = 1;

    /// `Slot::begin_grace` inserts the deadline, then swaps the grace into the record. The insertion is
    /// `Relaxed` here, weaker than the skip list's, so that only the cell orders what is seen.
    fn has_its_deadline(swap: Ordering, load: Ordering, inserted_first: bool) {
        explore(move |registry: &Arc<Registry>| {
            let arm = spawn_with(registry, move |registry| {
                if inserted_first {
                    registry.deadline.store(true, Relaxed);
                }
                registry.cell.swap(GRACE, swap);
                if !inserted_first {
                    registry.deadline.store(true, Relaxed);
                }
            });
            if registry.cell.load(load) == GRACE {
                assert!(registry.deadline.load(Relaxed), "a grace without end");
            }
            arm.join().unwrap();
        });
    }

    #[test]
    fn has_its_deadline_in_the_queue() {
        has_its_deadline(SWAP, LOAD, true);
    }

    #[test]
    #[should_panic(expected = "a grace without end")]
    fn needs_a_swap_that_releases() {
        has_its_deadline(Relaxed, LOAD, true);
    }

    #[test]
    #[should_panic(expected = "a grace without end")]
    fn needs_a_load_that_acquires() {
        has_its_deadline(SWAP, Relaxed, true);
    }

    #[test]
    #[should_panic(expected = "a grace without end")]
    fn needs_an_insertion_before_the_swap() {
        has_its_deadline(SWAP, LOAD, false);
    }
}

mod a_slot_that_is_found {
    use super::*;

    #[derive(Default)]
    struct Index {
        cell: AtomicUsize,
        entry: AtomicUsize,
    }

    /// `Slot::new` fills the cell and `Set::insert` publishes the slot. papaya 0.2.5 exchanges the entry in
    /// `insert_at` and loads it in `get`, both through seize 0.5.1, which makes every ordering `SeqCst`.
    fn has_its_cell_filled(insert: Ordering, find: Ordering) {
        explore(move |index: &Arc<Index>| {
            let claim = spawn_with(index, move |index| {
                index.cell.store(1, Relaxed);
                let shown = index.entry.compare_exchange(0, 1, insert, Relaxed);
                assert!(shown.is_ok());
            });
            if index.entry.load(find) == 1 {
                assert_eq!(index.cell.load(Relaxed), 1, "an unfinished slot");
            }
            claim.join().unwrap();
        });
    }

    #[test]
    fn is_finished() {
        has_its_cell_filled(AcqRel, Acquire);
    }

    #[test]
    #[should_panic(expected = "an unfinished slot")]
    fn needs_an_insertion_that_releases() {
        has_its_cell_filled(Relaxed, Acquire);
    }

    #[test]
    #[should_panic(expected = "an unfinished slot")]
    fn needs_a_lookup_that_acquires() {
        has_its_cell_filled(AcqRel, Relaxed);
    }
}

mod two_first_claims_and_lookups {
    use super::*;

    /// papaya's table, as far as the lookup of an absent key needs it.
    #[derive(Default)]
    struct Index {
        table: AtomicUsize,
        metadata: [AtomicUsize; 2],
    }

    /// Two threads each claim a server-id for the first time and then look up the other's. A first claim ends
    /// with papaya's `Release` store of the metadata. A lookup begins with a `SeqCst` load of the table and
    /// then goes by an `Acquire` load of the metadata.
    fn by_key(barrier: bool) {
        explore(move |index: &Arc<Index>| {
            let claim_and_look = move |index: &Index, mine: usize| {
                index.metadata[mine].store(1, Release);
                if barrier {
                    fence(SeqCst);
                }
                index.table.load(SeqCst);
                index.metadata[1 - mine].load(Acquire) == 1
            };
            let other = spawn_with(index, move |index| claim_and_look(index, 1));
            let one_sees = claim_and_look(index, 0);
            let other_sees = other.join().unwrap();
            assert!(one_sees || other_sees, "neither saw the other's claim");
        });
    }

    /// The barrier is not in the sources. It stands for the ordering between the instructions to which the
    /// accesses between the store and the load compile. IMPLEMENTATION.md names them.
    #[test]
    fn see_each_other_if_there_is_a_barrier_in_between() {
        by_key(true);
    }

    /// The language alone allows this.
    #[test]
    #[should_panic(expected = "neither saw the other's claim")]
    fn need_not_see_each_other_by_the_language_alone() {
        by_key(false);
    }
}

mod a_membership_that_two_threads_share {
    use super::*;

    #[derive(Default)]
    struct Slot {
        cell: AtomicUsize,
        seen: AtomicU64,
    }

    /// The count of removals, and whether the phone is registered. A sibling is removed first, then the
    /// phone.
    type Records = [(u64, bool); 3];
    const COUNTED: Records = [(0, true), (1, true), (2, false)];

    /// `Membership::record`, concurrent with two calls of `Registry::unregister_phone`.
    fn shows_the_present_state(records: Records, remembered_only_if_found: bool) {
        explore(move |slot: &Arc<Slot>| {
            let ask = move |slot: &Slot| {
                let (removals, there) = records[slot.cell.load(LOAD)];
                let mut answer = true;
                if removals != slot.seen.load(SEEN) {
                    answer = there;
                    if answer || !remembered_only_if_found {
                        slot.seen.store(removals, SEEN);
                    }
                }
                assert_eq!(
                    answer, there,
                    "sees a phone that is gone, or misses one that is registered"
                );
            };
            let unregister = spawn_with(slot, |slot| {
                slot.cell.swap(1, SWAP);
                slot.cell.swap(2, SWAP);
            });
            let other = spawn_with(slot, ask);
            ask(slot);
            ask(slot);
            unregister.join().unwrap();
            other.join().unwrap();
        });
    }

    #[test]
    fn shows_both_threads_the_present_state() {
        shows_the_present_state(COUNTED, true);
    }

    #[test]
    #[should_panic(expected = "sees a phone that is gone")]
    fn needs_every_removal_to_be_counted() {
        shows_the_present_state([(0, true), (1, true), (1, false)], true);
    }

    #[test]
    #[should_panic(expected = "sees a phone that is gone")]
    fn must_not_cache_a_count_at_which_the_phone_was_gone() {
        shows_the_present_state(COUNTED, false);
    }
}
