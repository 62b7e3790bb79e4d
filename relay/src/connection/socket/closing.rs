//! Closing a connection: the last frames, the close frame, and the peer's reply.

use std::future::poll_fn;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::reader::{Event, Reader, State};
use super::writer::{WriteFailed, Writer};
use crate::connection::peer::{Manner, Peer, Sender};
use crate::connection::who::{Gone, about};
use crate::operate::metrics::Disconnects;
use crate::protocol::close::{self, Close};

/// How long the peer may take to reply to a close frame.
const CLOSING_TIME: Duration = Duration::from_secs(3);

/// Closes the connection, whose ending must be set. Sends the close frame and waits a bounded time for the peer's
/// reply. If the peer sent a close frame first, replies to it instead.
pub(crate) async fn close(reader: Reader<'_>, mut writer: Writer<'_>, gone: Gone) {
    let mut end = End {
        disconnects: &writer.relay.metrics.disconnects,
        peer: Arc::clone(&writer.peer),
        gone,
        is_sent: false,
    };
    let peer_closed = reader.state == State::Closed;
    let manner = writer.peer.ending().await.manner;
    if peer_closed || manner == Manner::AtOnce {
        writer.give_up_queue();
        writer.close_senders();
    }
    // One limit for all writes, so that a peer that trickles cannot hold its place for long.
    let peer = Arc::clone(&writer.peer);
    let limit = writer.relay.config.write_timeout;
    let said = peer
        .pulse
        .write(limit, writer.say_goodbye(peer_closed))
        .await;
    writer.give_up_queue();
    writer.give_up_batch();
    end.is_sent = matches!(said, Some(Ok(())));
    drop(end);
    if let Some(Ok(())) = said {
        // On a timeout, the connection is dropped.
        let _ = timeout(CLOSING_TIME, drain(reader)).await;
    }
}

/// Counts and logs the end of a connection when dropped, also if the task is dropped, at the end of a shutdown.
struct End<'a> {
    disconnects: &'a Disconnects,
    peer: Arc<Peer>,
    gone: Gone,
    /// The relay has sent its close frame.
    is_sent: bool,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        let Self { peer, gone, .. } = &*self;
        let count = match gone {
            Gone::ClosedByPeer(_) => &self.disconnects.peer,
            Gone::ClosedByRelay => &self.disconnects.relay,
            Gone::Broken(_) => &self.disconnects.network,
        };
        count.inc();
        let ending = peer.ending_so_far().map(|ending| &ending.close);
        let (sent, why) = match gone {
            Gone::ClosedByPeer(close) => (close.as_ref(), None),
            Gone::ClosedByRelay => (
                ending.filter(|close| self.is_sent && close::may_be_sent(close.code)),
                ending.map(|close| close.why.to_owned()),
            ),
            Gone::Broken(error) => (None, Some(error.to_string())),
        };
        let reason = sent.map(|close| close.reason.as_ref());
        about!(
            info,
            peer,
            by = %gone,
            code = sent.map(|close| close.code),
            reason = reason.filter(|reason| !reason.is_empty()),
            why,
            "{} disconnected",
            peer.who().endpoint.peer()
        );
    }
}

/// Reads until the peer has replied to the close frame. If the socket were closed with unread bytes in it, the system
/// would reset the connection, and the peer might never see the close frame.
async fn drain(mut reader: Reader<'_>) {
    if reader.state == State::ClosedUnseen {
        return;
    }
    if reader.state != State::Garbled {
        while let Event::Message(_) = poll_fn(|context| reader.poll_stream(context)).await {}
        return;
    }
    // Tells the peer that nothing follows the close frame, so that it closes its side.
    let _ = poll_fn(|context| reader.socket.lock().poll_shutdown(context)).await;
    while let Ok(1..) = poll_fn(|context| reader.socket.lock().poll_discard(context)).await {}
}

impl Writer<'_> {
    /// Writes the frames that are still to be delivered, and the close frame. If the peer closed first, flushes the
    /// reply that the library has prepared.
    async fn say_goodbye(&mut self, peer_closed: bool) -> Result<(), WriteFailed> {
        if !peer_closed {
            let peer = Arc::clone(&self.peer);
            let ending = peer.ending().await;
            if ending.manner != Manner::AtOnce {
                self.ready().await?;
                while let Some(next) = self.peer.try_pop() {
                    self.batch(next).await?;
                }
            }
            self.ready().await?;
            self.write(ending.close.message())?;
        }
        self.flush().await
    }

    /// Counts the queued frames as undelivered, and closes the phones that sent them.
    fn give_up_queue(&mut self) {
        let mut frames = 0;
        while let Some(queued) = self.peer.try_pop() {
            if let Some(charge) = queued.charge {
                frames += 1;
                close_sender(charge.sender());
            }
        }
        self.undelivered(frames);
    }

    /// The same for frames that were written and not flushed.
    fn give_up_batch(&mut self) {
        self.close_senders();
        self.batch.charges.clear();
        let frames = mem::take(&mut self.batch.frames);
        self.undelivered(frames);
    }

    /// Closes the phones that sent frames that were written and not flushed.
    fn close_senders(&self) {
        for charge in &self.batch.charges {
            close_sender(charge.sender());
        }
    }

    fn undelivered(&self, frames: u64) {
        if frames > 0 {
            let metrics = self.relay.metrics.at(self.endpoint);
            metrics.undelivered.inc_by(frames);
            about!(debug, self.peer, frames, "frames undelivered");
        }
    }
}

fn close_sender(sender: &Sender) {
    if let Some(phone) = sender {
        phone.end(Close::UNDELIVERED);
    }
}
