//! The results of a run: the JSON object of `--json`, and the source of the table.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::numbers::{figure, micros, quotient};
use crate::options::{Direction, Options};
use crate::tally::Counts;
use crate::usage::Reading;

/// The field names include the units. A value that was not measured is null.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Summary {
    pub(crate) mode: Mode,
    /// Over bare TCP, through a forwarder.
    pub(crate) bare: bool,
    pub(crate) direction: Option<Direction>,
    pub(crate) servers: u16,
    pub(crate) connections: u32,
    pub(crate) frame_bytes: Option<u32>,
    pub(crate) rate_frames_per_second: Option<u32>,
    pub(crate) in_flight_per_phone: Option<u16>,
    pub(crate) measured_seconds: f64,

    /// Frames that the relay has forwarded: two per round trip.
    pub(crate) frames: Option<u64>,
    pub(crate) frames_per_second: Option<f64>,
    pub(crate) latency_p50_us: Option<f64>,
    pub(crate) latency_p99_us: Option<f64>,
    pub(crate) latency_p99_9_us: Option<f64>,
    pub(crate) latency_max_us: Option<f64>,
    /// Frames ordered, but not delivered within some seconds after the end.
    pub(crate) undelivered_frames: Option<u64>,

    /// Time until the upgrade is answered.
    pub(crate) connect_p50_us: Option<f64>,
    pub(crate) connect_p99_us: Option<f64>,
    pub(crate) connect_p99_9_us: Option<f64>,
    pub(crate) connect_max_us: Option<f64>,
    pub(crate) storm_connections: Option<u64>,
    pub(crate) storm_connections_per_second: Option<f64>,

    pub(crate) relay_cpu_us_per_frame: Option<f64>,
    pub(crate) relay_cpu_us_per_storm_connection: Option<f64>,
    pub(crate) relay_cpu_cores: Option<f64>,
    pub(crate) relay_memory_bytes_per_connection: Option<f64>,
    pub(crate) relay_memory_bytes: Option<u64>,
    /// CPU of this program, which was not available to the relay.
    pub(crate) load_cpu_cores: Option<f64>,

    pub(crate) slow_phones: u32,
    pub(crate) slow_phones_dropped: u32,
    /// How the connections of slow phones had ended, once these read at last.
    pub(crate) slow_phones_by_ending: BTreeMap<String, u64>,
    pub(crate) errors: BTreeMap<String, u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    #[default]
    Traffic,
    Storm,
    Idle,
}

impl Mode {
    pub(crate) fn of(options: &Options) -> Self {
        match (options.storm, options.idle) {
            (Some(_), _) => Self::Storm,
            (None, true) => Self::Idle,
            (None, false) => Self::Traffic,
        }
    }
}

/// Readings of the relay's process: before the first connection, with all connections, and at both ends of
/// the window.
#[derive(Clone, Copy, Default)]
pub(crate) struct Readings {
    pub(crate) before: Option<Reading>,
    pub(crate) connected: Option<Reading>,
    pub(crate) from: Option<Reading>,
    pub(crate) to: Option<Reading>,
    /// Readings of this program at both ends of the window.
    pub(crate) load_from: Option<Reading>,
    pub(crate) load_to: Option<Reading>,
}

/// The raw measurements.
pub(crate) struct Measured {
    pub(crate) seconds: f64,
    pub(crate) connections: u32,
    pub(crate) connect: Histogram<u64>,
    pub(crate) counts: Counts,
    pub(crate) readings: Readings,
    pub(crate) slow_phones_dropped: u32,
    pub(crate) slow_phones_by_ending: BTreeMap<String, u64>,
    pub(crate) errors: BTreeMap<String, u64>,
}

impl Summary {
    pub(crate) fn of(options: &Options, measured: Measured) -> Self {
        let mut summary = Self {
            mode: Mode::of(options),
            bare: options.forwarder.is_some(),
            servers: options.servers.get(),
            connections: measured.connections,
            measured_seconds: measured.seconds,
            slow_phones: options.slow,
            slow_phones_dropped: measured.slow_phones_dropped,
            ..Self::default()
        };
        summary.usage(&measured);
        match summary.mode {
            Mode::Traffic => summary.traffic(options, &measured),
            Mode::Storm => summary.storm(&measured),
            Mode::Idle => {
                summary.frame_bytes = Some(options.frame);
                summary.connects(&measured.connect);
            }
        }
        summary.slow_phones_by_ending = measured.slow_phones_by_ending;
        summary.errors = measured.errors;
        summary
    }

