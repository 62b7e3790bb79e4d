//! What makes this package another one than switchboard, for the sources of both and for the tests that look at it.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cfg=switchboard_shuttle");
}
