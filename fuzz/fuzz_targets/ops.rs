//! Sequences of operations on a registry, compared with the sequential model after each one.
//!
//! `cargo +nightly fuzz run ops -- -max_total_time=60`
#![no_main]

#[path = "../../tests/common/mod.rs"]
mod common;

use common::driver::{Driver, Op, Shape};
use libfuzzer_sys::fuzz_target;
use switchboard::Orphans;

/// The registry's grace, what becomes of its orphans, and whether there are many phones. With many, operations
/// on one phone become runs over many.
fn registry(byte: Option<u8>) -> (Option<u8>, Orphans, Shape) {
    let Some(byte) = byte else {
        return (None, Orphans::Keep, Shape::NARROW);
    };
    let orphans = match byte {
        ..0x80 => Orphans::Keep,
        _ => Orphans::Displace,
    };
    match byte % 0x80 {
        wide @ 0x40.. => {
            let grace = wide % 8;
            let hours = [0, 1, 2, 3, 5, 8, u8::MAX].get(usize::from(grace));
            (hours.copied(), orphans, Shape::wide(wide / 8))
        }
        0x3f => (None, orphans, Shape::NARROW),
        grace => (Some(grace), orphans, Shape::NARROW),
    }
}

fuzz_target!(|input: (Option<u8>, Vec<Op>)| {
    let (grace, orphans, shape) = registry(input.0);
    let mut driver = Driver::new(grace, orphans, shape);
    for op in input.1 {
        driver.run(if shape.is_wide() { op.widened() } else { op });
    }
});
