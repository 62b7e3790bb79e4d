//! Who holds which server-id, and its phones.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde::Serialize;
use switchboard::{Server, Status};
use tokio::task::spawn_blocking;
use tracing::error;

use super::answer::{Refusal, json};
use super::path::{self, Segments};
use super::query::{number, parameters};
use super::state::Admin;
use crate::connection::peer::Peer;

/// How many server-ids a page has if the request does not say it.
const USUAL: usize = 100;

/// The most server-ids of a page.
const MOST: usize = 1000;

#[derive(Serialize)]
struct Page<'a> {
    servers: Vec<Holder<'a>>,
    /// The `after` of the next page.
    next: Option<&'a str>,
}

/// A server-id and its binary.
#[derive(Serialize)]
struct Holder<'a> {
    server_id: &'a str,
    status: &'static str,
    /// When the binary connected.
    since: String,
    version: Option<&'a str>,
    address: IpAddr,
    phones: usize,
    epoch: u64,
    conn_id: &'a str,
}

#[derive(Serialize)]
struct Detail<'a> {
    #[serde(flatten)]
    holder: Holder<'a>,
    phone_list: Vec<Phone<'a>>,
}

#[derive(Serialize)]
struct Phone<'a> {
    conn_id: &'a str,
    address: IpAddr,
    device: Option<&'a str>,
    since: String,
    queued_bytes: usize,
}

/// Lists the server-ids of a page.
///
/// Cost: one pass over all server-ids, outside the threads that forward frames. It holds one page of them.
pub(super) async fn servers(
    State(admin): State<Arc<Admin>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let [after, limit] = parameters(query.as_deref(), ["after", "limit"])?;
    let after = after.unwrap_or_default();
    let limit = limit.map_or(Ok(USUAL), |limit| limit_of(&limit))?;
    let page = spawn_blocking(move || {
        let (servers, has_more) = page(admin.relay.registry.servers(), &after, limit);
        let next = servers.last().filter(|_| has_more).map(Server::server_id);
        json(&Page {
            servers: servers.iter().filter_map(holder).collect(),
            next,
        })
    });
    page.await.map_err(|error| {
        error!(%error, "cannot list the server-ids");
        Refusal::failed()
    })
}

/// Describes a server-id and its phones.
pub(super) async fn server(
    State(admin): State<Arc<Admin>>,
    server_id: Segments<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let server_id = path::decoded(server_id)?;
    let [] = parameters(query.as_deref(), [])?;
    let server = admin.relay.registry.server(&server_id);
    let server = server.ok_or(Refusal::no_server())?;
    let holder = holder(&server).ok_or(Refusal::no_server())?;
    let phones = server.phones();
    let mut phone_list: Vec<&Arc<Peer>> = phones.iter().collect();
    phone_list.sort_unstable_by_key(|phone| (phone.since(), &phone.who().conn_id));
    let phone_list = phone_list.into_iter().map(|phone| describe(phone));
    Ok(json(&Detail {
        holder,
        phone_list: phone_list.collect(),
    }))
}

fn limit_of(text: &str) -> Result<usize, Refusal> {
    let limit = number(text).map(usize::from);
    let limit = limit.filter(|limit| (1..=MOST).contains(limit));
    limit.ok_or(Refusal::bad_request(
        "limit must be a number from 1 to 1000",
    ))
}

/// The first server-ids after `after` that somebody holds, in order, and whether more follow.
///
/// The registry has no order, so each page looks at all of them, and keeps the smallest `limit` and one more.
fn page(
    servers: impl Iterator<Item = Server<Peer>>,
    after: &str,
    limit: usize,
) -> (Vec<Server<Peer>>, bool) {
    let mut smallest = BinaryHeap::new();
    for server in servers.filter(|server| server.binary().is_some()) {
        if server.server_id() <= after {
            continue;
        }
        let server = ByName(server);
        if smallest.len() <= limit {
            smallest.push(server);
        } else if let Some(mut largest) = smallest.peek_mut()
            && server < *largest
        {
            *largest = server;
        }
    }
    let mut servers = smallest.into_sorted_vec();
    let has_more = servers.len() > limit;
    servers.truncate(limit);
    let servers = servers.into_iter().map(|ByName(server)| server);
    (servers.collect(), has_more)
}

/// Returns `None` if nobody holds the server-id.
fn holder(server: &Server<Peer>) -> Option<Holder<'_>> {
    let binary = server.binary()?;
    let who = binary.who();
    Some(Holder {
        server_id: server.server_id(),
        status: match server.status() {
            Status::Grace { .. } => "grace",
            _ => "present",
        },
        since: rfc3339(binary.since()),
        version: who.version(),
        address: who.address,
        phones: server.phones().len(),
        epoch: server.epoch()?.get(),
        conn_id: &who.conn_id,
    })
}

fn describe(phone: &Peer) -> Phone<'_> {
    let who = phone.who();
    Phone {
        conn_id: &who.conn_id,
        address: who.address,
        device: who.device(),
        since: rfc3339(phone.since()),
        queued_bytes: phone.queued_bytes(),
    }
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time.max(SystemTime::UNIX_EPOCH)).to_string()
}

/// Server-ids in the order of their bytes.
struct ByName(Server<Peer>);

impl Ord for ByName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.server_id().cmp(other.0.server_id())
    }
}

impl PartialOrd for ByName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for ByName {}

#[cfg(test)]
mod tests {
    use switchboard::Registry;

    use super::*;

    fn peer(conn_id: &str) -> Arc<Peer> {
        Peer::new(conn_id.into(), 1000, 1, Arc::default())
    }

    #[test]
    fn pages_of_any_size_have_all_held_server_ids_in_order() {
        let registry = Registry::new();
        let names: Vec<String> = (0..100u32)
            .map(|number| (number * 37 % 100).to_string())
            .collect();
        let claims: Vec<_> = names
            .iter()
            .map(|name| registry.claim_server(name, peer(name)).expect("it is free"))
            .collect();
        // Vacant, with a phone: nobody holds it.
        let claim = registry.claim_server("5x", peer("b")).expect("it is free");
        let phone = registry.register_phone("5x", peer("p"));
        assert!(claim.release());
        let mut sorted = names.clone();
        sorted.sort_unstable();
        for limit in [1, 7, 10, 99, 100, 101] {
            let (mut seen, mut after) = (Vec::new(), String::new());
            loop {
                let (servers, has_more) = page(registry.servers(), &after, limit);
                assert!(servers.len() == limit || !has_more);
                seen.extend(servers.iter().map(|server| server.server_id().to_owned()));
                if !has_more {
                    break;
                }
                after.clone_from(seen.last().expect("a page is not empty if more follow"));
            }
            assert_eq!(seen, sorted, "{limit}");
        }
        drop((claims, phone));
    }
}
