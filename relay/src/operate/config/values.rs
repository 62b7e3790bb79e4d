//! Parsing and limits of flag values.

use std::fmt::{self, Debug, Formatter};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::str::FromStr;
use std::time::Duration;

use axum::http::HeaderName;
use axum::http::uri::Authority;
use ipnet::IpNet;
use reqwest::Url;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// Where metrics are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsListen {
    /// Nowhere.
    Off,
    /// On this address.
    On(SocketAddr),
}

impl FromStr for MetricsListen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self::Off),
            _ => address(text).map(Self::On),
        }
    }
}

/// Parses an address to listen on: `127.0.0.1:8080`, `localhost:8080`, or `:8080` for all addresses of the machine.
///
/// Of the addresses of a name, IPv4 is preferred.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let (host, port) = text
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host, port.parse().ok()?)))
        .ok_or("expected an address with a port, like 127.0.0.1:8080, localhost:8080 or :8080")?;
    if host.is_empty() {
        return Ok(SocketAddr::new(unspecified(), port));
    }
    let found = (host, port).to_socket_addrs();
    let found = found.map_err(|error| format!("cannot look up the host: {error}"))?;
    let found = found.min_by_key(SocketAddr::is_ipv6);
    found.ok_or_else(|| "the host has no address".into())
}

/// All addresses of the machine: those of IPv6, which include those of IPv4, unless the machine has no IPv6.
fn unspecified() -> IpAddr {
    let any = Ipv6Addr::UNSPECIFIED;
    match UdpSocket::bind((any, 0)) {
        Ok(_) => any.into(),
        Err(_) => Ipv4Addr::UNSPECIFIED.into(),
    }
}

/// The items of a list that is separated by commas.
fn items(text: &str) -> impl Iterator<Item = &str> {
    let items = text.split(',').map(str::trim);
    items.filter(|item| !item.is_empty())
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("expected text or json"),
        }
    }
}

/// Proxies whose `X-Forwarded-For` is trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies(Vec<IpNet>);

impl FromStr for Proxies {
    type Err = &'static str;

    /// Parses addresses and networks, separated by commas.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let networks = items(text).map(|item| {
            let address = item.parse::<IpAddr>().map(IpNet::from);
            address.or_else(|_| item.parse::<IpNet>())
        });
        let networks: Result<_, _> = networks.collect();
        networks
            .map(Self)
            .map_err(|_| "expected addresses or networks like 10.0.0.0/8, separated by commas")
    }
}

impl Proxies {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an address, which must be canonical, is one of the proxies. An IPv4 address also matches networks that
    /// are written as IPv4-mapped IPv6.
    pub(crate) fn contain(&self, address: IpAddr) -> bool {
        let mapped = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().into(),
            v6 @ IpAddr::V6(_) => v6,
        };
        let contains = |network: &IpNet| network.contains(&address) || network.contains(&mapped);
        self.0.iter().any(contains)
    }
}

/// The origins of web pages that may connect, as in the header `Origin`. If there are none, all may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(Vec<String>);

impl FromStr for Origins {
    type Err = &'static str;

    /// Parses origins (RFC 6454), separated by commas.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let origins: Vec<String> = items(text).map(str::to_owned).collect();
        let is_origin = |origin: &str| {
            let parts = origin.split_once("://");
            parts.is_some_and(|(scheme, host)| {
                let is_of_scheme =
                    |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
                let is_host = host.parse::<Authority>().is_ok() && !host.contains('@');
                !scheme.is_empty() && scheme.bytes().all(is_of_scheme) && is_host
            })
        };
        if origins.iter().all(|origin| is_origin(origin)) {
            Ok(Self(origins))
        } else {
            Err("expected origins like https://app.example, separated by commas")
        }
    }
}

impl Origins {
    /// Whether a page of this origin may connect.
    pub(crate) fn allow(&self, origin: &[u8]) -> bool {
        let is_same = |allowed: &String| allowed.as_bytes().eq_ignore_ascii_case(origin);
        self.0.is_empty() || self.0.iter().any(is_same)
    }
}