    fn traffic(&mut self, options: &Options, measured: &Measured) {
        let counts = &measured.counts;
        let forwards = match options.direction {
            Direction::Echo => 2,
            Direction::ToBinary | Direction::ToPhone => 1,
        };
        let frames = counts.arrived_in_window * forwards;
        self.direction = Some(options.direction);
        self.frame_bytes = Some(options.frame);
        self.rate_frames_per_second = options.rate.map(std::num::NonZero::get);
        self.in_flight_per_phone = options.rate.is_none().then(|| options.in_flight.get());
        self.frames = Some(frames);
        self.frames_per_second = quotient(figure(frames), measured.seconds);
        [
            self.latency_p50_us,
            self.latency_p99_us,
            self.latency_p99_9_us,
            self.latency_max_us,
        ] = quantiles(&counts.latency);
        self.undelivered_frames = Some(counts.ordered.saturating_sub(counts.arrived));
        self.relay_cpu_us_per_frame = cpu_of_each(&measured.readings, frames);
        self.connects(&measured.connect);
    }

    fn storm(&mut self, measured: &Measured) {
        let connections = measured.counts.arrived_in_window;
        self.storm_connections = Some(connections);
        self.storm_connections_per_second = quotient(figure(connections), measured.seconds);
        self.relay_cpu_us_per_storm_connection = cpu_of_each(&measured.readings, connections);
        self.connects(&measured.counts.latency);
    }

    fn connects(&mut self, latency: &Histogram<u64>) {
        [
            self.connect_p50_us,
            self.connect_p99_us,
            self.connect_p99_9_us,
            self.connect_max_us,
        ] = quantiles(latency);
    }

    fn usage(&mut self, measured: &Measured) {
        let readings = &measured.readings;
        self.relay_memory_bytes = readings.to.map(|at| at.bytes);
        let cores = |cpu: Option<f64>| cpu.and_then(|seconds| quotient(seconds, measured.seconds));
        self.relay_cpu_cores = cores(readings.relay_cpu_seconds());
        self.load_cpu_cores = cores(cpu_seconds(readings.load_from, readings.load_to));
        let with = match self.mode {
            Mode::Traffic => readings.connected,
            // Idle connections are judged by their cost after a while.
            Mode::Idle => readings.to,
            // A few binaries are no measure of the cost of a connection.
            Mode::Storm => None,
        };
        let bytes = readings.before.zip(with);
        let bytes = bytes.map(|(before, with)| figure(with.bytes) - figure(before.bytes));
        self.relay_memory_bytes_per_connection =
            bytes.and_then(|bytes| quotient(bytes, measured.connections.into()));
    }
}

impl Readings {
    fn relay_cpu_seconds(&self) -> Option<f64> {
        cpu_seconds(self.from, self.to)
    }
}

fn cpu_seconds(from: Option<Reading>, to: Option<Reading>) -> Option<f64> {
    let (from, to) = from.zip(to)?;
    Some(figure(to.cpu_millis.saturating_sub(from.cpu_millis)) / 1e3)
}

fn cpu_of_each(readings: &Readings, count: u64) -> Option<f64> {
    quotient(readings.relay_cpu_seconds()? * 1e6, figure(count))
}

