use std::io;
use std::process::ExitCode;

use clap::error::ErrorKind;

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A flag is wrong; or the user asked for the help or the version.
    #[error("{}", first_line(.0))]
    Flags(#[from] clap::Error),
    /// Flags, each of them right, that don't go together; or with this machine.
    #[error("{0}")]
    Usage(String),
    /// The run could not begin.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    pub(crate) fn runtime(error: &io::Error) -> Self {
        Self::Failed(format!("the threads can't be started: {error}"))
    }

    /// Tells the user in one sentence, and says how the process is to exit.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            Self::Flags(help)
                if matches!(
                    help.kind(),
                    ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
                ) =>
            {
                // A reader that has gone away has seen what it wanted.
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

/// clap says what is wrong in the first line, or in a list below it, and adds paragraphs of usage and tips.
fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let said = text.split("\n\n").next().unwrap_or_default();
    let said = said.trim_start_matches("error: ");
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}
