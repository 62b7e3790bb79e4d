//! Room for a phone whose server-id is full: phones that are silent are closed.

use std::sync::Arc;

use futures_util::future::join_all;
use switchboard::{Conn, Membership, RegisterError};
use tokio::time::timeout;

use super::peer::Peer;
use super::relay::Relay;
use super::who::about;
use crate::protocol::close::Close;
use crate::protocol::endpoint::Endpoint;

pub(super) type Registered = Result<Membership<Peer>, RegisterError<Peer>>;

/// Asks the phones of a full server-id whether they are alive, and closes those that are not. Registers the new one
/// once they have left.
pub(super) async fn make(
    relay: &Relay,
    newcomer: &Peer,
    register: impl Fn() -> Registered,
) -> Registered {
    let server_id = &*newcomer.who().server_id;
    let Some(questions) = ask(relay, server_id) else {
        about!(
            debug,
            newcomer,
            "phone cannot wait for room: too many others do"
        );
        return register();
    };
    let answers = join_all(questions).await;
    let leaving: Vec<Arc<Peer>> = answers.into_iter().flatten().collect();
    for phone in &leaving {
        if phone.abort(Close::MADE_ROOM) {
            relay.metrics.at(Endpoint::Client).heartbeat_timeouts.inc();
        }
    }
    let registered = register_after(relay, server_id, &leaving, &register);
    // A phone may leave late, if its binary does not read.
    let in_time = timeout(relay.config.probe_timeout, registered).await;
    in_time.unwrap_or_else(|_| register())
}

/// Asks each phone. Returns the answers to come: a phone that is silent or already leaving, or `None` for one that is
/// alive. Returns `None` if too many others wait for an answer.
fn ask(
    relay: &Relay,
    server_id: &str,
) -> Option<Vec<impl Future<Output = Option<Arc<Peer>>> + use<>>> {
    let phones = relay.registry.phones_for(server_id);
    let questions = phones.iter().map(|phone| {
        let phone = Arc::clone(phone);
        let answer = if phone.ending_so_far().is_some() {
            None
        } else {
            let limit = relay.config.probe_timeout;
            Some(phone.probe(limit, &relay.metrics.probes)?)
        };
        Some(async {
            let is_alive = match answer {
                Some(answer) => answer.await,
                None => false,
            };
            (!is_alive).then_some(phone)
        })
    });
    questions.collect()
}

/// Registers the new phone. As long as there is no place, tries again when one of the leaving phones has left.
async fn register_after(
    relay: &Relay,
    server_id: &str,
    leaving: &[Arc<Peer>],
    register: &impl Fn() -> Registered,
) -> Registered {
    let mut watch = relay.registry.watch(server_id);
    loop {
        // Before the attempt, so that no departure after it is missed.
        let registered = watch.current().map(|server| server.phones());
        let is_there = |phone: &Arc<Peer>| {
            let registered = registered.as_ref();
            registered.is_some_and(|registered| registered.contains(phone.conn_id()))
        };
        let one_may_leave = leaving.iter().any(is_there);
        drop(registered);
        match register() {
            Err(RegisterError::AtCapacity(_)) if one_may_leave => {
                watch.changed().await;
            }
            registered => return registered,
        }
    }
}
