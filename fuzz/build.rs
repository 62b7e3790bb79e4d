//! The players of tests/common need no help from the operating system to come in between, under shuttle. The other targets have
//! no players.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cfg=switchboard_shuttle");
}
