//! A linearizability checker for recorded histories of one server-id.
//!
//! The algorithm is Wing and Gong's search with memoization. Each step linearizes one call that no finished
//! call precedes. No configuration is visited twice; a configuration is each thread's position in its history
//! plus the state of the model.

use std::collections::HashSet;
use std::fmt::{Debug, Write};
use std::hash::Hash;

/// A call and its result, between two ticks of the shared clock.
#[derive(Clone, Debug)]
pub struct Event<T> {
    pub begun: u64,
    pub ended: u64,
    pub call: T,
}

/// A sequential object. `step` applies a call with its recorded result; it returns `None` if the object could
/// not have returned that result.
pub trait Sequential: Clone + Eq + Hash {
    type Call: Clone + Debug;
    fn step(&self, call: &Self::Call) -> Option<Self>;
}

type Configuration<S> = (Vec<usize>, S);

/// Whether some order of all calls explains the histories, one per thread. The order must keep the real-time
/// order of calls that did not overlap, the model must return the recorded results, and `is_final` must hold
/// for the final state.
pub fn is_linearizable<S: Sequential>(
    start: &S,
    threads: &[Vec<Event<S::Call>>],
    is_final: impl Fn(&S) -> bool,
) -> bool {
    is_linearizable_until(u64::MAX, start, threads, is_final)
}

/// The same check for the calls that ended by the tick `until`. Calls in flight then may or may not have
/// taken effect.
fn is_linearizable_until<S: Sequential>(
    until: u64,
    start: &S,
    threads: &[Vec<Event<S::Call>>],
    is_final: impl Fn(&S) -> bool,
) -> bool {
    let mut seen: HashSet<Configuration<S>> = HashSet::new();
    let mut open: Vec<Configuration<S>> = vec![(vec![0; threads.len()], start.clone())];
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
            // A call that began after another had ended must follow it.
            let Some(event) = next(thread).filter(|event| event.begun < first_end) else {
                continue;
            };
            if let Some(state) = state.step(&event.call) {
                let mut done = done.clone();
                done[thread] += 1;
                let configuration = (done, state);
                if seen.insert(configuration.clone()) {
                    open.push(configuration);
                }
            }
        }
    }
    false
}

/// Renders a history that is not linearizable: the last calls up to the first tick at which no order explains
/// it.
pub fn smallest_window<S: Sequential>(start: &S, threads: &[Vec<Event<S::Call>>]) -> String {
    let mut ends: Vec<_> = threads.iter().flatten().map(|event| event.ended).collect();
    ends.sort_unstable();
    let first_bad =
        ends.partition_point(|end| is_linearizable_until(*end, start, threads, |_| true));
    let until = ends.get(first_bad).copied().unwrap_or(u64::MAX);
    let mut window: Vec<_> = threads
        .iter()
        .enumerate()
        .flat_map(|(thread, events)| events.iter().map(move |event| (thread, event)))
        .filter(|(_, event)| event.begun <= until)
        .collect();
    window.sort_by_key(|(_, event)| event.begun);
    let mut text = format!("{} calls, ending with", window.len());
    for (thread, Event { begun, ended, call }) in &window[window.len().saturating_sub(20)..] {
        write!(text, "\n  {begun}..{ended} thread {thread}: {call:?}").expect("writes to a string");
    }
    text
}
