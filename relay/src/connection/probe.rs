//! The question whether a peer is alive, asked once for all who wait for the answer.

use std::sync::{Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};

/// How many may wait for an answer.
const MOST: usize = 8;

/// The answer to come.
pub(crate) type Answer = Shared<BoxFuture<'static, bool>>;

/// The probe of one peer. Those who wait for the answer keep it; this does not.
#[derive(Debug, Default)]
pub(crate) struct Probe(Mutex<Option<WeakShared<BoxFuture<'static, bool>>>>);

impl Probe {
    /// Waits with others for the answer, or asks if nobody waits. Returns `None` if too many wait.
    pub(crate) fn join(&self, ask: impl FnOnce() -> BoxFuture<'static, bool>) -> Option<Answer> {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pending = asked.as_ref().and_then(WeakShared::upgrade);
        if let Some(pending) = pending.filter(|pending| pending.peek().is_none()) {
            // This one counts too.
            return (pending.strong_count() <= Some(MOST)).then_some(pending);
        }
        let answer = ask().shared();
        *asked = answer.downgrade();
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_question_is_asked_once_for_all_who_wait_and_only_so_many_do() {
        let probe = Probe::default();
        let asked = Cell::new(0);
        for round in 1..3 {
            let (answer, answered) = oneshot::channel();
            let mut answered = Some(answered);
            let mut join = || {
                probe.join(|| {
                    asked.set(asked.get() + 1);
                    let answered = answered.take().expect("asked once");
                    async { answered.await.unwrap_or(false) }.boxed()
                })
            };
            let mut waiting: Vec<_> = (0..MOST).map(|_| join().expect("a few")).collect();
            assert!(join().is_none());
            // One who gives up makes room.
            waiting.pop();
            waiting.push(join().expect("there is room"));
            assert_eq!(asked.get(), round);
            answer.send(round == 1).expect("all wait");
            for waiter in waiting {
                assert_eq!(waiter.await, round == 1);
            }
        }
    }

    #[tokio::test]
    async fn an_answer_is_not_used_again() {
        let probe = Probe::default();
        let first = probe.join(|| async { true }.boxed()).expect("the first");
        assert!(first.clone().await);
        let second = probe.join(|| async { false }.boxed()).expect("the first");
        assert!(!second.await);
        assert!(first.await);
    }
}
