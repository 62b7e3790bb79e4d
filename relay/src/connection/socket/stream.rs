//! The WebSocket of a connection.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;

use crate::transport::websocket::WebSocket;

/// The WebSocket that both halves share. They belong to one task, so nobody ever waits for the lock.
#[derive(Clone)]
pub(super) struct Socket(Arc<Mutex<WebSocket<TokioIo<Upgraded>>>>);

impl Socket {
    pub(super) fn new(socket: WebSocket<TokioIo<Upgraded>>) -> Self {
        Self(Arc::new(Mutex::new(socket)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, WebSocket<TokioIo<Upgraded>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
