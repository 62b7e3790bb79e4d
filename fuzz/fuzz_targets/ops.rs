//! Sequences of operations on a registry, compared with the sequential model after each one.
//!
//! `cargo +nightly fuzz run ops -- -max_total_time=60`
#![no_main]

#[path = "../../tests/common/mod.rs"]
mod common;

use common::driver::{Driver, Op};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Option<u8>, Vec<Op>)| {
    let (grace, ops) = input;
    let mut driver = Driver::new(grace);
    for op in ops {
        driver.run(op);
    }
});