fn quantiles(latency: &Histogram<u64>) -> [Option<f64>; 4] {
    let at = [
        latency.value_at_quantile(0.5),
        latency.value_at_quantile(0.99),
        latency.value_at_quantile(0.999),
        latency.max(),
    ];
    at.map(|nanos| (!latency.is_empty()).then(|| micros(nanos)))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::Value;

    use super::*;
    use crate::tally;

    fn options(flags: &str) -> Options {
        let flags = ["switchboard-load"]
            .into_iter()
            .chain(flags.split_whitespace());
        Options::try_parse_from(flags).expect("good flags")
    }

    /// A thousand frames in two seconds, due 1 to 1000 µs before they arrived, for two seconds of CPU time.
    fn measured() -> Measured {
        let mut latency = tally::histogram();
        for micros in 1..=1000 {
            latency.record(micros * 1000).expect("within the range");
        }
        let reading = |cpu_millis, bytes| Some(Reading { cpu_millis, bytes });
        Measured {
            seconds: 2.0,
            connections: 100,
            connect: tally::histogram(),
            counts: Counts {
                ordered: 1003,
                arrived: 1000,
                arrived_in_window: 1000,
                latency,
            },
            readings: Readings {
                before: reading(0, 1_000_000),
                connected: reading(100, 2_000_000),
                from: reading(1000, 2_000_000),
                to: reading(3000, 3_000_000),
                load_from: reading(0, 0),
                load_to: reading(1000, 0),
            },
            slow_phones_dropped: 0,
            slow_phones_by_ending: BTreeMap::new(),
            errors: BTreeMap::from([("phone: closed 1011".to_owned(), 2)]),
        }
    }

    fn near(value: Option<f64>, wanted: f64) -> bool {
        value.is_some_and(|value| (value / wanted - 1.0).abs() < 0.002)
    }

    #[test]
    fn a_frame_in_one_direction_counts_once_and_a_round_trip_twice() {
        let one_way = Summary::of(&options("--direction to-phone"), measured());
        assert_eq!(
            (one_way.frames, one_way.frames_per_second),
            (Some(1000), Some(500.0))
        );
        assert_eq!(one_way.relay_cpu_us_per_frame, Some(2000.0));
        let echo = Summary::of(&options(""), measured());
        assert_eq!(echo.load_cpu_cores, Some(0.5));
        assert_eq!(
            (echo.frames, echo.frames_per_second),
            (Some(2000), Some(1000.0))
        );
        assert_eq!(echo.relay_cpu_us_per_frame, Some(1000.0));
        assert_eq!(
            (echo.relay_cpu_cores, echo.undelivered_frames),
            (Some(1.0), Some(3))
        );
    }

    #[test]
    fn percentiles_are_those_of_the_frames() {
        let summary = Summary::of(&options(""), measured());
        assert!(
            near(summary.latency_p50_us, 500.0),
            "{:?}",
            summary.latency_p50_us
        );
        assert!(near(summary.latency_p99_us, 990.0));
        assert!(near(summary.latency_p99_9_us, 999.0));
        assert!(near(summary.latency_max_us, 1000.0));
        assert_eq!(summary.connect_p50_us, None);
    }

    #[test]
    fn memory_is_the_growth_from_connections_and_is_read_last_when_idle() {
        let traffic = Summary::of(&options(""), measured());
        assert_eq!(traffic.relay_memory_bytes_per_connection, Some(10_000.0));
        let idle = Summary::of(&options("--idle"), measured());
        assert_eq!(idle.relay_memory_bytes_per_connection, Some(20_000.0));
        assert_eq!((idle.mode, idle.frames), (Mode::Idle, None));
    }

    #[test]
    fn json_has_every_key_and_null_for_what_was_not_measured() {
        let storm = Summary::of(&options("--storm 9"), measured());
        let json = serde_json::to_value(&storm).expect("JSON");
        assert_eq!(json["mode"], "storm");
        assert_eq!(json["storm_connections_per_second"], 500.0);
        assert_eq!(json["relay_cpu_us_per_storm_connection"], 2000.0);
        assert_eq!(json["errors"]["phone: closed 1011"], 2);
        for key in [
            "frames",
            "latency_p99_9_us",
            "rate_frames_per_second",
            "direction",
        ] {
            assert_eq!(json.get(key), Some(&Value::Null), "{key}");
        }
        let echo = serde_json::to_value(Summary::of(&options("--rate 5"), measured()));
        let echo = echo.expect("JSON");
        assert_eq!(
            (&echo["direction"], &echo["rate_frames_per_second"]),
            (&"echo".into(), &5.into())
        );
    }

    #[test]
    fn a_run_without_frames_has_no_frame_figures() {
        let mut nothing = measured();
        nothing.seconds = 0.0;
        nothing.counts.arrived_in_window = 0;
        nothing.counts.latency.reset();
        let summary = Summary::of(&options(""), nothing);
        assert_eq!(summary.frames_per_second, None);
        assert_eq!(
            (summary.latency_max_us, summary.relay_cpu_us_per_frame),
            (None, None)
        );
    }
}
