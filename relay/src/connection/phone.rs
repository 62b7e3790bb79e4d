//! The connection of a phone: registers, perhaps after a wait, forwards to its binary, leaves a notice.

use std::future::pending;
use std::mem;
use std::sync::Arc;

use hyper::upgrade::Upgraded;
use switchboard::{Conn, ConnRef, Membership, RegisterError};
use tokio::time::{Instant, timeout, timeout_at};
use tungstenite::Utf8Bytes;

use super::held::Held;
use super::outbox::{Lane, Refused};
use super::peer::{Peer, Sender};
use super::relay::Relay;
use super::room::{self, Registered};
use super::socket::{self, Reader};
use super::who::{Gone, about};
use crate::operate::metrics::Refusals;
use crate::protocol::close::Close;
use crate::protocol::endpoint::Endpoint;
use crate::protocol::envelope::Wrapper;

/// Serves the connection. It registers only if its server-id has fewer than `max_phones` phones.
pub(crate) async fn serve(relay: &Relay, upgraded: Upgraded, peer: Arc<Peer>, max_phones: u32) {
    let (mut reader, mut writer) = socket::open(relay, upgraded, Endpoint::Client, &peer);
    let phone = Phone {
        relay,
        peer: &peer,
        max_phones: max_phones as usize,
        wrapper: Wrapper::new(peer.conn_id()),
        uplink: peer.uplink(relay.config.outbox as usize),
    };
    let mut membership = None;
    // The writer runs from the start, so that a phone that waits for its binary is pinged as any other.
    let gone = tokio::select! {
        gone = phone.live(&mut reader, &mut membership) => gone,
        gone = writer.run() => gone,
    };
    peer.abort(Close::NORMAL);
    let Phone {
        wrapper, uplink, ..
    } = phone;
    if let Some(membership) = membership {
        tokio::join!(
            leave(membership, &uplink, wrapper.closed(gone.code())),
            socket::close(reader, writer, gone),
        );
    } else {
        socket::close(reader, writer, gone).await;
    }
    uplink.retire();
    peer.retire();
}

fn refusal(error: &RegisterError<Peer>, refusals: &Refusals) -> Close {
    let (count, close) = match error {
        RegisterError::NoServer(_) => (&refusals.no_server, Close::NO_SERVER),
        RegisterError::AtCapacity(_) => (&refusals.too_many_phones, Close::TOO_MANY_PHONES),
        // The random conn-id is taken. The next attempt draws another one.
        RegisterError::DuplicateConnId(_) => (&refusals.conn_id_taken, Close::TRY_AGAIN),
        // A refusal that does not exist yet.
        _ => return Close::TRY_AGAIN,
    };
    count.inc();
    close
}

/// A phone, registered or not.
struct Phone<'a> {
    relay: &'a Relay,
    peer: &'a Arc<Peer>,
    max_phones: usize,
    wrapper: Wrapper,
    /// Its lane in the outbox of its binary.
    uplink: Arc<Lane<Sender>>,
}

