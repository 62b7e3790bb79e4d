//! The orderings of the crate's own atomics, under loom's model of memory, which is that of the language: it knows no
//! machine, and forgives nothing that x86 forgives.
//!
//! Three means:
//!
//! - `the_sources`: `facade.rs`, `counts.rs`, `striped.rs` and `epoch.rs` themselves, compiled once more, with loom's
//!   atomics in the place of the standard library's and a model of a cell in the place of arc-swap's.
//! - `models`: what the other files do, in loom's terms. Each names what it stands for.
//! - `drift`: each ordering in `src/` is the one that the models are about. A change there makes somebody look here.
//!
//! Each has twins in which something is weaker: loom finds how they go wrong, and so it looks where it should.
//!
//! What loom does not do. It takes `SeqCst` accesses for `AcqRel` ones (but knows `fence(SeqCst)`), so nothing here
//! tells of an order that rests on them, as that of lookups by key does. It lets a load see an old value, but no access
//! overtake an earlier one of its thread; where that matters, a twin swaps the two by hand.
#![allow(
    unreachable_pub,
    missing_docs,
    clippy::missing_panics_doc,
    reason = "what the included sources ask for looks public, and is not"
)]

// What the included sources call `std` and `arc_swap` is this file.
extern crate self as arc_swap;
extern crate self as std;
extern crate std as real_std;

mod cell_model;
mod stand_ins;

pub use cell_model::{ArcSwapAny, Cache, Guard};
pub use real_std::{cell, fmt, hash, marker, mem, num, ops};
pub use stand_ins::{sync, thread};

#[path = "../../src/epoch.rs"]
#[allow(dead_code, reason = "nothing displays an epoch here")]
mod epoch;
#[path = "../../src/facade.rs"]
#[allow(dead_code, reason = "only cells are used here")]
mod facade;
mod record;

#[path = "../../src/counts.rs"]
mod counts;

/// loom's threads are one thread to the operating system: what is theirs is kept by loom.
macro_rules! thread_local {
    ($(#[$attribute:meta])* static $name:ident: $type:ty = const { $value:expr };) => {
        loom::thread_local! { $(#[$attribute])* static $name: $type = $value; }
    };
}

#[path = "../../src/striped.rs"]
mod striped;

mod drift;
mod models;
mod the_sources;
