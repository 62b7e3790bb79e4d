//! Frames at a fixed rate, due at times that depend on nothing that happens.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::frame::Stamp;
use crate::traffic::Traffic;

/// When the frames are due, and whose they are.
struct Schedule {
    start: u64,
    rate: u64,
    phones: u64,
}

impl Schedule {
    /// The frame with that number. Reckoned from the start, so that no error adds up.
    fn stamp(&self, number: u64) -> Stamp {
        let after = u128::from(number) * 1_000_000_000 / u128::from(self.rate);
        Stamp {
            due: self.start + u64::try_from(after).unwrap_or(u64::MAX - self.start),
            phone: u32::try_from(number % self.phones).unwrap_or(u32::MAX),
        }
    }
}

/// Orders frames from now to the end of the window, on a thread of its own: the timers of the runtime are good for
/// milliseconds.
pub(crate) fn start(traffic: Arc<Traffic>, rate: u32, phones: u32) -> io::Result<JoinHandle<()>> {
    let schedule = Schedule {
        start: traffic.window.now(),
        rate: rate.into(),
        phones: phones.into(),
    };
    let pacer = thread::Builder::new().name("pacer".to_owned());
    pacer.spawn(move || {
        sleep_precisely();
        run(&traffic, &schedule);
    })
}

fn run(traffic: &Traffic, schedule: &Schedule) {
    for number in 0.. {
        let stamp = schedule.stamp(number);
        // Asked each time: the end may come earlier than planned.
        if stamp.due >= traffic.window.to() {
            return;
        }
        let ahead = traffic.window.instant(stamp.due);
        let ahead = ahead.saturating_duration_since(Instant::now());
        if !ahead.is_zero() {
            thread::sleep(ahead);
        }
        traffic.order(stamp);
    }
}

/// The system may let this thread sleep 50 µs longer than it asks for, unless told otherwise.
fn sleep_precisely() {
    #[cfg(target_os = "linux")]
    // Refused, the sleeps are as long as they are.
    let _ = nix::sys::prctl::set_timerslack(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_due_evenly_and_phones_take_turns() {
        let schedule = Schedule {
            start: 100,
            rate: 3,
            phones: 2,
        };
        let stamps: Vec<_> = (0..4).map(|number| schedule.stamp(number)).collect();
        let due: Vec<_> = stamps.iter().map(|stamp| stamp.due).collect();
        assert_eq!(due, [100, 333_333_433, 666_666_766, 1_000_000_100]);
        let phones: Vec<_> = stamps.iter().map(|stamp| stamp.phone).collect();
        assert_eq!(phones, [0, 1, 0, 1]);
    }

    #[test]
    fn no_error_adds_up_over_days() {
        let schedule = Schedule {
            start: 0,
            rate: 7,
            phones: 1,
        };
        let days = 7 * 86_400 * 30;
        assert_eq!(schedule.stamp(days).due, 86_400 * 30 * 1_000_000_000);
    }
}
