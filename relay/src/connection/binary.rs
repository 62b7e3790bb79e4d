//! The connection of a binary: claims its server-id, forwards to its phones, leaves a grace.

use std::sync::Arc;

use hyper::upgrade::Upgraded;
use switchboard::{Cause, Claim, Server, ServerIdConflict};

use super::displaced;
use super::outbox::Refused;
use super::peer::Peer;
use super::relay::Relay;
use super::socket::{self, Reader, Writer};
use super::who::{Gone, about};
use crate::operate::metrics::Dropped;
use crate::protocol::close::Close;
use crate::protocol::endpoint::Endpoint;
use crate::protocol::envelope::{self, EnvelopeError};
use crate::transport::places::Place;

pub(crate) type Claimed = Result<Claim<Peer>, ServerIdConflict<Peer>>;

/// Claims the server-id. This happens before the response to the upgrade, so that a binary holds its server-id once it
/// has read the response, and may invite phones.
pub(crate) fn claim(relay: &Relay, peer: &Arc<Peer>) -> Claimed {
    let registry = &relay.registry;
    let may_reclaim = |server: &Server<Peer>| may_reclaim(server, peer);
    let claimed = registry.claim_server_if(&peer.who().server_id, Arc::clone(peer), may_reclaim);
    settle(relay, claimed)
}

/// Whether a binary may end the grace of another one.
fn may_reclaim(server: &Server<Peer>, peer: &Peer) -> bool {
    let incumbent = server.binary();
    incumbent.is_none_or(|incumbent| peer.may_replace(incumbent))
}

/// Closes the connections that a claim displaced, and counts the claim.
fn settle(relay: &Relay, mut claimed: Claimed) -> Claimed {
    if let Ok(claim) = &mut claimed
        && let Some(displaced) = claim.take_displaced()
    {
        displaced::close(&displaced);
        let (binary, phones) = (claim.conn(), displaced.phones.len());
        if displaced.cause == Cause::TakenOver {
            relay.metrics.takeovers.inc();
            let incumbent = displaced.binary.as_deref().map(|peer| &*peer.who().conn_id);
            about!(info, binary, incumbent, phones, "server-id taken over");
        } else {
            relay.metrics.reclaims.inc();
            about!(info, binary, phones, "server-id reclaimed");
        }
    }
    claimed
}

/// Evicts a claim whose upgrade failed. There is no grace: no binary was connected, so none can come back.
pub(crate) fn abandon(relay: &Relay, claimed: Claimed) {
    let Ok(claim) = claimed else {
        return;
    };
    let binary = claim.conn();
    binary.abort(Close::NORMAL);
    // Phones may have sent to it already, above all those that waited for it. They are closed below.
    while let Some(queued) = binary.try_pop() {
        if queued.charge.is_some() {
            relay.metrics.at(Endpoint::Server).undelivered.inc();
        }
    }
    if let Some(displaced) = claim.evict() {
        displaced::close(&displaced);
    }
}

/// Serves the connection. The grace that may follow keeps its place.
pub(crate) async fn serve(
    relay: &Relay,
    upgraded: Upgraded,
    claimed: Claimed,
    peer: Arc<Peer>,
    place: Place,
) {
    let (mut reader, mut writer) = socket::open(relay, upgraded, Endpoint::Server, &peer);
    let gone = hold(relay, claimed, &peer, &mut reader, &mut writer).await;
    socket::close(reader, writer, gone).await;
    peer.retire();
    peer.hold(place);
}

/// Holds the server-id while the binary is connected. On return, the ending of the peer is set.
async fn hold(
    relay: &Relay,
    claimed: Claimed,
    peer: &Arc<Peer>,
    reader: &mut Reader<'_>,
    writer: &mut Writer<'_>,
) -> Gone {
    let claim = match take_over(relay, claimed, peer, reader).await {
        Ok(claim) => claim,
        Err(gone) => return gone,
    };
    // A shutdown may have drained the registry before this claim.
    if relay.stopping.is_cancelled() {
        peer.end(Close::SHUTTING_DOWN);
    }
    let epoch = claim.epoch();
    about!(info, peer, %epoch, "binary connected");
    let gone = tokio::select! {
        gone = forward(relay, reader, &claim) => gone,
        gone = writer.run() => gone,
    };
    // Releases the phones that wait for room in its outbox.
    peer.abort(Close::NORMAL);
    gone
}

