//! The relay's settings, from flags and environment variables.

mod environment;
mod values;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{ArgAction, CommandFactory, FromArgMatches, Parser};

use self::values::{
    MAX_BURST, address, duration, filter, on_or_off, positive_duration, rate_interval,
};
use crate::operate::error::Error;
use crate::operate::generate::Generate;

pub use self::values::{
    HeaderNames, Hosts, LogFormat, MetricsListen, Origins, Proxies, ServiceUrl,
};

/// The largest `--outbox`, far more than is sensible for one peer.
const MAX_OUTBOX: i64 = (1 << 29) - 1;

/// The settings of a relay.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "switchboard-relay",
    version,
    about = "A WebSocket relay between binaries and phones",
    after_help = "Durations are written 30s, 500ms, 1h 30m. SIGHUP reloads the certificate, its key, the admin token and the access file; SIGTERM and SIGINT close all connections and stop the relay; another one cuts the drain or the wait short.",
    // An error about a value like -1 then names its flag.
    allow_negative_numbers = true,
    // If a flag is repeated, the last one wins.
    args_override_self = true
)]
pub struct Config {
    /// Address to listen on; `:8080` listens on all addresses, and port 0 picks a free port
    #[arg(
        long,
        help_heading = "Listeners",
        env = "SWITCHBOARD_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:8080",
        value_parser = address
    )]
    pub listen: SocketAddr,

    /// Address that serves metrics and the live page; `off` for none
    #[arg(
        long,
        help_heading = "Listeners",
        env = "SWITCHBOARD_METRICS_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:9090"
    )]
    pub metrics_listen: MetricsListen,

    /// Host names under which metrics and the page are requested, separated by commas. Requests for an IP address or
    /// for localhost need none
    #[arg(
        long,
        help_heading = "Listeners",
        env = "SWITCHBOARD_METRICS_HOST",
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    pub metrics_host: Hosts,

    /// Whether `/healthz` on `--listen` tells the version and how many peers are connected, to anybody: `on` or `off`
    #[arg(
        long,
        help_heading = "Listeners",
        env = "SWITCHBOARD_HEALTHZ_DETAILS",
        value_name = "ON",
        default_value = "on",
        action = ArgAction::Set,
        value_parser = on_or_off
    )]
    pub healthz_details: bool,

    /// Certificate chain for TLS, in PEM; reloaded on SIGHUP. Needs `--tls-key`. Without both, the relay serves
    /// plain HTTP
    #[arg(
        long,
        help_heading = "Listeners",
        env = "SWITCHBOARD_TLS_CERT",
        value_name = "FILE"
    )]
    pub tls_cert: Option<PathBuf>,

    /// Private key for TLS, in PEM; reloaded on SIGHUP. Needs `--tls-cert`
    #[arg(
        long,
        help_heading = "Listeners",
        env = "SWITCHBOARD_TLS_KEY",
        value_name = "FILE"
    )]
    pub tls_key: Option<PathBuf>,

    /// How long a server-id is kept for a binary that disconnected; 0s for no grace
    #[arg(long,
        help_heading = "Timeouts", env = "SWITCHBOARD_GRACE", value_name = "D", default_value = "30s", value_parser = duration)]
    pub grace: Duration,

    /// How long a phone without a binary may wait for one before it is closed; 0s closes it at once
    #[arg(long,
        help_heading = "Timeouts", env = "SWITCHBOARD_WAIT_FOR_BINARY", value_name = "D", default_value = "0s", value_parser = duration)]
    pub wait_for_binary: Duration,

    /// Interval between pings to each peer
    #[arg(long,
        help_heading = "Timeouts", env = "SWITCHBOARD_HEARTBEAT_INTERVAL", value_name = "D", default_value = "30s", value_parser = positive_duration)]
    pub heartbeat_interval: Duration,

    /// How long a peer may neither answer a ping nor make progress before it is closed
    #[arg(long,
        help_heading = "Timeouts", env = "SWITCHBOARD_HEARTBEAT_TIMEOUT", value_name = "D", default_value = "30s", value_parser = positive_duration)]
    pub heartbeat_timeout: Duration,

    /// How long an incumbent may take to answer a ping when another binary claims its server-id, and the phones of a
    /// full server-id when another phone comes
    #[arg(long,
        help_heading = "Timeouts", env = "SWITCHBOARD_PROBE_TIMEOUT", value_name = "D", default_value = "10s", value_parser = positive_duration)]
    pub probe_timeout: Duration,

    /// How long a client may take for the PROXY protocol header, for the TLS handshake, and then to send the headers of its request
    #[arg(long,
        help_heading = "Timeouts", env = "SWITCHBOARD_HEADER_TIMEOUT", value_name = "D", default_value = "10s", value_parser = positive_duration)]
    pub header_timeout: Duration,

    /// How long a write to a peer may make no progress before the peer is closed
    #[arg(long,
        help_heading = "Timeouts", env = "SWITCHBOARD_WRITE_TIMEOUT", value_name = "D", default_value = "10s", value_parser = positive_duration)]
    pub write_timeout: Duration,

    /// How long a message may take from its first byte to its last
    #[arg(long,
        help_heading = "Timeouts", env = "SWITCHBOARD_MESSAGE_TIMEOUT", value_name = "D", default_value = "30s", value_parser = positive_duration)]
    pub message_timeout: Duration,

    /// How long a phone with a binary may take to send its first frame before it is closed; 0s for no limit
    #[arg(long,
        help_heading = "Timeouts", env = "SWITCHBOARD_FIRST_FRAME_TIMEOUT", value_name = "D", default_value = "0s", value_parser = duration)]
    pub first_frame_timeout: Duration,

    /// Over how long a shutdown closes the connections, one server-id after the other; 0s for all at once
    #[arg(long,
        help_heading = "Timeouts", env = "SWITCHBOARD_DRAIN", value_name = "D", default_value = "0s", value_parser = duration)]
    pub drain: Duration,

    /// How long a shutdown waits for connections to close, after the drain
    #[arg(long,
        help_heading = "Timeouts", env = "SWITCHBOARD_SHUTDOWN_TIMEOUT", value_name = "D", default_value = "10s", value_parser = duration)]
    pub shutdown_timeout: Duration,

    /// Maximum number of WebSocket connections; more are refused with 503
    #[arg(long,
        help_heading = "Limits", env = "SWITCHBOARD_MAX_CONNECTIONS", value_name = "N", default_value = "10000", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,

    /// Maximum number of WebSocket connections from one address, and of its connections before their upgrade; more
    /// are refused with 429. 0 for no limit
    #[arg(
        long,
        help_heading = "Limits",
        env = "SWITCHBOARD_MAX_PER_ADDRESS",
        value_name = "N",
        default_value = "256"
    )]
    pub max_per_address: u32,

    /// Maximum number of phones for each server-id
    #[arg(long,
        help_heading = "Limits", env = "SWITCHBOARD_MAX_PHONES", value_name = "N", default_value = "16", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_phones: u32,

    /// Maximum size of a message, in bytes
    #[arg(long,
        help_heading = "Limits", env = "SWITCHBOARD_MAX_FRAME", value_name = "BYTES", default_value = "262144", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_frame: u32,

    /// How many bytes may be queued for one peer; each phone may fill an eighth of its binary's queue
    #[arg(long,
        help_heading = "Limits", env = "SWITCHBOARD_OUTBOX", value_name = "BYTES", default_value = "4194304", value_parser = clap::value_parser!(u32).range(1..=MAX_OUTBOX))]
    pub outbox: u32,

    /// How many upgrades an address may request in a burst; 0 disables the rate limit
    #[arg(
        long,
        help_heading = "Limits",
        env = "SWITCHBOARD_RATE_BURST",
        value_name = "N",
        default_value = "20",
        value_parser = clap::value_parser!(u32).range(0..=MAX_BURST)
    )]
    pub rate_burst: u32,

    /// Time after which an address may request one more upgrade; has no effect if `--rate-burst` is 0
    #[arg(long,
        help_heading = "Limits", env = "SWITCHBOARD_RATE_INTERVAL", value_name = "D", default_value = "6s", value_parser = rate_interval)]
    pub rate_interval: Duration,

    /// Origins of web pages that may connect, like `https://app.example`, separated by commas; others are refused with
    /// 403. Without it, all may. Clients that send no `Origin` are not affected
    #[arg(
        long,
        help_heading = "Access",
        env = "SWITCHBOARD_ALLOWED_ORIGINS",
        value_name = "ORIGIN",
        default_value = "",
        hide_default_value = true
    )]
    pub allowed_origins: Origins,

    /// Whether a binary must send the header `X-Switchboard-Claim-Secret`; others are refused with 400
    #[arg(
        long,
        help_heading = "Access",
        env = "SWITCHBOARD_REQUIRE_CLAIM_SECRET",
        value_name = "ON",
        default_value = "off",
        action = ArgAction::Set,
        value_parser = on_or_off
    )]
    pub require_claim_secret: bool,

    /// File in TOML with the server-ids that may be claimed and the tokens that binaries must have; reloaded on SIGHUP.
    /// Without it, all may connect
    #[arg(
        long,
        help_heading = "Access",
        env = "SWITCHBOARD_ACCESS_FILE",
        value_name = "FILE"
    )]
    pub access_file: Option<PathBuf>,

    /// URL of a service that is asked before each upgrade whether the client may connect; without it, nobody is asked
    #[arg(
        long,
        help_heading = "Access",
        env = "SWITCHBOARD_ACCESS_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub access_url: Option<ServiceUrl>,

    /// Request headers that the service of `--access-url` gets, separated by commas
    #[arg(
        long,
        help_heading = "Access",
        env = "SWITCHBOARD_ACCESS_HEADERS",
        value_name = "NAME",
        default_value = "authorization,x-pyrycode-token"
    )]
    pub access_headers: HeaderNames,

    /// How long the service of `--access-url` may take to answer before the upgrade is refused with 503
    #[arg(long,
        help_heading = "Access", env = "SWITCHBOARD_ACCESS_TIMEOUT", value_name = "D", default_value = "2s", value_parser = positive_duration)]
    pub access_timeout: Duration,

    /// Certificates, in PEM, that are trusted for `--access-url` instead of the system's
    #[arg(
        long,
        help_heading = "Access",
        env = "SWITCHBOARD_ACCESS_CA",
        value_name = "FILE"
    )]
    pub access_ca: Option<PathBuf>,

    /// File with the token that admits to the admin API on `--metrics-listen`, at least 16 bytes; reloaded on SIGHUP.
    /// Without it, there is no admin API
    #[arg(
        long,
        help_heading = "Access",
        env = "SWITCHBOARD_ADMIN_TOKEN_FILE",
        value_name = "FILE"
    )]
    pub admin_token_file: Option<PathBuf>,

    /// Proxies whose `X-Forwarded-For` is trusted, as addresses or networks, separated by commas. Without it, the
    /// limits for an address apply to that of the connection
    #[arg(
        long,
        help_heading = "Limits",
        env = "SWITCHBOARD_TRUSTED_PROXIES",
        value_name = "CIDR",
        default_value = "",
        hide_default_value = true
    )]
    pub trusted_proxies: Proxies,

    /// Service that wakes phones by push notifications, when a binary asks for it. Without it, such requests are dropped
    #[arg(
        long,
        help_heading = "Services",
        env = "SWITCHBOARD_PUSH_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub push_url: Option<ServiceUrl>,

    /// Whether connections from `--trusted-proxies` begin with a PROXY protocol header, version 2: `on` or `off`
    #[arg(
        long,
        help_heading = "Limits",
        env = "SWITCHBOARD_PROXY_PROTOCOL",
        value_name = "ON",
        default_value = "off",
        action = ArgAction::Set,
        value_parser = on_or_off
    )]
    pub proxy_protocol: bool,

    /// What to log, in tracing's filter syntax
    #[arg(long, env = "SWITCHBOARD_LOG", value_name = "FILTER", default_value = "info", value_parser = filter)]
    pub log: String,

    /// How to write the log: `text`, or `json` for one JSON object a line
    #[arg(
        long,
        env = "SWITCHBOARD_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub log_format: LogFormat,

    /// Ask the relay at this URL whether it is up, like `http://127.0.0.1:9090/healthz`, and exit: with 0 if it answers with
    /// 2xx within 3 s, else with 1
    #[arg(long, value_name = "URL", hide_env_values = true)]
    pub check_health: Option<ServiceUrl>,

    /// Print completions for a shell or the manual page, and exit
    #[arg(long, value_name = "KIND")]
    pub generate: Option<Generate>,
}

