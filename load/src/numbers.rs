//! Arithmetic on figures.

/// Converts a count to a figure. No count here needs more than 53 bits.
#[expect(clippy::cast_precision_loss, reason = "no count here comes near 2^53")]
pub(crate) fn figure(count: u64) -> f64 {
    count as f64
}

/// Returns `None` if the divisor is zero.
pub(crate) fn quotient(dividend: f64, divisor: f64) -> Option<f64> {
    (divisor > 0.0).then(|| dividend / divisor)
}

/// Converts nanoseconds to microseconds.
pub(crate) fn micros(nanos: u64) -> f64 {
    figure(nanos) / 1e3
}
