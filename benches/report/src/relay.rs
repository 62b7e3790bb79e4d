//! What a relay did under load: one file for each run, which switchboard-load has written.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::markdown::{head, losses, row};
use crate::read::json;
use crate::words;

/// Beside one of these for each size of the crowd and of the frames: `saturated-1000-256`.
const SINGLE: [&str; 5] = ["idle", "idle-large", "storm", "slow-none", "slow"];
/// The runs in which connections idle, after a frame of 256 bytes and after one of 16 KiB.
const IDLE: [&str; 2] = ["idle", "idle-large"];
const LOADS: [&str; 2] = ["saturated", "paced"];
const CONNECTIONS: [u32; 2] = [1_000, 10_000];
const FRAMES: [u32; 3] = [256, 1_024, 16_384];

/// What is measured beside the relay: the first part of the names of its runs, and its own name.
struct Peer {
    prefix: &'static str,
    name: &'static str,
}

const OURS: Peer = Peer {
    prefix: "",
    name: "switchboard-relay",
};
const NODE: Peer = Peer {
    prefix: "node-",
    name: "Node `ws`",
};
const FORWARDER: Peer = Peer {
    prefix: "forwarder-",
    name: "TCP forwarder",
};

/// The relay with the options that guard it.
const GUARDED: Peer = Peer {
    prefix: "guarded-",
    name: "with the options",
};

/// The runs of the relay that the peers have, too.
const BESIDE: [Beside; 4] = [
    Beside {
        run: "saturated-1000-256",
        load: "saturated",
        compared: &OF_SATURATED,
    },
    Beside {
        run: "saturated-1000-16384",
        load: "saturated",
        compared: &OF_SATURATED,
    },
    Beside {
        run: "paced-1000-256",
        load: "paced",
        compared: &OF_PACED,
    },
    Beside {
        run: "paced-1000-16384",
        load: "paced",
        compared: &OF_PACED,
    },
];

struct Beside {
    run: &'static str,
    load: &'static str,
    compared: &'static [Column],
}

/// The latency of a queue is that of its throughput, and the throughput at a rate is the rate.
const OF_SATURATED: [Column; 2] = [("frames/s", FRAMES_A_SECOND), CPU];
const OF_PACED: [Column; 3] = [CPU, OF_LATENCY[0], OF_LATENCY[1]];

/// The one figure here of which more is better.
const FRAMES_A_SECOND: &str = "frames_per_second";

pub(crate) struct Relay {
    runs: BTreeMap<String, Value>,
    /// The versions of the peer in Node.js, if that was measured.
    node: Option<String>,
    /// Of the relay that was loaded.
    pub(crate) commit: String,
}

type Column = (&'static str, &'static str);

