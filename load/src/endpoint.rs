//! The address of the relay: `ws://host:port` or `wss://host:port`.

use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use tokio_tungstenite::tungstenite::http::Uri;

use crate::error::Error;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) secure: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Endpoint {
    pub(crate) fn resolve(&self) -> Result<SocketAddr, Error> {
        let host = self.host.trim_matches(['[', ']']);
        let addresses = (host, self.port).to_socket_addrs();
        let address = addresses.ok().and_then(|mut found| found.next());
        address.ok_or_else(|| Error::Failed(format!("the name {host} resolves to no address")))
    }

    /// The URL of a path. The scheme is that of the upgrade itself, above any TLS.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("ws://{}:{}{path}", self.host, self.port)
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || "expected a URL like ws://127.0.0.1:8080 or wss://host:443".to_owned();
        let uri: Uri = text.parse().map_err(|_| wanted())?;
        let secure = match uri.scheme_str() {
            Some("ws") => false,
            Some("wss") => true,
            _ => return Err(wanted()),
        };
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(
                "the protocol defines the paths: give only scheme, host and port".to_owned(),
            );
        }
        Ok(Self {
            secure,
            host: uri.host().ok_or_else(wanted)?.to_owned(),
            port: uri.port_u16().unwrap_or(if secure { 443 } else { 80 }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_scheme_host_and_port() {
        let endpoint: Endpoint = "wss://relay.example".parse().expect("a URL");
        assert_eq!((endpoint.secure, endpoint.port), (true, 443));
        let endpoint: Endpoint = "ws://[::1]:9000/".parse().expect("a URL");
        assert_eq!(
            endpoint.resolve().expect("an address").to_string(),
            "[::1]:9000"
        );
        assert_eq!(endpoint.url("/v1/client"), "ws://[::1]:9000/v1/client");
        for wrong in ["127.0.0.1:8080", "http://a", "ws://a/v1", "ws://a?b"] {
            assert!(wrong.parse::<Endpoint>().is_err(), "{wrong}");
        }
    }
}
