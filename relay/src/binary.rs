//! The connection of a binary: claims its server-id, forwards to its phones, and leaves a grace behind.

use std::sync::Arc;

use axum::extract::ws::WebSocket;
use bytes::Bytes;
use switchboard::{Claim, Conn};
use tracing::{debug, info};

use crate::close::{self, Close};
use crate::envelope;
use crate::peer::{Peer, Refused};
use crate::relay::Relay;
use crate::socket::{self, Gone, Reader};

pub(crate) async fn serve(
    relay: Arc<Relay>,
    socket: WebSocket,
    server_id: String,
    conn_id: String,
) {
    let config = &relay.config;
    let (peer, backlog) = Peer::new(conn_id, config.outbox);
    let (mut reader, mut writer) = socket::split(socket, &peer, backlog, config.write_timeout);

    let claimed = relay.registry.claim_server(&server_id, Arc::clone(&peer));
    // A shutdown may have emptied the registry just before.
    if relay.stopping.is_cancelled() {
        peer.end(Close::SHUTTING_DOWN);
    }
    match claimed {
        Err(conflict) => {
            info!(?server_id, incumbent = %conflict.incumbent_epoch(), "claim refused");
            peer.end(Close::ALREADY_CLAIMED);
        }
        Ok(claim) => {
            // In this order: the sweeper looks for the deadline that the drop of the claim sets, by a panic too.
            let _grace_began = WakesSweeper(&relay);
            let mut claim = claim;
            let epoch = claim.epoch();
            info!(conn_id = ?peer.conn_id(), %epoch, "binary connected");
            if let Some(displaced) = claim.take_displaced() {
                close::displaced(&displaced);
            }
            let gone = tokio::select! {
                gone = forward(&mut reader, &claim) => gone,
                gone = writer.run(Close::BINARY_WRITE_FAILED) => gone,
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

/// Forwards what the binary sends. Never waits for a phone.
async fn forward(reader: &mut Reader, claim: &Claim<Peer>) -> Gone {
    loop {
        match reader.frame().await {
            Ok(message) => deliver(claim, &message),
            Err(gone) => return gone,
        }
    }
}

fn deliver(claim: &Claim<Peer>, message: &Bytes) {
    let binary = claim.conn().conn_id();
    let directive = match envelope::parse(message) {
        Ok(directive) => directive,
        Err(error) => return debug!(?binary, %error, "envelope dropped"),
    };
    let Some(phone) = claim.phone(&directive.conn_id) else {
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
                phone.abort(Close::BACKLOG_FULL);
            }
        }
    }
    if let Some(code) = directive.close_code {
        phone.end_for_binary(code.get());
    }
}
