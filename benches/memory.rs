//! The memory that a server-id and a phone cost, without the connections themselves, which are created
//! beforehand.
//!
//! Counts the bytes requested from the allocator, before it rounds them up. They include memory that a map
//! retains: spare capacity, and removed records that wait to be freed.
#![allow(missing_docs)]

mod common;

use std::alloc::System;
use std::io;
use std::sync::Arc;

use common::args::Args;
use common::peers::{Peer, each_peer};
use common::{Wire, conn_id, output, server_id, wire};
use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

struct Run {
    args: Args,
    count: usize,
    lines: Vec<Value>,
}

impl Run {
    fn peer<P: Peer>(&mut self, case: &str, fill: impl Fn(&P)) {
        if !self.args.wants(&format!("{case}/{}", P::NAME)) {
            return;
        }
        let region = Region::new(ALLOCATOR);
        let peer = P::default();
        fill(&peer);
        let change = region.change();
        let bytes = change.bytes_allocated - change.bytes_deallocated;
        let blocks = change.allocations - change.deallocations;
        let each = |all: usize| {
            let hundredths = all * 100 / self.count;
            format!("{}.{:02}", hundredths / 100, hundredths % 100)
        };
        let name = P::NAME;
        println!(
            "{case:<14}{name:<20}{:>12}{:>12}",
            each(bytes),
            each(blocks)
        );
        self.lines.push(json!({
            "case": case, "peer": name, "quick": self.args.quick, "count": self.count,
            "bytes": bytes, "blocks": blocks,
        }));
        drop(peer);
    }
}

/// One binary and one phone per server-id.
fn servers<P: Peer>(run: &mut Run, ids: &[String], conns: &[Arc<Wire>]) {
    run.peer::<P>("server-id", |peer| {
        let (binaries, phones) = conns.split_at(ids.len());
        for ((id, binary), phone) in ids.iter().zip(binaries).zip(phones) {
            assert!(peer.claim(id, binary.clone()));
            assert!(peer.register(id, phone.clone()));
        }
    });
}

/// All phones under one server-id.
fn phones<P: Peer>(run: &mut Run, conns: &[Arc<Wire>]) {
    run.peer::<P>("phone", |peer| {
        assert!(peer.claim("s", conns[0].clone()));
        // This copy of the list of pointers is freed before the count.
        peer.register_all("s", conns[1..].to_vec());
    });
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let count = if args.quick { 100_000 } else { 1_000_000 };
    let mut run = Run {
        args,
        count,
        lines: Vec::new(),
    };
    println!("{count} of each");
    println!(
        "{:<14}{:<20}{:>12}{:>12}",
        "for each", "peer", "bytes", "blocks"
    );
    let ids: Vec<_> = (0..count).map(server_id).collect();
    let conns: Vec<_> = (0..2 * count).map(|n| wire(conn_id(n))).collect();
    each_peer!(servers(&mut run, &ids, &conns));
    each_peer!(phones(&mut run, &conns[..=count]));
    output::write("switchboard-memory.json", &run.lines)
}
