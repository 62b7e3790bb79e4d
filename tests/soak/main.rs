//! A soak test: every kind of call at once on one registry, while a second one is created and dropped again
//! and again. Resident memory must stay flat, and nothing may be left at the end.
//!
//! By default the run is short and does not judge memory. `SWITCHBOARD_SOAK_SECONDS` sets a longer duration,
//! and `SWITCHBOARD_SOAK_SEED` repeats the seed of an earlier run. The threads are real: a seed repeats each
//! thread's calls, not their interleaving.

#[path = "../common/mod.rs"]
mod common;
mod jobs;
mod memory;

use std::env;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::{Wire, assert_at_rest, at, seconds};
use jobs::{Hands, JOBS, Soak};
use memory::{Line, resident_kib, trim};
use switchboard::{Counts, Registry};

/// The shortest run, in seconds, that judges memory. In a shorter one the warm-up is too short.
const JUDGED_FROM: u64 = 30;

/// The number of samples in a run of any length. The first third is the warm-up.
const SAMPLES: u32 = 600;
const WARM_UP: usize = SAMPLES as usize / 3;

/// Noise can look like growth. On a busy machine, a reader that is preempted delays reclamation, and the pages
/// of that peak stay fragmented. Without a bug, two runs of a minute grew by 0.1 and 0.5 MB.
const MAX_GROWTH_KIB: f64 = 4096.0;

fn number(variable: &str) -> Option<u64> {
    Some(env::var(variable).ok()?.parse().unwrap())
}

fn any_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::from(now.subsec_nanos())
}

/// Samples resident memory throughout the run. The samples are allocated beforehand.
fn watch(soak: &Soak, run: Duration) -> Vec<(f64, f64)> {
    let mut samples = Vec::with_capacity(SAMPLES as usize);
    let begun = Instant::now();
    for sample in 1..=SAMPLES {
        let next = begun + run * sample / SAMPLES;
        thread::sleep(next.saturating_duration_since(Instant::now()));
        if soak.is_over() {
            break;
        }
        if run.as_secs() >= JUDGED_FROM {
            trim();
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

fn begin(soak: &Arc<Soak>) -> Vec<JoinHandle<()>> {
    let (guards, to_drop) = sync_channel(64);
    let (snapshots, to_keep) = sync_channel(64);
    let hands = Hands { guards, snapshots };
    let spawn = |work: Box<dyn FnOnce(&Soak) + Send>| {
        let soak = Arc::clone(soak);
        thread::spawn(move || work(&soak))
    };
    let mut threads = vec![
        spawn(Box::new(|soak| soak.drop_elsewhere(to_drop))),
        spawn(Box::new(|soak| soak.keep_for_a_while(to_keep))),
    ];
    for number in 0..JOBS.len() {
        let hands = hands.clone();
        threads.push(spawn(Box::new(move |soak| soak.repeat(number, &hands))));
    }
    threads
}

fn judge(samples: &[(f64, f64)], soak: &Soak, run: u64) {
    soak.report();
    if samples.is_empty() {
        return println!("!!! MEMORY NOT CHECKED: /proc/self/status is missing");
    }
    let line = Line::through(samples.get(WARM_UP..).unwrap_or(samples));
    let bytes = line.growth() * 1024.0 / soak.turns_since_warm_up();
    println!("{line}, {bytes:.3} bytes a turn");
    if run < JUDGED_FROM {
        return println!("!!! MEMORY NOT CHECKED: {run} s is less than {JUDGED_FROM} s");
    }
    assert!(
        line.growth() < MAX_GROWTH_KIB,
        "resident memory grows: {line}"
    );
}

fn assert_drains_completely(registry: &Registry<Wire>) {
    assert_at_rest(registry);
    drop(registry.expire(at(3600)));
    assert_eq!(registry.next_deadline(), None);
    drop(registry.drain());
    assert_eq!(registry.counts(), Counts::default());
    assert_eq!(registry.servers().count(), 0);
}

#[test]
fn memory_stays_flat_and_nothing_is_left_behind() {
    let run = number("SWITCHBOARD_SOAK_SECONDS").unwrap_or(2);
    let seed = number("SWITCHBOARD_SOAK_SEED").unwrap_or_else(any_seed);
    println!("SWITCHBOARD_SOAK_SECONDS={run} SWITCHBOARD_SOAK_SEED={seed}");
    // A foreign pin throughout the run. It must not delay reclamation in the registry.
    let pinned = crossbeam_epoch::pin();
    let soak = Arc::new(Soak::new(seed));
    let threads = begin(&soak);
    judge(&watch(&soak, seconds(run)), &soak, run);
    // Joined after `judge`: if the queue of deadlines fills up, calls become so slow that they seem never to
    // return.
    for thread in threads {
        thread.join().unwrap();
    }
    drop(pinned);

    assert_drains_completely(&soak.registry);
    assert_drains_completely(&soak.handed_over);
    assert_eq!(soak.living.count(), 0, "connections are still referenced");

    let missing = soak.missing();
    assert!(
        run < JUDGED_FROM || missing.is_empty(),
        "{missing:?} never happened: the soak exercises too little"
    );
}
