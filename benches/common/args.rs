//! The command line of the targets that don't run under criterion: as much of criterion's as makes sense for them.

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
        // cargo bench passes --bench; cargo test does not, and only wants to see that it runs.
        let mut bench = false;
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--bench" => bench = true,
                "--quick" => parsed.quick = true,
                "--test" | "--exact" | "--noplot" | "--verbose" | "--quiet" => {}
                // One of criterion's; what follows is its value.
                option if option.starts_with('-') => {
                    args.next_if(|value| !value.starts_with('-'));
                }
                _ => parsed.filter = Some(arg),
            }
        }
        parsed.quick |= !bench;
        parsed
    }

    pub fn wants(&self, case: &str) -> bool {
        self.filter
            .as_ref()
            .is_none_or(|filter| case.contains(filter.as_str()))
    }
}
