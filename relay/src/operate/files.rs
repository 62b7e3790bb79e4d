//! How many files, and so connections, the system lets the program have open.

use tracing::{debug, warn};

use super::config::Config;

/// What the program needs beside its connections: for requests that are no upgrade, or not yet, and for itself.
const OTHERS: u64 = 256;

/// Raises the limit as far as the system allows, and warns where that is too little for `--max-connections`.
pub fn raise_limit(config: &Config) {
    let wanted = u64::from(config.max_connections) + OTHERS;
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) if limit < wanted => warn!(
            limit,
            wanted,
            "the limit of open files is below --max-connections: raise it, with `ulimit -n` for example, or lower the flag"
        ),
        Ok(limit) => debug!(limit, "limit of open files"),
        Err(error) => warn!(%error, "the limit of open files cannot be raised"),
    }
}
