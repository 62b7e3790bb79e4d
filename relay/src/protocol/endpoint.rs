//! The two endpoints: one for binaries, one for phones.

/// At which endpoint a connection came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// `/v1/server`, for binaries.
    Server,
    /// `/v1/client`, for phones.
    Client,
}

impl Endpoint {
    /// Its name in metrics, and the first part of the conn-ids that it gives.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }

    /// The headers it asks for beside the server-id. The token is for the binary to judge: here it only has to be there.
    pub(crate) const fn required_headers(self) -> [&'static str; 2] {
        match self {
            Self::Server => ["X-Pyrycode-Version", "User-Agent"],
            Self::Client => ["X-Pyrycode-Token", "User-Agent"],
        }
    }
}
