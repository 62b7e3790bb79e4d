//! Drives one connection in one task: reads the available messages, sends the ordered ones, and flushes once
//! for all of them.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error as WsError, Message, Utf8Bytes};

use crate::dial::Socket;

/// The number of messages each way before the task yields to others.
const TURN: usize = 64;

/// The behaviour of a connection.
pub(crate) trait Role {
    /// Whether it can take another message now. If not, it must have a message to send.
    fn wants_more(&self) -> bool;

    /// Called for each message that arrives.
    fn received(&mut self, message: Utf8Bytes);

    /// Returns the next message to send once there is one.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Message>;
}

/// The way in which a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error("closed {} {}", u16::from(.0.code), .0.reason)]
    Closed(CloseFrame),
    #[error("closed without a code")]
    Silently,
    #[error("connection lost")]
    Lost,
    /// The protocol is JSON in text messages, and real phones disconnect at the first binary message.
    #[error("binary message received")]
    BinaryMessage,
    #[error("connection broken: {0}")]
    Broken(WsError),
}

impl From<WsError> for Ended {
    fn from(error: WsError) -> Self {
        match error {
            WsError::ConnectionClosed | WsError::AlreadyClosed => Self::Silently,
            WsError::Io(_) | WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
                Self::Lost
            }
            error => Self::Broken(error),
        }
    }
}

/// Drives the connection until it ends.
pub(crate) async fn drive(socket: &mut Socket, role: &mut impl Role) -> Ended {
    let mut unflushed = false;
    poll_fn(|context| {
        let read = read(socket, role, context)?;
        let written = write(socket, role, context, &mut unflushed)?;
        if unflushed && socket.poll_flush_unpin(context)?.is_ready() {
            unflushed = false;
        }
        if read == TURN || written == TURN {
            context.waker().wake_by_ref();
        }
        Poll::Pending::<Result<Ended, Ended>>
    })
    .await
    .unwrap_or_else(|ended| ended)
}

/// Returns the next text message.
pub(crate) async fn next(socket: &mut Socket) -> Result<Utf8Bytes, Ended> {
    poll_fn(|context| poll_message(socket, context)).await
}

fn poll_message(socket: &mut Socket, context: &mut Context<'_>) -> Poll<Result<Utf8Bytes, Ended>> {
    loop {
        return Poll::Ready(match ready!(socket.poll_next_unpin(context)) {
            Some(Ok(Message::Text(message))) => Ok(message),
            Some(Ok(Message::Binary(_))) => Err(Ended::BinaryMessage),
            Some(Ok(Message::Close(Some(frame)))) => Err(Ended::Closed(frame)),
            Some(Ok(Message::Close(None))) | None => Err(Ended::Silently),
            // The WebSocket layer answers pings.
            Some(Ok(_)) => continue,
            Some(Err(error)) => Err(error.into()),
        });
    }
}

fn read(
    socket: &mut Socket,
    role: &mut impl Role,
    context: &mut Context<'_>,
) -> Result<usize, Ended> {
    let mut count = 0;
    while count < TURN && role.wants_more() {
        let Poll::Ready(message) = poll_message(socket, context) else {
            break;
        };
        role.received(message?);
        count += 1;
    }
    Ok(count)
}

fn write(
    socket: &mut Socket,
    role: &mut impl Role,
    context: &mut Context<'_>,
    unflushed: &mut bool,
) -> Result<usize, Ended> {
    let mut count = 0;
    while count < TURN && socket.poll_ready_unpin(context)?.is_ready() {
        let Poll::Ready(message) = role.poll_next(context) else {
            break;
        };
        socket.start_send_unpin(message)?;
        *unflushed = true;
        count += 1;
    }
    Ok(count)
}
