//! The queue of frames for one peer, and how senders share it.

use std::cmp::Ordering as Order;
use std::collections::{BinaryHeap, VecDeque};
use std::future::poll_fn;
use std::mem;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;
use tungstenite::Utf8Bytes;

/// What a queued frame costs in addition to its bytes.
const OVERHEAD: usize = 64;

/// How many bytes a lane may send in its turn. Within a turn, the lane that has sent less goes first.
const TURN: u64 = 256 * 1024;

/// The capacity that an empty queue keeps.
const SPARE: usize = 32;

/// A queue of frames for one peer. Each sender pushes through a [`Lane`] of its own; the task of the peer's
/// connection pops.
///
/// Lanes take turns by bytes, as in start-time fair queueing (Goyal, Vin and Cheng, 1996). The clock of the queue
/// counts the bytes of a single lane, as if all lanes were served at once. A frame starts when the previous frame of
/// its lane ends, or now, whichever is later. The frame that starts in an earlier [turn](TURN) is popped first; within
/// a turn, the one that ends first. So senders with much to send get equal shares, a sender with little passes them
/// all, and the frames of one lane keep their order.
///
/// A sender that leaves hands its frames to one lane that all departed senders share. Otherwise a sender that sends,
/// leaves and comes back would have many lanes, and as many turns.
pub(crate) struct Outbox<S> {
    queue: Mutex<Queue<S>>,
    /// How many bytes of departed senders may be queued.
    left_behind: usize,
    /// Frames of departed senders were popped.
    popped: Notify,
}

struct Queue<S> {
    frames: BinaryHeap<Queued<S>>,
    /// The latest start of a popped frame.
    clock: u64,
    pushed: u64,
    /// Frames and notices of departed senders, the oldest first.
    left_behind: VecDeque<Queued<S>>,
    /// The bytes in `left_behind`.
    left_bytes: usize,
    /// The start of the first frame in `left_behind`, or the end of the last popped one if it is empty.
    left_start: u64,
    /// The task that waits for a frame.
    popper: Option<Waker>,
    is_closed: bool,
}

/// The part of a queue that belongs to one sender.
pub(crate) struct Lane<S> {
    pub(crate) sender: S,
    /// How many bytes the sender may have queued. A larger frame is accepted when the lane is empty.
    share: usize,
    queued: AtomicUsize,
    /// The end of the last frame that was pushed. Changes only under the lock of the queue.
    end: AtomicU64,
    /// The task of the sender, if it waits for room.
    waiting: AtomicWaker,
}

/// A queued frame.
pub(crate) struct Queued<S> {
    start: u64,
    end: u64,
    number: u64,
    pub(crate) frame: Utf8Bytes,
    /// `None` for a notice, which the relay itself sends.
    pub(crate) charge: Option<Charge<S>>,
}

/// The room that frames occupy in their lane, until this is dropped.
pub(crate) struct Charge<S> {
    lane: Arc<Lane<S>>,
    bytes: usize,
}

/// Why a frame was not queued.
#[derive(Debug)]
pub(crate) enum Refused {
    /// There is no room. Returns the frame.
    Full(Utf8Bytes),
    /// The queue is closed: the connection is about to end.
    Closed,
}

impl<S> Outbox<S> {
    /// Creates an empty queue, in which departed senders may keep that many bytes.
    pub(crate) fn new(left_behind: usize) -> Self {
        let queue = Queue {
            frames: BinaryHeap::new(),
            clock: 0,
            pushed: 0,
            left_behind: VecDeque::new(),
            left_bytes: 0,
            left_start: 0,
            popper: None,
            is_closed: false,
        };
        Self {
            queue: Mutex::new(queue),
            left_behind,
            popped: Notify::new(),
        }
    }

    /// Queues a frame if its lane has room.
    pub(crate) fn push(&self, lane: &Arc<Lane<S>>, frame: Utf8Bytes) -> Result<(), Refused> {
        let charge = Lane::charge(lane, cost(&frame));
        let mut queue = self.lock();
        if queue.is_closed {
            return Err(Refused::Closed);
        }
        let Some(charge) = charge else {
            return Err(Refused::Full(frame));
        };
        let start = lane.end.load(Ordering::Relaxed).max(queue.clock);
        let end = start + cost(&frame) as u64;
        lane.end.store(end, Ordering::Relaxed);
        queue.pushed += 1;
        let number = queue.pushed;
        queue.frames.push(Queued {
            start,
            end,
            number,
            frame,
            charge: Some(charge),
        });
        wake(queue);
        Ok(())
    }

