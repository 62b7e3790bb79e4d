use std::ffi::OsString;
use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;

use crate::error::Error;
use crate::logging;

/// More than any machine wants to queue for one peer, and what a semaphore can count everywhere.
const MAX_OUTBOX: i64 = (1 << 29) - 1;

/// The settings of a relay.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "switchboard-relay",
    version,
    about = "A WebSocket relay between binaries and phones"
)]
pub struct Config {
    /// Address to listen on; port 0 picks a free one
    #[arg(
        long,
        env = "SWITCHBOARD_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:8080"
    )]
    pub listen: SocketAddr,

    /// How long a server-id is kept for a binary that went away
    #[arg(long, env = "SWITCHBOARD_GRACE", value_name = "D", default_value = "30s", value_parser = humantime::parse_duration)]
    pub grace: Duration,

    /// Largest number of phones for each server-id
    #[arg(long, env = "SWITCHBOARD_MAX_PHONES", value_name = "N", default_value = "16", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_phones: u32,

    /// Largest message in bytes
    #[arg(long, env = "SWITCHBOARD_MAX_FRAME", value_name = "BYTES", default_value = "262144", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_frame: u32,

    /// How many bytes may wait for one peer
    #[arg(long, env = "SWITCHBOARD_OUTBOX", value_name = "BYTES", default_value = "4194304", value_parser = clap::value_parser!(u32).range(1..=MAX_OUTBOX))]
    pub outbox: u32,

    /// How long a peer may keep a write waiting
    #[arg(long, env = "SWITCHBOARD_WRITE_TIMEOUT", value_name = "D", default_value = "10s", value_parser = positive_duration)]
    pub write_timeout: Duration,

    /// How long a shutdown waits for the connections to end
    #[arg(long, env = "SWITCHBOARD_SHUTDOWN_TIMEOUT", value_name = "D", default_value = "10s", value_parser = humantime::parse_duration)]
    pub shutdown_timeout: Duration,

    /// What to log, in the filter syntax of tracing
    #[arg(long, env = "SWITCHBOARD_LOG", value_name = "FILTER", default_value = "info", value_parser = logging::filter)]
    pub log: String,
}

impl Config {
    /// Reads the flags, the first argument being the program's name, and the environment for flags that are
    /// not there.
    ///
    /// # Errors
    ///
    /// [`Error::Config`], which names the flag; or carries the help or the version where that was asked for.
    pub fn from_args<I>(args: I) -> Result<Self, Error>
    where
        I: IntoIterator<Item: Into<OsString> + Clone>,
    {
        Ok(Self::try_parse_from(args)?)
    }
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("it must be longer than nothing".into()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(flag: &str, value: &str) -> String {
        Config::from_args(["switchboard-relay", flag, value])
            .expect_err("the value is wrong")
            .to_string()
    }

    #[test]
    fn the_flags_are_well_formed() {
        use clap::CommandFactory;
        Config::command().debug_assert();
    }

    #[test]
    fn the_defaults_are_those_of_the_documentation() {
        let config = Config::from_args(["switchboard-relay"]).expect("all flags have defaults");
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(config.grace, Duration::from_secs(30));
        assert_eq!(config.max_phones, 16);
        assert_eq!(config.max_frame, 256 * 1024);
        assert_eq!(config.outbox, 4 * 1024 * 1024);
        assert_eq!(config.write_timeout, Duration::from_secs(10));
        assert_eq!(config.shutdown_timeout, Duration::from_secs(10));
        assert_eq!(config.log, "info");
    }

    #[test]
    fn a_wrong_value_is_refused_in_one_line_that_names_the_flag() {
        for (flag, value) in [
            ("--listen", "nowhere"),
            ("--grace", "soon"),
            ("--grace", "30"),
            ("--max-phones", "0"),
            ("--max-frame", "0"),
            ("--outbox", "99999999999"),
            ("--write-timeout", "0s"),
            ("--shutdown-timeout", "1 fortnight"),
            ("--log", "a=b=c"),
        ] {
            let sentence = refusal(flag, value);
            assert!(sentence.contains(flag), "{sentence}");
            assert!(sentence.contains(value), "{sentence}");
            assert_eq!(sentence.lines().count(), 1, "{sentence}");
        }
    }
}
