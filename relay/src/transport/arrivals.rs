//! Connections before their upgrade: how many there may be.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::net::TcpStream;

use super::places::{Full, Place, Places};
use super::write_limit::WriteLimit;
use crate::operate::config::Proxies;

/// The answer to a connection that is not heard, where plain HTTP is spoken.
const ALL: &str = "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\
    content-type: text/plain; charset=utf-8\r\n\r\nThe relay has too many connections. Try again later.\n";
const ADDRESS: &str = "HTTP/1.1 429 Too Many Requests\r\nconnection: close\r\n\
    content-type: text/plain; charset=utf-8\r\n\r\nToo many connections from this address. Close some of them.\n";

/// The connections of one listener that are not upgraded.
#[derive(Debug)]
pub(crate) struct Arrivals {
    places: Places,
    rules: Rules,
}

/// How the connections of a listener are treated.
#[derive(Debug)]
pub(crate) struct Rules {
    /// Many clients share the address of a proxy. Which one connects is known only once its request is read.
    pub(crate) proxies: Proxies,
    pub(crate) speaks_plain_http: bool,
    /// How long a write may take; `None` for no limit.
    pub(crate) write_timeout: Option<Duration>,
    pub(crate) too_many: Counter,
    pub(crate) too_many_from_address: Counter,
    /// Connections that exceeded the write timeout.
    pub(crate) unread: Counter,
}

impl Arrivals {
    pub(crate) fn new(places: Places, rules: Rules) -> Arc<Self> {
        Arc::new(Self { places, rules })
    }

    /// The limit for each write to a connection from an address.
    pub(super) fn write_limit(&self, address: IpAddr) -> Option<WriteLimit> {
        let limit = self.rules.write_timeout?;
        let unread = self.rules.unread.clone();
        Some(WriteLimit::new(limit, address, unread))
    }

    /// Takes a place for a connection from a canonical address. If there is none, tells the client so, unless it
    /// expects TLS.
    pub(super) async fn take(&self, connection: &TcpStream, address: IpAddr) -> io::Result<Place> {
        let full = match self.places.take(self.limited(address)) {
            Ok(place) => return Ok(place),
            Err(full) => full,
        };
        let (count, answer) = match full {
            Full::All => (&self.rules.too_many, ALL),
            Full::Address => (&self.rules.too_many_from_address, ADDRESS),
        };
        count.inc();
        if self.rules.speaks_plain_http {
            // It fits into the empty buffer of a new connection.
            connection.writable().await?;
            let _ = connection.try_write(answer.as_bytes());
            // If the connection were closed with unread bytes, the system would reset it, and the client might not
            // see the answer.
            let _ = connection.try_read(&mut [0; 4096]);
        }
        Err(io::Error::other(full))
    }

    fn limited(&self, address: IpAddr) -> Option<IpAddr> {
        (!self.rules.proxies.contain(address)).then_some(address)
    }
}
