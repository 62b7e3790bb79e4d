//! The rates of `scripts/bench --scaling`, and the page that shows them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::cases::{OURS, PEERS};
use crate::figures::{lines, read};
use crate::markdown::{head, row};
use crate::plots::Lines;
use crate::{machine, plots, words};

/// A case of ours, and the case of the peers that it is compared with.
const CASES: [(&str, &str); 11] = [
    ("binary_for, 1 server-ids", "binary_for, 1 server-ids"),
    (
        "binary_for, 10000 server-ids",
        "binary_for, 10000 server-ids",
    ),
    ("phones_for, 1 server-ids", "phones_for, 1 server-ids"),
    ("phone_for, 1 server-ids", "phone_for, 1 server-ids"),
    ("Membership::binary", "binary_for, 1 server-ids"),
    ("Route::binary", "binary_for, 1 server-ids"),
    ("Claim::phone", "phone_for, 1 server-ids"),
    ("Claim::phones", "phones_for, 1 server-ids"),
    ("counts, 10000 server-ids", "counts, 10000 server-ids"),
    (
        "register + unregister, 10000 server-ids",
        "register + unregister, 10000 server-ids",
    ),
    (
        "99 lookups to 1 registration, 10000 server-ids",
        "99 lookups to 1 registration, 10000 server-ids",
    ),
];

type Rates = Vec<(u32, f64)>;

struct Scaling {
    processor: String,
    quick: bool,
    commit: String,
    /// By case and peer: the numbers of threads, in ascending order, and the calls per second.
    rates: BTreeMap<(String, String), Rates>,
}

/// Writes the page and its plot into the directory that has the figures.
pub(crate) fn write(directory: &Path) -> Result<()> {
    let scaling = Scaling::load(directory)?;
    scaling.draw(&directory.join("scaling.svg"))?;
    let page = directory.join("scaling.md");
    fs::write(&page, scaling.page()?)
        .with_context(|| format!("{} can't be written", page.display()))?;
    println!("{} and its plot are written", page.display());
    Ok(())
}

impl Scaling {
    fn load(directory: &Path) -> Result<Self> {
        let lines = lines(&directory.join("switchboard-scaling.json"))?;
        let first = lines.values().next().context("nothing was measured")?;
        let commit = fs::read_to_string(directory.join("commit"));
        Ok(Self {
            processor: first["processor"].as_str().unwrap_or_default().to_owned(),
            quick: first["quick"] == true,
            commit: commit.context("the file commit, which scripts/bench writes, can't be read")?,
            rates: read(&lines, |line| {
                serde_json::from_value(line["rates"].clone()).ok()
            })?,
        })
    }

    fn rates(&self, case: &str, peer: &str) -> Result<&Rates> {
        let rates = self.rates.get(&(case.to_owned(), peer.to_owned()));
        rates.with_context(|| format!("no rates: {case}, {peer}; run the bench without a filter"))
    }

    fn of_case(&self, (ours, theirs): (&str, &str), peer: &str) -> Result<&Rates> {
        self.rates(if peer == OURS { ours } else { theirs }, peer)
    }

    fn draw(&self, path: &Path) -> Result<()> {
        let panel = |case| {
            let line = |peer| {
                let rates = self.of_case(case, peer)?.iter();
                let points = rates.map(|(threads, rate)| (f64::from(*threads), *rate));
                Ok((peer, points.collect()))
            };
            let lines = PEERS.map(line).into_iter().collect::<Result<Lines>>()?;
            Ok((title(case), lines))
        };
        let panels = CASES.map(panel).into_iter().collect::<Result<Vec<_>>>()?;
        let title = format!("Calls per second of all threads, {}", self.processor);
        plots::scaling(path, &title, &panels)
    }

    fn page(&self) -> Result<String> {
        let Self {
            processor,
            commit,
            quick,
            ..
        } = self;
        let mut page = vec![format!(
            "# Scaling

Calls per second of all threads together, with 1, 2, 4 and so on threads, up to one per core. The switchboard column
is its own rate. Each other figure is switchboard's rate divided by the peer's: above 1 switchboard does more; below 1,
in bold, it does less. Each server-id has 16 phones; where there is one server-id, all threads share it. Switchboard's
calls through a guard are compared with the peers' lookup by key.

- machine: {processor}
- commit: {}
- mode: {}

![Calls per second by number of threads](scaling.svg)
",
            commit.trim(),
            machine::mode(*quick),
        )];
        page.extend(head(&["what", "threads"], &PEERS));
        for case in CASES {
            for (at, (threads, ours)) in self.of_case(case, OURS)?.iter().enumerate() {
                let mut cells = vec![title(case), threads.to_string(), words::rate(*ours)];
                for peer in &PEERS[1..] {
                    let (_, theirs) = self.of_case(case, peer)?[at];
                    cells.push(words::verdict(ours / theirs));
                }
                page.push(row(cells));
            }
        }
        Ok(page.join("\n") + "\n")
    }
}

fn title((ours, theirs): (&str, &str)) -> String {
    if ours == theirs {
        return words::case(ours);
    }
    let (verb, _) = theirs.split_once(',').unwrap_or((theirs, ""));
    format!("{ours}; the peers: {verb}")
}

#[cfg(test)]
mod tests {
    use std::{env, process};

    use super::*;

    #[test]
    fn every_case_is_on_the_page_and_in_the_plot() {
        let names = CASES.iter().flat_map(|(ours, theirs)| {
            let theirs = PEERS[1..].iter().map(|peer| (*theirs, *peer));
            theirs.chain([(*ours, OURS)])
        });
        let rates = names.map(|(case, peer)| {
            let rates = vec![(1, 1.0), (2, 2.0), (3, 3.0)];
            ((case.to_owned(), peer.to_owned()), rates)
        });
        let scaling = Scaling {
            processor: "a processor".to_owned(),
            quick: false,
            commit: "0123456789ab".to_owned(),
            rates: rates.collect(),
        };
        let page = scaling.page().expect("every rate is there");
        let rows = page.lines().filter(|line| line.contains("| 1.00 | 1.00 |"));
        assert_eq!(rows.count(), 3 * CASES.len());

        let plot = format!("switchboard-scaling-{}.svg", process::id());
        let plot = env::temp_dir().join(plot);
        scaling.draw(&plot).expect("every rate is there");
        let drawn = fs::read_to_string(&plot).expect("it was written");
        for case in CASES {
            assert!(drawn.contains(&title(case)), "{case:?}");
        }
        assert!(drawn.contains("a processor"));
        fs::remove_file(&plot).expect("this test wrote it");
    }
}
