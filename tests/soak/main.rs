//! A soak: all kinds of calls at once on one registry, beside a second one that is made and dropped again and again.
//! Resident memory must stay flat, and nothing may be left at the end.
//!
//! A plain run is short and does not judge memory. `SWITCHBOARD_SOAK_SECONDS` asks for a longer one,
//! `SWITCHBOARD_SOAK_SEED` for the seed of an earlier one. The threads are real, so a seed repeats the calls of each
//! thread, not how they interleave.

#[path = "../common/mod.rs"]
mod common;
mod jobs;
mod memory;

use std::env;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{assert_at_rest, at, seconds};
use jobs::{JOBS, Soak};
use memory::{Line, resident_kib};
use switchboard::Counts;

/// A shorter run judges no memory: its warm-up is too short.
const JUDGED_FROM: u64 = 30;

/// Samples of one run, whatever its length. The first third of them is the warm-up.
const SAMPLES: u32 = 600;
const WARM_UP: usize = SAMPLES as usize / 3;

/// The growth that the noise of the allocator can feign. Of the runs without a bug none came near it.
const MAX_GROWTH_KIB: f64 = 4096.0;

fn number(variable: &str) -> Option<u64> {
    Some(env::var(variable).ok()?.parse().unwrap())
}

fn any_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::from(now.subsec_nanos())
}

/// Samples resident memory for that long. The samples fit in what is allocated beforehand.
fn watch(soak: &Soak, run: Duration) -> Vec<(f64, f64)> {
    let mut samples = Vec::with_capacity(SAMPLES as usize);
    let begun = std::time::Instant::now();
    for sample in 1..=SAMPLES {
        let next = begun + run * sample / SAMPLES;
        thread::sleep(next.saturating_duration_since(std::time::Instant::now()));
        if soak.is_over() {
            break;
        }
        if let Some(kib) = resident_kib() {
            samples.push((begun.elapsed().as_secs_f64(), kib));
        }
        if sample as usize == WARM_UP {
            soak.turns_of_warm_up();
        }
    }
    soak.end();
    samples
}

#[test]
fn memory_stays_flat_and_nothing_is_left_however_long_everything_runs_at_once() {
    let run = number("SWITCHBOARD_SOAK_SECONDS").unwrap_or(2);
    let seed = number("SWITCHBOARD_SOAK_SEED").unwrap_or_else(any_seed);
    println!("SWITCHBOARD_SOAK_SECONDS={run} SWITCHBOARD_SOAK_SEED={seed}");
    // Somebody else's, all the time: it must hold up nothing of the registry's.
    let pinned = crossbeam_epoch::pin();
    let soak = Soak::new(seed);
    let samples = thread::scope(|scope| {
        let (guards, to_drop) = sync_channel(64);
        let (snapshots, to_keep) = sync_channel(64);
        let dropping = scope.spawn(|| soak.drop_elsewhere(to_drop));
        let keeping = scope.spawn(|| soak.keep_for_a_while(to_keep));
        let mut threads: Vec<_> = JOBS
            .iter()
            .enumerate()
            .map(|(number, (_, job))| {
                let hands = jobs::Hands {
                    guards: guards.clone(),
                    snapshots: snapshots.clone(),
                };
                let soak = &soak;
                scope.spawn(move || soak.repeat(number, *job, &hands))
            })
            .collect();
        drop((guards, snapshots));
        let samples = watch(&soak, seconds(run));
        threads.extend([dropping, keeping]);
        // Joined one by one: a scope does not wait for the destructors of thread-locals.
        for thread in threads {
            thread.join().unwrap();
        }
        samples
    });
    drop(pinned);

    let registry = &soak.registry;
    assert_at_rest(registry);
    drop(registry.expire(at(3600)));
    assert_eq!(
        registry.next_deadline(),
        None,
        "a grace outlasts all deadlines"
    );
    drop(registry.drain());
    assert_eq!(registry.counts(), Counts::default());
    assert_eq!(registry.servers().count(), 0);
    assert_eq!(soak.living.count(), 0, "connections are still referred to");

    soak.report();
    let missing = soak.missing();
    assert!(
        run < JUDGED_FROM || missing.is_empty(),
        "{missing:?}: the load has come to rest"
    );
    if samples.is_empty() {
        return println!("!!! MEMORY NOT CHECKED: there is no /proc/self/status");
    }
    let window = samples.get(WARM_UP..).unwrap_or_default();
    let turns = soak.turns_since_warm_up();
    let line = Line::through(window);
    println!("{line}, {:.3} bytes a turn", line.growth() * 1024.0 / turns);
    if run < JUDGED_FROM {
        return println!("!!! MEMORY NOT CHECKED: {run} s are less than {JUDGED_FROM}");
    }
    assert!(
        line.growth() < MAX_GROWTH_KIB,
        "resident memory grows: {line}"
    );
}
