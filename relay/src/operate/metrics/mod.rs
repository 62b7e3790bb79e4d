//! What the relay counts, for Prometheus and for the page.
//!
//! All series exist from the start. Counters that change with every frame are striped, so that threads do not
//! contend for a cache line.

mod all;
mod collectors;
mod endpoint;
mod reasons;
mod sample;
mod series;
mod striped;
mod waits;

pub(crate) use self::all::Metrics;
pub(crate) use self::collectors::{CertificateExpiry, Population};
pub(crate) use self::reasons::{
    AccessRequests, Disconnects, Dropped, Probes, PushWakes, Refusals, Rejected, Unheard,
};
pub(crate) use self::sample::Sample;
