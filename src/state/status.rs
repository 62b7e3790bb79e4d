use std::time::Instant;

/// The state of a server-id: vacant, held or in grace.
///
/// These are all the states that there are: nobody holds a server-id, or a binary does, and that binary is there
/// or has gone away. So a match on them needs no wildcard. The other enums of this crate may get more variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Nobody holds it. Phones of an earlier claim remain.
    Vacant,
    /// The binary that claimed it holds it.
    Held,
    /// The binary went away. It and its phones stay registered until the deadline, or until the next claim.
    Grace {
        /// The end of the grace. For a grace that never ends, this is the latest instant of the platform.
        deadline: Instant,
    },
}
