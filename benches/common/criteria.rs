//! Criterion as every target uses it. The report finds a figure by these names:
//! the group says what is measured, the function is `<peer>/<threads> threads`.

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion};

use super::peers::Peer;

pub type Group<'a> = BenchmarkGroup<'a, WallTime>;

pub fn config() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .nresamples(10_000)
        .sample_size(20)
}

pub fn bench<P: Peer>(group: &mut Group<'_>, threads: usize, run: impl Fn(u64) -> Duration) {
    group.bench_function(format!("{}/{threads} threads", P::NAME), |bencher| {
        bencher.iter_custom(&run);
    });
}
