//! Whether the peer of a connection is alive.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use crate::wire::Seen;

/// How many unanswered pings are remembered. A pong may answer any of them.
const REMEMBERED: usize = 32;

/// How many times a peer may exceed a limit as long as it makes any progress at all.
const PATIENCE: u32 = 10;

/// The progress that excuses it after that: so many bytes within each limit.
const TRICKLE: u64 = 16 * 1024;

/// The pings of a connection, and what its peer does.
///
/// The task of the connection sends, hears and watches. Other tasks only [probe](Self::answers).
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    pub(crate) seen: Arc<Seen>,
    pings: Mutex<Pings>,
    /// A ping must be sent now.
    is_due: AtomicBool,
    due: Notify,
    /// A ping was sent or answered.
    changed: Notify,
    /// How often the connection began or ended to wait for something else than its peer. While it is odd, pongs may lie
    /// unread.
    deaf: AtomicU64,
}

#[derive(Debug, Default)]
struct Pings {
    sent: u64,
    /// The last ping that was answered.
    answered: u64,
    /// The payloads of those sent last, the newest at the end.
    payloads: VecDeque<Bytes>,
}

impl Pulse {
    /// Until a ping must be sent.
    pub(crate) async fn due(&self) {
        self.due.notified().await;
    }

    /// The payload of the ping that must be sent now, if one must: random, so that only a peer that reads can answer.
    pub(crate) fn ping(&self) -> Option<Bytes> {
        if !self.is_due.load(Ordering::Relaxed) {
            return None;
        }
        self.is_due.store(false, Ordering::Relaxed);
        // Without random numbers the ping is sent later: no connection ends for want of them.
        let payload = getrandom::u64().ok()?.to_be_bytes();
        let payload = Bytes::copy_from_slice(&payload);
        let mut pings = self.pings();
        pings.sent += 1;
        if pings.payloads.len() == REMEMBERED {
            pings.payloads.pop_front();
        }
        pings.payloads.push_back(payload.clone());
        drop(pings);
        self.changed.notify_waiters();
        Some(payload)
    }

    /// The peer sent a pong. One that answers no ping of this connection is ignored.
    pub(crate) fn pong(&self, payload: &[u8]) {
        let mut pings = self.pings();
        let Some(at) = pings.payloads.iter().position(|sent| sent == payload) else {
            return;
        };
        pings.payloads.drain(..=at);
        pings.answered = pings.sent - pings.payloads.len() as u64;
        drop(pings);
        self.changed.notify_waiters();
    }

    /// Whether the peer shows within `limit` that it is alive: it answers a ping that is sent after this call, sends
    /// something, or takes what it kept waiting. A pong that is on its way already is no answer.
    pub(crate) async fn answers(&self, limit: Duration) -> bool {
        let before = self.pings().sent;
        let progress = self.seen.progress();
        self.demand();
        let answered = timeout(limit, self.until(|pings| pings.answered > before)).await;
        answered.is_ok() || self.seen.progress() > progress
    }

    /// Demands a ping at every interval. Completes when the peer is dead: a ping was not answered within `limit`, and the
    /// peer made no progress either, or trickled for too long.
    pub(crate) async fn lost(&self, interval: Duration, limit: Duration) {
        tokio::select! {
            () = self.beat(interval) => {}
            () = self.watch(limit) => {}
        }
    }

    async fn beat(&self, interval: Duration) {
        let mut heartbeat = interval_at(Instant::now() + interval, interval);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            heartbeat.tick().await;
            self.demand();
        }
    }

    async fn watch(&self, limit: Duration) {
        loop {
            self.until(|pings| pings.sent > pings.answered).await;
            let awaited = self.pings().sent;
            let answered = self.until(|pings| pings.answered >= awaited);
            tokio::select! {
                () = answered => {}
                () = self.silent(limit) => return,
            }
        }
    }

    /// Completes when the peer has made no progress, or too little, while it was read from.
    async fn silent(&self, limit: Duration) {
        let mut patience = Patience::new(self.seen.progress());
        loop {
            let deaf = self.deaf.load(Ordering::Relaxed);
            tokio::time::sleep(limit).await;
            let progress = self.seen.progress();
            if deaf % 2 == 1 || deaf != self.deaf.load(Ordering::Relaxed) {
                patience = Patience::new(progress);
            } else if !patience.lasts(progress) {
                return;
            }
        }
    }

    /// Waits for something else than what the peer sends: pongs may lie unread meanwhile.
    pub(crate) async fn without_reading<T>(&self, other: impl Future<Output = T>) -> T {
        self.deaf.fetch_add(1, Ordering::Relaxed);
        let done = other.await;
        self.deaf.fetch_add(1, Ordering::Relaxed);
        done
    }

    /// Waits for a write, `None` if the peer takes nothing for longer than `limit`, or trickles for too long.
    pub(crate) async fn write<T>(
        &self,
        limit: Duration,
        write: impl Future<Output = T>,
    ) -> Option<T> {
        let mut write = std::pin::pin!(write);
        let mut patience = Patience::new(self.seen.taken());
        loop {
            if let Ok(written) = timeout(limit, write.as_mut()).await {
                return Some(written);
            }
            if !patience.lasts(self.seen.taken()) {
                return None;
            }
        }
    }

    fn demand(&self) {
        self.is_due.store(true, Ordering::Relaxed);
        self.due.notify_one();
    }

    fn pings(&self) -> MutexGuard<'_, Pings> {
        self.pings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn until(&self, condition: impl Fn(&Pings) -> bool) {
        loop {
            let changed = self.changed.notified();
            if condition(&self.pings()) {
                return;
            }
            changed.await;
        }
    }
}

/// For how long a peer may be slow.
struct Patience {
    progress: u64,
    limits: u32,
}

impl Patience {
    fn new(progress: u64) -> Self {
        Self {
            progress,
            limits: 0,
        }
    }

    /// Whether what the peer did within another limit is enough.
    fn lasts(&mut self, progress: u64) -> bool {
        let bytes = progress - self.progress;
        self.progress = progress;
        self.limits += 1;
        bytes >= TRICKLE || (bytes > 0 && self.limits < PATIENCE)
    }
}