impl Config {
    /// Reads the settings from the arguments, and from the environment for flags that are absent. The first argument is
    /// the program's name.
    ///
    /// # Errors
    ///
    /// [`Error::Config`], which names the flag and the variable, or carries the help or the version if that was
    /// requested.
    pub fn from_args<I>(args: I) -> Result<Self, Error>
    where
        I: IntoIterator<Item: Into<OsString>>,
    {
        let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
        let command = environment::without_empty(Self::command());
        let matches = command.try_get_matches_from(&args);
        let matches = matches.map_err(|error| environment::blame(error, Self::command(), &args))?;
        let config = Self::from_arg_matches(&matches)?;
        if config.tls_cert.is_some() != config.tls_key.is_some() {
            let sentence = "--tls-cert and --tls-key belong together: give both or neither";
            return Err(clap::Error::raw(ErrorKind::MissingRequiredArgument, sentence).into());
        }
        if config.proxy_protocol && config.trusted_proxies.is_empty() {
            let sentence = "--proxy-protocol needs --trusted-proxies: the addresses of the proxies that send the header";
            return Err(clap::Error::raw(ErrorKind::MissingRequiredArgument, sentence).into());
        }
        if config.admin_token_file.is_some() && config.metrics_listen == MetricsListen::Off {
            let sentence = "--admin-token-file needs --metrics-listen, which must not be off";
            return Err(clap::Error::raw(ErrorKind::ArgumentConflict, sentence).into());
        }
        let is_https = |url: &ServiceUrl| url.get().scheme() == "https";
        if config.access_ca.is_some() && !config.access_url.as_ref().is_some_and(is_https) {
            let sentence = "--access-ca needs an --access-url that begins with https://";
            return Err(clap::Error::raw(ErrorKind::MissingRequiredArgument, sentence).into());
        }
        Ok(config)
    }

