use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::error::ErrorKind;

/// Why the relay did not start, or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A flag or its environment variable is wrong; or the user asked for the help or the version.
    #[error("{}", first_line(.0))]
    Config(#[from] clap::Error),
    /// Certificate and key cannot be used.
    #[error("cannot use the files of --tls-cert and --tls-key: {source}")]
    Tls {
        /// What is wrong with them.
        source: io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {}", listen_advice(.source, .flag))]
    Listen {
        /// The flag that names the address.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The listener failed while the relay ran.
    #[error("the listener failed: {0}")]
    Serve(#[source] io::Error),
    /// The system does not hand signals over.
    #[error("cannot wait for signals: {0}")]
    Signals(#[source] io::Error),
}

impl Error {
    /// How the process is to exit: 2 for a configuration error, 1 for anything else that fails, 0 where the user asked for
    /// the help or the version.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(help) if is_answer(help) => ExitCode::SUCCESS,
            Self::Config(_) | Self::Tls { .. } => ExitCode::from(2),
            Self::Listen { .. } | Self::Serve(_) | Self::Signals(_) => ExitCode::FAILURE,
        }
    }

    /// Tells the user: on stderr in one sentence, or on stdout what was asked for.
    pub fn print(&self) {
        // A reader that has gone away has seen what it wanted.
        let _ = match self {
            Self::Config(help) if is_answer(help) => help.print(),
            _ => writeln!(io::stderr(), "error: {self}"),
        };
    }
}

fn is_answer(error: &clap::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    )
}

/// clap says what is wrong in the first line, and adds paragraphs of usage and tips.
fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

fn listen_advice(error: &io::Error, flag: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("address already in use; stop the other program or choose another {flag}")
        }
        io::ErrorKind::PermissionDenied => {
            format!("permission denied; choose a port above 1023 with {flag}")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("this machine does not have that address; choose another {flag}")
        }
        _ => format!("{error}; choose another {flag}"),
    }
}
