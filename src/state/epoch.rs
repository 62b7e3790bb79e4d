use std::fmt;
use std::num::NonZeroU64;

/// The identity of a claim: unique in this process and never reused.
///
/// Of two claims whose calls do not overlap in time, the later has the larger epoch. Between claims that
/// raced, the order does not tell which one won.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Epoch(NonZeroU64);

impl Epoch {
    pub(crate) fn from_number(number: u64) -> Self {
        Self(NonZeroU64::new(number).expect("2^64 claims outlast every process"))
    }

    /// The epoch as a number, for logs and metrics.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
