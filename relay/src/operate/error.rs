use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;

/// Why the relay did not start, or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A flag or its environment variable is invalid, or the user asked for the help or the version.
    #[error("{}", first_line(.0))]
    Config(#[from] clap::Error),
    /// The certificate or the key cannot be used.
    #[error("cannot use the file of {flag}, {}: {problem}", file.display())]
    Tls {
        /// The flag that names the file.
        flag: &'static str,
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The file with the token of the admin API cannot be used.
    #[error("cannot use the file of --admin-token-file, {}: {problem}", file.display())]
    AdminToken {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The file with the access rules cannot be used.
    #[error("cannot use the file of --access-file, {}: {problem}", file.display())]
    AccessFile {
        /// The file.
        file: PathBuf,
        /// What is wrong with it, and where.
        problem: String,
    },
    /// The system has no certificates to check those of an HTTPS service with.
    #[error("cannot use the certificates of the system: {0}; install the package ca-certificates")]
    SystemRoots(#[source] rustls::Error),
    /// The client for an HTTP service cannot be created.
    #[error("cannot create an HTTP client: {0}")]
    HttpClient(#[source] reqwest::Error),
    /// The relay that was asked by `--check-health` is not up.
    #[error("the relay is not healthy: {0}")]
    Unhealthy(String),
    /// The relay cannot listen on the address.
    #[error("cannot listen on {address}: {}", listen_advice(.source, .flag))]
    Listen {
        /// The flag that names the address.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
    /// The service manager has passed something that is no TCP socket.
    #[error(
        "cannot use the socket of the service manager: {0}; check the ListenStream of its unit"
    )]
    Socket(#[source] io::Error),
    /// A listener failed while the relay was running.
    #[error("the listener failed: {0}")]
    Serve(#[source] io::Error),
    /// The program cannot register for signals.
    #[error("cannot wait for signals: {0}")]
    Signals(#[source] io::Error),
}

impl Error {
    /// The exit status: 2 for a configuration error, 1 for any other failure, 0 if the user asked for the help or the
    /// version.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(help) if is_answer(help) => ExitCode::SUCCESS,
            Self::Config(_)
            | Self::Tls { .. }
            | Self::AdminToken { .. }
            | Self::AccessFile { .. } => ExitCode::from(2),
            Self::SystemRoots(_)
            | Self::HttpClient(_)
            | Self::Unhealthy(_)
            | Self::Listen { .. }
            | Self::Socket(_)
            | Self::Serve(_)
            | Self::Signals(_) => ExitCode::FAILURE,
        }
    }

    /// Prints the error to stderr in one line, or the requested help or version to stdout.
    pub fn print(&self) {
        // If the reader has closed the pipe, it does not want the message.
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

/// The first line of clap's message, which says what is wrong. Usage and tips follow in further paragraphs.
pub(super) fn first_line(error: &clap::Error) -> String {
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
