/// Why connections were displaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The server-id was claimed while it was in grace.
    Reclaimed,
    /// Another binary took the server-id over.
    TakenOver,
    /// The grace ended.
    Expired,
    /// The server-id was evicted.
    Evicted,
    /// The registry was drained.
    Drained,
}
