use std::time::Instant;

/// The state of a server-id: vacant, held or in grace.
///
/// These are all the states that there are: nobody holds a server-id, or a binary does, and that binary is
/// there or has gone away. So a match on them needs no wildcard. The other enums of this crate may get more
/// variants.
///
/// With the feature `serde`, a status can be serialized. An `Instant` means nothing to another process, so a
/// grace shows the seconds that are left as a float, and 0 once the deadline has passed. In JSON:
/// `{"grace":{"seconds_left":29.5}}`. A grace that never ends shows the time until the latest instant of the
/// platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "snake_case")
)]
pub enum Status {
    /// Nobody holds it. Phones of an earlier claim remain.
    Vacant,
    /// The binary that claimed it holds it.
    Held,
    /// The binary went away. It and its phones stay registered until the deadline, or until the next claim.
    Grace {
        /// The end of the grace. For a grace that never ends, this is the latest instant of the platform.
        #[cfg_attr(
            feature = "serde",
            serde(rename = "seconds_left", serialize_with = "seconds_left")
        )]
        deadline: Instant,
    },
}

#[cfg(feature = "serde")]
fn seconds_left<S: serde::Serializer>(
    deadline: &Instant,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let left = deadline.saturating_duration_since(Instant::now());
    serializer.serialize_f64(left.as_secs_f64())
}
