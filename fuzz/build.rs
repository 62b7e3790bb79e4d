//! Compiles the players of tests/common for shuttle, where they need not yield to let others run. The other
//! targets have no players.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cfg=switchboard_shuttle");
}
