//! The throughput of each verb with 1, 2, 4 and so on threads, up to one per core.
//!
//! A rate is that of all threads together. The program needs neither cargo nor the repository when it runs:
//! CONTRIBUTING.md says how to measure on another machine.
#![allow(missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use common::args::Args;
use common::handles::{Guarded, Handles};
use common::peers::{Peer, Switchboard, each_peer};
use common::processor::processor;
use common::threads::{together, up_to_cores};
use common::{Filled, Wire, conn_id, output, scattered, visitor};
use serde_json::json;

const PHONES: usize = 16;

struct Run {
    args: Args,
    threads: usize,
    /// By case and peer: the numbers of threads, and the calls per second.
    rates: BTreeMap<(String, &'static str), Vec<(usize, u64)>>,
}

impl Run {
    fn wants(&self, case: &str, peer: &str) -> bool {
        self.args.wants(&format!("{case}/{peer}"))
    }

    fn measure<T>(
        &mut self,
        case: &str,
        peer: &'static str,
        prepare: impl Fn(usize) -> T + Sync,
        call: impl Fn(&mut T, u64) + Sync,
    ) {
        let threads = self.threads;
        let rate = self.rate(|iters| together(threads, iters, &prepare, &call));
        println!("{threads:>7}  {case:<50}{peer:<20}{rate:>14}");
        let rates = self.rates.entry((case.to_owned(), peer)).or_default();
        rates.push((threads, rate));
    }

    /// Calls per second: the median of five samples.
    fn rate(&self, calls: impl Fn(u64) -> Duration) -> u64 {
        let long = Duration::from_millis(if self.args.quick { 10 } else { 100 });
        let mut iters = 1;
        // Twice: a thread that was interrupted takes long for few calls.
        while calls(iters).min(calls(iters)) < long {
            iters *= 2;
        }
        let all = u128::from(iters) * self.threads as u128;
        let mut rates = [0; 5].map(|_| {
            let rate = all * 1_000_000_000 / calls(iters).as_nanos();
            u64::try_from(rate).unwrap()
        });
        rates.sort_unstable();
        rates[2]
    }
}

/// A case by key, which every peer has.
fn keyed<P: Peer>(
    run: &mut Run,
    case: &str,
    servers: usize,
    call: impl Fn(&Filled<P>, &Arc<Wire>, u64) + Sync,
) {
    if run.wants(case, P::NAME) {
        let filled = Filled::<P>::new(servers, PHONES);
        run.measure(case, P::NAME, visitor, |conn, n| call(&filled, conn, n));
    }
}

fn look_up<P: Peer>(filled: &Filled<P>, n: u64) {
    drop(black_box(filled.peer.binary_for(filled.id(n))));
}

fn binary<P: Peer>(run: &mut Run) {
    for servers in [1, 10_000] {
        let case = format!("binary_for, {servers} server-ids");
        keyed::<P>(run, &case, servers, |filled, _, n| look_up(filled, n));
    }
}

fn phones<P: Peer>(run: &mut Run) {
    keyed::<P>(run, "phones_for, 1 server-ids", 1, |filled, _, n| {
        drop(black_box(filled.peer.phones_for(filled.id(n))));
    });
}

fn phone<P: Peer>(run: &mut Run) {
    let names: Vec<_> = (0..PHONES).map(conn_id).collect();
    keyed::<P>(run, "phone_for, 1 server-ids", 1, |filled, _, n| {
        let name = &names[scattered(n, PHONES)];
        drop(black_box(filled.peer.phone_for(filled.id(n), name)));
    });
}

fn counts<P: Peer>(run: &mut Run) {
    keyed::<P>(run, "counts, 10000 server-ids", 10_000, |filled, _, _| {
        black_box(filled.peer.counts());
    });
}

fn pair<P: Peer>(run: &mut Run) {
    let case = "register + unregister, 10000 server-ids";
    keyed::<P>(run, case, 10_000, |filled, conn, n| {
        filled.peer.visit(filled.id(n), conn);
    });
}

fn mixed<P: Peer>(run: &mut Run) {
    let case = "99 lookups to 1 registration, 10000 server-ids";
    keyed::<P>(run, case, 10_000, |filled, conn, n| {
        if n.is_multiple_of(100) {
            filled.peer.visit(filled.id(n), conn);
        } else {
            look_up(filled, n);
        }
    });
}

/// A case through a guard, which only switchboard has. The report compares it with the peers' lookup by key.
fn guarded(run: &mut Run, case: &str, call: impl Fn(&mut Handles) + Sync) {
    if run.wants(case, Switchboard::NAME) {
        let guarded = Guarded::new(PHONES);
        let handles = |thread| guarded.handles(thread);
        run.measure(case, Switchboard::NAME, handles, |own, _| call(own));
    }
}

fn all(run: &mut Run) {
    each_peer!(binary(run));
    each_peer!(phones(run));
    each_peer!(phone(run));
    guarded(run, "Membership::binary", |own| {
        drop(black_box(own.member.binary()));
    });
    guarded(run, "Route::binary", |own| {
        black_box(own.route.binary());
    });
    guarded(run, "Claim::phone", |own| {
        drop(black_box(own.claim.phone(own.member.conn_id())));
    });
    guarded(run, "Claim::phones", |own| {
        drop(black_box(own.claim.phones()));
    });
    each_peer!(counts(run));
    each_peer!(pair(run));
    each_peer!(mixed(run));
}

fn main() -> io::Result<()> {
    let mut run = Run {
        args: Args::parse(),
        threads: 1,
        rates: BTreeMap::new(),
    };
    let processor = processor()?;
    println!("{processor}");
    let heads = ("threads", "what", "peer", "calls/s");
    println!("{}  {:<50}{:<20}{:>14}", heads.0, heads.1, heads.2, heads.3);
    // In this order, because arc-swap's writes visit every thread that was ever alive at once.
    for threads in up_to_cores() {
        run.threads = threads;
        all(&mut run);
    }
    let lines = run.rates.iter().map(|((case, peer), rates)| {
        json!({
            "case": case, "peer": peer, "quick": run.args.quick, "processor": processor,
            "rates": rates,
        })
    });
    output::write("switchboard-scaling.json", &lines.collect::<Vec<_>>())
}
