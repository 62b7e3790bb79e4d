//! One line per second on stderr: rewritten in place on a terminal, appended elsewhere.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use crate::tally::Tally;

pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    unit: &'static str,
    last: Instant,
    arrived: u64,
}

impl Progress {
    pub(crate) fn new(unit: &'static str) -> Self {
        Self {
            bar: stderr().is_terminal().then(ProgressBar::new_spinner),
            unit,
            last: Instant::now(),
            arrived: 0,
        }
    }

    /// Shows the current activity and its rate.
    pub(crate) fn line(&mut self, doing: &str, tally: &Tally) {
        let (_, arrived) = tally.progress();
        let took = self.last.elapsed();
        let errors: u64 = tally.errors().values().sum();
        let errors = if errors == 0 {
            String::new()
        } else {
            format!(", {errors} errors")
        };
        let rate = per_second(arrived - self.arrived, took);
        self.say(&format!("{doing}: {rate} {}/s{errors}", self.unit));
        (self.last, self.arrived) = (Instant::now(), arrived);
    }

    pub(crate) fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_message(line.to_owned());
                bar.tick();
            }
            None => eprintln!("{line}"),
        }
    }

    /// Clears the line, because the table follows.
    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn per_second(count: u64, took: Duration) -> u128 {
    u128::from(count) * 1_000_000 / took.as_micros().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_per_second_for_any_interval() {
        assert_eq!(per_second(500, Duration::from_millis(500)), 1000);
        assert_eq!(per_second(0, Duration::ZERO), 0);
    }
}
