//! Detecting whether the peer of a connection is alive.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use crate::transport::seen::Seen;

/// How many unanswered pings are remembered. A pong may answer any of them.
const REMEMBERED: usize = 32;

/// How many limits in a row a peer may exceed while it makes any progress at all.
const PATIENCE: u32 = 10;

/// After that, the peer must move this many bytes within each limit.
const TRICKLE: u64 = 16 * 1024;

/// The pings of a connection, and the signs of life of its peer.
///
/// The task of the connection sends pings, receives pongs and watches for a timeout. Other tasks only
/// [probe](Self::answers).
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    pub(crate) seen: Arc<Seen>,
    pings: Mutex<Pings>,
    /// A ping must be sent now.
    is_due: AtomicBool,
    due: Notify,
    /// A ping was sent or answered.
    changed: Notify,
    /// Incremented when the connection stops being read, and again when reading resumes. While it is odd, pongs may
    /// lie unread.
    deaf: AtomicU64,
}

#[derive(Debug, Default)]
struct Pings {
    sent: u64,
    /// The number of the last ping that was answered.
    answered: u64,
    /// The payloads of the latest pings, the newest last.
    payloads: VecDeque<Bytes>,
}

impl Pulse {
    pub(crate) fn new(seen: Arc<Seen>) -> Self {
        Self {
            seen,
            ..Self::default()
        }
    }

    /// Waits until a ping must be sent.
    pub(crate) async fn due(&self) {
        self.due.notified().await;
    }

    /// Whether a ping must be sent.
    pub(crate) fn is_due(&self) -> bool {
        self.is_due.load(Ordering::Relaxed)
    }

    /// Returns the payload of a ping if one must be sent now. It is random, so that only a peer that reads can answer.
    pub(crate) fn ping(&self) -> Option<Bytes> {
        if !self.is_due() {
            return None;
        }
        self.is_due.store(false, Ordering::Relaxed);
        // If there is no random number, this ping is skipped: no connection may end for that reason.
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

    /// Handles a pong from the peer. Ignores a pong that answers no remembered ping.
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

    /// Whether the peer shows a sign of life within `limit`: it answers a ping sent after this call, sends something,
    /// or takes bytes that had to wait for it. A pong to an earlier ping does not count. A peer that is not read from
    /// cannot be told from one that is alive, so it counts as such.
    pub(crate) async fn answers(&self, limit: Duration) -> bool {
        let before = self.pings().sent;
        let progress = self.seen.progress();
        let deaf = self.deaf.load(Ordering::Relaxed);
        self.demand();
        let answered = timeout(limit, self.until(|pings| pings.answered > before)).await;
        let was_read = deaf.is_multiple_of(2) && deaf == self.deaf.load(Ordering::Relaxed);
        answered.is_ok() || self.seen.progress() > progress || !was_read
    }

    /// Demands a ping at every interval. Completes when the peer is dead: it did not answer a ping within `limit`, and
    /// made no progress either, or trickled for too long.
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

    /// Completes when the peer has made no progress, or too little, during a limit in which it was read from
    /// throughout.
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

    /// Runs a future while the connection is not read. Pongs may lie unread meanwhile. The returned future may be
    /// dropped early; reading resumes then.
    pub(crate) async fn without_reading<T>(&self, other: impl Future<Output = T>) -> T {
        self.deaf.fetch_add(1, Ordering::Relaxed);
        let _resumes = Resumes(self);
        other.await
    }

    /// Waits for a write. Returns `None` if the peer takes nothing for longer than `limit`, or trickles for too long.
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

    /// Forgets the pings. None will be sent or answered any more.
    pub(crate) fn retire(&self) {
        self.pings().payloads = VecDeque::new();
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

/// Says that the connection is read again when this is dropped.
struct Resumes<'a>(&'a Pulse);

impl Drop for Resumes<'_> {
    fn drop(&mut self) {
        self.0.deaf.fetch_add(1, Ordering::Relaxed);
    }
}

/// How long a peer may be slow.
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