/// Takes the server-id over from the incumbent, if there is one and it does not answer a ping. If this fails, the
/// ending of the peer is set.
async fn take_over(
    relay: &Relay,
    mut claimed: Claimed,
    peer: &Peer,
    reader: &mut Reader<'_>,
) -> Result<Claim<Peer>, Gone> {
    let refuse = |close, gone| {
        peer.end(close);
        Err(gone)
    };
    let refusals = &relay.metrics.refusals;
    loop {
        let conflict = match claimed {
            Ok(claim) => return Ok(claim),
            Err(conflict) => conflict,
        };
        let incumbent = conflict.incumbent();
        if !peer.may_replace(incumbent) {
            let incumbent = &*incumbent.who().conn_id;
            refusals.wrong_claim_secret.inc();
            about!(info, peer, incumbent, "claim refused");
            return refuse(Close::WRONG_CLAIM_SECRET, Gone::ClosedByRelay);
        }
        let limit = relay.config.probe_timeout;
        let Some(answer) = incumbent.probe(limit, &relay.metrics.probes) else {
            let incumbent = &*incumbent.who().conn_id;
            refusals.too_many_claims.inc();
            about!(info, peer, incumbent, "claim refused");
            return refuse(Close::TOO_MANY_CLAIMS, Gone::ClosedByRelay);
        };
        let answers = tokio::select! {
            biased;
            () = relay.stopping.cancelled() => {
                return refuse(Close::SHUTTING_DOWN, Gone::ClosedByRelay);
            }
            // Its access has expired.
            _ = peer.ending() => return Err(Gone::ClosedByRelay),
            // Polled before the incumbent: a newcomer that has disconnected must not take over.
            gone = wait(relay, peer, reader) => return refuse(Close::NORMAL, gone),
            // An incumbent that is disconnecting does not defend its server-id.
            _ = incumbent.ending() => None,
            answers = answer => Some(answers),
        };
        let incumbent = &*incumbent.who().conn_id;
        match answers {
            Some(true) => {
                refusals.server_id_claimed.inc();
                about!(info, peer, incumbent, "claim refused");
                return refuse(Close::ALREADY_CLAIMED, Gone::ClosedByRelay);
            }
            Some(false) => about!(info, peer, incumbent, "incumbent did not answer"),
            None => about!(debug, peer, incumbent, "incumbent is disconnecting"),
        }
        // If another binary was faster, it is the next incumbent.
        let claimed_now = conflict.take_over_if(|server| may_reclaim(server, peer));
        claimed = settle(relay, claimed_now);
    }
}

/// Drops the envelopes of a binary that does not hold its server-id yet, and so has no phones. Completes when it
/// disconnects.
async fn wait(relay: &Relay, binary: &Peer, reader: &mut Reader<'_>) -> Gone {
    let dropped = &relay.metrics.dropped;
    loop {
        match reader.frame().await {
            Ok(message) => match envelope::parse(&message) {
                Ok(_) => unknown_phone(dropped, binary),
                Err(error) => unusable(dropped, binary, &error),
            },
            Err(gone) => return gone,
        }
    }
}

/// Forwards frames from the binary to its phones. Never waits for a phone.
async fn forward(relay: &Relay, reader: &mut Reader<'_>, claim: &Claim<Peer>) -> Gone {
    loop {
        match reader.frame().await {
            Ok(message) => deliver(relay, claim, &message),
            Err(gone) => return gone,
        }
    }
}

fn deliver(relay: &Relay, claim: &Claim<Peer>, message: &str) {
    let dropped = &relay.metrics.dropped;
    let binary = claim.conn();
    let directive = match envelope::parse(message) {
        Ok(directive) => directive,
        Err(EnvelopeError::PushWake) => return wake(relay, binary, message),
        Err(error) => return unusable(dropped, binary, &error),
    };
    let Some(phone) = claim.phone(&directive.conn_id) else {
        return unknown_phone(dropped, binary);
    };
    if let Some(frame) = directive.frame()
        && let Err(refused) = phone.offer(frame.into())
    {
        match refused {
            Refused::Closed => {
                dropped.phone_leaving.inc();
                about!(debug, phone, "frame dropped: phone is disconnecting");
            }
            Refused::Full(_) => {
                relay.metrics.outbox_overflows.inc();
                relay.metrics.at(Endpoint::Client).undelivered.inc();
                phone.abort(Close::PHONE_BACKLOG_FULL);
            }
        }
    }
    if let Some(code) = directive.close_code {
        phone.end_for_binary(code.get());
    }
}

/// Passes a request to wake a phone to the push gateway, if there is one.
fn wake(relay: &Relay, binary: &Arc<Peer>, message: &str) {
    let dropped = &relay.metrics.dropped;
    let Some(push) = &relay.push else {
        return unusable(dropped, binary, &EnvelopeError::PushWake);
    };
    match envelope::push_wake(message) {
        Ok(wake) => push.wake(binary, &wake),
        Err(error) => unusable(dropped, binary, &error),
    }
}

fn unknown_phone(dropped: &Dropped, binary: &Peer) {
    dropped.unknown_phone.inc();
    about!(debug, binary, "envelope dropped: unknown phone");
}

fn unusable(dropped: &Dropped, binary: &Peer, error: &EnvelopeError) {
    let count = match error {
        EnvelopeError::Malformed => &dropped.malformed,
        EnvelopeError::PushWake => &dropped.push_wake,
        EnvelopeError::NoConnId => &dropped.no_conn_id,
        EnvelopeError::Empty => &dropped.empty,
    };
    count.inc();
    about!(debug, binary, %error, "envelope dropped");
}
