//! What a relay did under load: one file for each run, which switchboard-load has written.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::figures::json;
use crate::tables::{head, row};
use crate::words;

/// Beside one of these for each size of the crowd and of the frames: `saturated-1000-256`.
const SINGLE: [&str; 5] = ["idle", "idle-large", "storm", "slow-none", "slow"];
const LOADS: [&str; 2] = ["saturated", "paced"];
const CONNECTIONS: [u32; 2] = [1_000, 10_000];
const FRAMES: [u32; 3] = [256, 1_024, 16_384];

pub(crate) struct Relay {
    runs: BTreeMap<String, Value>,
    /// Of the relay that was loaded.
    pub(crate) commit: String,
}

type Column = (&'static str, &'static str);

const OF_LATENCY: [Column; 3] = [
    ("p50", "latency_p50_us"),
    ("p99", "latency_p99_us"),
    ("p99.9", "latency_p99_9_us"),
];
const OF_TRAFFIC: [Column; 10] = [
    ("connections", "connections"),
    ("frame", "frame_bytes"),
    ("frames/s", "frames_per_second"),
    OF_LATENCY[0],
    OF_LATENCY[1],
    OF_LATENCY[2],
    ("CPU for each frame", "relay_cpu_us_per_frame"),
    ("cores for the relay", "relay_cpu_cores"),
    ("for the load", "load_cpu_cores"),
    (
        "memory for each connection",
        "relay_memory_bytes_per_connection",
    ),
];
const OF_STORM: [Column; 5] = [
    ("connections a second", "storm_connections_per_second"),
    ("p50 of an upgrade", "connect_p50_us"),
    ("p99", "connect_p99_us"),
    ("p99.9", "connect_p99_9_us"),
    (
        "CPU for each connection",
        "relay_cpu_us_per_storm_connection",
    ),
];
const OF_SLOW: [Column; 6] = [
    ("phones that don't read", "slow_phones"),
    ("of them dropped", "slow_phones_dropped"),
    ("frames/s to the others", "frames_per_second"),
    OF_LATENCY[0],
    OF_LATENCY[1],
    OF_LATENCY[2],
];

impl Relay {
    pub(crate) fn load(directory: &Path) -> Result<Self> {
        let advice = || {
            let directory = directory.display();
            format!(
                "the relay's figures in {directory} are not complete: run scripts/bench --relay"
            )
        };
        let read = |name: String| {
            let run = json(&directory.join(&name).with_extension("json"))?;
            Ok((name, run))
        };
        let loads = LOADS.iter().flat_map(|load| crowds(load));
        let names = loads.chain(SINGLE.map(str::to_owned));
        let runs = names.map(read).collect::<Result<_>>();
        let commit = fs::read_to_string(directory.join("commit"));
        Ok(Self {
            runs: runs.with_context(advice)?,
            commit: commit.with_context(advice)?.trim().to_owned(),
        })
    }

    /// One figure, with its unit.
    pub(crate) fn figure(&self, run: &str, key: &str) -> Result<String> {
        let figures = self
            .runs
            .get(run)
            .with_context(|| format!("no run {run}"))?;
        let figure = figures[key].as_f64();
        let figure = figure.with_context(|| {
            format!("the run {run} of the relay has no {key}: repeat scripts/bench --relay")
        })?;
        Ok(with_unit(key, figure))
    }

    pub(crate) fn table(&self, name: &str) -> Result<String> {
        match name {
            "storm" => self.rows(&OF_STORM, ["storm".to_owned()]),
            "slow" => self.rows(&OF_SLOW, ["slow-none", "slow"].map(str::to_owned)),
            load if LOADS.contains(&load) => self.rows(&OF_TRAFFIC, crowds(load)),
            _ => bail!("there is no such table"),
        }
    }

    /// A row for each run, and what went wrong in it.
    fn rows(&self, columns: &[Column], runs: impl IntoIterator<Item = String>) -> Result<String> {
        let names = columns.iter().map(|(name, _)| *name).chain(["errors"]);
        let mut lines = Vec::from(head(&[], &names.collect::<Vec<_>>()));
        for run in runs {
            let cells = columns.iter().map(|(_, key)| self.figure(&run, key));
            let cells = cells.chain([Ok(self.errors(&run))]);
            lines.push(row(cells.collect::<Result<Vec<_>>>()?));
        }
        Ok(lines.join("\n"))
    }

    /// Connections that failed, and frames that never came.
    fn errors(&self, run: &str) -> String {
        let run = &self.runs[run];
        let kinds = run["errors"].as_object();
        let failed: u64 = kinds.map_or(0, |kinds| kinds.values().filter_map(Value::as_u64).sum());
        let undelivered = run["undelivered_frames"].as_u64().unwrap_or(0);
        words::thousands(&(failed + undelivered).to_string())
    }
}

fn crowds(load: &str) -> impl Iterator<Item = String> {
    CONNECTIONS
        .iter()
        .flat_map(move |connections| FRAMES.map(|frame| format!("{load}-{connections}-{frame}")))
}

/// The unit is in the key.
fn with_unit(key: &str, figure: f64) -> String {
    if key.contains("_cpu_us_") {
        format!("{figure:.1} µs")
    } else if key.ends_with("_us") {
        words::time(figure * 1e3)
    } else if key == "frame_bytes" {
        words::bytes(figure)
    } else if key.contains("_bytes") {
        format!("{:.1} KiB", figure / 1024.0)
    } else if key.ends_with("_cores") {
        format!("{figure:.2}")
    } else if key.ends_with("_seconds") {
        format!("{figure:.0} s")
    } else {
        words::thousands(&format!("{figure:.0}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_of_a_figure_is_that_of_its_key() {
        assert_eq!(with_unit("latency_p99_9_us", 1234.0), "1.2 ms");
        assert_eq!(with_unit("relay_cpu_us_per_frame", 3.64), "3.6 µs");
        assert_eq!(
            with_unit("relay_memory_bytes_per_connection", 18_841.6),
            "18.4 KiB"
        );
        assert_eq!(with_unit("frame_bytes", 256.0), "256 B");
        assert_eq!(with_unit("frame_bytes", 16_384.0), "16 KiB");
        assert_eq!(with_unit("frames_per_second", 305_175.4), "305,175");
    }

    #[test]
    fn a_figure_that_is_missing_says_what_to_run() {
        let error = Relay::load(Path::new("/no/such/directory"))
            .err()
            .expect("nothing is there");
        assert!(
            error.to_string().contains("run scripts/bench --relay"),
            "{error}"
        );
        let relay = Relay {
            runs: BTreeMap::from([("idle".to_owned(), serde_json::json!({"frames": null}))]),
            commit: String::new(),
        };
        let error = relay.figure("idle", "frames").expect_err("it is null");
        assert!(
            error.to_string().contains("scripts/bench --relay"),
            "{error}"
        );
    }
}
