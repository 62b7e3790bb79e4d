//! The state of one server-id at one instant. A record is never changed, only replaced.

use std::time::Instant;

use crate::state::epoch::Epoch;
use crate::state::kept::Kept;
use crate::state::phone_list::PhoneList;

/// The holder of a server-id, and the phones that belong to it.
///
/// A record with neither is never stored: the slot is retired instead.
pub(crate) struct Record<C: ?Sized> {
    /// `None` while the server-id is vacant: nobody holds it, but phones of an earlier tenure remain.
    pub(crate) tenure: Option<Tenure<C>>,
    pub(crate) phones: PhoneList<C>,
    /// The number of times that phones were removed by anything but their own `Membership`. While it stays
    /// the same, every membership knows without a search that its phone is registered.
    pub(crate) removals: u64,
}

/// The state of the claim that holds the server-id.
pub(crate) struct Tenure<C: ?Sized> {
    pub(crate) binary: Kept<C>,
    pub(crate) epoch: Epoch,
    /// `Some` once the binary has gone away.
    pub(crate) grace: Option<Grace>,
}

/// The binary went away. It and its phones stay registered until the deadline, or until the next claim.
///
/// An *arming* sets or moves the deadline of a grace, and draws a fresh number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grace {
    pub(crate) deadline: Instant,
    /// The number of the latest arming. `None` if the deadline is never reached; the queue then has no entry.
    pub(crate) arming: Option<u64>,
    /// The number of the first arming of this grace.
    pub(crate) began: u64,
}

impl<C: ?Sized> Record<C> {
    pub(crate) fn held(binary: Kept<C>, epoch: Epoch) -> Self {
        Self {
            tenure: Some(Tenure::held(binary, epoch)),
            phones: PhoneList::new(),
            removals: 0,
        }
    }

    pub(crate) fn held_by(&self, epoch: Epoch) -> bool {
        self.tenure
            .as_ref()
            .is_some_and(|tenure| tenure.epoch == epoch)
    }

    pub(crate) fn is_in_grace(&self) -> bool {
        let tenure = self.tenure.as_ref();
        tenure.is_some_and(|tenure| tenure.grace.is_some())
    }

    pub(crate) fn armed_grace(&self) -> Option<Grace> {
        self.tenure
            .as_ref()?
            .grace
            .filter(|grace| grace.arming.is_some())
    }
}

impl<C: ?Sized> Tenure<C> {
    pub(crate) fn held(binary: Kept<C>, epoch: Epoch) -> Self {
        Self {
            binary,
            epoch,
            grace: None,
        }
    }
}

impl<C: ?Sized> Clone for Tenure<C> {
    fn clone(&self) -> Self {
        Self {
            binary: self.binary.clone(),
            epoch: self.epoch,
            grace: self.grace,
        }
    }
}
