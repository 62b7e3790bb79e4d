//! Completions for shells, and the manual page: made from the flags.

use std::io::{self, Write};

use clap::{Command, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;

/// What `--generate` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Generate {
    /// The manual page, in roff.
    Man,
    /// Completions for bash.
    CompleteBash,
    /// Completions for fish.
    CompleteFish,
    /// Completions for zsh.
    CompleteZsh,
}

impl Generate {
    /// Prints it to stdout, for a program with these flags.
    pub fn print(self, command: Command) {
        // If the reader has closed the pipe, it does not want the rest.
        let _ = io::stdout().write_all(&self.text(command));
    }

    fn text(self, mut command: Command) -> Vec<u8> {
        let mut text = Vec::new();
        let shell = match self {
            Self::Man => {
                let page = Man::new(command);
                page.render(&mut text).expect("a vector takes all bytes");
                return text;
            }
            Self::CompleteBash => Shell::Bash,
            Self::CompleteFish => Shell::Fish,
            Self::CompleteZsh => Shell::Zsh,
        };
        let name = command.get_name().to_owned();
        clap_complete::generate(shell, &mut command, name, &mut text);
        text
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::operate::config::Config;

    #[test]
    fn each_flag_is_in_each_text() {
        for kind in Generate::value_variants() {
            // roff escapes hyphens.
            let text = String::from_utf8(kind.text(Config::command()))
                .expect("UTF-8")
                .replace('\\', "");
            for flag in Config::command().get_arguments() {
                let Some(name) = flag.get_long() else {
                    continue;
                };
                assert!(text.contains(name), "{kind:?}: --{name}");
            }
        }
    }
}
