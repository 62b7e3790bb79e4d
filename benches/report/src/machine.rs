//! Where and with what the figures were measured.

use std::fs;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, ensure};

use crate::words;

/// A Markdown list.
pub(crate) fn describe(commit: &str, quick: bool) -> Result<String> {
    let cpuinfo = read("/proc/cpuinfo")?;
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let cpu = model.map_or("unknown CPU", |(_, name)| name.trim());
    let cores = thread::available_parallelism().context("the number of cores is unknown")?;
    let kernel = read("/proc/sys/kernel/osrelease")?;
    let rustc = output("rustc", &["--version"])?;
    let mode = if quick {
        "quick: each figure from a fraction of a second, good for orders of magnitude"
    } else {
        "full"
    };
    let cores = words::thousands(&cores.to_string());
    Ok([
        format!("- machine: {cpu}, {cores} cores, Linux {}", kernel.trim()),
        format!("- compiler: {rustc}, profile `bench`"),
        format!("- commit: {}", commit.trim()),
        "- allocator: the system's `malloc`".to_owned(),
        format!("- mode: {mode}"),
    ]
    .join("\n"))
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
