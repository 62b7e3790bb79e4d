//! The command-line flags.

use std::ffi::OsString;
use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde::Serialize;

use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::frame;

/// The largest frame size accepted, far above what a relay accepts.
const LARGEST_FRAME: i64 = 1 << 26;

// The headings of the help.
const RELAY: &str = "The relay";
const LOAD: &str = "The load";
const RUN: &str = "The run";

/// The direction of the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Direction {
    Echo,
    ToBinary,
    ToPhone,
}

#[derive(Clone, Debug, Parser)]
#[command(
    name = "switchboard-load",
    version,
    about = "Loads a relay and measures frames, latencies, CPU and memory",
    after_help = "This program simulates binaries and phones. Without --rate, every phone keeps --in-flight frames \
        in flight, which saturates the relay. With --rate, latency counts from the time at which a frame was due.\n\n\
        Durations are written as 10s, 500ms or 2m. Ctrl-C ends a run early and prints the results so far."
)]
pub(crate) struct Options {
    /// Relay to load
    #[arg(help_heading = RELAY,
        long,
        default_value = "ws://127.0.0.1:8080",
        conflicts_with = "relay"
    )]
    pub(crate) url: Endpoint,

    /// Process id of the relay, to measure its CPU time and memory
    #[arg(help_heading = RELAY, long, conflicts_with = "relay")]
    pub(crate) pid: Option<NonZeroU32>,

    /// Relay program to start, measure and stop; flags after `--` are passed to it
    #[arg(help_heading = RELAY, long, value_name = "PROGRAM")]
    pub(crate) relay: Option<PathBuf>,

    /// TCP forwarder to start, measure and stop instead of a relay: bare frames go through it to this program
    /// and back
    #[arg(help_heading = RELAY, long, value_name = "PROGRAM", conflicts_with_all = ["url", "pid", "relay", "ca", "insecure", "direction", "idle", "slow", "storm"])]
    pub(crate) forwarder: Option<PathBuf>,

    /// Certificate authority to trust for wss, in PEM
    #[arg(help_heading = RELAY, long, value_name = "FILE", conflicts_with = "insecure")]
    pub(crate) ca: Option<PathBuf>,

    /// Trust any certificate
    #[arg(help_heading = RELAY, long)]
    pub(crate) insecure: bool,

    /// Number of server-ids, each with one binary
    #[arg(help_heading = LOAD,
        long,
        value_name = "N",
        default_value = "10"
    )]
    pub(crate) servers: NonZeroU16,

    /// Phones per server-id
    #[arg(help_heading = LOAD, long, value_name = "N", default_value = "9")]
    pub(crate) phones: NonZeroU16,

    /// Size of a phone's frame
    #[arg(help_heading = LOAD, long, value_name = "BYTES", default_value = "256", value_parser = clap::value_parser!(u32).range(frame::SMALLEST as i64..=LARGEST_FRAME))]
    pub(crate) frame: u32,

    /// Direction of the frames; echo goes to the binary and back to the phone
    #[arg(help_heading = LOAD, long, value_enum, default_value = "echo")]
    pub(crate) direction: Direction,

    /// Frames per second from all senders together, due at fixed times [default: as fast as possible]
    #[arg(help_heading = LOAD, long, value_name = "FRAMES", conflicts_with = "in_flight")]
    pub(crate) rate: Option<NonZeroU32>,

    /// Frames in flight per phone when no rate is given
    #[arg(help_heading = LOAD, long, value_name = "N", default_value = "8")]
    pub(crate) in_flight: NonZeroU16,

    /// Length of the measurement
    #[arg(help_heading = RUN, long, value_name = "D", default_value = "10s", value_parser = positive_duration)]
    pub(crate) duration: Duration,

    /// Length of the warmup before it, which is not counted
    #[arg(help_heading = RUN, long, value_name = "D", default_value = "2s", value_parser = humantime::parse_duration)]
    pub(crate) warmup: Duration,

    /// Send no frames: open and close connections, this many at a time
    #[arg(help_heading = LOAD, long, value_name = "N", conflicts_with_all = ["rate", "in_flight", "slow", "idle", "frame", "direction", "phones"])]
    pub(crate) storm: Option<NonZeroU16>,

    /// Send only the one frame with which each phone introduces itself, then hold the connections
    #[arg(help_heading = LOAD, long, conflicts_with_all = ["rate", "in_flight", "slow", "direction"])]
    pub(crate) idle: bool,

    /// Number of phones that don't read; requires --rate and --direction to-phone
    #[arg(help_heading = LOAD, long, value_name = "N", requires = "rate", default_value = "0")]
    pub(crate) slow: u32,

    /// Threads of this program [default: one per core]
    #[arg(help_heading = RUN, long, value_name = "N")]
    pub(crate) threads: Option<NonZeroU16>,

    /// Print a JSON object instead of the table
    #[arg(help_heading = RUN, long)]
    pub(crate) json: bool,

    /// Further flags for the relay that --relay starts
    #[arg(help_heading = RELAY, last = true, requires = "relay", value_name = "FLAGS")]
    pub(crate) relay_flags: Vec<OsString>,
}