    /// Whether the progress during one more limit is enough.
    fn lasts(&mut self, progress: u64) -> bool {
        let bytes = progress - self.progress;
        self.progress = progress;
        self.limits += 1;
        bytes >= TRICKLE || (bytes > 0 && self.limits < PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::advance;

    use super::*;
    use crate::transport::tcp::Tcp;
    use crate::transport::websocket::WebSocket;

    const LIMIT: Duration = Duration::from_secs(30);

    /// The streams through which a pulse sees the bytes of a peer, one for each direction.
    struct Connection {
        sends: DuplexStream,
        from_peer: WebSocket<DuplexStream>,
        takes: DuplexStream,
        to_peer: Tcp<DuplexStream>,
    }

    impl Connection {
        fn of(pulse: &Pulse) -> Self {
            let (sends, io) = duplex(1 << 16);
            let from_peer = WebSocket::new(io, 1 << 16, Arc::clone(&pulse.seen));
            let (takes, io) = duplex(1 << 16);
            let to_peer = Tcp::new(io, Arc::clone(&pulse.seen));
            Self {
                sends,
                from_peer,
                takes,
                to_peer,
            }
        }

        /// Receives a frame from the peer with that first byte and that many bytes of payload.
        async fn receive(&mut self, first: u8, bytes: u16) {
            let mut frame = vec![first, 0x80];
            if let Ok(short @ 0..126) = u8::try_from(bytes) {
                frame[1] |= short;
            } else {
                frame[1] |= 0x7e;
                frame.extend(bytes.to_be_bytes());
            }
            frame.resize(frame.len() + 4 + usize::from(bytes), 0);
            self.sends.write_all(&frame).await.expect("room");
            let message = poll_fn(|context| self.from_peer.poll_message(context));
            message.await.expect("it is valid");
        }

        /// Writes until the next write blocks.
        async fn fill(&mut self) {
            let bytes = vec![0; 1 << 16];
            self.to_peer.write_all(&bytes).await.expect("room");
        }

        /// Writes that many bytes while the peer takes as many.
        async fn take(&mut self, bytes: usize) {
            let mut taken = vec![0; bytes];
            let written = vec![0; bytes];
            let write = self.to_peer.write_all(&written);
            let (written, read) = tokio::join!(write, self.takes.read_exact(&mut taken));
            assert!(written.is_ok() && read.is_ok());
        }
    }

    fn ping(pulse: &Pulse) -> Bytes {
        pulse.demand();
        pulse.ping().expect("it is due")
    }

    fn is_done(future: &mut std::pin::Pin<&mut impl Future<Output = ()>>) -> bool {
        future.as_mut().now_or_never().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn a_ping_is_due_at_every_interval_and_is_sent_once() {
        let pulse = Pulse::default();
        let mut lost = pin!(pulse.lost(LIMIT, LIMIT));
        assert!(!is_done(&mut lost));
        for _ in 0..3 {
            assert_eq!(pulse.ping(), None);
            advance(LIMIT).await;
            assert!(!is_done(&mut lost));
            assert!(pulse.due().now_or_never().is_some());
            let payload = pulse.ping().expect("it is due");
            pulse.pong(&payload);
            assert!(!is_done(&mut lost));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_nothing_is_lost_after_the_limit() {
        let pulse = Pulse::default();
        let mut lost = pin!(pulse.watch(LIMIT));
        assert!(!is_done(&mut lost));
        advance(LIMIT * 2).await;
        assert!(!is_done(&mut lost), "it was sent no ping");
        ping(&pulse);
        assert!(!is_done(&mut lost));
        advance(LIMIT * 9 / 10).await;
        assert!(!is_done(&mut lost));
        advance(LIMIT / 10).await;
        assert!(is_done(&mut lost));
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_payload_of_a_ping_is_an_answer_and_only_once() {
        let pulse = Pulse::default();
        let mut lost = pin!(pulse.watch(LIMIT));
        let first = ping(&pulse);
        pulse.pong(&first);
        let second = ping(&pulse);
        assert_ne!(first, second);
        assert!(!is_done(&mut lost));
        let guesses = [1_u64, 2, 3].map(|number| number.to_be_bytes().to_vec());
        for payload in [vec![], b"hello".to_vec(), first.to_vec()]
            .iter()
            .chain(&guesses)
        {
            pulse.pong(payload);
        }
        advance(LIMIT).await;
        assert!(is_done(&mut lost));

        let mut lost = pin!(pulse.watch(LIMIT));
        pulse.pong(&second);
        advance(LIMIT).await;
        assert!(!is_done(&mut lost));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pong_may_answer_any_of_the_last_pings() {
        let pulse = Pulse::default();
        let pings: Vec<Bytes> = (0..REMEMBERED + 8).map(|_| ping(&pulse)).collect();
        for (forgotten, payload) in pings.iter().enumerate() {
            pulse.pong(payload);
            let expected = if forgotten < 8 {
                0
            } else {
                forgotten as u64 + 1
            };
            assert_eq!(pulse.pings().answered, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_sends_or_takes_is_not_lost() {
        let pulse = Pulse::default();
        let mut connection = Connection::of(&pulse);
        let mut lost = pin!(pulse.watch(LIMIT));
        ping(&pulse);
        for _ in 0..30 {
            assert!(!is_done(&mut lost));
            connection.receive(0x82, 32 * 1024).await;
            advance(LIMIT).await;
        }
        connection.fill().await;
        for _ in 0..30 {
            assert!(!is_done(&mut lost));
            connection.take(32 * 1024).await;
            advance(LIMIT).await;
        }
        assert!(!is_done(&mut lost));
        advance(LIMIT).await;
        assert!(is_done(&mut lost), "it has stopped");
    }

    #[tokio::test(start_paused = true)]
    async fn unsolicited_pongs_are_not_progress() {
        let pulse = Pulse::default();
        let mut connection = Connection::of(&pulse);
        let mut lost = pin!(pulse.watch(LIMIT));
        ping(&pulse);
        assert!(!is_done(&mut lost));
        connection.receive(0x8a, 125).await;
        advance(LIMIT).await;
        assert!(is_done(&mut lost));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_only_trickles_is_lost_eventually() {
        let pulse = Pulse::default();
        let mut connection = Connection::of(&pulse);
        let mut lost = pin!(pulse.watch(LIMIT));
        ping(&pulse);
        for _ in 0..PATIENCE {
            assert!(!is_done(&mut lost));
            connection.receive(0x82, 1).await;
            advance(LIMIT).await;
        }
        assert!(is_done(&mut lost));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_is_not_read_from_is_not_lost() {
        let pulse = Pulse::default();
        let mut lost = pin!(pulse.watch(LIMIT));
        ping(&pulse);
        assert!(!is_done(&mut lost));
        let mut busy = pin!(pulse.without_reading(tokio::time::sleep(LIMIT * 30)));
        assert!(!is_done(&mut busy));
        for _ in 0..30 {
            advance(LIMIT).await;
            assert!(!is_done(&mut lost));
        }
        busy.await;
        advance(LIMIT).await;
        assert!(!is_done(&mut lost), "the pong may come now");
        advance(LIMIT).await;
        assert!(is_done(&mut lost));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_is_read_again_early_is_lost_as_any_other() {
        let pulse = Pulse::default();
        let mut lost = pin!(pulse.watch(LIMIT));
        ping(&pulse);
        {
            let mut busy = pin!(pulse.without_reading(std::future::pending()));
            assert!(!is_done(&mut busy));
        }
        assert!(!is_done(&mut lost));
        advance(LIMIT).await;
        assert!(is_done(&mut lost));
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_is_answered_by_a_new_pong_or_by_progress() {
        let pulse = Pulse::default();
        let mut connection = Connection::of(&pulse);
        let earlier = ping(&pulse);
        let mut answers = pin!(pulse.answers(LIMIT));
        assert_eq!(answers.as_mut().now_or_never(), None);
        pulse.pong(&earlier);
        assert_eq!(answers.as_mut().now_or_never(), None);
        pulse.pong(&pulse.ping().expect("it is due"));
        assert_eq!(answers.now_or_never(), Some(true));

        assert!(
            !pulse.answers(LIMIT).await,
            "the peer does nothing any more"
        );
        connection.receive(0x8a, 1).await;
        let (answers, ()) = tokio::join!(pulse.answers(LIMIT), connection.receive(0x8a, 1));
        assert!(!answers, "an unsolicited pong");
        let (answers, ()) = tokio::join!(pulse.answers(LIMIT), connection.receive(0x82, 1));
        assert!(answers);
        connection.fill().await;
        let (answers, ()) = tokio::join!(pulse.answers(LIMIT), connection.take(1));
        assert!(answers);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_may_take_as_long_as_it_makes_progress() {
        let pulse = Pulse::default();
        let mut connection = Connection::of(&pulse);
        connection.fill().await;
        for (bytes, times) in [(32 * 1024, 30), (1, PATIENCE - 1)] {
            let Connection { takes, to_peer, .. } = &mut connection;
            let all = vec![0; bytes * times as usize];
            let write = pulse.write(LIMIT, to_peer.write_all(&all));
            let written = tokio::select! {
                written = write => written,
                () = async {
                    let mut taken = vec![0; bytes];
                    loop {
                        tokio::time::sleep(LIMIT * 9 / 10).await;
                        takes.read_exact(&mut taken).await.expect("the bytes were sent");
                    }
                } => unreachable!("it takes all there is"),
            };
            assert!(written.is_some(), "{bytes} bytes each time");
        }
        let stuck = pulse.write(LIMIT, connection.to_peer.write_all(b"1"));
        assert!(stuck.await.is_none(), "nothing is taken any more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_only_trickles_fails_eventually() {
        let pulse = Pulse::default();
        let mut connection = Connection::of(&pulse);
        connection.fill().await;
        let Connection { takes, to_peer, .. } = &mut connection;
        let began = Instant::now();
        let written = tokio::select! {
            written = pulse.write(LIMIT, to_peer.write_all(&[0; 1000])) => written,
            () = async {
                loop {
                    tokio::time::sleep(LIMIT * 9 / 10).await;
                    takes.read_u8().await.expect("the bytes were sent");
                }
            } => unreachable!("it takes all there is"),
        };
        assert!(written.is_none());
        assert_eq!(began.elapsed(), LIMIT * PATIENCE);
    }
}
