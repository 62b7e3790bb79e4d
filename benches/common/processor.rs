//! The name of the processor. The report compiles this file, too.

use std::{fs, io, thread};

/// The processor's name and the number of cores that this process may use.
pub(crate) fn processor() -> io::Result<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let name = model.map_or("unknown CPU", |(_, name)| name.trim());
    let cores = thread::available_parallelism()?;
    Ok(format!("{name}, {cores} cores"))
}