impl Phone<'_> {
    /// Registers the phone, which may wait for its binary, and forwards its frames. Sets `membership` once it is
    /// registered.
    async fn live(
        &self,
        reader: &mut Reader<'_>,
        membership: &mut Option<Membership<Peer>>,
    ) -> Gone {
        let mut held = Held::new(self.relay);
        let registered = match self.register() {
            Err(RegisterError::NoServer(_)) if !self.relay.config.wait_for_binary.is_zero() => {
                match self.wait(reader, &mut held).await {
                    Ok(registered) => registered,
                    Err(gone) => return gone,
                }
            }
            registered => registered,
        };
        let registered = match registered {
            Err(RegisterError::AtCapacity(_)) => match self.make_room(reader, &mut held).await {
                Ok(registered) => registered,
                Err(gone) => return gone,
            },
            registered => registered,
        };
        let membership = match registered {
            Ok(registered) => membership.insert(registered),
            Err(error) => {
                if !self.relay.stopping.is_cancelled() {
                    let refusals = &self.relay.metrics.refusals;
                    self.peer.end(refusal(&error, refusals));
                }
                return Gone::ClosedByRelay;
            }
        };
        about!(info, self.peer, "phone connected");
        let has_spoken = !held.is_empty();
        while let Some(envelope) = held.pop() {
            if let Err(gone) = self.deliver(membership, envelope).await {
                return gone;
            }
        }
        drop(held);
        if !has_spoken && let Err(gone) = self.begin(reader, membership).await {
            return gone;
        }
        self.forward(reader, membership).await
    }

    fn server_id(&self) -> &str {
        &self.peer.who().server_id
    }

    /// Forwards the first frame, for which there may be a time limit.
    async fn begin(
        &self,
        reader: &mut Reader<'_>,
        membership: &Membership<Peer>,
    ) -> Result<(), Gone> {
        let limit = self.relay.config.first_frame_timeout;
        if limit.is_zero() {
            return Ok(());
        }
        let Ok(envelope) = timeout(limit, self.read(reader)).await else {
            if self.peer.end(Close::NOTHING_SAID) {
                self.relay.metrics.refusals.nothing_said.inc();
            }
            return Err(Gone::ClosedByRelay);
        };
        self.deliver(membership, envelope?).await
    }

    /// Registers the phone after silent phones of its full server-id were closed. What the phone sends meanwhile is
    /// held.
    async fn make_room(
        &self,
        reader: &mut Reader<'_>,
        held: &mut Held<'_>,
    ) -> Result<Registered, Gone> {
        tokio::select! {
            biased;
            () = self.relay.stopping.cancelled() => {
                self.peer.end(Close::SHUTTING_DOWN);
                Err(Gone::ClosedByRelay)
            }
            registered = room::make(self.relay, self.peer, || self.register()) => Ok(registered),
            gone = self.hold(reader, held) => Err(gone),
        }
    }

    fn register(&self) -> Registered {
        let registry = &self.relay.registry;
        let peer = Arc::clone(self.peer);
        let registered = registry.register_phone_with_cap(self.server_id(), peer, self.max_phones);
        // A shutdown may have drained the registry before this registration.
        if self.relay.stopping.is_cancelled() {
            self.peer.end(Close::SHUTTING_DOWN);
        }
        registered
    }

    /// Waits for a binary, and then registers. Returns the refusal if there is none in time. What the phone sends
    /// meanwhile is held.
    ///
    /// Nothing is stored for the server-id but in this future, so a phone that names any server-id leaves nothing
    /// behind.
    async fn wait(&self, reader: &mut Reader<'_>, held: &mut Held<'_>) -> Result<Registered, Gone> {
        let Relay {
            config,
            registry,
            metrics,
            stopping,
            ..
        } = self.relay;
        about!(debug, self.peer, "phone waits for its binary");
        let waiting = metrics.waits.begin();
        let deadline = Instant::now() + config.wait_for_binary;
        loop {
            let binary = timeout_at(deadline, registry.wait_for_binary(self.server_id()));
            let in_time = tokio::select! {
                biased;
                () = stopping.cancelled() => {
                    self.peer.end(Close::SHUTTING_DOWN);
                    return Err(Gone::ClosedByRelay);
                }
                // Polled before the phone is read: a phone that floods the relay must not outstay its time.
                binary = binary => binary.is_ok(),
                gone = self.hold(reader, held) => return Err(gone),
            };
            // Also if the time is over: a binary may have come since.
            match self.register() {
                // The binary has gone again, without a grace. There may be another one in time.
                Err(RegisterError::NoServer(_)) if in_time => {}
                registered => {
                    match registered {
                        Ok(_) => waiting.joined(),
                        Err(RegisterError::NoServer(_)) => waiting.timed_out(),
                        Err(_) => {}
                    }
                    return Ok(registered);
                }
            }
        }
    }

    /// Reads what the phone sends before its binary is there. When its share is full, reads nothing. Completes when
    /// the phone is gone. May be dropped and called again: no frame is lost.
    async fn hold(&self, reader: &mut Reader<'_>, held: &mut Held<'_>) -> Gone {
        while held.has_room() {
            match self.read(reader).await {
                Ok(envelope) => held.push(envelope),
                Err(gone) => return gone,
            }
        }
        self.peer.pulse.without_reading(pending()).await
    }

    /// Forwards frames from the phone to its binary. While its lane in the binary's outbox is full, it waits and
    /// reads nothing, so a slow binary slows its phones down.
    async fn forward(&self, reader: &mut Reader<'_>, membership: &Membership<Peer>) -> Gone {
        loop {
            let delivered = match self.read(reader).await {
                Ok(envelope) => self.deliver(membership, envelope).await,
                Err(gone) => return gone,
            };
            if let Err(gone) = delivered {
                return gone;
            }
        }
    }

    /// Returns the next frame of the phone in its envelope. A frame that is not JSON ends the connection.
    async fn read(&self, reader: &mut Reader<'_>) -> Result<Utf8Bytes, Gone> {
        let frame = reader.frame().await?;
        match self.wrapper.frame(&frame) {
            Ok(envelope) => Ok(envelope.into()),
            Err(error) => {
                about!(debug, self.peer, %error, "frame is not JSON");
                self.relay.metrics.rejected.not_json.inc();
                self.peer.end(Close::NOT_JSON);
                Err(Gone::ClosedByRelay)
            }
        }
    }

    /// Queues an envelope for the binary, once there is room for it. Closes the phone if it cannot be delivered.
    async fn deliver(
        &self,
        membership: &Membership<Peer>,
        envelope: Utf8Bytes,
    ) -> Result<(), Gone> {
        // Not by a `Route`: while the phone is silent, perhaps for hours, it would keep alive the binary and all
        // phones as of the last frame.
        let undelivered = Undelivered(self.relay);
        let Some(binary) = membership.binary() else {
            if membership.is_registered() {
                return Err(self.unread());
            }
            // Displaced: the task that displaced the phone is about to close it with the right code.
            return Ok(());
        };
        let delivered = match binary.offer_from(&self.uplink, envelope) {
            Err(Refused::Full(envelope)) => {
                let binary = ConnRef::into_arc(binary);
                let delivered = binary.deliver_from(&self.uplink, envelope);
                self.peer.pulse.without_reading(delivered).await
            }
            done => done,
        };
        if delivered.is_err() {
            return Err(self.unread());
        }
        mem::forget(undelivered);
        Ok(())
    }

    /// Closes the phone because its frame cannot be delivered.
    fn unread(&self) -> Gone {
        self.peer.end(Close::UNDELIVERED);
        Gone::ClosedByRelay
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