/// The URL of a service of the operator. It may contain a name and a password, which are not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ServiceUrl(Url);

impl FromStr for ServiceUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = text.parse::<Url>().ok();
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let url = url.map(Self);
        url.ok_or("expected the URL of a service, like https://service.example/path")
    }
}

impl Debug for ServiceUrl {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("ServiceUrl")
    }
}

impl ServiceUrl {
    pub(crate) fn get(&self) -> &Url {
        &self.0
    }
}

/// Names of request headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderNames(Vec<HeaderName>);

impl FromStr for HeaderNames {
    type Err = &'static str;

    /// Parses names, separated by commas.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let names: Result<_, _> = items(text).map(str::parse).collect();
        let names = names.map(Self);
        names.map_err(|_| "expected names of headers, separated by commas")
    }
}

impl HeaderNames {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &HeaderName> {
        self.0.iter()
    }
}

/// Names of the metrics listener, besides `localhost` and IP addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts(Vec<String>);

impl FromStr for Hosts {
    type Err = &'static str;

    /// Parses names, separated by commas.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let names: Vec<String> = items(text).map(str::to_owned).collect();
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if names.iter().all(|name| name.bytes().all(is_of_name)) {
            Ok(Self(names))
        } else {
            Err("expected host names without ports, separated by commas")
        }
    }
}

impl Hosts {
    /// Whether a host, without a port, is one of these names, `localhost`, or an IP address. A page of another site
    /// can make a browser connect to this listener under the site's name, but not under an address.
    pub(crate) fn contain(&self, host: &str) -> bool {
        let address = host.trim_start_matches('[').trim_end_matches(']');
        let names = self.0.iter().map(String::as_str);
        address.parse::<IpAddr>().is_ok()
            || names
                .chain(["localhost"])
                .any(|name| name.eq_ignore_ascii_case(host))
    }
}

pub(super) fn on_or_off(text: &str) -> Result<bool, &'static str> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("expected on or off"),
    }
}

/// Checks that the text is a valid filter. Returns it as text, since an `EnvFilter` cannot be cloned.
pub(super) fn filter(text: &str) -> Result<String, ParseError> {
    EnvFilter::builder().parse(text).map(|_| text.to_owned())
}

/// The longest duration: longer than any relay runs, and short enough to be added to any `Instant`.
const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// The longest `--rate-interval`. Its product with [`MAX_BURST`] must fit into the nanoseconds of the rate limiter.
const MAX_RATE_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) const MAX_BURST: i64 = 100_000;

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) => at_most(MAX_DURATION, duration),
        Err(error) => Err(error.to_string()),
    }
}

pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("it must be longer than 0".into()),
        duration => Ok(duration),
    }
}

pub(super) fn rate_interval(text: &str) -> Result<Duration, String> {
    at_most(MAX_RATE_INTERVAL, positive_duration(text)?)
}

fn at_most(limit: Duration, duration: Duration) -> Result<Duration, String> {
    if duration > limit {
        let limit = humantime::format_duration(limit);
        return Err(format!("it must not be longer than {limit}"));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_means_no_proxy() {
        assert_eq!("".parse(), Ok(Proxies::default()));
        assert!("10.0.0.0/33".parse::<Proxies>().is_err());
    }

    #[test]
    fn the_password_of_a_url_is_not_shown() {
        let url: ServiceUrl = "https://me:swordfish@hook.example/?key=swordfish"
            .parse()
            .expect("a URL");
        assert_eq!(format!("{url:?}"), "ServiceUrl");
    }

    #[test]
    fn addresses_localhost_and_the_given_names_are_hosts_of_the_metrics_listener() {
        let hosts: Hosts = "relay, metrics.example".parse().expect("names");
        for host in [
            "127.0.0.1",
            "[::1]",
            "localhost",
            "Metrics.Example",
            "relay",
        ] {
            assert!(hosts.contain(host), "{host}");
        }
        for host in [
            "example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
        ] {
            assert!(!hosts.contain(host), "{host}");
        }
        assert!("relay:9090".parse::<Hosts>().is_err());
    }
}
