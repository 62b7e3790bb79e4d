//! A future that is polled by hand, and a record of whether it was woken.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

/// Waits for the result of a future.
pub struct Waiter<T> {
    future: Pin<Box<dyn Future<Output = T> + Send>>,
    woken: Arc<Woken>,
}

/// Whether the future was woken after it was polled last.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

impl<T> Waiter<T> {
    pub fn new(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self {
            future: Box::pin(future),
            // The first poll needs no wake-up.
            woken: Arc::new(Woken(AtomicBool::new(true))),
        }
    }

    pub fn poll(&mut self) -> Option<T> {
        self.woken.0.store(false, SeqCst);
        let waker = Waker::from(Arc::clone(&self.woken));
        match self.future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }

    /// Polls the future while no other call is in flight. If it is ready now, it must have been woken.
    pub fn poll_at_rest(&mut self) -> Option<T> {
        let was_woken = self.woken.0.load(SeqCst);
        let result = self.poll();
        assert!(result.is_none() || was_woken, "a wake-up was lost");
        result
    }
}
