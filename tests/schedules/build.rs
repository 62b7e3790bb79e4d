//! Sets the cfg that distinguishes this package from `switchboard`, for the shared sources and for the tests.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cfg=switchboard_shuttle");
}
