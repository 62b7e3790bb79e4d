//! The tables of the report.

use anyhow::{Context, Result};

use crate::cases::{
    CLOCK, Case, FLOORS, LATENCIES, LOCK, MEMORY, OURS, PEERS, TAIL_FLOOR, THEMES, Theme,
};
use crate::figures::{Figures, Latency};
use crate::markdown::{self, Compared, head, row};
use crate::words;

/// The case in each of its numbers of threads: what `cells` makes of them.
fn rows(
    figures: &Figures,
    case: &Case,
    cells: impl Fn(usize) -> Result<Vec<String>>,
) -> Result<Vec<String>> {
    let rows = case.threads.iter().map(|threads| {
        let threads = figures.threads(*threads);
        let labels = [words::case(case.group), threads.to_string()];
        Ok(row(labels.into_iter().chain(cells(threads)?)))
    });
    rows.collect()
}

fn is_compared(case: &Case) -> bool {
    case.peers.len() > 1
}

/// How many times as long as ours a peer takes; `None`: it was not measured.
fn against(figures: &Figures, case: &Case, peer: &str, threads: usize) -> Result<Option<f64>> {
    if !case.peers.contains(&peer) {
        return Ok(None);
    }
    let ours = figures.median(case.group, OURS, threads)?;
    Ok(Some(figures.median(case.group, peer, threads)? / ours))
}

pub(crate) fn ratios(figures: &Figures) -> Result<String> {
    let mut lines = Vec::new();
    for theme in THEMES {
        lines.extend([format!("### {}", theme.title), String::new()]);
        lines.extend(head(&["what", "threads"], &PEERS));
        for case in theme.cases.iter().filter(|case| is_compared(case)) {
            lines.extend(rows(figures, case, |threads| {
                let ours = words::time(figures.median(case.group, OURS, threads)?);
                let ratios = PEERS[1..].iter().map(|peer| {
                    let ratio = against(figures, case, peer, threads)?;
                    Ok(ratio.map_or_else(|| "–".to_owned(), words::verdict))
                });
                [Ok(ours)].into_iter().chain(ratios).collect()
            })?);
        }
        lines.push(String::new());
    }
    Ok(lines.join("\n").trim_end().to_owned())
}

pub(crate) fn medians(figures: &Figures) -> Result<String> {
    let mut lines = Vec::from(head(&["what", "threads"], &PEERS));
    for case in THEMES.iter().flat_map(|theme| theme.cases) {
        lines.extend(rows(figures, case, |threads| {
            let times = PEERS.iter().map(|peer| {
                if !case.peers.contains(peer) {
                    return Ok("–".to_owned());
                }
                Ok(words::time(figures.median(case.group, peer, threads)?))
            });
            times.collect()
        })?);
    }
    Ok(lines.join("\n"))
}

/// Every case of a theme in which a peer is faster, or takes less.
pub(crate) fn losses(figures: &Figures, theme: &str) -> Result<String> {
    let compared = match theme {
        "latency" => compared_latencies(figures)?,
        "memory" => compared_memory(figures)?,
        _ => {
            let theme = THEMES.iter().find(|known| known.name == theme);
            compared_medians(figures, theme.context("there is no such theme")?)?
        }
    };
    Ok(markdown::losses(&compared))
}

fn compared_medians(figures: &Figures, theme: &Theme) -> Result<Vec<Compared>> {
    let mut compared = Vec::new();
    for case in theme.cases.iter().filter(|case| is_compared(case)) {
        for threads in case.threads {
            let threads = figures.threads(*threads);
            let mut ratios = Vec::new();
            for peer in &PEERS[1..] {
                ratios.extend(against(figures, case, peer, threads)?.map(|ratio| (*peer, ratio)));
            }
            let what = format!("{}, {}", words::case(case.group), words::threads(threads));
            compared.push((what, ratios));
        }
    }
    Ok(compared)
}

type Quantile = (&'static str, fn(&Latency) -> f64);
const QUANTILES: [Quantile; 4] = [
    ("p50", |at| at.p50),
    ("p99", |at| at.p99),
    ("p99.9", |at| at.p999),
    ("max", |at| at.max),
];

fn compared_latencies(figures: &Figures) -> Result<Vec<Compared>> {
    let mut compared = Vec::new();
    for case in LATENCIES {
        let ours = figures.latency(case, OURS)?;
        for (name, at) in QUANTILES {
            let ratios = PEERS[1..].iter().map(|peer| {
                let theirs = figures.latency(case, peer)?;
                Ok((*peer, at(&theirs) / at(&ours)))
            });
            let what = format!("{}, {name}", words::case(case));
            compared.push((what, ratios.collect::<Result<_>>()?));
        }
    }
    Ok(compared)
}

fn compared_memory(figures: &Figures) -> Result<Vec<Compared>> {
    let mut compared = Vec::new();
    for case in MEMORY {
        let ours = figures.memory(case, OURS)?.bytes;
        let ratios = PEERS[1..]
            .iter()
            .map(|peer| Ok((*peer, figures.memory(case, peer)?.bytes / ours)));
        let what = format!("bytes for each {case}");
        compared.push((what, ratios.collect::<Result<_>>()?));
    }
    Ok(compared)
}

pub(crate) fn latencies(figures: &Figures) -> Result<String> {
    let mut lines = Vec::from(head(&["what", "peer"], &QUANTILES.map(|(name, _)| name)));
    let each = LATENCIES
        .iter()
        .flat_map(|case| PEERS.map(|peer| (*case, peer)));
    for (case, peer) in [CLOCK].into_iter().chain(each) {
        let latency = figures.latency(case, peer)?;
        let times = QUANTILES.map(|(_, at)| words::time(at(&latency)));
        lines.push(row([words::case(case), peer.to_owned()]
            .into_iter()
            .chain(times)));
    }
    Ok(lines.join("\n"))
}

pub(crate) fn memory(figures: &Figures) -> Result<String> {
    let columns = [
        "bytes for each server-id",
        "blocks",
        "bytes for each phone",
        "blocks",
    ];
    let mut lines = Vec::from(head(&["peer"], &columns));
    for peer in PEERS {
        let mut cells = vec![peer.to_owned()];
        for case in MEMORY {
            let memory = figures.memory(case, peer)?;
            cells.extend([
                format!("{:.0}", memory.bytes),
                format!("{:.2}", memory.blocks),
            ]);
        }
        lines.push(row(cells));
    }
    Ok(lines.join("\n"))
}

pub(crate) fn floors(figures: &Figures) -> Result<String> {
    let mut lines = Vec::from(head(&["what", "threads"], &["floor", "measured", "met"]));
    let mut floor = |what: &str, threads: usize, floor: f64, measured: f64| {
        let met = if measured >= floor { "yes" } else { "**no**" };
        let cells = [format!("{floor}"), words::ratio(measured), met.to_owned()];
        lines.push(row([words::case(what), threads.to_string()]
            .into_iter()
            .chain(cells)));
    };
    for known in FLOORS {
        let lock = figures.median(known.group, LOCK, known.threads)?;
        let ours = figures.median(known.group, OURS, known.threads)?;
        floor(known.group, known.threads, known.ratio, lock / ours);
    }
    let (case, ratio) = TAIL_FLOOR;
    let tails = (
        figures.latency(case, LOCK)?.p999,
        figures.latency(case, OURS)?.p999,
    );
    floor(
        &format!("p99.9 of {case} beside churn"),
        2,
        ratio,
        tails.0 / tails.1,
    );
    Ok(lines.join("\n"))
}
