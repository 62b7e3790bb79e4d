//! Figures that criterion does not keep: one JSON object per line, next to criterion's directory.

use std::path::PathBuf;
use std::{env, fs, io};

use serde_json::Value;

/// Writes the lines where the report looks for them. If a filter matched nothing, an older file stays.
pub fn write(name: &str, lines: &[Value]) -> io::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let path = directory()?.join(name);
    let lines: Vec<_> = lines.iter().map(Value::to_string).collect();
    fs::write(&path, lines.join("\n") + "\n")?;
    println!("written to {}", path.display());
    Ok(())
}

/// The parent of criterion's directory. By default that is cargo's target directory, which cargo tags as a
/// cache.
fn directory() -> io::Result<PathBuf> {
    if let Some(home) = env::var_os("CRITERION_HOME") {
        let mut directory = PathBuf::from(home);
        directory.pop();
        fs::create_dir_all(&directory)?;
        return Ok(directory);
    }
    let exe = env::current_exe()?;
    exe.ancestors()
        .find(|directory| directory.join("CACHEDIR.TAG").exists())
        .map(PathBuf::from)
        .ok_or_else(|| io::Error::other("this was not started from cargo's target directory"))
}
