//! The connection of a phone: registers, forwards to the binary, and leaves with a notice.

use std::sync::Arc;

use hyper::upgrade::Upgraded;
use switchboard::{Conn, ConnRef, Membership, RegisterError};
use tracing::debug;

use crate::close::Close;
use crate::endpoint::Endpoint;
use crate::envelope::Wrapper;
use crate::metrics::Refusals;
use crate::peer::{Peer, Refused};
use crate::relay::Relay;
use crate::socket::{self, Gone, Reader};

pub(crate) async fn serve(relay: &Relay, upgraded: Upgraded, server_id: String, conn_id: String) {
    let (peer, mut reader, mut writer) =
        socket::open(relay, upgraded, Endpoint::Client, conn_id).await;
    let registered = relay.registry.register_phone(&server_id, Arc::clone(&peer));
    // A shutdown may have emptied the registry just before.
    if relay.stopping.is_cancelled() {
        peer.end(Close::SHUTTING_DOWN);
    }
    let membership = match registered {
        Ok(membership) => membership,
        Err(error) => {
            debug!(%error, "phone refused");
            peer.end(refusal(&error, &relay.metrics.refusals));
            return socket::close(reader, writer).await;
        }
    };
    debug!(conn_id = ?peer.conn_id(), "phone connected");
    let wrapper = Wrapper::new(peer.conn_id());
    let gone = tokio::select! {
        gone = forward(relay, &mut reader, &membership, &wrapper) => gone,
        gone = writer.run() => gone,
    };
    debug!(conn_id = ?peer.conn_id(), code = gone.code, "phone gone");
    peer.abort(Close::NORMAL);
    tokio::join!(
        leave(membership, &wrapper, &gone),
        socket::close(reader, writer),
    );
}

fn refusal(error: &RegisterError<Peer>, refusals: &Refusals) -> Close {
    let (count, close) = match error {
        RegisterError::NoServer(_) => (&refusals.no_server, Close::NO_SERVER),
        RegisterError::AtCapacity(_) => (&refusals.too_many_phones, Close::TOO_MANY_PHONES),
        // A conn-id drawn twice: the next attempt draws another one.
        _ => (&refusals.conn_id_taken, Close::TRY_AGAIN),
    };
    count.inc();
    close
}

/// Forwards what the phone sends. Where the binary's queue is full it waits, and reads nothing meanwhile: so a
/// slow binary slows its phones down.
async fn forward(
    relay: &Relay,
    reader: &mut Reader<'_>,
    membership: &Membership<Peer>,
    wrapper: &Wrapper,
) -> Gone {
    loop {
        let frame = match reader.frame().await {
            Ok(frame) => frame,
            Err(gone) => return gone,
        };
        let Ok(envelope) = wrapper.frame(&frame) else {
            debug!(conn_id = ?membership.conn_id(), "phone closed: its frame is not JSON");
            relay.metrics.rejected.not_json.inc();
            membership.conn().end(Close::NOT_JSON);
            return Gone::WITHOUT_CODE;
        };
        // No `Route`: while the phone is silent, for hours perhaps, it would keep the binary and all phones of the last frame
        // alive. `None`: displaced, which the writer is told by the phone's ending.
        let Some(binary) = membership.binary() else {
            continue;
        };
        if let Err(Refused::Full(envelope)) = binary.offer(envelope) {
            let binary = ConnRef::into_arc(binary);
            // Closed: the binary went away, and nobody is there to read the frame.
            let delivered = binary.deliver(envelope);
            let _ = membership.conn().pulse.without_reading(delivered).await;
        }
    }
}

/// Unregisters the phone, and tells its binary, unless that asked for it or another one came in between.
async fn leave(membership: Membership<Peer>, wrapper: &Wrapper, gone: &Gone) {
    let asked = membership.conn().asked_by_binary();
    // Asked before the phone is out: afterwards it has no binary.
    let binary = membership.binary().map(ConnRef::into_arc);
    let registered = membership.unregister();
    if let Some(binary) = binary
        && registered
        && !asked
    {
        // Closed: the binary went away, and nobody is there to be told.
        let _ = binary.notify(wrapper.closed(gone.code)).await;
    }
}
