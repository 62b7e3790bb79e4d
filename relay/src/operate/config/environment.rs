//! The environment variables of flags.

use std::env;
use std::error::Error as _;
use std::ffi::OsString;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Command};
use tracing::warn;

use crate::operate::error::first_line;

/// What the names of all variables begin with.
const PREFIX: &str = "SWITCHBOARD_";

/// Makes an empty environment variable count as unset.
pub(super) fn without_empty(command: Command) -> Command {
    command.mut_args(|flag| {
        let is_empty = variable(&flag).is_some_and(|value| value.is_empty());
        if is_empty { unset(flag) } else { flag }
    })
}

/// Names the variable in an error that is due to its value.
pub(super) fn blame(error: clap::Error, command: Command, args: &[OsString]) -> clap::Error {
    let flag = command.get_arguments().find(|flag| is_at(flag, &error));
    let is_secret = flag.is_some_and(Arg::is_hide_env_values_set);
    let variable = flag.and_then(Arg::get_env).and_then(|it| it.to_str());
    let variable = variable.map(str::to_owned);
    let without = command.mut_args(unset);
    let is_in_args = match without.try_get_matches_from(args) {
        Ok(_) => false,
        Err(other) => first_line(&other) == first_line(&error),
    };
    let error = if is_secret {
        without_value(error)
    } else {
        error
    };
    match variable {
        Some(variable) if !is_in_args => {
            let sentence = format!("{variable}: {}", first_line(&error));
            clap::Error::raw(error.kind(), sentence)
        }
        _ => error,
    }
}

/// Leaves out the value, which may have a password, from an error that quotes it.
fn without_value(error: clap::Error) -> clap::Error {
    let (Some(ContextValue::String(flag)), Some(source)) =
        (error.get(ContextKind::InvalidArg), error.source())
    else {
        return error;
    };
    let sentence = format!("invalid value for '{flag}': {source}");
    clap::Error::raw(error.kind(), sentence)
}

/// Whether an error is about the value of this flag.
fn is_at(flag: &Arg, error: &clap::Error) -> bool {
    match error.get(ContextKind::InvalidArg) {
        // The long name of the flag and the name of its value.
        Some(ContextValue::String(name)) => {
            let name = name.trim_start_matches("--").split(' ').next();
            name == flag.get_long()
        }
        // The value is not UTF-8. Such an error does not name the flag.
        _ => variable(flag).is_some_and(|value| value.to_str().is_none()),
    }
}

/// Warns about variables that look like those of flags, and are not.
pub(super) fn warn(command: &Command) {
    let known = |name: &str| {
        command
            .get_arguments()
            .any(|flag| flag.get_env() == Some(name.as_ref()))
    };
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with(PREFIX) && !known(&name) {
            warn!(variable = &*name, "unknown variable: no flag has that name");
        }
    }
}

/// The value of the variable of a flag.
fn variable(flag: &Arg) -> Option<OsString> {
    flag.get_env().and_then(env::var_os)
}

fn unset(flag: Arg) -> Arg {
    flag.env(Resettable::Reset)
}
