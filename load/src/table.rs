//! The table on standard output.

use comfy_table::{CellAlignment, Table, presets};

use crate::options::Direction;
use crate::summary::{Mode, Summary};

pub(crate) fn draw(summary: &Summary) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    for (what, value) in rows(summary) {
        table.add_row([what, value]);
    }
    if let Some(values) = table.column_mut(1) {
        values.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

fn rows(summary: &Summary) -> Vec<(String, String)> {
    let mut rows = vec![
        ("what", what(summary)),
        ("connections", summary.connections.to_string()),
        ("measured", format!("{:.1} s", summary.measured_seconds)),
    ];
    match summary.mode {
        Mode::Traffic => rows.extend(traffic(summary)),
        Mode::Storm => rows.extend([
            (
                "connections a second",
                number(summary.storm_connections_per_second, 0, ""),
            ),
            (
                "relay: CPU for each",
                number(summary.relay_cpu_us_per_storm_connection, 1, " µs"),
            ),
        ]),
        Mode::Idle => {}
    }
    rows.extend([
        ("connect p50", time(summary.connect_p50_us)),
        ("connect p99", time(summary.connect_p99_us)),
        ("connect p99.9", time(summary.connect_p99_9_us)),
        ("connect max", time(summary.connect_max_us)),
        (
            "this program: CPU",
            number(summary.load_cpu_cores, 2, " cores"),
        ),
        ("relay: CPU", number(summary.relay_cpu_cores, 2, " cores")),
        (
            "relay: memory for each connection",
            bytes(summary.relay_memory_bytes_per_connection),
        ),
    ]);
    if summary.slow_phones > 0 {
        let dropped = summary.slow_phones_dropped;
        let slow = summary.slow_phones;
        rows.push(("slow phones dropped", format!("{dropped} of {slow}")));
    }
    let rows = rows
        .into_iter()
        .map(|(what, value)| (what.to_owned(), value));
    let endings = of_each("slow phone", &summary.slow_phones_by_ending);
    let errors = of_each("error", &summary.errors);
    rows.chain(endings).chain(errors).collect()
}

fn what(summary: &Summary) -> String {
    let direction = match summary.direction {
        Some(Direction::Echo) => "round trips",
        Some(Direction::ToBinary) => "frames to binaries",
        Some(Direction::ToPhone) => "frames to phones",
        None if summary.mode == Mode::Storm => return "connections that come and go".to_owned(),
        None => return "idle connections".to_owned(),
    };
    let size = summary.frame_bytes.unwrap_or(0);
    let load = match (summary.rate_frames_per_second, summary.in_flight_per_phone) {
        (Some(rate), _) => format!("{rate} due a second"),
        (None, in_flight) => format!("{} in flight for each phone", in_flight.unwrap_or(0)),
    };
    let bare = if summary.bare { " over bare TCP" } else { "" };
    format!("{direction} of {size} B{bare}, {load}")
}

fn traffic(summary: &Summary) -> [(&'static str, String); 7] {
    [
        (
            "frames forwarded a second",
            number(summary.frames_per_second, 0, ""),
        ),
        ("latency p50", time(summary.latency_p50_us)),
        ("latency p99", time(summary.latency_p99_us)),
        ("latency p99.9", time(summary.latency_p99_9_us)),
        ("latency max", time(summary.latency_max_us)),
        (
            "undelivered",
            summary.undelivered_frames.unwrap_or(0).to_string(),
        ),
        (
            "relay: CPU for each frame",
            number(summary.relay_cpu_us_per_frame, 2, " µs"),
        ),
    ]
}

fn of_each<'a>(
    what: &'a str,
    counts: impl IntoIterator<Item = (&'a String, &'a u64)> + 'a,
) -> impl Iterator<Item = (String, String)> {
    let counts = counts.into_iter();
    counts.map(move |(kind, count)| (format!("{what}: {kind}"), count.to_string()))
}

fn number(value: Option<f64>, digits: usize, unit: &str) -> String {
    value.map_or_else(unknown, |value| format!("{value:.digits$}{unit}"))
}

fn time(micros: Option<f64>) -> String {
    match micros {
        Some(micros) if micros < 9_999.5 => format!("{micros:.0} µs"),
        Some(micros) => format!("{:.1} ms", micros / 1e3),
        None => unknown(),
    }
}

fn bytes(bytes: Option<f64>) -> String {
    number(bytes.map(|bytes| bytes / 1024.0), 1, " KiB")
}

fn unknown() -> String {
    "–".to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_table_shows_the_load_and_the_errors() {
        let summary = Summary {
            direction: Some(Direction::Echo),
            frame_bytes: Some(256),
            rate_frames_per_second: Some(100),
            latency_p50_us: Some(123.4),
            latency_max_us: Some(12_345.6),
            errors: BTreeMap::from([("phone: connection lost".to_owned(), 3)]),
            ..Summary::default()
        };
        let table = draw(&summary);
        for part in [
            "round trips of 256 B, 100 due a second",
            "123 µs",
            "12.3 ms",
            "error: phone: connection lost",
            "–",
        ] {
            assert!(table.contains(part), "{table}");
        }
        let bare = draw(&Summary {
            bare: true,
            ..summary
        });
        assert!(bare.contains("256 B over bare TCP, 100 due"), "{bare}");
    }
}
