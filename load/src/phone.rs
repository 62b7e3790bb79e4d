//! A phone: sends the ordered frames and counts the received ones.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::SinkExt;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::dial::Socket;
use crate::frame::{self, Stamp};
use crate::link::{self, Ended, Role};
use crate::traffic::{Orders, Traffic};

/// The time that a slow phone, when it reads at last, waits for its connection to end.
const READING_TIME: Duration = Duration::from_secs(5);

/// The time that a binary has to answer a phone's introduction.
const ANSWERING_TIME: Duration = Duration::from_secs(20);

pub(crate) struct Phone {
    traffic: Arc<Traffic>,
    /// Unused in directions where the binaries send.
    orders: Option<Orders>,
}

impl Phone {
    pub(crate) fn new(traffic: Arc<Traffic>, orders: Option<Orders>) -> Self {
        Self { traffic, orders }
    }
}

impl Role for Phone {
    fn wants_more(&self) -> bool {
        true
    }

    fn received(&mut self, message: Utf8Bytes) {
        match frame::read(&message) {
            Some(stamp) => self.traffic.arrived(stamp),
            None => self.traffic.tally.error("phone received a foreign frame"),
        }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Message> {
        let Some(orders) = &mut self.orders else {
            return Poll::Pending;
        };
        match orders.poll_recv(context) {
            Poll::Ready(Some(stamp)) => Poll::Ready(Message::text(self.traffic.frames.make(stamp))),
            _ => Poll::Pending,
        }
    }
}

/// Introduces the phone to its binary. Once the answer has come back through the relay, both know that the
/// phone is registered.
pub(crate) async fn introduce(
    socket: &mut Socket,
    phone: u32,
    traffic: &Traffic,
) -> Result<(), Ended> {
    let hello = traffic.frames.make(Stamp { due: 0, phone });
    socket.send(Message::text(hello)).await?;
    match timeout(ANSWERING_TIME, link::next(socket)).await {
        Ok(answer) => answer.map(|_| ()),
        Err(_) => Err(Ended::Lost),
    }
}

/// Reads everything that a slow phone left unread. Returns how its connection ended, or `None` if it did not.
pub(crate) async fn read_at_last(mut socket: Socket) -> Option<Ended> {
    let ended = async {
        loop {
            if let Err(ended) = link::next(&mut socket).await {
                return ended;
            }
        }
    };
    timeout(READING_TIME, ended).await.ok()
}
