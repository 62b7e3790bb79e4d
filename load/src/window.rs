//! The clock of a run, and the window of time that counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// All times are nanoseconds since the program started, and never 0.
pub(crate) struct Window {
    base: Instant,
    /// Both are in the far future until the traffic begins.
    from: AtomicU64,
    to: AtomicU64,
}

impl Window {
    pub(crate) fn new() -> Self {
        Self {
            base: Instant::now(),
            from: AtomicU64::new(u64::MAX),
            to: AtomicU64::new(u64::MAX),
        }
    }

    pub(crate) fn now(&self) -> u64 {
        nanos(self.base.elapsed()).max(1)
    }

    pub(crate) fn instant(&self, time: u64) -> Instant {
        self.base + Duration::from_nanos(time)
    }

    /// Starts the traffic now and the window after the warmup.
    pub(crate) fn open(&self, warmup: Duration, duration: Duration) {
        let from = self.now().saturating_add(nanos(warmup));
        self.from.store(from, Ordering::Relaxed);
        let to = from.saturating_add(nanos(duration));
        self.to.store(to, Ordering::Relaxed);
    }

    /// Ends the window now.
    pub(crate) fn cut(&self) {
        self.to.fetch_min(self.now(), Ordering::Relaxed);
    }

    pub(crate) fn from(&self) -> u64 {
        self.from.load(Ordering::Relaxed)
    }

    pub(crate) fn to(&self) -> u64 {
        self.to.load(Ordering::Relaxed)
    }

    pub(crate) fn counts(&self, time: u64) -> bool {
        (self.from()..self.to()).contains(&time)
    }

    pub(crate) fn length(&self) -> Duration {
        Duration::from_nanos(self.to().saturating_sub(self.from()))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_times_between_warmup_and_end_count() {
        let window = Window::new();
        assert!(!window.counts(window.now()));
        window.open(Duration::from_secs(1), Duration::from_secs(2));
        let (from, to) = (window.from(), window.to());
        assert_eq!(to - from, 2_000_000_000);
        assert_eq!(
            [from - 1, from, to - 1, to].map(|time| window.counts(time)),
            [false, true, true, false]
        );
        window.cut();
        assert_eq!(window.length(), Duration::ZERO);
        assert!(!window.counts(from));
    }
}
