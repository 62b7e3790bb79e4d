//! The client of a connection, as far as it is known before its first request.

use std::io;
use std::net::IpAddr;

/// The canonical address that a connection comes from, or that its PROXY protocol header names. Attached to
/// each request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller(pub(crate) IpAddr);

/// The failure of a connection whose client is known.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub(crate) struct Failed {
    pub(crate) caller: Caller,
    error: io::Error,
}

impl Failed {
    pub(super) fn wrap(caller: Caller, error: io::Error) -> io::Error {
        io::Error::other(Self { caller, error })
    }

    /// The client of a connection that failed, if it is known.
    pub(crate) fn caller(error: &io::Error) -> Option<IpAddr> {
        let failed: &Self = error.get_ref()?.downcast_ref()?;
        Some(failed.caller.0)
    }
}