const OF_LATENCY: [Column; 3] = [
    ("p50", "latency_p50_us"),
    ("p99", "latency_p99_us"),
    ("p99.9", "latency_p99_9_us"),
];
const CPU: Column = ("CPU for each frame", "relay_cpu_us_per_frame");
const OF_TRAFFIC: [Column; 10] = [
    ("connections", "connections"),
    ("frame", "frame_bytes"),
    ("frames/s", FRAMES_A_SECOND),
    OF_LATENCY[0],
    OF_LATENCY[1],
    OF_LATENCY[2],
    CPU,
    ("cores for the relay", "relay_cpu_cores"),
    ("for the load", "load_cpu_cores"),
    (
        "memory for each connection",
        "relay_memory_bytes_per_connection",
    ),
];
const OF_BESIDE: [Column; 7] = [
    ("frames/s", FRAMES_A_SECOND),
    OF_LATENCY[0],
    OF_LATENCY[1],
    OF_LATENCY[2],
    CPU,
    ("cores for it", "relay_cpu_cores"),
    ("for the load", "load_cpu_cores"),
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
        let node = directory.join("node");
        let node = node.exists().then(|| fs::read_to_string(node));
        let node = node.transpose().with_context(advice)?;
        let read = |name: String| {
            let run = json(&directory.join(&name).with_extension("json"))?;
            Ok((name, run))
        };
        let runs = names(node.is_some()).map(read).collect::<Result<_>>();
        let commit = fs::read_to_string(directory.join("commit"));
        Ok(Self {
            runs: runs.with_context(advice)?,
            node: node.map(|versions| versions.trim().to_owned()),
            commit: commit.with_context(advice)?.trim().to_owned(),
        })
    }

    /// Every run, with every figure that switchboard-load writes for it, each of them 1.
    #[cfg(test)]
    pub(crate) fn of_ones() -> Self {
        let columns = [&OF_TRAFFIC[..], &OF_BESIDE, &OF_STORM, &OF_SLOW].concat();
        let keys = columns.into_iter().map(|(_, key)| key);
        let keys = keys.chain(["measured_seconds"]);
        let run: Value = keys.map(|key| (key, 1.0)).collect();
        Self {
            runs: names(true).map(|name| (name, run.clone())).collect(),
            node: Some("Node.js 1, ws 2".to_owned()),
            commit: "0123456789ab".to_owned(),
        }
    }

    /// One figure, with its unit.
    pub(crate) fn figure(&self, run: &str, key: &str) -> Result<String> {
        Ok(with_unit(key, self.value(run, key)?))
    }

    fn value(&self, run: &str, key: &str) -> Result<f64> {
        let figures = self
            .runs
            .get(run)
            .with_context(|| format!("no run {run}"))?;
        figures[key].as_f64().with_context(|| {
            format!("the run {run} of the relay has no {key}: repeat scripts/bench --relay")
        })
    }

    /// With which versions the peer in Node.js was measured, or why it was not.
    pub(crate) fn node(&self) -> String {
        self.node.clone().unwrap_or_else(|| {
            "not measured in this run, for want of Node.js 20 or later".to_owned()
        })
    }

    pub(crate) fn table(&self, name: &str) -> Result<String> {
        match name {
            "beside" => self.beside(),
            "beside-ratios" => self.beside_ratios(),
            "guarded" => self.guarded(),
            "idle" => self.idle(),
            "storm" => self.rows(&OF_STORM, ["storm".to_owned()]),
            "slow" => self.rows(&OF_SLOW, ["slow-none", "slow"].map(str::to_owned)),
            load if LOADS.contains(&load) => self.rows(&OF_TRAFFIC, crowds(load)),
            _ => bail!("there is no such table"),
        }
    }

    /// What an idle connection holds, of the relay and of the peer in Node.js.
    fn idle(&self) -> Result<String> {
        let columns = ["after a frame of 256 B", "after a frame of 16 KiB"];
        let mut lines = Vec::from(head(&["what"], &columns));
        for peer in [OURS]
            .into_iter()
            .chain(self.node.is_some().then_some(NODE))
        {
            let figures =
                IDLE.map(|run| self.figure(&peer.run(run), "relay_memory_bytes_per_connection"));
            let cells = [Ok(peer.name.to_owned())].into_iter().chain(figures);
            lines.push(row(cells.collect::<Result<Vec<_>>>()?));
        }
        Ok(lines.join("\n"))
    }

    /// Relay and peers below each other, for each load.
    fn beside(&self) -> Result<String> {
        let names = OF_BESIDE.iter().map(|(name, _)| *name).chain(["errors"]);
        let labels = ["load", "frame", "what"];
        let mut lines = Vec::from(head(&labels, &names.collect::<Vec<_>>()));
        for Beside { run, load, .. } in BESIDE {
            for peer in [OURS].into_iter().chain(self.peers()) {
                let run = peer.run(run);
                let labels = [
                    load.to_owned(),
                    self.figure(&run, "frame_bytes")?,
                    peer.name.to_owned(),
                ];
                let cells = OF_BESIDE.iter().map(|(_, key)| self.figure(&run, key));
                let cells = labels.into_iter().map(Ok).chain(cells);
                let cells = cells.chain([Ok(self.errors(&run))]);
                lines.push(row(cells.collect::<Result<Vec<_>>>()?));
            }
        }
        Ok(lines.join("\n"))
    }

    fn beside_ratios(&self) -> Result<String> {
        let peers = self.peers().map(|peer| peer.name);
        let columns: Vec<_> = [OURS.name].into_iter().chain(peers).collect();
        let mut lines = Vec::from(head(&["load", "frame", "what"], &columns));
        for Beside {
            run,
            load,
            compared,
        } in BESIDE
        {
            for (what, key) in compared {
                let mut cells = vec![
                    load.to_owned(),
                    self.figure(run, "frame_bytes")?,
                    (*what).to_owned(),
                    self.figure(run, key)?,
                ];
                for peer in self.peers() {
                    cells.push(words::verdict(self.against(&peer, run, key)?));
                }
                lines.push(row(cells));
            }
        }
        Ok(lines.join("\n"))
    }

    /// The relay without and with the options that guard it.
    fn guarded(&self) -> Result<String> {
        let columns = [OURS.name, GUARDED.name, "ratio"];
        let mut lines = Vec::from(head(&["load", "frame", "what"], &columns));
        for Beside {
            run,
            load,
            compared,
        } in BESIDE
        {
            for (what, key) in compared {
                lines.push(row([
                    load.to_owned(),
                    self.figure(run, "frame_bytes")?,
                    (*what).to_owned(),
                    self.figure(run, key)?,
                    self.figure(&GUARDED.run(run), key)?,
                    words::verdict(self.against(&GUARDED, run, key)?),
                ]));
            }
        }
        Ok(lines.join("\n"))
    }

    /// Every figure in which a peer does better.
    pub(crate) fn losses(&self) -> Result<String> {
        let mut lost = Vec::new();
        for Beside {
            run,
            load,
            compared,
        } in BESIDE
        {
            for (what, key) in compared {
                let ratios = self
                    .peers()
                    .map(|peer| Ok((peer.name, self.against(&peer, run, key)?)));
                let what = format!("{load}, {}, {what}", self.figure(run, "frame_bytes")?);
                lost.push((what, ratios.collect::<Result<_>>()?));
            }
        }
        Ok(losses(&lost))
    }

    /// How many times as good as the peer the relay is.
    fn against(&self, peer: &Peer, run: &str, key: &str) -> Result<f64> {
        let (ours, theirs) = (self.value(run, key)?, self.value(&peer.run(run), key)?);
        Ok(if key == FRAMES_A_SECOND {
            ours / theirs
        } else {
            theirs / ours
        })
    }

    fn peers(&self) -> impl Iterator<Item = Peer> {
        peers(self.node.is_some())
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

impl Peer {
    /// The peer's run with the load of this one of the relay.
    fn run(&self, run: &str) -> String {
        format!("{}{run}", self.prefix)
    }
}

fn peers(with_node: bool) -> impl Iterator<Item = Peer> {
    with_node.then_some(NODE).into_iter().chain([FORWARDER])
}

/// All runs of which there must be figures.
fn names(with_node: bool) -> impl Iterator<Item = String> {
    let loads = LOADS.iter().flat_map(|load| crowds(load));
    let beside = peers(with_node).chain([GUARDED]).flat_map(runs_of);
    let idle = with_node.then_some(IDLE.map(|run| NODE.run(run)));
    let idle = idle.into_iter().flatten();
    loads
        .chain(SINGLE.map(str::to_owned))
        .chain(beside)
        .chain(idle)
}

fn runs_of(peer: Peer) -> impl Iterator<Item = String> {
    BESIDE.into_iter().map(move |beside| peer.run(beside.run))
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
            node: None,
            commit: String::new(),
        };
        let error = relay.figure("idle", "frames").expect_err("it is null");
        assert!(
            error.to_string().contains("scripts/bench --relay"),
            "{error}"
        );
    }

    /// Runs of the relay, and of peers that have these parts of its frames a second, and times these of its times.
    fn beside(peers: &[(Peer, f64, f64)]) -> Relay {
        let mut runs = BTreeMap::new();
        for (peer, frames, times) in [(OURS, 1.0, 1.0)].iter().chain(peers) {
            for Beside { run, .. } in BESIDE {
                let frame = if run.ends_with("256") { 256 } else { 16_384 };
                let mut figures = serde_json::json!({
                    "frame_bytes": frame,
                    FRAMES_A_SECOND: 100_000.0 * frames,
                    "errors": {"phone: connection lost": 2},
                    "undelivered_frames": 1,
                });
                for (_, key) in OF_BESIDE
                    .into_iter()
                    .filter(|(_, key)| *key != FRAMES_A_SECOND)
                {
                    figures[key] = (8.0 * times).into();
                }
                runs.insert(peer.run(run), figures);
            }
        }
        let has_node = peers.iter().any(|(peer, ..)| peer.name == NODE.name);
        Relay {
            runs,
            node: has_node.then(|| "Node.js 1, ws 2".to_owned()),
            commit: String::new(),
        }
    }

    #[test]
    fn peers_are_set_beside_the_relay_and_what_it_loses_is_said() {
        let relay = beside(&[(NODE, 0.25, 4.0), (FORWARDER, 1.25, 0.5)]);
        let ratios = relay.table("beside-ratios").expect("all is measured");
        for row in [
            "| load | frame | what | switchboard-relay | Node `ws` | TCP forwarder |",
            "| saturated | 256 B | frames/s | 100,000 | 4.0 | **0.80** |",
            "| saturated | 16 KiB | CPU for each frame | 8.0 µs | 4.0 | **0.50** |",
            "| paced | 256 B | p99 | 8.0 µs | 4.0 | **0.50** |",
        ] {
            assert!(ratios.contains(row), "{row}:\n{ratios}");
        }
        let losses = relay.losses().expect("all is measured");
        assert_eq!(losses.lines().count(), 10, "{losses}");
        assert!(losses.starts_with("- saturated, 256 B, frames/s: TCP forwarder 0.80\n"));
        let figures = relay.table("beside").expect("all is measured");
        assert_eq!(figures.lines().count(), 2 + 12, "{figures}");
        let row = "| paced | 16 KiB | Node `ws` | 25,000 | 32 µs | 32 µs | 32 µs | 32.0 µs | 32.00 | 32.00 | 3 |";
        assert!(figures.contains(row), "{figures}");
        assert_eq!(relay.node(), "Node.js 1, ws 2");
    }

    #[test]
    fn the_relay_is_set_beside_itself_with_the_options() {
        let relay = beside(&[(GUARDED, 1.0, 1.5)]);
        let table = relay.table("guarded").expect("all is measured");
        for row in [
            "| saturated | 256 B | frames/s | 100,000 | 100,000 | 1.00 |",
            "| paced | 16 KiB | CPU for each frame | 8.0 µs | 12.0 µs | 1.5 |",
        ] {
            assert!(table.contains(row), "{row}:\n{table}");
        }
    }

    #[test]
    fn idle_connections_of_relay_and_node_are_below_each_other() {
        let mut relay = beside(&[(NODE, 1.0, 1.0)]);
        for (run, bytes) in [
            ("idle", 6_144),
            ("idle-large", 7_168),
            ("node-idle", 8_192),
            ("node-idle-large", 26_624),
        ] {
            let figures = serde_json::json!({"relay_memory_bytes_per_connection": bytes});
            relay.runs.insert(run.to_owned(), figures);
        }
        let table = relay.table("idle").expect("all is measured");
        assert!(
            table.contains("| switchboard-relay | 6.0 KiB | 7.0 KiB |"),
            "{table}"
        );
        assert!(
            table.contains("| Node `ws` | 8.0 KiB | 26.0 KiB |"),
            "{table}"
        );
        relay.node = None;
        let table = relay.table("idle").expect("all is measured");
        assert_eq!(table.lines().count(), 3, "{table}");
    }

    #[test]
    fn a_run_without_node_has_no_column_of_it_and_says_so() {
        let relay = beside(&[(FORWARDER, 0.5, 2.0)]);
        let ratios = relay.table("beside-ratios").expect("all is measured");
        assert!(ratios.starts_with("| load | frame | what | switchboard-relay | TCP forwarder |"));
        assert!(
            !relay
                .table("beside")
                .expect("all is measured")
                .contains("Node")
        );
        assert_eq!(
            relay.losses().expect("all is measured"),
            "None in this run."
        );
        assert!(relay.node().starts_with("not measured in this run"));
    }

    #[test]
    fn a_peer_that_was_not_measured_is_an_error_and_only_node_may_be_missing() {
        let mut relay = beside(&[(FORWARDER, 1.0, 1.0)]);
        let run = "forwarder-paced-1000-256";
        relay.runs.remove(run);
        let error = relay.losses().expect_err("it is missing").to_string();
        assert!(error.contains(run), "{error}");
        let count = |with_node, prefix: &str| {
            let names = names(with_node).filter(|name| name.starts_with(prefix));
            names.count()
        };
        let counts = [
            (false, "forwarder-"),
            (false, "guarded-"),
            (false, "node-"),
            (true, "node-"),
        ];
        let counts = counts.map(|(node, prefix)| count(node, prefix));
        assert_eq!(counts, [4, 4, 0, 6]);
    }
}
