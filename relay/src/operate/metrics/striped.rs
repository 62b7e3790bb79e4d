//! Counters that many threads increment at once.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;
use prometheus_client::metrics::counter::{Atomic, Counter};

/// How many stripes a counter has.
const STRIPES: usize = 16;

/// A counter that many threads increment at once.
pub(crate) type Striped = Counter<u64, Stripes>;

#[derive(Debug, Default)]
pub(crate) struct Stripes([CachePadded<AtomicU64>; STRIPES]);

thread_local! {
    static STRIPE: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES
    };
}

impl Atomic<u64> for Stripes {
    fn inc(&self) -> u64 {
        self.inc_by(1)
    }

    fn inc_by(&self, by: u64) -> u64 {
        let stripe = STRIPE.with(|stripe| *stripe);
        self.0[stripe].fetch_add(by, Ordering::Relaxed)
    }

    fn get(&self) -> u64 {
        self.0.iter().map(|it| it.load(Ordering::Relaxed)).sum()
    }
}
