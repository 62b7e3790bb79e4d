//! What happened to a server-id, for those who listen.

use std::fmt;
use std::sync::Arc;

use crate::state::cause::Cause;
use crate::state::epoch::Epoch;
use crate::state::record::Record;
use crate::state::status::Status;

/// Orders the states of one server-id: a later state has a larger version.
///
/// Versions of different server-ids mean nothing to each other. A server-id that leaves the registry and
/// comes back goes on with larger versions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Larger than for any earlier time that the server-id was in the registry.
    since: Epoch,
    /// The number of changes since then.
    changes: u64,
}

impl Version {
    pub(crate) fn new(since: Epoch, changes: u64) -> Self {
        Self { since, changes }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.since, self.changes)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Version({self})")
    }
}

/// A change of one server-id, and its state right after it. Read from [`Events`](crate::Events).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Event {
    /// The server-id that changed.
    pub server_id: Arc<str>,
    /// The version of the state after the change.
    pub version: Version,
    /// What happened.
    pub change: Change,
    /// The claim that holds the server-id. If the change ended a tenure, this is the claim that held it.
    /// `None` if the server-id was vacant before and after.
    pub epoch: Option<Epoch>,
    /// The status after the change. `None` if the server-id has left the registry.
    pub status: Option<Status>,
    /// The number of phones after the change.
    pub phones: usize,
}

/// The kind of an [`Event`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Change {
    /// A binary claimed the server-id.
    Claimed {
        /// Why the connections that were there before were displaced. `None` if none were.
        displaced: Option<Cause>,
    },
    /// The server-id was released. Its phones stay. With
    /// [`Orphans::Displace`](crate::Orphans::Displace), a later event says that they were displaced.
    Released,
    /// A grace began, or its deadline moved.
    GraceArmed,
    /// The binary and all phones were displaced. If the server-id was vacant, there were only phones.
    Displaced(Cause),
    /// A phone was registered.
    PhoneRegistered {
        /// The phone's conn-id.
        conn_id: Arc<str>,
    },
    /// A phone was unregistered.
    PhoneUnregistered {
        /// The phone's conn-id.
        conn_id: Arc<str>,
    },
}

/// The change that a call attempts. Becomes a [`Change`] if somebody listens.
#[derive(Clone, Copy)]
pub(crate) enum Attempt<'a> {
    Claim,
    Vacate,
    Grace,
    Expire,
    Displace(Cause),
    /// The bytes of a conn-id: only a listener needs it as a string.
    Register(&'a [u8]),
    Unregister(&'a [u8]),
}

impl Event {
    pub(crate) fn new<C: ?Sized>(
        server_id: &str,
        since: Epoch,
        attempt: Attempt<'_>,
        before: &Record<C>,
        after: Option<&Record<C>>,
    ) -> Self {
        let epoch = |record: &Record<C>| Some(record.tenure.as_ref()?.epoch);
        Self {
            server_id: server_id.into(),
            version: Version::new(since, before.changes + 1),
            change: attempt.change(before),
            epoch: after.and_then(epoch).or_else(|| epoch(before)),
            status: after.map(Record::status),
            phones: after.map_or(0, |after| after.phones.len()),
        }
    }

    /// The claim of a server-id that was not in the registry.
    pub(crate) fn of_first_claim(server_id: &str, since: Epoch, epoch: Epoch) -> Self {
        Self {
            server_id: server_id.into(),
            version: Version::new(since, 0),
            change: Change::Claimed { displaced: None },
            epoch: Some(epoch),
            status: Some(Status::Held),
            phones: 0,
        }
    }

    /// The memory that the names take, in bytes.
    pub(crate) fn names(&self) -> usize {
        let conn_id = match &self.change {
            Change::PhoneRegistered { conn_id } | Change::PhoneUnregistered { conn_id } => {
                conn_id.len()
            }
            _ => 0,
        };
        self.server_id.len() + conn_id
    }
}

impl Attempt<'_> {
    fn change<C: ?Sized>(self, before: &Record<C>) -> Change {
        match self {
            Self::Claim => Change::Claimed {
                displaced: before.displaced_by_a_claim(),
            },
            Self::Vacate => Change::Released,
            Self::Grace => Change::GraceArmed,
            Self::Expire => Change::Displaced(before.cause_of_expiry()),
            Self::Displace(cause) => Change::Displaced(cause),
            Self::Register(conn_id) => Change::PhoneRegistered {
                conn_id: String::from_utf8_lossy(conn_id).into(),
            },
            Self::Unregister(conn_id) => Change::PhoneUnregistered {
                conn_id: String::from_utf8_lossy(conn_id).into(),
            },
        }
    }
}
