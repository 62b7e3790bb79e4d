use std::io;
use std::process::ExitCode;

use clap::error::ErrorKind;

/// The reason why there is no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// An invalid flag, or a request for the help or the version.
    #[error("{}", first_line(.0))]
    Flags(#[from] clap::Error),
    /// Valid flags that are incompatible with each other or with this machine.
    #[error("{0}")]
    Usage(String),
    /// The run could not start.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    pub(crate) fn runtime(error: &io::Error) -> Self {
        Self::Failed(format!("cannot start the threads: {error}"))
    }

    /// Prints a one-line error and returns the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            Self::Flags(help)
                if matches!(
                    help.kind(),
                    ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
                ) =>
            {
                // A reader that has closed the pipe needs no more output.
                let _ = help.print();
                ExitCode::SUCCESS
            }
            Self::Flags(_) | Self::Usage(_) => {
                eprintln!("error: {self}");
                ExitCode::from(2)
            }
            Self::Failed(_) => {
                eprintln!("error: {self}");
                ExitCode::FAILURE
            }
        }
    }
}

/// The error without clap's paragraphs of usage and tips: its first line, or the list below that.
fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let message = text.split("\n\n").next().unwrap_or_default();
    let message = message.trim_start_matches("error: ");
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}
