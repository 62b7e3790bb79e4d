//! What the benches share: a connection that does nothing, and threads that start together.
#![allow(dead_code, unreachable_pub, missing_docs)]

pub mod peer;

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use switchboard::{Conn, SendError};

pub struct Wire(pub String);

impl Conn for Wire {
    fn conn_id(&self) -> &str {
        &self.0
    }
    fn send(&self, _: Bytes) -> Result<(), SendError> {
        Ok(())
    }
    fn close(&self) {}
}

pub fn wire(conn_id: impl Into<String>) -> Arc<Wire> {
    Arc::new(Wire(conn_id.into()))
}

/// Server-ids and conn-ids as a relay sees them.
pub fn server_id(n: usize) -> String {
    format!(
        "{:016x}-laptop",
        (n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    )
}

pub fn conn_id(n: usize) -> String {
    format!(
        "client-{:08x}",
        (n as u64).wrapping_mul(0x9E37_79B9) & 0xffff_ffff
    )
}

/// The time that `threads` threads take for `iters` rounds each, from the first one's start behind a barrier to the last
/// one's end.
/// What a thread needs is made before the barrier.
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
                    barrier.wait();
                    let start = Instant::now();
                    // Each thread on a way of its own: in step they would meet at every turn.
                    let first = thread as u64 * 1_000_003;
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
        let first = spans.next().expect("there is a thread");
        let (start, end) = spans.fold(first, |(start, end), span| {
            (start.min(span.0), end.max(span.1))
        });
        end - start
    })
}

/// Visits all of `0..len` in an order that no prefetcher guesses.
pub fn scattered(n: u64, len: usize) -> usize {
    let mixed = n.wrapping_mul(0xD134_2543_DE82_EF95) >> 20;
    usize::try_from(mixed).unwrap() % len
}
