//! Logs on stderr, written by a thread of their own.
//!
//! Whoever reads stderr may be slow, or may not read at all. So lines wait in a bounded queue, and those that find it full
//! are dropped and counted.
//!
//! What a peer sent is logged in escaped form only, its frames and its token never. The crates below log
//! frames by way of `log`, which is not connected here.

use std::sync::OnceLock;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use super::config::Config;

/// How many lines may wait for stderr.
const LINES: usize = 16 * 1024;

/// How long the end of the program waits for stderr.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The log is the process's, and so is this.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// The thread that writes the log.
#[derive(Debug)]
pub struct Logs {
    thread: WorkerGuard,
}

/// Logs to stderr what the filter lets through.
///
/// # Panics
///
/// Where the program has started to log before.
pub fn start(config: &Config) -> Logs {
    let (stderr, thread) = NonBlockingBuilder::default()
        .buffered_lines_limit(LINES)
        .thread_name("log")
        .finish(std::io::stderr());
    let _ = DROPPED.set(stderr.error_counter());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&config.log))
        .with_writer(stderr)
        // Colours are for terminals, and any crate in the same build may turn them on.
        .with_ansi(false)
        // A log that cannot be written would be complained of on the same stderr, and that panics.
        .log_internal_errors(false)
        .finish();
    // Its `init` would also take what libraries give to the crate `log`, if any crate in the same build wants that, and
    // those show the frames.
    tracing::subscriber::set_global_default(subscriber).expect("only the program sets it, once");
    Logs { thread }
}

impl Logs {
    /// Writes what is left of the log, and then the last words, for as long as stderr takes them within two seconds.
    pub fn end(self, last_words: impl FnOnce() + Send + 'static) {
        let (done, is_done) = mpsc::channel();
        thread::spawn(move || {
            // It complains on stdout where the log is stuck, and stdout may be the same pipe.
            drop(self.thread);
            last_words();
            let _ = done.send(());
        });
        let _ = is_done.recv_timeout(LAST_WORDS);
    }
}

/// How many lines were dropped.
pub(crate) fn dropped_lines() -> u64 {
    let dropped = DROPPED.get().map_or(0, ErrorCounter::dropped_lines);
    u64::try_from(dropped).unwrap_or(u64::MAX)
}
