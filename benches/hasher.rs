//! Keyed hashers for server-ids. The default hasher was chosen by these figures.
#![allow(missing_docs)]

use std::hash::{BuildHasher, Hasher, RandomState};
use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use switchboard::DefaultHashBuilder;

fn bench<S: BuildHasher>(c: &mut Criterion, name: &str, hasher: &S) {
    let mut group = c.benchmark_group("hash of a server-id");
    for length in [8, 23, 36, 64, 256] {
        let id = "x".repeat(length);
        group.bench_with_input(BenchmarkId::new(name, length), &id, |bencher, id| {
            bencher.iter(|| {
                let mut state = hasher.build_hasher();
                state.write(black_box(id).as_bytes());
                state.finish()
            });
        });
    }
    group.finish();
}

fn hashers(c: &mut Criterion) {
    bench(c, "default (foldhash fast)", &DefaultHashBuilder::default());
    bench(
        c,
        "foldhash quality",
        &foldhash::quality::RandomState::default(),
    );
    bench(c, "ahash", &ahash::RandomState::new());
    bench(c, "SipHash-1-3 (std)", &RandomState::new());
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500))
        .sample_size(20);
    targets = hashers
}
criterion_main!(benches);
