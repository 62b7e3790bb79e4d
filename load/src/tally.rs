//! The counters: frames and their latencies, connections, and errors by kind.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use crossbeam_utils::CachePadded;
use hdrhistogram::Histogram;
use parking_lot::Mutex;

use crate::window::Window;

/// More shards than threads, so that threads seldom contend.
const SHARDS: usize = 16;

/// Latencies above a minute count as a minute.
const LONGEST_NANOS: u64 = 60_000_000_000;

/// Arrivals and their latencies.
pub(crate) struct Counts {
    pub(crate) ordered: u64,
    /// Including those outside the window.
    pub(crate) arrived: u64,
    /// Arrived within the window.
    pub(crate) arrived_in_window: u64,
    /// Of those due within the window.
    pub(crate) latency: Histogram<u64>,
}

impl Counts {
    fn new() -> Self {
        Self {
            ordered: 0,
            arrived: 0,
            arrived_in_window: 0,
            latency: histogram(),
        }
    }

    fn add(&mut self, other: &Self) {
        self.ordered += other.ordered;
        self.arrived += other.arrived;
        self.arrived_in_window += other.arrived_in_window;
        let added = self.latency.add(&other.latency);
        added.expect("both have the same range");
    }
}

/// A histogram of nanoseconds.
pub(crate) fn histogram() -> Histogram<u64> {
    let histogram = Histogram::new_with_max(LONGEST_NANOS, 3);
    histogram.expect("three digits up to a minute are a valid histogram")
}

pub(crate) struct Tally {
    shards: [CachePadded<Mutex<Counts>>; SHARDS],
    errors: Mutex<BTreeMap<String, u64>>,
    /// Slow phones dropped by the relay, as reported to their binaries.
    dropped: AtomicU32,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| CachePadded::new(Mutex::new(Counts::new()))),
            errors: Mutex::default(),
            dropped: AtomicU32::new(0),
        }
    }

    fn shard(&self, key: u32) -> &Mutex<Counts> {
        &self.shards[key as usize % SHARDS]
    }

    pub(crate) fn ordered(&self, key: u32) {
        self.shard(key).lock().ordered += 1;
    }

    /// Counts a frame or connection that was due at `due` and arrived at `now`.
    pub(crate) fn arrived(&self, key: u32, due: u64, now: u64, window: &Window) {
        let mut counts = self.shard(key).lock();
        counts.arrived += 1;
        if window.counts(now) {
            counts.arrived_in_window += 1;
        }
        if window.counts(due) {
            counts.latency.saturating_record(now.saturating_sub(due));
        }
    }

    pub(crate) fn slow_phone_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn slow_phones_dropped(&self) -> u32 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn error(&self, kind: impl Into<String>) {
        *self.errors.lock().entry(kind.into()).or_default() += 1;
    }

    pub(crate) fn errors(&self) -> BTreeMap<String, u64> {
        self.errors.lock().clone()
    }

    /// The sum of all shards.
    pub(crate) fn counts(&self) -> Counts {
        let mut all = Counts::new();
        for shard in &self.shards {
            all.add(&shard.lock());
        }
        all
    }

    /// The number of frames ordered, and of those that have arrived.
    pub(crate) fn progress(&self) -> (u64, u64) {
        let counts = self.shards.iter().map(|shard| {
            let counts = shard.lock();
            (counts.ordered, counts.arrived)
        });
        counts.fold((0, 0), |(ordered, arrived), (more, there)| {
            (ordered + more, arrived + there)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn latency_counts_by_due_time_and_throughput_by_arrival_time() {
        let (tally, window) = (Tally::new(), Window::new());
        window.open(Duration::from_secs(1), Duration::from_secs(1));
        let (from, to) = (window.from(), window.to());
        for (key, due, now) in [
            (0, from - 9, from + 1),
            (1, from, from + 5),
            (17, to - 1, to + 9),
        ] {
            tally.ordered(key);
            tally.arrived(key, due, now, &window);
        }
        let counts = tally.counts();
        assert_eq!(
            (counts.ordered, counts.arrived, counts.arrived_in_window),
            (3, 3, 2)
        );
        assert_eq!(counts.latency.len(), 2);
        assert_eq!((counts.latency.min(), counts.latency.max()), (5, 10));
        assert_eq!(tally.progress(), (3, 3));
    }

    #[test]
    fn a_latency_beyond_the_range_counts_as_the_longest() {
        let (tally, window) = (Tally::new(), Window::new());
        window.open(Duration::ZERO, Duration::from_secs(1000));
        let due = window.from();
        tally.arrived(0, due, due + 2 * LONGEST_NANOS, &window);
        assert!(tally.counts().latency.max() >= LONGEST_NANOS);
    }

    #[test]
    fn errors_are_counted_by_kind() {
        let tally = Tally::new();
        for kind in ["a", "b", "a"] {
            tally.error(kind);
        }
        assert_eq!(
            tally.errors(),
            BTreeMap::from([("a".to_owned(), 2), ("b".to_owned(), 1)])
        );
    }
}