    /// Warns about environment variables that look like those of flags, and are not.
    pub fn warn_about_variables() {
        environment::warn(&Self::command());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(flag: &str, value: &str) -> String {
        Config::from_args(["switchboard-relay", flag, value])
            .expect_err("the value is invalid")
            .to_string()
    }

    #[test]
    fn an_error_about_a_url_does_not_have_its_password() {
        for flag in ["--access-url", "--push-url"] {
            for url in [
                "ftp://me:swordfish@hook.example/",
                "http://me:swordfish@:x/",
            ] {
                let refusal = refusal(flag, url);
                let sentence = "expected the URL of a service, like https://service.example/path";
                let wanted = format!("invalid value for '{flag} <URL>': {sentence}");
                assert_eq!(refusal, wanted);
            }
        }
    }

    #[test]
    fn the_flags_are_well_formed() {
        Config::command().debug_assert();
    }

    #[test]
    fn the_defaults_are_those_of_the_documentation() {
        let config = Config::from_args(["switchboard-relay"]).expect("all flags have defaults");
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
        let metrics = SocketAddr::from(([127, 0, 0, 1], 9090));
        assert_eq!(config.metrics_listen, MetricsListen::On(metrics));
        assert_eq!(config.metrics_host, Hosts::default());
        assert!(config.healthz_details);
        assert_eq!((config.tls_cert, config.tls_key), (None, None));
        assert_eq!(config.grace, Duration::from_secs(30));
        assert_eq!(config.wait_for_binary, Duration::ZERO);
        assert_eq!(config.heartbeat_interval, Duration::from_secs(30));
        assert_eq!(config.heartbeat_timeout, Duration::from_secs(30));
        assert_eq!(config.probe_timeout, Duration::from_secs(10));
        assert_eq!(config.header_timeout, Duration::from_secs(10));
        assert_eq!(config.max_connections, 10_000);
        assert_eq!(config.max_per_address, 256);
        assert_eq!(config.allowed_origins, Origins::default());
        assert!(!config.require_claim_secret);
        assert_eq!(config.admin_token_file, None);
        assert_eq!(config.access_file, None);
        assert_eq!(config.access_url, None);
        let names = "authorization,x-pyrycode-token".parse();
        assert_eq!(Ok(config.access_headers), names);
        assert_eq!(config.access_timeout, Duration::from_secs(2));
        assert_eq!(config.access_ca, None);
        assert_eq!(config.rate_burst, 20);
        assert_eq!(config.rate_interval, Duration::from_secs(6));
        assert_eq!(config.trusted_proxies, Proxies::default());
        assert!(!config.proxy_protocol);
        assert_eq!(config.max_phones, 16);
        assert_eq!(config.max_frame, 256 * 1024);
        assert_eq!(config.outbox, 4 * 1024 * 1024);
        assert_eq!(config.write_timeout, Duration::from_secs(10));
        assert_eq!(config.message_timeout, Duration::from_secs(30));
        assert_eq!(config.first_frame_timeout, Duration::ZERO);
        assert_eq!(config.drain, Duration::ZERO);
        assert_eq!(config.shutdown_timeout, Duration::from_secs(10));
        assert_eq!(config.push_url, None);
        assert_eq!(config.log, "info");
        assert_eq!(config.log_format, LogFormat::Text);
        assert_eq!(config.check_health, None);
        assert_eq!(config.generate, None);
    }

    #[test]
    fn an_invalid_value_is_refused_in_one_line_that_names_the_flag() {
        for (flag, value) in [
            ("--listen", "nowhere"),
            ("--grace", "soon"),
            ("--grace", "30"),
            ("--wait-for-binary", "long"),
            ("--max-phones", "0"),
            ("--max-frame", "0"),
            ("--outbox", "99999999999"),
            ("--write-timeout", "0s"),
            ("--message-timeout", "0s"),
            ("--first-frame-timeout", "1"),
            ("--drain", "slowly"),
            ("--shutdown-timeout", "1 fortnight"),
            ("--push-url", "push.example"),
            ("--push-url", "ftp://push.example"),
            ("--log", "a=b=c"),
            ("--log-format", "xml"),
            ("--healthz-details", "true"),
            ("--allowed-origins", "app.example"),
            ("--allowed-origins", "https://app.example/"),
            ("--require-claim-secret", "yes"),
            ("--access-url", "hook.example/ask"),
            ("--access-url", "ftp://hook.example"),
            ("--access-url", "http://"),
            ("--check-health", "ws://127.0.0.1/"),
            ("--access-headers", "x-token;x-other"),
            ("--access-timeout", "0s"),
            ("--metrics-listen", "on"),
            ("--metrics-host", "http://relay"),
            ("--heartbeat-interval", "0s"),
            ("--heartbeat-timeout", "never"),
            ("--probe-timeout", "0s"),
            ("--header-timeout", "0s"),
            ("--max-connections", "0"),
            ("--max-per-address", "-1"),
            ("--rate-burst", "-1"),
            ("--rate-interval", "0s"),
            ("--rate-interval", "2 days"),
            ("--rate-burst", "100001"),
            ("--heartbeat-interval", "11 years"),
            ("--grace", "9999999999999999999s"),
            ("--trusted-proxies", "10.0.0.0/33"),
            ("--proxy-protocol", "v2"),
        ] {
            let sentence = refusal(flag, value);
            assert!(sentence.contains(flag), "{sentence}");
            // A URL may have a password.
            let is_shown = sentence.contains(value);
            let is_url = flag.ends_with("-url") || flag == "--check-health";
            assert_eq!(is_shown, !is_url, "{sentence}");
            assert_eq!(sentence.lines().count(), 1, "{sentence}");
        }
    }

    #[test]
    fn certificate_and_key_belong_together() {
        for (flag, value) in [("--tls-cert", "a.pem"), ("--tls-key", "a.key")] {
            let sentence = refusal(flag, value);
            assert!(sentence.contains("--tls-cert and --tls-key"), "{sentence}");
        }
    }

    #[test]
    fn the_proxy_protocol_needs_proxies() {
        let sentence = refusal("--proxy-protocol", "on");
        assert!(sentence.contains("needs --trusted-proxies"), "{sentence}");
        let flags = ["--proxy-protocol", "on", "--trusted-proxies", "10.0.0.1"];
        let config = Config::from_args(["switchboard-relay"].iter().chain(&flags));
        assert!(config.expect("both").proxy_protocol);
    }

    #[test]
    fn the_admin_api_needs_the_metrics_listener() {
        let args = ["switchboard-relay", "--admin-token-file", "token"];
        let config = Config::from_args(args).expect("a valid value");
        assert_eq!(config.admin_token_file, Some("token".into()));
        let refused = Config::from_args(args.iter().chain(&["--metrics-listen", "off"]));
        let sentence = refused.expect_err("nothing would serve it").to_string();
        assert!(sentence.contains("--admin-token-file"), "{sentence}");
    }

    #[test]
    fn certificates_for_a_hook_need_a_hook_with_https() {
        for url in [&[] as &[&str], &["--access-url", "http://localhost/"]] {
            let args = ["switchboard-relay", "--access-ca", "ca.pem"];
            let refused = Config::from_args(args.iter().chain(url)).expect_err("no https");
            assert!(refused.to_string().contains("--access-ca needs"));
        }
    }

    #[test]
    fn metrics_can_be_disabled() {
        let args = ["switchboard-relay", "--metrics-listen", "off"];
        let config = Config::from_args(args).expect("a valid value");
        assert_eq!(config.metrics_listen, MetricsListen::Off);
    }
}
