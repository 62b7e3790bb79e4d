//! The bugs that are planted in the protocol.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// `replace` ignores the revision that was read.
    ReplacesBlindly,
    /// `revalidate` takes a time-out for a loss.
    TimeoutIsLoss,
    /// A node that was adrift renews its lease and does not revalidate.
    NeverRevalidates,
    /// `let_in` ignores that the placement is being given up.
    LetsInWhileGivingUp,
    /// `revalidate` reads the revision instead of writing at it.
    RevalidatesByReading,
    /// A node that reads its own name at a revision that it does not know holds the placement at once.
    AdoptsByReading,
}
