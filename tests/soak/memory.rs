//! Resident memory, and the regression line through its samples.

use std::fmt;
use std::fs;

/// Makes glibc return free pages to the system. It would otherwise keep the pages of the highest peak so far.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn trim() {
    unsafe extern "C" {
        safe fn malloc_trim(pad: usize) -> std::ffi::c_int;
    }
    malloc_trim(0);
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn trim() {}

/// `None` on systems other than Linux.
pub(crate) fn resident_kib() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// The least-squares line through samples of KiB over seconds.
pub(crate) struct Line {
    /// KiB per second.
    slope: f64,
    seconds: f64,
    first: f64,
    last: f64,
}

impl Line {
    pub(crate) fn through(samples: &[(f64, f64)]) -> Self {
        let (first, last) = (samples[0], samples[samples.len() - 1]);
        let mean = |of: &dyn Fn(&(f64, f64)) -> f64| {
            let count = u32::try_from(samples.len()).unwrap();
            samples.iter().map(of).sum::<f64>() / f64::from(count)
        };
        let (time, kib) = (mean(&|sample| sample.0), mean(&|sample| sample.1));
        let together = mean(&|sample| (sample.0 - time) * (sample.1 - kib));
        let spread = mean(&|sample| (sample.0 - time).powi(2));
        Self {
            slope: together / spread,
            seconds: last.0 - first.0,
            first: first.1,
            last: last.1,
        }
    }

    /// The growth from the first sample to the last according to the line, in KiB.
    pub(crate) fn growth(&self) -> f64 {
        self.slope * self.seconds
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "from {:.0} to {:.0} KiB in {:.1} s, by the line {:+.0} KiB, which is {:+.2} KiB/s",
            self.first,
            self.last,
            self.seconds,
            self.growth(),
            self.slope,
        )
    }
}

#[test]
fn the_line_goes_through_the_samples() {
    let straight: Vec<_> = (0..10)
        .map(|i| (f64::from(i), 100.0 + 3.0 * f64::from(i)))
        .collect();
    assert!((Line::through(&straight).growth() - 27.0).abs() < 1e-9);
    // A sawtooth that returns to its starting point does not grow.
    let teeth: Vec<_> = (0..1001)
        .map(|i| (f64::from(i), f64::from(i % 100)))
        .collect();
    assert!(Line::through(&teeth).growth().abs() < 10.0);
}
