//! Phones that came before their binary.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::series::by;

/// Phones that came before their binary and waited for it.
#[derive(Debug)]
pub(crate) struct Waits {
    waiting: Gauge,
    joined: Counter,
    timed_out: Counter,
    left: Counter,
}

/// One phone that waits. Counted as one that left, unless another outcome is given.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    waits: &'a Waits,
    outcome: &'a Counter,
}

impl Waits {
    pub(super) fn register(series: &mut Registry) -> Self {
        let waiting = Gauge::default();
        let help = "Phones that wait for their binary";
        series.register("phones_waiting", help, waiting.clone());
        let [joined, timed_out, left] = by(
            series,
            "phone_waits",
            "Phones that came before their binary and waited for it, by outcome",
            "outcome",
            ["joined", "timed_out", "left"],
        );
        Self {
            waiting,
            joined,
            timed_out,
            left,
        }
    }

    /// Counts a phone that begins to wait.
    pub(crate) fn begin(&self) -> Waiting<'_> {
        self.waiting.inc();
        Waiting {
            waits: self,
            outcome: &self.left,
        }
    }
}

impl Waiting<'_> {
    /// Ends the wait: the phone is registered.
    pub(crate) fn joined(mut self) {
        self.outcome = &self.waits.joined;
    }

    /// Ends the wait: no binary came in time.
    pub(crate) fn timed_out(mut self) {
        self.outcome = &self.waits.timed_out;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.outcome.inc();
        self.waits.waiting.dec();
    }
}
