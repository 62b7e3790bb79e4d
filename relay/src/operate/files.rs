//! The limit on open files, and so on connections.

use tracing::{debug, warn};

use super::config::Config;

/// Descriptors needed besides those of connections: for the metrics listener and for the program itself.
const OTHERS: u64 = 64;

/// How many connections there may be before their upgrade.
pub(crate) fn arrivals(config: &Config) -> u64 {
    u64::from(config.max_connections) / 4 + 256
}

/// Raises the limit as far as the system allows. Warns if that is too low for `--max-connections`.
pub fn raise_limit(config: &Config) {
    let wanted = u64::from(config.max_connections) + arrivals(config) + OTHERS;
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) if limit < wanted => warn!(
            limit,
            wanted,
            "limit of open files is too low for --max-connections: raise it (for example with `ulimit -n`), or lower the flag"
        ),
        Ok(limit) => debug!(limit, "limit of open files"),
        Err(error) => warn!(%error, "cannot raise limit of open files"),
    }
}
