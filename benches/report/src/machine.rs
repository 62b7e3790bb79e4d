//! Where and with what the figures were measured.

#[path = "../../common/processor.rs"]
mod processor;

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A Markdown list.
pub(crate) fn describe(commit: &str, quick: bool) -> Result<String> {
    let processor = processor::processor().context("the processor is unknown")?;
    let kernel = read("/proc/sys/kernel/osrelease")?;
    let rustc = output("rustc", &["--version"])?;
    Ok([
        format!("- machine: {processor}, Linux {}", kernel.trim()),
        format!("- compiler: {rustc}, profile `bench`"),
        format!("- commit: {}", commit.trim()),
        "- allocator: the system's `malloc`".to_owned(),
        format!("- mode: {}", mode(quick)),
    ]
    .join("\n"))
}

pub(crate) fn mode(quick: bool) -> &'static str {
    if quick {
        "quick: each figure from a fraction of a second, good for orders of magnitude"
    } else {
        "full"
    }
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("{path} can't be read"))
}

fn output(program: &str, args: &[&str]) -> Result<String> {
    let what = || format!("{program} {}", args.join(" "));
    let output = Command::new(program).args(args).output();
    let output = output.with_context(|| format!("{} can't be run", what()))?;
    ensure!(
        output.status.success(),
        "{} failed: {}",
        what(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
