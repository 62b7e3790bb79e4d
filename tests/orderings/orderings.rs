//! The orderings of the crate's own atomics under loom's memory model, which is the language's. It models no
//! machine, so it forgives nothing that x86 forgives.
//!
//! Three checks:
//!
//! - `the_sources`: `cell.rs`, `counts.rs`, `striped.rs` and `epochs.rs` themselves, compiled again with
//!   loom's atomics in place of the standard library's and a model of a cell in place of arc-swap's.
//! - `models`: the steps of the other files, in loom's terms. Each model names the code it stands for.
//! - `drift`: every ordering in `src/` is one that the models cover. A change there fails the test until
//!   someone has checked it against the models.
//!
//! Each check has twins with something weakened. Loom finds how they go wrong, which shows that it looks in
//! the right place.
//!
//! The limits of loom: it treats `SeqCst` accesses as `AcqRel` (but knows `fence(SeqCst)`), so nothing here
//! covers an order that rests on them, such as the order of lookups by key. It lets a load return an old
//! value, but lets no access overtake an earlier one of its thread. Where that matters, a twin swaps the two
//! by hand.
#![allow(
    unreachable_pub,
    missing_docs,
    clippy::missing_panics_doc,
    reason = "the included sources need items that look public but are not"
)]

// The included sources' `std` and `arc_swap` resolve to this file.
extern crate self as arc_swap;
extern crate self as std;
extern crate std as real_std;

mod cell_model;
mod stand_ins;

pub use cell_model::{ArcSwapAny, Cache, Guard};
pub use real_std::{cell, fmt, marker, mem, num, ops, ptr};
pub use stand_ins::{sync, thread};

/// The operating system sees all of loom's threads as one thread, so loom keeps their thread-locals.
macro_rules! thread_local {
    ($(#[$attribute:meta])* static $name:ident: $type:ty = const { $value:expr };) => {
        loom::thread_local! { $(#[$attribute])* static $name: $type = $value; }
    };
}

#[path = "../../src/state"]
mod state {
    #[allow(dead_code, reason = "nothing displays an epoch here")]
    pub(crate) mod epoch;
    #[path = "../../tests/orderings/record.rs"]
    pub(crate) mod record;
    #[allow(dead_code, reason = "there are no lists of phones here")]
    pub(crate) mod shared;
}

#[path = "../../src/store"]
mod store {
    pub(crate) mod cell;
    pub(crate) mod counts;
    pub(crate) mod epochs;
    mod fence;
    #[allow(dead_code, reason = "nothing here watches a server-id")]
    mod striped;
    mod switch_point;
}

mod drift;
mod models;
mod the_sources;
