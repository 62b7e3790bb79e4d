//! The connection of a phone: registers, forwards to its binary, leaves a notice.

use std::mem;
use std::sync::Arc;

use hyper::upgrade::Upgraded;
use switchboard::{Conn, ConnRef, Membership, RegisterError};
use tracing::{debug, info, warn};

use super::outbox::{Lane, Refused};
use super::peer::{Peer, Sender};
use super::relay::Relay;
use super::socket::{self, Gone, Reader};
use crate::operate::metrics::Refusals;
use crate::protocol::close::Close;
use crate::protocol::endpoint::Endpoint;
use crate::protocol::envelope::Wrapper;

pub(crate) async fn serve(relay: &Relay, upgraded: Upgraded, server_id: &str, peer: Arc<Peer>) {
    let (mut reader, mut writer) = socket::open(relay, upgraded, Endpoint::Client, &peer).await;
    let registered = relay.registry.register_phone(server_id, Arc::clone(&peer));
    // A shutdown may have drained the registry before this registration.
    if relay.stopping.is_cancelled() {
        peer.end(Close::SHUTTING_DOWN);
    }
    let membership = match registered {
        Ok(membership) => membership,
        Err(error) => {
            debug!(%error, "phone refused");
            if !relay.stopping.is_cancelled() {
                peer.end(refusal(&error, &relay.metrics.refusals));
            }
            return socket::close(reader, writer).await;
        }
    };
    debug!(conn_id = ?peer.conn_id(), "phone connected");
    let phone = Phone {
        relay,
        membership: &membership,
        wrapper: Wrapper::new(peer.conn_id()),
        uplink: peer.uplink(relay.config.outbox as usize),
    };
    let gone = tokio::select! {
        gone = phone.forward(&mut reader) => gone,
        gone = writer.run() => gone,
    };
    debug!(conn_id = ?peer.conn_id(), code = gone.code, "phone disconnected");
    peer.abort(Close::NORMAL);
    let Phone {
        wrapper, uplink, ..
    } = phone;
    tokio::join!(
        leave(membership, &uplink, wrapper.closed(gone.code)),
        socket::close(reader, writer),
    );
}

fn refusal(error: &RegisterError<Peer>, refusals: &Refusals) -> Close {
    let (count, close) = match error {
        RegisterError::NoServer(_) => (&refusals.no_server, Close::NO_SERVER),
        RegisterError::AtCapacity(_) => (&refusals.too_many_phones, Close::TOO_MANY_PHONES),
        // The random conn-id is taken. The next attempt draws another one.
        RegisterError::DuplicateConnId(_) => (&refusals.conn_id_taken, Close::TRY_AGAIN),
        other => {
            warn!(error = %other, "phone refused for an unknown reason");
            return Close::TRY_AGAIN;
        }
    };
    count.inc();
    close
}

/// A registered phone.
struct Phone<'a> {
    relay: &'a Relay,
    membership: &'a Membership<Peer>,
    wrapper: Wrapper,
    /// Its lane in the outbox of its binary.
    uplink: Arc<Lane<Sender>>,
}

impl Phone<'_> {
    /// Forwards frames from the phone to its binary. While its lane in the binary's outbox is full, it waits and reads
    /// nothing, so a slow binary slows its phones down.
    async fn forward(&self, reader: &mut Reader<'_>) -> Gone {
        let peer = self.membership.conn();
        loop {
            let frame = match reader.frame().await {
                Ok(frame) => frame,
                Err(gone) => return gone,
            };
            let envelope = match self.wrapper.frame(&frame) {
                Ok(envelope) => envelope.into(),
                Err(error) => {
                    debug!(conn_id = ?peer.conn_id(), %error, "phone closed");
                    self.relay.metrics.rejected.not_json.inc();
                    peer.end(Close::NOT_JSON);
                    return Gone::WITHOUT_CODE;
                }
            };
            drop(frame);
            // Not by a `Route`: while the phone is silent, perhaps for hours, it would keep alive the binary and all
            // phones as of the last frame.
            let undelivered = Undelivered(self.relay);
            let Some(binary) = self.membership.binary() else {
                if self.membership.is_registered() {
                    return self.unread();
                }
                // Displaced: the task that displaced the phone is about to close it with the right code.
                continue;
            };
            let delivered = match binary.offer_from(&self.uplink, envelope) {
                Err(Refused::Full(envelope)) => {
                    let binary = ConnRef::into_arc(binary);
                    let delivered = binary.deliver_from(&self.uplink, envelope);
                    peer.pulse.without_reading(delivered).await
                }
                done => done,
            };
            if delivered.is_err() {
                return self.unread();
            }
            mem::forget(undelivered);
        }
    }

    /// Closes the phone because its frame cannot be delivered.
    fn unread(&self) -> Gone {
        let peer = self.membership.conn();
        if peer.end(Close::UNDELIVERED) {
            info!(conn_id = ?peer.conn_id(), "phone closed: no binary for its frame");
        }
        Gone::WITHOUT_CODE
    }
}

/// A frame on its way to the binary. Counts it as undelivered when dropped, also if the phone is closed while the frame
/// waits for room.
struct Undelivered<'a>(&'a Relay);

impl Drop for Undelivered<'_> {
    fn drop(&mut self) {
        self.0.metrics.at(Endpoint::Server).undelivered.inc();
    }
}

/// Unregisters the phone and sends a notice to its binary. There is no notice if the binary requested the close, or if
/// the phone was displaced.
///
/// The notice stays in the binary's outbox after the phone is gone. The phone waits only while phones that left earlier
/// have too much queued there.
async fn leave(membership: Membership<Peer>, uplink: &Arc<Lane<Sender>>, notice: String) {
    let asked = membership.conn().asked_by_binary();
    // Looked up before the phone is unregistered: afterwards it has no binary.
    let binary = membership.binary().map(ConnRef::into_arc);
    if let Some(binary) = &binary {
        binary.has_room_to_leave().await;
    }
    let registered = membership.unregister();
    if let Some(binary) = binary {
        let notice = (registered && !asked).then(|| notice.into());
        binary.leave_behind(uplink, notice);
    }
}
