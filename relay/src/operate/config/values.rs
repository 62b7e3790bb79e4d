//! Parsing and limits of flag values.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use ipnet::IpNet;
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
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let address = text.parse();
        address
            .map(Self::On)
            .map_err(|_| "expected an address with a port, or off")
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Proxies whose `X-Forwarded-For` is trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies(Vec<IpNet>);

impl FromStr for Proxies {
    type Err = &'static str;

    /// Parses addresses and networks, separated by commas.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let items = text.split(',').map(str::trim);
        let networks = items.filter(|item| !item.is_empty()).map(|item| {
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
}
