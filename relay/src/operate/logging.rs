//! Logs on stderr, written by a thread of their own.
//!
//! The reader of stderr may be slow, or may not read at all. So lines wait in a bounded queue; a line that finds it
//! full is dropped and counted.
//!
//! Text from a peer is logged only in escaped form. Frames and tokens are never logged. Dependencies log frames through
//! the `log` crate, so that crate is not connected here.

use std::sync::OnceLock;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tracing::subscriber::set_global_default;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use super::config::{Config, LogFormat};

/// How many lines may wait for stderr.
const LINES: usize = 16 * 1024;

/// How long the program waits for stderr when it ends.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The counter of dropped lines. It is global, as the log is.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// The thread that writes the log.
#[derive(Debug)]
pub struct Logs {
    thread: WorkerGuard,
}

/// Starts logging to stderr, filtered by `--log`.
///
/// # Panics
///
/// If logging was already started.
pub fn start(config: &Config) -> Logs {
    let (stderr, thread) = NonBlockingBuilder::default()
        .buffered_lines_limit(LINES)
        .thread_name("log")
        .finish(std::io::stderr());
    let _ = DROPPED.set(stderr.error_counter());
    let lines = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&config.log))
        .with_writer(stderr)
        // Any crate in the same build may enable colours, and stderr may not be a terminal.
        .with_ansi(false)
        // It would report a failed write to stderr on the same stderr, and panic.
        .log_internal_errors(false);
    // The subscriber's `init` would also capture records of the `log` crate, if any crate in the same build enables
    // that. Those records contain frames.
    let set = match config.log_format {
        LogFormat::Text => set_global_default(lines.finish()),
        LogFormat::Json => set_global_default(lines.json().flatten_event(true).finish()),
    };
    set.expect("only the program sets it, once");
    Logs { thread }
}

impl Logs {
    /// Writes the rest of the log, then the last words. Gives up after two seconds if stderr blocks.
    pub fn end(self, last_words: impl FnOnce() + Send + 'static) {
        let (done, is_done) = mpsc::channel();
        thread::spawn(move || {
            // If the log is stuck, this prints a complaint to stdout, which may be the same blocked pipe. So it runs on
            // a thread of its own.
            drop(self.thread);
            last_words();
            let _ = done.send(());
        });
        let _ = is_done.recv_timeout(LAST_WORDS);
    }
}

/// The number of lines dropped so far.
pub(crate) fn dropped_lines() -> u64 {
    let dropped = DROPPED.get().map_or(0, ErrorCounter::dropped_lines);
    u64::try_from(dropped).unwrap_or(u64::MAX)
}