    /// Completes when a sender may [leave its frames behind](Self::leave_behind).
    pub(crate) async fn has_room_to_leave(&self) {
        loop {
            let popped = self.popped.notified();
            let left = self.lock().left_bytes;
            if left == 0 || left < self.left_behind {
                return;
            }
            popped.await;
        }
    }

    /// Moves the frames of a sender that leaves to the lane of departed senders, and queues a notice behind them.
    pub(crate) fn leave_behind(&self, lane: &Arc<Lane<S>>, notice: Option<Utf8Bytes>) {
        let mut queue = self.lock();
        if queue.is_closed {
            return;
        }
        if queue.left_behind.is_empty() {
            queue.left_start = queue.left_start.max(queue.clock);
        }
        if lane.queued.load(Ordering::Relaxed) > 0 {
            let is_of_lane = |queued: &Queued<S>| {
                let charge = queued.charge.as_ref();
                charge.is_some_and(|charge| Arc::ptr_eq(&charge.lane, lane))
            };
            let frames = mem::take(&mut queue.frames).into_vec();
            let (mut left, stay): (Vec<_>, Vec<_>) = frames.into_iter().partition(is_of_lane);
            queue.frames = BinaryHeap::from(stay);
            left.sort_unstable_by_key(|queued| queued.number);
            queue.left_bytes += left.iter().map(|queued| cost(&queued.frame)).sum::<usize>();
            queue.left_behind.extend(left);
        }
        if let Some(notice) = notice {
            queue.left_bytes += cost(&notice);
            queue.left_behind.push_back(Queued {
                start: 0,
                end: 0,
                number: 0,
                frame: notice,
                charge: None,
            });
        }
        wake(queue);
    }

    /// Takes the next frame, waiting for one if necessary. Only one task may call this.
    pub(crate) async fn pop(&self) -> Queued<S> {
        poll_fn(|context| {
            let mut queue = self.lock();
            if let Some(next) = self.pop_from(&mut queue) {
                return Poll::Ready(next);
            }
            queue.popper = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Takes the next frame, if there is one.
    pub(crate) fn try_pop(&self) -> Option<Queued<S>> {
        self.pop_from(&mut self.lock())
    }

    fn pop_from(&self, queue: &mut Queue<S>) -> Option<Queued<S>> {
        let left = queue.left_bytes;
        let next = queue.pop();
        if queue.left_bytes < left {
            self.popped.notify_waiters();
        }
        next
    }

    /// Refuses frames from now on. Queued frames can still be popped.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
    }

    /// Frees the memory of a queue whose connection is over. Frames that are still queued are dropped.
    pub(crate) fn retire(&self) {
        let mut queue = self.lock();
        queue.is_closed = true;
        let frames = mem::take(&mut queue.frames);
        let left_behind = mem::take(&mut queue.left_behind);
        queue.left_bytes = 0;
        // It would keep alive all memory of the task, which has ended.
        let popper = queue.popper.take();
        // A charge that is dropped wakes a task.
        drop(queue);
        drop((frames, left_behind, popper));
    }

    fn lock(&self) -> MutexGuard<'_, Queue<S>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake<S>(mut queue: MutexGuard<'_, Queue<S>>) {
    let popper = queue.popper.take();
    drop(queue);
    if let Some(popper) = popper {
        popper.wake();
    }
}

impl<S> Queue<S> {
    fn pop(&mut self) -> Option<Queued<S>> {
        let first = self.frames.peek().map(|next| turn(next.start, next.end));
        if let Some(left) = self.left_behind.front() {
            let end = self.left_start + cost(&left.frame) as u64;
            if first.is_none_or(|first| turn(self.left_start, end) <= first) {
                return self.pop_left_behind();
            }
        }
        let next = self.frames.pop()?;
        self.clock = self.clock.max(next.start);
        if self.frames.is_empty() {
            self.frames.shrink_to(SPARE);
        }
        Some(next)
    }

    fn pop_left_behind(&mut self) -> Option<Queued<S>> {
        let next = self.left_behind.pop_front()?;
        let bytes = cost(&next.frame);
        self.clock = self.clock.max(self.left_start);
        self.left_start += bytes as u64;
        self.left_bytes -= bytes;
        if self.left_behind.is_empty() {
            self.left_behind.shrink_to(SPARE);
        }
        Some(next)
    }
}

impl<S> Lane<S> {
    /// Creates a lane in which the sender may have that many bytes queued.
    pub(crate) fn new(sender: S, share: usize) -> Arc<Self> {
        Arc::new(Self {
            sender,
            share,
            queued: AtomicUsize::new(0),
            end: AtomicU64::new(0),
            waiting: AtomicWaker::new(),
        })
    }

    /// What its frames occupy.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// Completes when there is room for the frame. Only one task may wait.
    pub(crate) async fn has_room(&self, frame: &Utf8Bytes) {
        poll_fn(|context| {
            // Registered before the check, so that a charge dropped after the check wakes this task.
            self.waiting.register(context.waker());
            let queued = self.queued.load(Ordering::Acquire);
            match self.with(queued, cost(frame)) {
                Some(_) => Poll::Ready(()),
                None => Poll::Pending,
            }
        })
        .await;
    }

    /// Forgets the task of the sender, which is about to end. Its frames may stay queued for long.
    pub(crate) fn retire(&self) {
        drop(self.waiting.take());
    }

    fn charge(lane: &Arc<Self>, bytes: usize) -> Option<Charge<S>> {
        let with = |queued| lane.with(queued, bytes);
        let charged = lane
            .queued
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, with);
        charged.is_ok().then(|| Charge {
            lane: Arc::clone(lane),
            bytes,
        })
    }

    /// Returns the queued bytes including a frame of that cost, or `None` if there is no room for it.
    fn with(&self, queued: usize, bytes: usize) -> Option<usize> {
        let sum = queued.saturating_add(bytes);
        (queued == 0 || sum <= self.share).then_some(sum)
    }
}

impl<S> Charge<S> {
    pub(crate) fn sender(&self) -> &S {
        &self.lane.sender
    }

