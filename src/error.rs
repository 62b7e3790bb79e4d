use std::fmt;
use std::sync::Arc;

use crate::conn::Conn;
use crate::state::epoch::Epoch;
use crate::state::kept::Kept;
use crate::state::name::Name;
use crate::state::record::Tenure;
use crate::state::transition::ConflictKind;
use crate::store::Store;
use crate::store::slot::Snapshot;

/// Another binary holds the server-id. Nothing has changed, and this error holds the rejected connection.
///
/// The error keeps the whole registry alive, and everything that belonged to the server-id at the instant of
/// the refusal: the incumbent and all phones, including phones that have left since. So don't keep it for
/// long. Its [`kind`](Self::kind) decides what
/// to do:
///
/// - [`ConflictKind::Held`]: close the rejected connection. Or find out whether the incumbent is still alive
///   and, if it is not, call [`take_over`](Self::take_over).
/// - [`ConflictKind::ReclaimDenied`]: close the rejected connection. It may claim the server-id once the
///   grace has ended. Don't call [`take_over`](Self::take_over): it does not ask the condition.
///
/// ```
#[doc = include_str!("docs/wire.in")]
/// # use switchboard::Registry;
/// let registry = Registry::new();
/// let _claim = registry.claim_server("s", Arc::new(Wire("b")))?;
/// let conflict = registry.claim_server("s", Arc::new(Wire("b2"))).unwrap_err();
/// assert_eq!(conflict.to_string(), r#"server-id "s" is already claimed"#);
/// conflict.take_over()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(thiserror::Error)]
pub struct ServerIdConflict<C: ?Sized> {
    pub(crate) store: Arc<Store<C>>,
    pub(crate) hash: u64,
    pub(crate) server_id: Name,
    /// The record that the refusal was based on. It holds the incumbent, to whose reference count a refusal
    /// does not write: it is likely to be in no cache.
    pub(crate) record: Snapshot<C>,
    pub(crate) kind: ConflictKind,
    pub(crate) conn: Kept<C>,
}

impl<C: ?Sized> ServerIdConflict<C> {
    /// The contested server-id.
    #[must_use]
    pub fn server_id(&self) -> &str {
        &self.server_id
    }

    /// The binary that held the server-id at the instant of the refusal.
    #[must_use]
    pub fn incumbent(&self) -> &Arc<C> {
        &self.tenure().binary
    }

    /// The epoch of the incumbent's claim.
    #[must_use]
    pub fn incumbent_epoch(&self) -> Epoch {
        self.tenure().epoch
    }

    fn tenure(&self) -> &Tenure<C> {
        let tenure = self.record.get().and_then(|record| record.tenure.as_ref());
        tenure.expect("a record never changes, and an incumbent held this one")
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
        let why = match self.kind {
            ConflictKind::Held => "already claimed",
            ConflictKind::ReclaimDenied => "in grace, and the condition refused the reclaim",
        };
        write!(f, "server-id {:?} is {why}", self.server_id())
    }
}

impl<C: ?Sized> fmt::Debug for ServerIdConflict<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerIdConflict")
            .field("server_id", &self.server_id())
            .field("incumbent_epoch", &self.incumbent_epoch())
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// The reason why a phone was not registered. Nothing has changed, and this error holds the rejected
/// connection.
///
/// If several reasons apply, the first in the order of the variants is reported.
///
/// ```
#[doc = include_str!("docs/wire.in")]
/// # use switchboard::{RegisterErrorKind, Registry};
/// let registry = Registry::new();
/// let refused = registry.register_phone("s", Arc::new(Wire("p"))).unwrap_err();
/// assert_eq!(refused.kind(), RegisterErrorKind::NoServer);
/// assert_eq!(refused.conn().0, "p");
/// assert_eq!(
///     refused.to_string(),
///     r#"phone "p" was not registered: no binary holds its server-id"#
/// );
/// ```
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError<C: ?Sized> {
    /// No binary holds the server-id. Close the phone, or register it again once a binary has claimed the
    /// server-id: [`wait_for_binary`](crate::Registry::wait_for_binary) waits for that.
    NoServer(Arc<C>),
    /// The server-id has as many phones as [`Builder::max_phones`](crate::Builder::max_phones) allows, or as
    /// the cap of [`register_phone_with_cap`](crate::Registry::register_phone_with_cap) does. Close the
    /// phone, or raise that cap.
    AtCapacity(Arc<C>),
    /// A phone with the same conn-id is registered under the server-id. Give each connection a conn-id of its
    /// own. If this is the same phone on a new socket, unregister the old one first.
    DuplicateConnId(Arc<C>),
}

/// The kind of a [`RegisterError`], without the connection. Its message is the reason alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RegisterErrorKind {
    /// See [`RegisterError::NoServer`].
    NoServer,
    /// See [`RegisterError::AtCapacity`].
    AtCapacity,
    /// See [`RegisterError::DuplicateConnId`].
    DuplicateConnId,
}

impl<C: ?Sized> RegisterError<C> {
    /// The kind of this error.
    #[must_use]
    pub fn kind(&self) -> RegisterErrorKind {
        match self {
            Self::NoServer(_) => RegisterErrorKind::NoServer,
            Self::AtCapacity(_) => RegisterErrorKind::AtCapacity,
            Self::DuplicateConnId(_) => RegisterErrorKind::DuplicateConnId,
        }
    }

    /// The rejected connection.
    #[must_use]
    pub fn conn(&self) -> &Arc<C> {
        match self {
            Self::NoServer(conn) | Self::AtCapacity(conn) | Self::DuplicateConnId(conn) => conn,
        }
    }

    /// Returns the rejected connection.
    #[must_use]
    pub fn into_conn(self) -> Arc<C> {
        match self {
            Self::NoServer(conn) | Self::AtCapacity(conn) | Self::DuplicateConnId(conn) => conn,
        }
    }
}

impl fmt::Display for RegisterErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoServer => "no binary holds its server-id",
            Self::AtCapacity => "its server-id has as many phones as allowed",
            Self::DuplicateConnId => "its conn-id is already registered under the server-id",
        })
    }
}

impl<C: Conn + ?Sized> fmt::Display for RegisterError<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (conn_id, why) = (self.conn().conn_id(), self.kind());
        write!(f, "phone {conn_id:?} was not registered: {why}")
    }
}

/// Shows the kind and the reason. The conn-id is in the message: only a [`Conn`] has one, and this requires
/// nothing of the connection.
impl<C: ?Sized> fmt::Debug for RegisterError<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisterError")
            .field("kind", &self.kind())
            .field("reason", &self.kind().to_string())
            .finish_non_exhaustive()
    }
}
