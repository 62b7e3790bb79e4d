//! The connection of a binary: claims its server-id, forwards to its phones, and leaves a grace behind.

use std::sync::Arc;

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use switchboard::{Cause, Claim, Conn};
use tracing::{debug, info};

use crate::close::{self, Close};
use crate::endpoint::Endpoint;
use crate::envelope::{self, EnvelopeError};
use crate::peer::{Peer, Refused};
use crate::relay::Relay;
use crate::socket::{self, Gone, Reader};

pub(crate) async fn serve(relay: &Relay, upgraded: Upgraded, server_id: String, conn_id: String) {
    let (peer, mut reader, mut writer) =
        socket::open(relay, upgraded, Endpoint::Server, conn_id).await;
    // In this order: the sweeper looks for the deadline that the drop of the claim sets, by a panic too.
    let _grace_began = WakesSweeper(relay);
    match claim(relay, &server_id, &peer, &mut reader).await {
        Err(close) => peer.end(close),
        Ok(mut claim) => {
            // A shutdown may have emptied the registry just before.
            if relay.stopping.is_cancelled() {
                peer.end(Close::SHUTTING_DOWN);
            }
            let epoch = claim.epoch();
            info!(conn_id = ?peer.conn_id(), %epoch, "binary connected");
            if let Some(displaced) = claim.take_displaced() {
                match displaced.cause {
                    Cause::TakenOver => relay.metrics.takeovers.inc(),
                    _ => relay.metrics.reclaims.inc(),
                };
                close::displaced(&displaced);
            }
            let gone = tokio::select! {
                gone = forward(relay, &mut reader, &claim) => gone,
                gone = writer.run() => gone,
            };
            // The phones that wait for room in its queue need not wait any longer.
            peer.abort(Close::NORMAL);
            info!(conn_id = ?peer.conn_id(), %epoch, code = gone.code, "binary gone");
        }
    }
    socket::close(reader, writer).await;
}

/// Tells the sweeper, once it is dropped, that a grace has begun.
struct WakesSweeper<'a>(&'a Relay);

impl Drop for WakesSweeper<'_> {
    fn drop(&mut self) {
        self.0.grace_began.notify_one();
    }
}

/// Claims the server-id; from an incumbent only if that does not answer a ping.
async fn claim(
    relay: &Relay,
    server_id: &str,
    peer: &Arc<Peer>,
    reader: &mut Reader<'_>,
) -> Result<Claim<Peer>, Close> {
    let probes = &relay.metrics.probes;
    let limit = relay.config.probe_timeout;
    let mut claimed = relay.registry.claim_server(server_id, Arc::clone(peer));
    loop {
        let conflict = match claimed {
            Ok(claim) => return Ok(claim),
            Err(conflict) => conflict,
        };
        let incumbent = conflict.incumbent();
        let answers = tokio::select! {
            answers = incumbent.pulse.answers(limit) => answers,
            // It goes by itself: nobody holds the server-id against the newcomer.
            _ = incumbent.ending() => false,
            _ = reader.gone() => return Err(Close::NORMAL),
            () = relay.stopping.cancelled() => return Err(Close::SHUTTING_DOWN),
        };
        if answers {
            probes.answered.inc();
            relay.metrics.refusals.server_id_claimed.inc();
            info!(?server_id, incumbent = %conflict.incumbent_epoch(), "claim refused");
            return Err(Close::ALREADY_CLAIMED);
        }
        probes.silent.inc();
        info!(?server_id, incumbent = %conflict.incumbent_epoch(), "incumbent does not answer");
        // Where somebody else was faster, that is the next incumbent.
        claimed = conflict.take_over();
    }
}

/// Forwards what the binary sends. Never waits for a phone.
async fn forward(relay: &Relay, reader: &mut Reader<'_>, claim: &Claim<Peer>) -> Gone {
    loop {
        match reader.frame().await {
            Ok(message) => deliver(relay, claim, &message),
            Err(gone) => return gone,
        }
    }
}

fn deliver(relay: &Relay, claim: &Claim<Peer>, message: &Bytes) {
    let dropped = &relay.metrics.dropped;
    let binary = claim.conn().conn_id();
    let directive = match envelope::parse(message) {
        Ok(directive) => directive,
        Err(error) => {
            let count = match error {
                EnvelopeError::Malformed => &dropped.malformed,
                EnvelopeError::PushWake => &dropped.push_wake,
                EnvelopeError::NoConnId => &dropped.no_conn_id,
                EnvelopeError::Empty => &dropped.empty,
            };
            count.inc();
            return debug!(?binary, %error, "envelope dropped");
        }
    };
    let Some(phone) = claim.phone(&directive.conn_id) else {
        dropped.unknown_phone.inc();
        return debug!(
            ?binary,
            "envelope dropped: it names no phone of this binary"
        );
    };
    if let Some(frame) = directive.frame()
        && let Err(refused) = phone.offer(frame)
    {
        let phone_id = phone.conn_id();
        match refused {
            Refused::Closed => debug!(phone = ?phone_id, "frame dropped: the phone is leaving"),
            Refused::Full(_) => {
                info!(phone = ?phone_id, "phone closed: its backlog is full");
                relay.metrics.outbox_overflows.inc();
                phone.abort(Close::BACKLOG_FULL);
            }
        }
    }
    if let Some(code) = directive.close_code {
        phone.end_for_binary(code.get());
    }
}
