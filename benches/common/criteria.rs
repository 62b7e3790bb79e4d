//! The criterion configuration that all targets share. The report finds a figure by its names: the group
//! names the measurement, and the function is `<peer>/<threads> threads`.

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion};

use super::Filled;
use super::args::Args;
use super::peers::Peer;

pub fn config() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .nresamples(10_000)
        .sample_size(20)
}

pub struct Group<'a> {
    name: String,
    args: Args,
    inner: BenchmarkGroup<'a, WallTime>,
}

impl<'a> Group<'a> {
    pub fn new(c: &'a mut Criterion, name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            args: Args::parse(),
            inner: c.benchmark_group(&name),
            name,
        }
    }

    /// For storms, which are too slow for the usual number of samples.
    pub fn few(mut self) -> Self {
        self.inner.sample_size(10);
        self
    }

    /// Fills a peer before criterion starts its clock, so that criterion does not include the filling in its
    /// plan. Returns `None` if the filter excludes the whole group for this peer.
    pub fn fill<P: Peer>(&self, servers: usize, phones: usize) -> Option<Filled<P>> {
        let wanted = self.args.wants(&format!("{}/{}/", self.name, P::NAME));
        wanted.then(|| Filled::new(servers, phones))
    }

    pub fn bench<P: Peer>(&mut self, threads: usize, run: impl Fn(u64) -> Duration) {
        self.bench_named(P::NAME, threads, run);
    }

    pub fn bench_named(&mut self, name: &str, threads: usize, run: impl Fn(u64) -> Duration) {
        let function = format!("{name}/{threads} threads");
        self.inner
            .bench_function(function, |bencher| bencher.iter_custom(&run));
    }

    pub fn finish(self) {
        self.inner.finish();
    }
}
