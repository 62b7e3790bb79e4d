use std::fmt;
use std::sync::Arc;

use crate::claim::{self, Claim};
use crate::conn::Conn;
use crate::epoch::Epoch;
use crate::index::Index;
use crate::kept::Kept;
use crate::slot::Slot;

/// Another binary holds the server-id. Nothing has changed, and this error holds the rejected connection.
///
/// The error keeps the whole registry alive, so don't keep it for long. Either close the rejected connection,
/// or find out whether the incumbent is still alive and, if it is not, call [`take_over`](Self::take_over).
#[derive(thiserror::Error)]
pub struct ServerIdConflict<C: ?Sized> {
    pub(crate) index: Arc<Index<C>>,
    pub(crate) slot: Arc<Slot<C>>,
    pub(crate) incumbent: Kept<C>,
    pub(crate) incumbent_epoch: Epoch,
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

    /// Takes the server-id over from the incumbent.
    ///
    /// If the incumbent's claim still holds the server-id and is not in grace, the incumbent and all its
    /// phones are displaced: they are in [`Claim::displaced`], with
    /// [`Cause::TakenOver`](crate::Cause::TakenOver). Otherwise this call does the same as
    /// [`Registry::claim_server`](crate::Registry::claim_server).
    ///
    /// Consistency: linearizable. Cost: one compare-and-swap of the record.
    ///
    /// # Errors
    ///
    /// A new [`ServerIdConflict`] if another binary holds the server-id by now.
    ///
    /// ```
    #[doc = include_str!("docs/wire.in")]
    /// # use switchboard::{Cause, Registry};
    /// let registry = Registry::new();
    /// let stale = registry.claim_server("s", Arc::new(Wire("silent")))?;
    /// let conflict = registry.claim_server("s", Arc::new(Wire("fresh"))).unwrap_err();
    /// let mut claim = conflict.take_over()?;
    /// let out = claim.take_displaced().expect("the silent one is out");
    /// assert_eq!(out.cause, Cause::TakenOver);
    /// assert!(!stale.is_current());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn take_over(self) -> Result<Claim<C>, Self> {
        claim::take_over(self)
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
                "no binary holds its server-id; close it, or register it again once one has claimed",
            ),
            Self::AtCapacity(conn) => (
                conn,
                "its server-id has all the phones it may have; close it, or build the registry with a larger `max_phones`",
            ),
            Self::DuplicateConnId(conn) => (
                conn,
                "a phone with this conn-id is registered there; give each connection a conn-id of its own",
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
