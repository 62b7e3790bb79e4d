//! Pings and pongs of one connection: is its peer alive?

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::timeout;

/// The pings that were sent to a peer, numbered, and the last one that it answered.
///
/// The task of the connection sends, hears and watches; other tasks only ask.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    /// Somebody wants a ping now.
    asked: Notify,
    sent: AtomicU64,
    answered: AtomicU64,
    /// A ping was sent, or answered.
    changed: Notify,
    /// The connection waits for something else, and pongs may lie unread.
    deaf: AtomicBool,
    /// There was a reason for a pong not to come.
    excused: AtomicBool,
}

impl Pulse {
    /// Until somebody wants a ping before its time.
    pub(crate) async fn asked(&self) {
        self.asked.notified().await;
    }

    /// The payload of the next ping, which must be sent now.
    pub(crate) fn ping(&self) -> Bytes {
        let number = self.sent.fetch_add(1, Ordering::Relaxed) + 1;
        self.changed.notify_waiters();
        Bytes::copy_from_slice(&number.to_be_bytes())
    }

    /// The peer sent a pong. One that answers no ping of ours, or an older one, is none.
    pub(crate) fn pong(&self, payload: &[u8]) {
        let Ok(number) = payload.try_into().map(u64::from_be_bytes) else {
            return;
        };
        if number <= self.sent.load(Ordering::Relaxed) {
            self.answered.fetch_max(number, Ordering::Relaxed);
            self.changed.notify_waiters();
        }
    }

    /// Whether the peer answers, within `limit`, a ping that is sent after this call. A pong on its way already is no answer.
    pub(crate) async fn answers(&self, limit: Duration) -> bool {
        let before = self.sent.load(Ordering::Relaxed);
        self.asked.notify_one();
        let answered = self.until(|| self.answered.load(Ordering::Relaxed) > before);
        timeout(limit, answered).await.is_ok()
    }

    /// Completes when a ping has found no answer within `limit`, and there was no excuse for that.
    pub(crate) async fn lost(&self, limit: Duration) {
        loop {
            self.until(|| {
                self.sent.load(Ordering::Relaxed) > self.answered.load(Ordering::Relaxed)
            })
            .await;
            let awaited = self.sent.load(Ordering::Relaxed);
            let answered = self.until(|| self.answered.load(Ordering::Relaxed) >= awaited);
            if timeout(limit, answered).await.is_err() && !self.is_excused() {
                return;
            }
        }
    }

    /// Waits for something else than what the peer sends: pongs may lie unread meanwhile.
    pub(crate) async fn without_reading<T>(&self, other: impl Future<Output = T>) -> T {
        self.deaf.store(true, Ordering::Relaxed);
        let done = other.await;
        self.deaf.store(false, Ordering::Relaxed);
        self.excuse();
        done
    }

    /// The peer took what it had kept waiting: it is alive, and the ping is behind that.
    pub(crate) fn excuse(&self) {
        self.excused.store(true, Ordering::Relaxed);
    }

    /// Whether there was an excuse since this was last asked.
    fn is_excused(&self) -> bool {
        self.excused.swap(false, Ordering::Relaxed) || self.deaf.load(Ordering::Relaxed)
    }

    async fn until(&self, condition: impl Fn() -> bool) {
        loop {
            let changed = self.changed.notified();
            if condition() {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;
    use tokio::time::advance;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_ping_without_an_answer_is_lost_after_the_limit() {
        let pulse = Pulse::default();
        let mut lost = pin!(pulse.lost(LIMIT));
        assert!(lost.as_mut().now_or_never().is_none());
        advance(LIMIT * 2).await;
        assert!(lost.as_mut().now_or_never().is_none(), "nothing was asked");
        pulse.ping();
        assert!(lost.as_mut().now_or_never().is_none());
        advance(LIMIT * 9 / 10).await;
        assert!(lost.as_mut().now_or_never().is_none());
        advance(LIMIT / 10).await;
        assert!(lost.as_mut().now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_pong_to_a_ping_of_ours_is_an_answer() {
        let pulse = Pulse::default();
        let mut lost = pin!(pulse.lost(LIMIT));
        let ping = pulse.ping();
        assert!(lost.as_mut().now_or_never().is_none());
        for payload in [b"".as_slice(), b"hello", &2_u64.to_be_bytes()] {
            pulse.pong(payload);
        }
        advance(LIMIT).await;
        assert!(lost.as_mut().now_or_never().is_some());

        let mut lost = pin!(pulse.lost(LIMIT));
        pulse.pong(&ping);
        advance(LIMIT).await;
        assert!(lost.as_mut().now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pong_to_an_earlier_ping_is_no_answer_to_a_probe() {
        let pulse = Pulse::default();
        let earlier = pulse.ping();
        let mut answers = pin!(pulse.answers(LIMIT));
        assert!(answers.as_mut().now_or_never().is_none());
        pulse.asked().await;
        pulse.pong(&earlier);
        assert!(answers.as_mut().now_or_never().is_none());
        let ping = pulse.ping();
        pulse.pong(&ping);
        assert_eq!(answers.now_or_never(), Some(true));
        assert!(!pulse.answers(LIMIT).await, "nobody is there any more");
    }

    #[tokio::test(start_paused = true)]
    async fn what_could_not_be_read_is_not_lost() {
        let pulse = Pulse::default();
        let mut lost = pin!(pulse.lost(LIMIT));
        pulse.ping();
        assert!(lost.as_mut().now_or_never().is_none());
        let busy = pulse.without_reading(tokio::time::sleep(LIMIT * 3));
        let mut busy = pin!(busy);
        assert!(busy.as_mut().now_or_never().is_none());
        for _ in 0..3 {
            advance(LIMIT).await;
            assert!(lost.as_mut().now_or_never().is_none());
        }
        busy.await;
        advance(LIMIT).await;
        assert!(
            lost.as_mut().now_or_never().is_none(),
            "the pong may come now"
        );
        advance(LIMIT).await;
        assert!(lost.as_mut().now_or_never().is_some());
    }
}
