//! The address of a client behind a proxy.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;

use crate::operate::config::Proxies;

const FORWARDED_FOR: &str = "X-Forwarded-For";

/// Returns the address of the client: that of the connection, or, if that is a trusted proxy's, one from
/// `X-Forwarded-For`.
///
/// Each proxy appends the address that connected to it. So the last address that belongs to no trusted proxy is the
/// client's. Anybody may have written those before it.
pub(crate) fn client(proxies: &Proxies, connection: IpAddr, headers: &HeaderMap) -> IpAddr {
    let mut client = connection.to_canonical();
    let lines = headers.get_all(FORWARDED_FOR).iter().rev();
    let mut hops = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    while proxies.contain(client)
        && let Some(hop) = hops.next().and_then(address)
    {
        client = hop.to_canonical();
    }
    client
}

/// Parses an address, with or without a port.
fn address(hop: &[u8]) -> Option<IpAddr> {
    let hop = str::from_utf8(hop).ok()?.trim();
    let with_port = || hop.parse().map(|address: SocketAddr| address.ip());
    let in_brackets = || hop.trim_matches(['[', ']']).parse();
    hop.parse()
        .or_else(|_| with_port())
        .or_else(|_| in_brackets())
        .ok()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn client_of(connection: &str, lines: &[&'static str]) -> String {
        client_behind("127.0.0.1, 10.0.0.0/8", connection, lines)
    }

    fn client_behind(proxies: &str, connection: &str, lines: &[&'static str]) -> String {
        let proxies: Proxies = proxies.parse().expect("networks");
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(
                FORWARDED_FOR,
                HeaderValue::from_bytes(line.as_bytes()).expect("a header value"),
            );
        }
        let connection = connection.parse().expect("an address");
        client(&proxies, connection, &headers).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        assert_eq!(client_of("192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(client_of("127.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(
            client_of("::ffff:127.0.0.1", &["2001:db8::1"]),
            "2001:db8::1"
        );
    }

    #[test]
    fn an_ipv4_mapped_network_matches_ipv4_addresses() {
        for proxies in ["::ffff:10.0.0.0/104", "::ffff:10.1.2.3", "::/0"] {
            for connection in ["10.1.2.3", "::ffff:10.1.2.3"] {
                let client = client_behind(proxies, connection, &["198.51.100.7"]);
                assert_ne!(client, "10.1.2.3", "{proxies} {connection}");
            }
        }
        let proxies = "::ffff:10.0.0.0/104";
        let client = client_behind(proxies, "11.0.0.1", &["198.51.100.7"]);
        assert_eq!(client, "11.0.0.1");
    }

    #[test]
    fn the_last_address_that_is_not_a_proxys_is_the_clients() {
        let lines = ["203.0.113.1, 198.51.100.7", "10.1.2.3"];
        assert_eq!(client_of("127.0.0.1", &lines), "198.51.100.7");
        assert_eq!(client_of("127.0.0.1", &["10.1.2.3"]), "10.1.2.3");
    }

    #[test]
    fn an_address_may_have_a_port() {
        assert_eq!(
            client_of("127.0.0.1", &["198.51.100.7:443"]),
            "198.51.100.7"
        );
        assert_eq!(
            client_of("127.0.0.1", &["[2001:db8::1]:443"]),
            "2001:db8::1"
        );
        assert_eq!(client_of("127.0.0.1", &["[2001:db8::1]"]), "2001:db8::1");
    }

    #[test]
    fn garbage_from_a_client_does_not_hide_the_entry_of_its_proxy() {
        let lines = ["\u{e9}, 198.51.100.7"];
        assert_eq!(client_of("127.0.0.1", &lines), "198.51.100.7");
    }

    #[test]
    fn an_invalid_address_ends_the_search() {
        assert_eq!(client_of("127.0.0.1", &[]), "127.0.0.1");
        assert_eq!(client_of("127.0.0.1", &["unknown"]), "127.0.0.1");
        assert_eq!(
            client_of("127.0.0.1", &["198.51.100.7, , 10.0.0.1"]),
            "10.0.0.1"
        );
    }
}