    /// Takes over another charge if it is for the same lane.
    pub(crate) fn absorb(&mut self, other: &mut Self) -> bool {
        let is_same = Arc::ptr_eq(&self.lane, &other.lane);
        if is_same {
            self.bytes += mem::take(&mut other.bytes);
        }
        is_same
    }
}

impl<S> Drop for Charge<S> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.lane.queued.fetch_sub(self.bytes, Ordering::AcqRel);
            self.lane.waiting.wake();
        }
    }
}

/// The order of frames: by the turn in which they start, then by their end.
fn turn(start: u64, end: u64) -> (u64, u64) {
    (start / TURN, end)
}

/// What a queued frame costs its sender.
pub(crate) fn cost(frame: &Utf8Bytes) -> usize {
    frame.len().saturating_add(OVERHEAD)
}

/// Reversed: the heap has its greatest element on top, which must be the next frame.
impl<S> Ord for Queued<S> {
    fn cmp(&self, other: &Self) -> Order {
        let key = |queued: &Self| (turn(queued.start, queued.end), queued.number);
        key(other).cmp(&key(self))
    }
}

impl<S> PartialOrd for Queued<S> {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        Some(self.cmp(other))
    }
}

impl<S> PartialEq for Queued<S> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<S> Eq for Queued<S> {}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Wake};

    use futures_util::FutureExt;

    use super::*;

    fn frame(bytes: usize) -> Utf8Bytes {
        "x".repeat(bytes).into()
    }

    struct Task;

    impl Wake for Task {
        fn wake(self: Arc<Self>) {}
    }

    /// A waker holds all memory of its task, even if the task has ended.
    #[test]
    fn a_queue_and_a_lane_that_are_retired_keep_no_task_and_no_frames() {
        let task = Arc::new(Task);
        let waker = Waker::from(Arc::clone(&task));
        let context = &mut Context::from_waker(&waker);
        let (outbox, lane) = (Outbox::new(0), Lane::new('a', 100));
        assert!(pin!(outbox.pop()).as_mut().poll(context).is_pending());
        outbox.push(&lane, frame(36)).expect("there is room");
        assert!(pin!(outbox.pop()).as_mut().poll(context).is_ready());
        assert!(pin!(outbox.pop()).as_mut().poll(context).is_pending());
        outbox.push(&lane, frame(36)).expect("there is room");
        let next = frame(36);
        let has_room = lane.has_room(&next);
        assert!(pin!(has_room).as_mut().poll(context).is_pending());
        outbox.retire();
        lane.retire();
        assert_eq!(Arc::strong_count(&task), 2, "this test has two");
        assert!(outbox.try_pop().is_none());
    }

    /// Pops all frames, and returns their senders in order.
    fn order(outbox: &Outbox<char>) -> String {
        let popped = std::iter::from_fn(|| outbox.try_pop());
        popped
            .map(|next| next.charge.map_or('!', |charge| *charge.sender()))
            .collect()
    }

    #[test]
    fn frames_are_counted_with_their_overhead_until_their_charge_is_dropped() {
        let outbox = Outbox::new(0);
        let lane = Lane::new('a', 200);
        outbox.push(&lane, frame(36)).expect("100 of 200 bytes");
        outbox.push(&lane, frame(36)).expect("200 of 200 bytes");
        assert!(matches!(
            outbox.push(&lane, frame(0)),
            Err(Refused::Full(_))
        ));
        let first = outbox.try_pop().expect("two are queued");
        assert!(outbox.push(&lane, frame(36)).is_err(), "it is not written");
        drop(first);
        outbox.push(&lane, frame(36)).expect("the first is written");
    }

    #[test]
    fn a_frame_larger_than_its_share_passes_when_the_lane_is_empty() {
        let outbox = Outbox::new(0);
        let lane = Lane::new('a', 100);
        outbox.push(&lane, frame(1000)).expect("the lane is empty");
        assert!(outbox.push(&lane, frame(0)).is_err());
        let other = Lane::new('b', 100);
        outbox.push(&other, frame(1000)).expect("it is empty too");
    }

    #[test]
    fn lanes_take_turns_by_bytes() {
        let outbox = Outbox::new(0);
        let [large, small] = ['L', 's'].map(|name| Lane::new(name, usize::MAX));
        for _ in 0..3 {
            outbox.push(&large, frame(1000 - OVERHEAD)).expect("room");
        }
        for _ in 0..20 {
            outbox.push(&small, frame(100 - OVERHEAD)).expect("room");
        }
        assert_eq!(order(&outbox), "sssssssssLssssssssssLsL");
    }

    #[test]
    fn a_sender_of_small_frames_passes_others_more_than_once_in_a_turn() {
        let outbox = Outbox::new(0);
        let greedy = ['A', 'B', 'C', 'D'].map(|name| Lane::new(name, usize::MAX));
        let honest = Lane::new('h', usize::MAX);
        let large = usize::try_from(TURN).expect("it fits");
        for _ in 0..3 {
            for lane in &greedy {
                outbox.push(lane, frame(large)).expect("room");
            }
        }
        let mut popped = String::new();
        for _ in 0..6 {
            outbox.push(&honest, frame(10)).expect("room");
            for _ in 0..2 {
                let next = outbox.try_pop().and_then(|next| next.charge);
                popped.push(*next.expect("all are queued").sender());
            }
        }
        assert_eq!(popped, "hAhBhChDhAhB");
    }

    #[test]
    fn a_small_frame_passes_the_large_ones_that_others_have_queued() {
        let outbox = Outbox::new(0);
        let greedy = ['A', 'B', 'C', 'D'].map(|name| Lane::new(name, usize::MAX));
        for lane in &greedy {
            for _ in 0..8 {
                outbox.push(lane, frame(1000)).expect("room");
            }
        }
        for _ in 0..13 {
            outbox.try_pop().expect("32 are queued");
        }
        let honest = Lane::new('h', usize::MAX);
        outbox.push(&honest, frame(1)).expect("room");
        assert!(order(&outbox).starts_with('h'));
    }

    #[test]
    fn a_lane_that_was_idle_gets_no_more_than_its_turn() {
        let outbox = Outbox::new(0);
        let [busy, idle] = ['b', 'i'].map(|name| Lane::new(name, usize::MAX));
        for _ in 0..50 {
            outbox.push(&busy, frame(100)).expect("room");
            outbox.try_pop().expect("one is queued");
        }
        for lane in [&busy, &busy, &idle, &idle] {
            outbox.push(lane, frame(100)).expect("room");
        }
        assert_eq!(order(&outbox), "ibib");
    }

    #[test]
    fn a_notice_comes_behind_the_frames_of_its_sender() {
        let outbox = Outbox::new(200);
        let lane = Lane::new('a', 200);
        for bytes in [1, 2, 3] {
            outbox.push(&lane, frame(bytes)).expect("room");
        }
        outbox.leave_behind(&lane, Some(frame(0)));
        let lengths = std::iter::from_fn(|| outbox.try_pop()).map(|next| next.frame.len());
        assert_eq!(lengths.collect::<Vec<_>>(), [1, 2, 3, 0]);
        assert_eq!(lane.queued.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn all_departed_senders_take_turns_as_one() {
        let outbox = Outbox::new(usize::MAX);
        let stays = Lane::new('s', usize::MAX);
        for name in ['a', 'b', 'c', 'd'] {
            let leaves = Lane::new(name, usize::MAX);
            for _ in 0..2 {
                outbox.push(&leaves, frame(1000)).expect("room");
            }
            outbox.leave_behind(&leaves, None);
        }
        for _ in 0..4 {
            outbox.push(&stays, frame(1000)).expect("room");
        }
        assert_eq!(order(&outbox), "asasbsbsccdd");
        outbox.push(&stays, frame(1000)).expect("room");
        outbox.leave_behind(&stays, Some(frame(1)));
        assert_eq!(order(&outbox), "s!");
    }

    #[test]
    fn a_sender_that_leaves_an_empty_queue_never_waits() {
        let outbox = Outbox::<char>::new(0);
        let room = outbox.has_room_to_leave();
        assert!(room.now_or_never().is_some());
    }

    #[test]
    fn a_sender_that_leaves_waits_while_too_much_is_left_behind() {
        let outbox = Outbox::new(1000);
        let leave = |bytes| {
            let lane = Lane::new('a', usize::MAX);
            outbox.push(&lane, frame(bytes)).expect("room");
            outbox.leave_behind(&lane, None);
        };
        leave(900);
        let mut room = pin!(outbox.has_room_to_leave());
        assert!(room.as_mut().now_or_never().is_some());
        leave(900);
        let mut room = pin!(outbox.has_room_to_leave());
        assert!(room.as_mut().now_or_never().is_none());
        outbox.try_pop().expect("two are queued");
        assert!(room.now_or_never().is_some());
    }

    #[test]
    fn a_closed_queue_refuses_frames_and_keeps_what_it_has() {
        let outbox = Outbox::new(1000);
        let lane = Lane::new('a', 1000);
        outbox.push(&lane, frame(1)).expect("room");
        outbox.close();
        assert!(matches!(outbox.push(&lane, frame(1)), Err(Refused::Closed)));
        let too_large = outbox.push(&lane, frame(10_000));
        assert!(matches!(too_large, Err(Refused::Closed)));
        outbox.leave_behind(&lane, Some(frame(1)));
        assert_eq!(order(&outbox), "a");
        assert_eq!(lane.queued.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn waiting_tasks_are_woken() {
        let outbox = Outbox::new(0);
        let lane = Lane::new('a', 100);
        let mut popped = pin!(outbox.pop());
        assert!(popped.as_mut().now_or_never().is_none());
        outbox.push(&lane, frame(1000)).expect("the lane is empty");
        let next = popped.now_or_never().expect("a frame is there");

        let waiting = frame(1);
        let mut room = pin!(lane.has_room(&waiting));
        assert!(room.as_mut().now_or_never().is_none());
        drop(next);
        assert!(room.now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_frame_wakes_the_task_that_pops_and_its_end_the_one_that_pushes() {
        let outbox = Arc::new(Outbox::new(0));
        let popping = tokio::spawn({
            let outbox = Arc::clone(&outbox);
            async move {
                for bytes in 0..100 {
                    assert_eq!(outbox.pop().await.frame.len(), bytes);
                }
            }
        });
        let lane = Lane::new('a', 100);
        for bytes in 0..100 {
            let mut next = frame(bytes);
            while let Err(Refused::Full(again)) = outbox.push(&lane, next) {
                next = again;
                lane.has_room(&next).await;
            }
        }
        popping.await.expect("all came in their order");
    }
}
