//! The ten comparisons with which the report begins.

use anyhow::Result;

use crate::cases::{DASHMAP, LATENCIES, LOCK, MEMORY, OURS, STD_LOCK};
use crate::figures::Figures;
use crate::markdown::{head, row};
use crate::words;

/// The designs that most relays start with.
pub(crate) const PEERS: [&str; 3] = [STD_LOCK, LOCK, DASHMAP];

pub(crate) struct Row {
    pub(crate) what: &'static str,
    /// Our own figure, with its unit.
    ours: String,
    /// How many times as long, or as much, each of [`PEERS`] takes.
    pub(crate) ratios: [f64; PEERS.len()],
}

enum Measure {
    /// The median time of this group of cases, with two threads.
    Time(&'static str),
    /// The 99.9th percentile of this case while another thread makes changes.
    Tail(&'static str),
    /// The bytes that each of these takes.
    Bytes(&'static str),
}

use Measure::{Bytes, Tail, Time};

const ROWS: [(&str, Measure); 10] = [
    (
        "look up the binary, one hot server-id",
        Time("binary_for, 1 server-ids"),
    ),
    (
        "look up the binary, 10,000 server-ids",
        Time("binary_for, 10000 server-ids"),
    ),
    (
        "the slowest of 1,000 lookups (p99.9), among changes",
        Tail(LATENCIES[0]),
    ),
    (
        "the binary of a phone, by its membership",
        Time("Membership::binary, 16 phones"),
    ),
    (
        "the binary of a phone, by a route",
        Time("Route::binary, 16 phones"),
    ),
    ("a snapshot of 16 phones", Time("phones_for, 16 phones")),
    (
        "register + unregister, 10,000 server-ids",
        Time("register + unregister, 16 phones, 10000 server-ids"),
    ),
    (
        "register + unregister, one server-id",
        Time("register + unregister, 16 phones, 1 server-ids"),
    ),
    (
        "claim + release of a fresh server-id",
        Time("claim + release, fresh beside 10000 server-ids"),
    ),
    ("memory of a server-id with its binary", Bytes(MEMORY[0])),
];

impl Measure {
    fn figure(&self, figures: &Figures, peer: &str) -> Result<f64> {
        match self {
            Time(group) => figures.median(group, peer, 2),
            Tail(case) => Ok(figures.latency(case, peer)?.p999),
            Bytes(case) => Ok(figures.memory(case, peer)?.bytes),
        }
    }

    fn with_unit(&self, figure: f64) -> String {
        match self {
            Time(_) | Tail(_) => words::time(figure),
            Bytes(_) => words::bytes(figure),
        }
    }
}

pub(crate) fn rows(figures: &Figures) -> Result<Vec<Row>> {
    let rows = ROWS.iter().map(|(what, measure)| {
        let ours = measure.figure(figures, OURS)?;
        let mut ratios = [0.0; PEERS.len()];
        for (ratio, peer) in ratios.iter_mut().zip(PEERS) {
            *ratio = measure.figure(figures, peer)? / ours;
        }
        Ok(Row {
            what,
            ours: measure.with_unit(ours),
            ratios,
        })
    });
    rows.collect()
}

pub(crate) fn table(figures: &Figures) -> Result<String> {
    let mut lines = Vec::from(head(&["two threads"], &[&[OURS][..], &PEERS].concat()));
    for Row { what, ours, ratios } in rows(figures)? {
        let cells = [what.to_owned(), ours];
        lines.push(row(cells.into_iter().chain(ratios.map(words::verdict))));
    }
    Ok(lines.join("\n"))
}