impl Options {
    pub(crate) fn read() -> Result<Self, Error> {
        Self::parse_from_args(std::env::args_os())
    }

    fn parse_from_args(
        args: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, Error> {
        let options = Self::try_parse_from(args)?;
        options.check()?;
        Ok(options)
    }

    fn check(&self) -> Result<(), Error> {
        let wrong = |sentence: &str| Err(Error::Usage(sentence.to_owned()));
        if self.slow > 0 && self.direction != Direction::ToPhone {
            return wrong("--slow needs frames to phones: add --direction to-phone");
        }
        if self.slow > 0 && self.slow >= self.all_phones() {
            return wrong("--slow leaves no phone that reads: lower it or raise --phones");
        }
        self.check_trust(&self.url)
    }

    pub(crate) fn check_trust(&self, endpoint: &Endpoint) -> Result<(), Error> {
        if endpoint.secure && self.ca.is_none() && !self.insecure {
            let sentence = "wss needs a trusted certificate: add --ca FILE or --insecure";
            return Err(Error::Usage(sentence.to_owned()));
        }
        Ok(())
    }

    /// The number of phones that stay connected.
    pub(crate) fn all_phones(&self) -> u32 {
        if self.storm.is_some() {
            0
        } else {
            u32::from(self.servers.get()) * u32::from(self.phones.get())
        }
    }

    /// The number of connections that this process holds at once.
    pub(crate) fn connections(&self) -> u32 {
        if self.forwarder.is_some() {
            // Each phone's own connection, and the one that the forwarder opens for it to the far end.
            return 2 * self.all_phones();
        }
        let storm = self.storm.map_or(0, NonZeroU16::get);
        u32::from(self.servers.get()) + self.all_phones() + u32::from(storm)
    }
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if duration.is_zero() {
        return Err("it must be longer than zero".to_owned());
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(flags: &str) -> Result<Options, Error> {
        Options::parse_from_args(
            ["switchboard-load"]
                .into_iter()
                .chain(flags.split_whitespace()),
        )
    }

    #[test]
    fn every_connection_is_counted() {
        let options = parse("--servers 100 --phones 9").expect("good flags");
        assert_eq!((options.all_phones(), options.connections()), (900, 1000));
        let options = parse("--servers 100 --storm 50").expect("good flags");
        assert_eq!((options.all_phones(), options.connections()), (0, 150));
        let options = parse("--servers 100 --phones 9 --forwarder a").expect("good flags");
        assert_eq!((options.all_phones(), options.connections()), (900, 1800));
    }

    #[test]
    fn incompatible_flags_are_one_line_errors() {
        for (flags, part) in [
            ("--frame 25", "25 is not in 26.."),
            ("--rate 0", "--rate"),
            ("--duration 0s", "longer than zero"),
            ("--url http://localhost", "ws://"),
            ("--url wss://localhost", "--insecure"),
            ("--slow 1", "--rate"),
            ("--slow 1 --rate 9", "to-phone"),
            ("--slow 90 --rate 9 --direction to-phone", "leaves no phone"),
            ("--rate 9 --in-flight 2", "cannot be used with"),
            ("--idle --rate 9", "cannot be used with"),
            ("--relay a --pid 1", "cannot be used with"),
            ("-- --grace 1s", "--relay"),
            ("--forwarder a --relay a", "cannot be used with"),
            ("--forwarder a --storm 1", "cannot be used with"),
        ] {
            let error = parse(flags).expect_err(flags).to_string();
            assert!(error.contains(part), "{flags}: {error}");
            assert!(!error.contains('\n'), "{flags}: {error}");
        }
    }
}
