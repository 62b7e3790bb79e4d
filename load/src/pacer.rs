//! Frames at a fixed rate. Their due times do not depend on anything that happens during the run.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::frame::Stamp;
use crate::traffic::Traffic;

/// The due times of the frames, and their phones.
struct Schedule {
    start: u64,
    rate: u64,
    phones: u64,
}

impl Schedule {
    /// The stamp of a frame. Computed from the start, so that rounding errors do not accumulate.
    fn stamp(&self, number: u64) -> Stamp {
        let after = u128::from(number) * 1_000_000_000 / u128::from(self.rate);
        Stamp {
            due: self.start + u64::try_from(after).unwrap_or(u64::MAX - self.start),
            phone: u32::try_from(number % self.phones).unwrap_or(u32::MAX),
        }
    }
}

/// Orders frames from now to the end of the window, on a thread of its own: the runtime's timers are only
/// accurate to milliseconds.
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
        // Checked for each frame: the window may end earlier than planned.
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

/// Asks the system for precise sleeps. By default a sleep may last up to 50 µs longer.
fn sleep_precisely() {
    // If this is refused, sleeps are less precise.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
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
    fn rounding_errors_do_not_accumulate_over_days() {
        let schedule = Schedule {
            start: 0,
            rate: 7,
            phones: 1,
        };
        let days = 7 * 86_400 * 30;
        assert_eq!(schedule.stamp(days).due, 86_400 * 30 * 1_000_000_000);
    }
}
