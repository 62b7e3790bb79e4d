/// Why connections were displaced. A [table](crate#what-becomes-of-the-phones) says when each applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Cause {
    /// The server-id was claimed while it was in grace.
    Reclaimed,
    /// Another binary took the server-id over.
    TakenOver,
    /// The deadline of the grace had passed.
    Expired,
    /// The server-id was released, and the registry was built with
    /// [`Orphans::Displace`](crate::Orphans::Displace).
    Released,
    /// The server-id was evicted.
    Evicted,
    /// The registry was drained.
    Drained,
}
