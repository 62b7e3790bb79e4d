//! The latency distribution that a mean hides: single calls while another thread changes the same server-ids
//! continuously.
//!
//! Each call is timed individually. The time includes the cost of the clock, which is measured too but not
//! subtracted.
#![allow(missing_docs)]

mod common;

use std::hint::black_box;
use std::io;
use std::time::{Duration, Instant};

use common::args::Args;
use common::peers::{Peer, each_peer};
use common::threads::while_disturbed;
use common::{Filled, output, visitor};
use hdrhistogram::Histogram;
use serde_json::{Value, json};

struct Run {
    args: Args,
    lines: Vec<Value>,
}

impl Run {
    /// Times `call` continuously for the duration of the run.
    fn sample(&self, mut call: impl FnMut(u64)) -> Histogram<u64> {
        let long = Duration::from_millis(if self.args.quick { 200 } else { 3_000 });
        let mut histogram =
            Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("these bounds are valid");
        let begin = Instant::now();
        for n in 0.. {
            let start = Instant::now();
            call(n);
            let took = start.elapsed();
            histogram.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
            if start - begin > long {
                break;
            }
        }
        histogram
    }

    fn keep(&mut self, case: &str, peer: &str, histogram: &Histogram<u64>) {
        let at = |quantile| histogram.value_at_quantile(quantile);
        let (p50, p99, p999) = (at(0.5), at(0.99), at(0.999));
        let max = histogram.max();
        println!("{case:<34}{peer:<20}{p50:>8}{p99:>10}{p999:>10}{max:>12}");
        self.lines.push(json!({
            "case": case, "peer": peer, "quick": self.args.quick, "samples": histogram.len(),
            "p50": p50, "p99": p99, "p99.9": p999, "max": max,
        }));
    }
}

fn peer<P: Peer>(
    run: &mut Run,
    case: &str,
    (servers, phones): (usize, usize),
    lookup: impl Fn(&P, &str),
) {
    if !run.args.wants(&format!("{case}/{}", P::NAME)) {
        return;
    }
    let filled = Filled::<P>::new(servers, phones);
    let conn = visitor(0);
    let histogram = while_disturbed(
        |n| filled.churn(n, &conn),
        || run.sample(|n| lookup(&filled.peer, filled.id(!n))),
    );
    run.keep(case, P::NAME, &histogram);
}

fn binary<P: Peer>(run: &mut Run) {
    peer::<P>(
        run,
        "binary_for, 10000 server-ids",
        (10_000, 1),
        |peer, id| {
            drop(black_box(peer.binary_for(id)));
        },
    );
}

fn phones<P: Peer>(run: &mut Run) {
    peer::<P>(run, "phones_for, 16 phones", (100, 16), |peer, id| {
        drop(black_box(peer.phones_for(id)));
    });
}

/// A phone comes and goes while another one does the same: each may delay the other.
fn pair<P: Peer>(run: &mut Run) {
    let case = "register + unregister, 1 server-id";
    if !run.args.wants(&format!("{case}/{}", P::NAME)) {
        return;
    }
    let filled = Filled::<P>::new(1, 16);
    let (one, other) = (visitor(0), visitor(1));
    let histogram = while_disturbed(
        |n| filled.peer.visit(filled.id(n), &other),
        || run.sample(|n| filled.peer.visit(filled.id(n), &one)),
    );
    run.keep(case, P::NAME, &histogram);
}

fn main() -> io::Result<()> {
    let mut run = Run {
        args: Args::parse(),
        lines: Vec::new(),
    };
    let heads = ("ns, during churn", "peer", "p50", "p99");
    println!(
        "{:<34}{:<20}{:>8}{:>10}{:>10}{:>12}",
        heads.0, heads.1, heads.2, heads.3, "p99.9", "max"
    );
    if run.args.wants("an empty interval/clock") {
        let histogram = run.sample(|n| {
            black_box(n);
        });
        run.keep("an empty interval", "clock", &histogram);
    }
    each_peer!(binary(&mut run));
    each_peer!(phones(&mut run));
    each_peer!(pair(&mut run));
    output::write("switchboard-latency.json", &run.lines)
}
