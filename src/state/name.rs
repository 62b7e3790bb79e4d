use smallstr::SmallString;

/// A server-id or a conn-id. It is stored inline, unless it is longer than a UUID.
pub(crate) type Name = SmallString<[u8; 36]>;
