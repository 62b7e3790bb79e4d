//! Logs on stderr.
//!
//! What a peer sent is logged in escaped form only, its frames and its token never. The crates below log
//! frames by way of `log`, which is not connected here.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::config::Config;

/// Logs to stderr what the filter lets through.
pub fn start(config: &Config) {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&config.log))
        .with_writer(std::io::stderr)
        // A log that cannot be written would be complained of on the same stderr, and that panics.
        .log_internal_errors(false)
        .init();
}

/// Finds out whether this is a filter, and keeps it as text: a filter itself cannot be cloned.
pub(crate) fn filter(text: &str) -> Result<String, ParseError> {
    EnvFilter::builder().parse(text).map(|_| text.to_owned())
}
