//! Checks recorded histories of one server-id for linearizability, against the sequential model.
//!
//! The search of Wing and Gong with a memo: linearize one call after the other, each time one that no
//! finished call precedes, and never come twice to the same place. A place is how far each thread has got
//! and what state the model is in.

use std::collections::HashSet;
use std::fmt::{Debug, Write};
use std::hash::Hash;

/// A call, with what it returned, between two ticks of one clock.
#[derive(Clone, Debug)]
pub struct Event<T> {
    pub begun: u64,
    pub ended: u64,
    pub call: T,
}

/// A sequential object. `step` applies a call that returned what it returned, or says that it cannot
/// have.
pub trait Sequential: Clone + Eq + Hash {
    type Call: Clone + Debug;
    fn step(&self, call: &Self::Call) -> Option<Self>;
}

type Place<S> = (Vec<usize>, S);

/// Whether there is an order of all calls that keeps the order of those that did not overlap, and in
/// which the model returns what was returned and ends where `is_final` holds. One history a thread.
pub fn is_linearizable<S: Sequential>(
    start: &S,
    threads: &[Vec<Event<S::Call>>],
    is_final: impl Fn(&S) -> bool,
) -> bool {
    is_explained_until(u64::MAX, start, threads, is_final)
}

/// The same for what had ended by a tick. Calls under way then may have had their effect, or not.
fn is_explained_until<S: Sequential>(
    until: u64,
    start: &S,
    threads: &[Vec<Event<S::Call>>],
    is_final: impl Fn(&S) -> bool,
) -> bool {
    let mut seen: HashSet<Place<S>> = HashSet::new();
    let mut open: Vec<Place<S>> = vec![(vec![0; threads.len()], start.clone())];
    while let Some((done, state)) = open.pop() {
        let next = |thread: usize| threads[thread].get(done[thread]);
        let pending = (0..threads.len()).filter_map(next);
        let first_end = pending.map(|event| event.ended).min();
        let Some(first_end) = first_end.filter(|end| *end <= until) else {
            if is_final(&state) {
                return true;
            }
            continue;
        };
        for thread in 0..threads.len() {
            // Whoever began after another call had ended comes after it.
            let Some(event) = next(thread).filter(|event| event.begun < first_end) else {
                continue;
            };
            if let Some(state) = state.step(&event.call) {
                let mut done = done.clone();
                done[thread] += 1;
                let place = (done, state);
                if seen.insert(place.clone()) {
                    open.push(place);
                }
            }
        }
    }
    false
}

/// What to print of a history that cannot be explained: the last calls until the first tick at which it
/// cannot.
pub fn smallest_window<S: Sequential>(start: &S, threads: &[Vec<Event<S::Call>>]) -> String {
    let mut ends: Vec<_> = threads.iter().flatten().map(|event| event.ended).collect();
    ends.sort_unstable();
    let first_bad = ends.partition_point(|end| is_explained_until(*end, start, threads, |_| true));
    let until = ends.get(first_bad).copied().unwrap_or(u64::MAX);
    let mut window: Vec<_> = threads
        .iter()
        .enumerate()
        .flat_map(|(thread, events)| events.iter().map(move |event| (thread, event)))
        .filter(|(_, event)| event.begun <= until)
        .collect();
    window.sort_by_key(|(_, event)| event.begun);
    let mut text = format!("{} calls, of which the last are", window.len());
    for (thread, Event { begun, ended, call }) in &window[window.len().saturating_sub(20)..] {
        write!(text, "\n  {begun}..{ended} thread {thread}: {call:?}").expect("it is a string");
    }
    text
}
