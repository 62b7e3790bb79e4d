//! Threads that start together, and a thread that disturbs a measurement.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{iter, thread};

/// One thread, two threads, and four per core.
pub fn counts() -> [usize; 3] {
    let cores = thread::available_parallelism().map_or(2, usize::from);
    [1, 2, 4 * cores]
}

/// 1, 2, 4 and so on, and the number of cores.
pub fn up_to_cores() -> Vec<usize> {
    let cores = thread::available_parallelism().map_or(2, usize::from);
    let doubled = iter::successors(Some(1), |threads| Some(2 * threads));
    let fewer = doubled.take_while(|threads| *threads < cores);
    fewer.chain([cores]).collect()
}

/// The time that `threads` threads take for `iters` rounds each: from the first start after a barrier to the
/// last end.
///
/// Each thread prepares its state before the barrier. No two threads get the same round numbers, so they
/// don't visit the same server-ids in step.
pub fn together<T>(
    threads: usize,
    iters: u64,
    prepare: impl Fn(usize) -> T + Sync,
    round: impl Fn(&mut T, u64) + Sync,
) -> Duration {
    let barrier = Barrier::new(threads);
    let (prepare, round) = (&prepare, &round);
    thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|thread| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let mut own = prepare(thread);
                    let first = (thread as u64) << 32;
                    barrier.wait();
                    let start = Instant::now();
                    for n in first..first + iters {
                        round(&mut own, n);
                    }
                    let end = Instant::now();
                    drop(own);
                    (start, end)
                })
            })
            .collect();
        let mut spans = handles.into_iter().map(|handle| handle.join().unwrap());
        let first = spans.next().expect("at least one thread");
        let (start, end) = spans.fold(first, |(start, end), span| {
            (start.min(span.0), end.max(span.1))
        });
        end - start
    })
}

/// Runs `measure` while another thread calls `disturb` continuously.
pub fn while_disturbed<R>(disturb: impl Fn(u64) + Sync, measure: impl FnOnce() -> R) -> R {
    let (barrier, stop) = (Barrier::new(2), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            barrier.wait();
            for n in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                disturb(n);
            }
        });
        barrier.wait();
        let result = measure();
        stop.store(true, Ordering::Relaxed);
        result
    })
}
