//! The two endpoints: one for binaries, one for phones.

/// The endpoint at which a connection came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// `/v1/server`, for binaries.
    Server,
    /// `/v1/client`, for phones.
    Client,
}

impl Endpoint {
    /// Its name in metrics, and the prefix of its conn-ids.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }

    /// The name of a peer that connects there.
    pub(crate) const fn peer(self) -> &'static str {
        match self {
            Self::Server => "binary",
            Self::Client => "phone",
        }
    }

    /// The header with the version of a binary, or the device name of a phone.
    pub(crate) const fn label_header(self) -> &'static str {
        match self {
            Self::Server => "X-Pyrycode-Version",
            Self::Client => "X-Pyrycode-Device-Name",
        }
    }

    /// The headers required besides the server-id. The relay only checks that the token is present; the binary judges
    /// it.
    pub(crate) const fn required_headers(self) -> [&'static str; 2] {
        match self {
            Self::Server => ["X-Pyrycode-Version", "User-Agent"],
            Self::Client => ["X-Pyrycode-Token", "User-Agent"],
        }
    }
}
