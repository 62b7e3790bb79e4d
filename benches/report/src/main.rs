//! Makes BENCHMARKS.md, and the plots in it, of what the benches have measured.
//!
//! `switchboard-report DIRECTORY`, in the project's root: the directory has criterion's own in it, the lines of the
//! latency and memory targets, and in `relay` what a relay did under load. A figure that is missing is an error.
//!
//! `switchboard-report --scaling DIRECTORY`, anywhere: a page about the figures of the scaling target, in that directory.

mod cases;
mod figures;
mod machine;
mod markdown;
mod plots;
mod read;
mod relay;
mod scaling;
mod summary;
mod tables;
mod template;
mod words;

use std::path::Path;
use std::{env, fs};

use anyhow::{Context, Result};
use figures::Figures;

const TEMPLATE: &str = "benches/BENCHMARKS.in.md";
const REPORT: &str = "BENCHMARKS.md";
const PLOTS: &str = "benches/plots";

fn main() -> Result<()> {
    let mut args: Vec<_> = env::args().skip(1).collect();
    let directory = args
        .pop()
        .context("say in which directory the figures are")?;
    if args == ["--scaling"] {
        return scaling::write(Path::new(&directory));
    }
    let template = fs::read_to_string(TEMPLATE)
        .with_context(|| format!("{TEMPLATE} can't be read: start this in the project's root"))?;
    let figures = Figures::load(Path::new(&directory))?;
    let report = template::fill(&template, &figures)?;
    fs::create_dir_all(PLOTS).with_context(|| format!("{PLOTS} can't be made"))?;
    plots::draw(Path::new(PLOTS), &figures)?;
    fs::write(REPORT, report).with_context(|| format!("{REPORT} can't be written"))?;
    println!("{REPORT} and {PLOTS} are written");
    Ok(())
}
