//! What the benches have written: criterion's files, and the lines of the latency and memory targets.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::cases::{ASIDES, CLOCK, Case, LATENCIES, MEMORY, PEERS, THEMES, Threads};
use crate::read::json;
use crate::relay::Relay;

#[derive(Clone, Copy)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

/// For each server-id, or each phone.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) bytes: f64,
    pub(crate) blocks: f64,
}

pub(crate) struct Figures {
    medians: BTreeMap<(String, String), f64>,
    latencies: BTreeMap<(String, String), Latency>,
    memory: BTreeMap<(String, String), Memory>,
    many: usize,
    /// Of the run, and not of the report.
    pub(crate) commit: String,
    pub(crate) quick: bool,
    pub(crate) count: u64,
    pub(crate) relay: Relay,
}

type Lines = BTreeMap<(String, String), Value>;

impl Figures {
    pub(crate) fn load(directory: &Path) -> Result<Self> {
        let medians = medians(&directory.join("criterion"))?;
        let latency = lines(&directory.join("switchboard-latency.json"))?;
        let memory = lines(&directory.join("switchboard-memory.json"))?;

        let commit = directory.join("commit");
        let commit = fs::read_to_string(&commit).with_context(|| {
            format!(
                "{}, which scripts/bench writes, can't be read",
                commit.display()
            )
        })?;

        let modes = || latency.values().chain(memory.values());
        let quick = modes().any(|line| line["quick"] == Value::Bool(true));
        let full = modes().any(|line| line["quick"] != Value::Bool(true));
        ensure!(
            quick != full,
            "the latency and memory lines are of a quick run and of a full one: repeat both"
        );

        let figures = Self {
            many: medians.keys().filter_map(threads).max().unwrap_or(0),
            count: memory
                .values()
                .find_map(|line| line["count"].as_u64())
                .unwrap_or(0),
            latencies: read(&latency, |line| {
                Some(Latency {
                    p50: line["p50"].as_f64()?,
                    p99: line["p99"].as_f64()?,
                    p999: line["p99.9"].as_f64()?,
                    max: line["max"].as_f64()?,
                })
            })?,
            memory: read(&memory, |line| {
                let count = line["count"].as_f64()?;
                Some(Memory {
                    bytes: line["bytes"].as_f64()? / count,
                    blocks: line["blocks"].as_f64()? / count,
                })
            })?,
            medians,
            commit,
            quick,
            relay: Relay::load(&directory.join("relay"))?,
        };
        let missing = figures.missing();
        if !missing.is_empty() {
            bail!(
                "these figures are missing, run their targets without a filter:\n  {}",
                missing.join("\n  ")
            );
        }
        Ok(figures)
    }

    /// Every figure that a run must have measured, each of them 1.
    #[cfg(test)]
    pub(crate) fn of_ones() -> Self {
        let owned = |(case, peer): (&str, &str)| (case.to_owned(), peer.to_owned());
        let mut figures = Self {
            medians: BTreeMap::new(),
            latencies: BTreeMap::new(),
            memory: BTreeMap::new(),
            many: 3,
            commit: "0123456789ab".to_owned(),
            quick: false,
            count: 1,
            relay: Relay::of_ones(),
        };
        for case in THEMES.iter().flat_map(|theme| theme.cases).chain(ASIDES) {
            for (threads, peer) in case
                .threads
                .iter()
                .flat_map(|threads| case.peers.iter().map(move |peer| (threads, peer)))
            {
                let function = format!("{peer}/{} threads", figures.threads(*threads));
                figures
                    .medians
                    .insert((case.group.to_owned(), function), 1.0);
            }
        }
        for peer in PEERS {
            let latency = Latency {
                p50: 1.0,
                p99: 1.0,
                p999: 1.0,
                max: 1.0,
            };
            figures.latencies.insert(owned(CLOCK), latency);
            figures
                .latencies
                .extend(LATENCIES.iter().map(|case| (owned((case, peer)), latency)));
            let memory = Memory {
                bytes: 1.0,
                blocks: 1.0,
            };
            figures
                .memory
                .extend(MEMORY.iter().map(|case| (owned((case, peer)), memory)));
        }
        figures
    }

    pub(crate) fn threads(&self, threads: Threads) -> usize {
        match threads {
            Threads::Exactly(threads) => threads,
            Threads::Many => self.many,
        }
    }

