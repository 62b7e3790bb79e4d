//! Connections before their upgrade: how many there may be.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::caller::{Caller, Failed};
use super::places::{Full, Place, Places};
use super::proxy_header::{self, BadHeader};
use super::write_limit::WriteLimit;
use crate::operate::config::Proxies;

/// The answer to a connection that is not heard, where plain HTTP is spoken.
const ALL: &str = "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\
    content-type: text/plain; charset=utf-8\r\n\r\nThe relay has too many connections. Try again later.\n";
const ADDRESS: &str = "HTTP/1.1 429 Too Many Requests\r\nconnection: close\r\n\
    content-type: text/plain; charset=utf-8\r\n\r\nToo many connections from this address. Close some of them.\n";

/// A connection that has a place.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(super) io: TcpStream,
    pub(super) caller: Caller,
    pub(super) place: Place,
}

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
    /// The proxies send a header of the PROXY protocol.
    pub(crate) proxy_headers: Option<ProxyHeaders>,
    pub(crate) speaks_plain_http: bool,
    /// How long a write may take; `None` for no limit.
    pub(crate) write_timeout: Option<Duration>,
    pub(crate) too_many: Counter,
    pub(crate) too_many_from_address: Counter,
    /// Connections that exceeded the write timeout.
    pub(crate) unread: Counter,
}

/// How the headers of the PROXY protocol are treated.
#[derive(Debug)]
pub(crate) struct ProxyHeaders {
    /// How long a header may take.
    pub(crate) timeout: Duration,
    /// Connections without a valid header.
    pub(crate) refused: Counter,
}

impl ProxyHeaders {
    /// Reads the header. Returns the client that it names, if it names one.
    async fn read(&self, io: &mut TcpStream) -> io::Result<Option<IpAddr>> {
        let header = timeout(self.timeout, proxy_header::read(io)).await;
        header.unwrap_or(Err(BadHeader::TooSlow)).map_err(|bad| {
            self.refused.inc();
            io::Error::other(bad)
        })
    }
}

impl Arrivals {
    pub(crate) fn new(places: Places, rules: Rules) -> Arc<Self> {
        Arc::new(Self { places, rules })
    }

    /// The limit for each write to a connection of a client.
    pub(super) fn write_limit(&self, caller: Caller) -> Option<WriteLimit> {
        let limit = self.rules.write_timeout?;
        let unread = self.rules.unread.clone();
        Some(WriteLimit::new(limit, caller.0, unread))
    }

    /// Takes a place for a connection. Reads the PROXY protocol header, if the connection must have one.
    pub(super) async fn arrive(&self, mut io: TcpStream) -> io::Result<Arrival> {
        let address = io.peer_addr()?.ip().to_canonical();
        let mut caller = Caller(address);
        // A connection has a place before its header is read.
        let place = self.places.take(self.limited(address));
        let mut place = self.or_refuse(&io, caller, place).await?;
        if let Some(headers) = &self.rules.proxy_headers
            && self.rules.proxies.contain(address)
            && let Some(client) = headers.read(&mut io).await?
        {
            caller = Caller(client);
            if let Some(limited) = self.limited(client) {
                let counted = self.places.count(&mut place, limited);
                self.or_refuse(&io, caller, counted).await?;
            }
        }
        Ok(Arrival { io, caller, place })
    }

    /// If there is no place, tells the client so, unless it expects TLS.
    async fn or_refuse<T>(
        &self,
        connection: &TcpStream,
        caller: Caller,
        taken: Result<T, Full>,
    ) -> io::Result<T> {
        let full = match taken {
            Ok(taken) => return Ok(taken),
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
        Err(Failed::wrap(caller, io::Error::other(full)))
    }

    fn limited(&self, address: IpAddr) -> Option<IpAddr> {
        (!self.rules.proxies.contain(address)).then_some(address)
    }
}
