//! Who a client is when it comes through a proxy.

use std::net::IpAddr;

use axum::http::HeaderMap;
use ipnet::IpNet;

const FORWARDED_FOR: &str = "X-Forwarded-For";

/// The address of the client: that of the connection, or where this is a trusted proxy, what `X-Forwarded-For` says.
///
/// Each proxy appends whom it heard, so the last address that is no trusted proxy's is the client's. What stands
/// before it anybody may have written.
pub(crate) fn client(connection: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut client = connection.to_canonical();
    if !is_trusted(&client) {
        return client;
    }
    let lines: Vec<&str> = headers
        .get_all(FORWARDED_FOR)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .collect();
    for hop in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
        let Ok(address) = hop.trim().parse::<IpAddr>() else {
            break;
        };
        client = address.to_canonical();
        if !is_trusted(&client) {
            break;
        }
    }
    client
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn client_of(connection: &str, lines: &[&'static str]) -> String {
        let trusted = ["127.0.0.1/32", "10.0.0.0/8"].map(|it| it.parse().expect("a network"));
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, HeaderValue::from_static(line));
        }
        let connection = connection.parse().expect("an address");
        client(connection, &headers, &trusted).to_string()
    }

    #[test]
    fn nobody_else_than_a_trusted_proxy_is_believed() {
        assert_eq!(client_of("192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(client_of("127.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(
            client_of("::ffff:127.0.0.1", &["2001:db8::1"]),
            "2001:db8::1"
        );
    }

    #[test]
    fn the_last_address_that_is_no_proxys_is_the_clients() {
        let lines = ["203.0.113.1, 198.51.100.7", "10.1.2.3"];
        assert_eq!(client_of("127.0.0.1", &lines), "198.51.100.7");
        assert_eq!(client_of("127.0.0.1", &["10.1.2.3"]), "10.1.2.3");
    }

    #[test]
    fn what_is_no_address_ends_the_search() {
        assert_eq!(client_of("127.0.0.1", &[]), "127.0.0.1");
        assert_eq!(client_of("127.0.0.1", &["unknown"]), "127.0.0.1");
        assert_eq!(
            client_of("127.0.0.1", &["198.51.100.7, , 10.0.0.1"]),
            "10.0.0.1"
        );
    }
}