    /// In nanoseconds.
    pub(crate) fn median(&self, group: &str, peer: &str, threads: usize) -> Result<f64> {
        let function = format!("{peer}/{threads} threads");
        let median = self.medians.get(&(group.to_owned(), function));
        median
            .copied()
            .with_context(|| format!("no figure: {group}, {peer}, {threads} threads"))
    }

    pub(crate) fn latency(&self, case: &str, peer: &str) -> Result<Latency> {
        let latency = self.latencies.get(&(case.to_owned(), peer.to_owned()));
        latency
            .copied()
            .with_context(|| format!("no latency: {case}, {peer}"))
    }

    pub(crate) fn memory(&self, case: &str, peer: &str) -> Result<Memory> {
        let memory = self.memory.get(&(case.to_owned(), peer.to_owned()));
        memory
            .copied()
            .with_context(|| format!("no memory: {case}, {peer}"))
    }

    fn missing(&self) -> Vec<String> {
        let cases = THEMES.iter().flat_map(|theme| theme.cases).chain(ASIDES);
        let medians = cases.flat_map(
            |Case {
                 group,
                 threads,
                 peers,
             }| {
                let threads = threads.iter().map(|threads| self.threads(*threads));
                threads.flat_map(move |threads| {
                    peers
                        .iter()
                        .map(move |peer| self.median(group, peer, threads))
                })
            },
        );
        let each = |cases: &'static [&'static str]| {
            cases
                .iter()
                .flat_map(|case| PEERS.map(|peer| (*case, peer)))
        };
        let latencies = each(LATENCIES).chain([CLOCK]);
        let latencies = latencies.map(|(case, peer)| self.latency(case, peer));
        let memory = each(MEMORY).map(|(case, peer)| self.memory(case, peer));
        medians
            .filter_map(Result::err)
            .chain(latencies.filter_map(Result::err))
            .chain(memory.filter_map(Result::err))
            .map(|missing| missing.to_string())
            .collect()
    }
}

fn threads((_, function): &(String, String)) -> Option<usize> {
    let (_, threads) = function.rsplit_once('/')?;
    threads.strip_suffix(" threads")?.parse().ok()
}

fn medians(criterion: &Path) -> Result<BTreeMap<(String, String), f64>> {
    let mut medians = BTreeMap::new();
    for group in entries(criterion)? {
        for function in entries(&group)? {
            let new = function.join("new");
            // Criterion's own reports lie among the figures.
            if !new.join("estimates.json").exists() {
                continue;
            }
            let benchmark = json(&new.join("benchmark.json"))?;
            let estimates = json(&new.join("estimates.json"))?;
            let figure = || {
                let group = benchmark["group_id"].as_str()?.to_owned();
                let function = benchmark["function_id"].as_str()?.to_owned();
                Some((
                    (group, function),
                    estimates["median"]["point_estimate"].as_f64()?,
                ))
            };
            // Other benches name their functions otherwise.
            medians.extend(figure());
        }
    }
    Ok(medians)
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| {
        format!(
            "{} can't be read: have the benches run?",
            directory.display()
        )
    })?;
    let paths = entries.map(|entry| Ok(entry?.path()));
    let paths: Vec<_> = paths.collect::<Result<_>>()?;
    Ok(paths.into_iter().filter(|path| path.is_dir()).collect())
}

pub(crate) fn lines(path: &Path) -> Result<Lines> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("{} can't be read: has its bench run?", path.display()))?;
    let lines = text.lines().map(|line| {
        let line: Value = serde_json::from_str(line)
            .with_context(|| format!("{} is not JSON: {line}", path.display()))?;
        let name = |key| line[key].as_str().map(str::to_owned);
        let names = name("case").zip(name("peer"));
        let names = names
            .with_context(|| format!("{} has a line without names: {line}", path.display()))?;
        Ok((names, line))
    });
    lines.collect()
}

pub(crate) fn read<T>(
    lines: &Lines,
    parse: impl Fn(&Value) -> Option<T>,
) -> Result<BTreeMap<(String, String), T>> {
    let parsed = lines.iter().map(|(names, line)| {
        let figure = parse(line).with_context(|| format!("a line lacks figures: {line}"))?;
        Ok((names.clone(), figure))
    });
    parsed.collect()
}
