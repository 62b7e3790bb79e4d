use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;

/// A connection as the registry sees it: it has a name, and lookups return it.
///
/// The registry stores connections and returns them. It never calls [`close`](Self::close) or
/// [`close_with`](Self::close_with), and [`send`](Self::send) only in
/// [`Phones::broadcast`](crate::Phones::broadcast). The trait has these methods so that
/// code that looks a connection up can use it, and so that `Registry<dyn Conn>` works.
///
/// ```
/// use switchboard::bytes::Bytes;
/// use switchboard::{Conn, SendError};
///
/// struct Outbox {
///     conn_id: String,
///     frames: std::sync::mpsc::SyncSender<Bytes>,
/// }
///
/// impl Conn for Outbox {
///     fn conn_id(&self) -> &str {
///         &self.conn_id
///     }
///     fn send(&self, frame: Bytes) -> Result<(), SendError> {
///         use std::sync::mpsc::TrySendError;
///         self.frames.try_send(frame).map_err(|error| match error {
///             TrySendError::Full(_) => SendError::Full,
///             TrySendError::Disconnected(_) => SendError::Closed,
///         })
///     }
///     fn close(&self) {}
/// }
/// ```
pub trait Conn: Send + Sync + 'static {
    /// The name of this connection among the phones of its server-id.
    ///
    /// It must be stable and cheap. The registry reads it once, when the connection is registered as a phone,
    /// and never while it holds anything that another thread could wait for. The message of a
    /// [`RegisterError`](crate::RegisterError) reads it again.
    fn conn_id(&self) -> &str;

    /// Queues a frame for the peer. Must not block.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] if the peer does not keep up, [`SendError::Closed`] if it is gone.
    fn send(&self, frame: Bytes) -> Result<(), SendError>;

    /// Closes the connection. Calling it again does nothing.
    fn close(&self);

    /// Closes the connection with a WebSocket close code and a reason, if the transport has them.
    ///
    /// The default ignores both and calls [`close`](Self::close).
    fn close_with(&self, code: u16, reason: &str) {
        let _ = (code, reason);
        self.close();
    }
}

macro_rules! forward_conn {
    ($($pointer:ident),*) => {$(
        impl<T: Conn + ?Sized> Conn for $pointer<T> {
            fn conn_id(&self) -> &str {
                (**self).conn_id()
            }
            fn send(&self, frame: Bytes) -> Result<(), SendError> {
                (**self).send(frame)
            }
            fn close(&self) {
                (**self).close();
            }
            fn close_with(&self, code: u16, reason: &str) {
                (**self).close_with(code, reason);
            }
        }
    )*};
}
forward_conn!(Arc, Box);

/// The reason why a frame was not queued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The connection is closed; nothing sent to it will arrive. If its binary or phone comes back, a lookup
    /// finds the new connection.
    #[error("the connection is closed")]
    Closed,
    /// The connection's outbox is full: its peer does not keep up. Drop the frame, or close the connection.
    #[error("the connection's outbox is full")]
    Full,
    /// Any other error of the transport.
    #[error(transparent)]
    Other(#[from] Box<dyn Error + Send + Sync>),
}
