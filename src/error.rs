use std::fmt;
use std::sync::Arc;

use crate::conn::Conn;
use crate::state::epoch::Epoch;
use crate::state::kept::Kept;
use crate::state::transition::ConflictKind;
use crate::store::Store;
use crate::store::slot::Slot;

/// Another binary holds the server-id. Nothing has changed, and this error holds the rejected connection.
///
/// The error keeps the whole registry alive, so don't keep it for long. Either close the rejected connection,
/// or find out whether the incumbent is still alive and, if it is not, call [`take_over`](Self::take_over).
#[derive(thiserror::Error)]
pub struct ServerIdConflict<C: ?Sized> {
    pub(crate) store: Arc<Store<C>>,
    pub(crate) slot: Arc<Slot<C>>,
    pub(crate) incumbent: Kept<C>,
    pub(crate) incumbent_epoch: Epoch,
    pub(crate) kind: ConflictKind,
    pub(crate) conn: Kept<C>,
}

impl<C: ?Sized> ServerIdConflict<C> {
    /// The contested server-id.
    #[must_use]
    pub fn server_id(&self) -> &str {
        &self.slot.server_id
    }

    /// The binary that held the server-id at the instant of the refusal.
    #[must_use]
    pub fn incumbent(&self) -> &Arc<C> {
        &self.incumbent
    }

    /// The epoch of the incumbent's claim.
    #[must_use]
    pub fn incumbent_epoch(&self) -> Epoch {
        self.incumbent_epoch
    }

    /// Why the claim was refused.
    #[must_use]
    pub fn kind(&self) -> ConflictKind {
        self.kind
    }

    /// The rejected connection.
    #[must_use]
    pub fn conn(&self) -> &Arc<C> {
        &self.conn
    }

    /// Returns the rejected connection.
    #[must_use]
    pub fn into_conn(self) -> Arc<C> {
        self.conn.into_arc()
    }
}

impl<C: ?Sized> fmt::Display for ServerIdConflict<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "server-id {:?} is already claimed; close the new connection, or call `take_over` if the incumbent is gone",
            self.server_id()
        )
    }
}

impl<C: ?Sized> fmt::Debug for ServerIdConflict<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerIdConflict")
            .field("server_id", &self.server_id())
            .field("incumbent_epoch", &self.incumbent_epoch)
            .finish_non_exhaustive()
    }
}

/// The reason why a phone was not registered. Nothing has changed, and this error holds the rejected
/// connection.
///
/// If several reasons apply, the first in the order of the variants is reported.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError<C: ?Sized> {
    /// No binary holds the server-id.
    NoServer(Arc<C>),
    /// The server-id has as many phones as the registry allows.
    AtCapacity(Arc<C>),
    /// A phone with the same conn-id is registered under the server-id.
    DuplicateConnId(Arc<C>),
}

impl<C: ?Sized> RegisterError<C> {
    /// Returns the rejected connection.
    #[must_use]
    pub fn into_conn(self) -> Arc<C> {
        match self {
            Self::NoServer(conn) | Self::AtCapacity(conn) | Self::DuplicateConnId(conn) => conn,
        }
    }
}

impl<C: Conn + ?Sized> fmt::Display for RegisterError<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (conn, why) = match self {
            Self::NoServer(conn) => (
                conn,
                "no binary holds its server-id; close it, or register it again once a binary has claimed it",
            ),
            Self::AtCapacity(conn) => (
                conn,
                "its server-id has reached its limit of phones; close it, or build the registry with a larger `max_phones`",
            ),
            Self::DuplicateConnId(conn) => (
                conn,
                "a phone with this conn-id is already registered under its server-id; use a unique conn-id for each connection",
            ),
        };
        write!(f, "phone {:?} was not registered: {why}", conn.conn_id())
    }
}

impl<C: ?Sized> fmt::Debug for RegisterError<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoServer(_) => "NoServer(..)",
            Self::AtCapacity(_) => "AtCapacity(..)",
            Self::DuplicateConnId(_) => "DuplicateConnId(..)",
        })
    }
}
