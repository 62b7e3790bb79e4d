//! A time limit for writes.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::time::{Sleep, sleep};
use tracing::debug;

/// A time limit for each write.
pub(super) struct WriteLimit {
    limit: Duration,
    address: IpAddr,
    /// Runs while a write is blocked.
    timer: Option<Pin<Box<Sleep>>>,
    exceeded: Counter,
}

impl WriteLimit {
    pub(super) fn new(limit: Duration, address: IpAddr, exceeded: Counter) -> Self {
        Self {
            limit,
            address,
            timer: None,
            exceeded,
        }
    }

    /// Turns a write that is blocked for too long into an error.
    pub(super) fn apply(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.timer = None;
            return written;
        }
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        timer.as_mut().poll(context).map(|()| {
            self.exceeded.inc();
            debug!(address = %self.address, "connection closed: the response is not read");
            Err(io::ErrorKind::TimedOut.into())
        })
    }
}
