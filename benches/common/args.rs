//! The command line of the targets that don't run under criterion: the part of criterion's that applies to
//! them.

use std::env;

pub struct Args {
    pub quick: bool,
    filter: Option<String>,
}

impl Args {
    pub fn parse() -> Self {
        let mut args = env::args().skip(1).peekable();
        let mut parsed = Self {
            quick: false,
            filter: None,
        };
        // `cargo bench` passes `--bench`. `cargo test` does not: it only checks that the target runs.
        let mut bench = false;
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--bench" => bench = true,
                "--quick" => parsed.quick = true,
                "--test" | "--exact" | "--noplot" | "--verbose" | "--quiet" => {}
                // An option of criterion's; an argument that follows is its value.
                option if option.starts_with('-') => {
                    args.next_if(|value| !value.starts_with('-'));
                }
                _ => parsed.filter = Some(arg),
            }
        }
        parsed.quick |= !bench;
        parsed
    }

    /// Whether the filter may match a case that begins with `case`. Criterion's filter is a regular
    /// expression: one that is not plain text, or that names threads, may match anything.
    pub fn wants(&self, case: &str) -> bool {
        self.filter.as_ref().is_none_or(|filter| {
            let plain = |c: char| c.is_alphanumeric() || " ,_/:-".contains(c);
            let threads = filter.contains("threads");
            case.contains(filter.as_str()) || threads || !filter.chars().all(plain)
        })
    }
}
