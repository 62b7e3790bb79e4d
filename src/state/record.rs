//! The state of one server-id at one instant. A record is never changed, only replaced.

use std::time::Instant;

use crate::state::cause::Cause;
use crate::state::epoch::Epoch;
use crate::state::kept::Kept;
use crate::state::phone_list::PhoneList;
use crate::state::shared::Shared;
use crate::state::status::Status;

/// The holder of a server-id, and the phones that belong to it.
///
/// A record with neither is never stored: the slot is retired instead.
pub(crate) struct Record<C: ?Sized> {
    /// `None` while the server-id is vacant: nobody holds it, but phones of an earlier tenure remain.
    pub(crate) tenure: Option<Tenure<C>>,
    /// `Some` once the binary has gone away. In a vacant record: the phones wait to be displaced.
    pub(crate) grace: Option<Shared<Grace>>,
    pub(crate) phones: PhoneList<C>,
    /// The number of times that phones were removed by anything but their own `Membership`. While it stays
    /// the same, every membership knows without a search that its phone is registered.
    pub(crate) removals: u64,
    /// The number of changes since the slot was created. No two records of a slot have the same number.
    pub(crate) changes: u64,
}

/// The claim that holds the server-id, and its binary.
pub(crate) struct Tenure<C: ?Sized> {
    pub(crate) binary: Kept<C>,
    pub(crate) epoch: Epoch,
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
            tenure: Some(Tenure { binary, epoch }),
            grace: None,
            phones: PhoneList::new(),
            removals: 0,
            changes: 0,
        }
    }

    pub(crate) fn held_by(&self, epoch: Epoch) -> bool {
        self.tenure
            .as_ref()
            .is_some_and(|tenure| tenure.epoch == epoch)
    }

    pub(crate) fn is_held(&self) -> bool {
        self.tenure.is_some() && self.grace.is_none()
    }

    pub(crate) fn is_in_grace(&self) -> bool {
        self.tenure.is_some() && self.grace.is_some()
    }

    /// The grace, or the wait of displaced phones, if it ends by itself.
    pub(crate) fn armed_grace(&self) -> Option<Grace> {
        let grace = **self.grace.as_ref()?;
        grace.arming.is_some().then_some(grace)
    }

    /// Why a claim that succeeds displaces what this record holds. `None` if it displaces nothing.
    pub(crate) fn displaced_by_a_claim(&self) -> Option<Cause> {
        match (&self.tenure, &self.grace) {
            (Some(_), None) => Some(Cause::TakenOver),
            (Some(_), Some(_)) => Some(Cause::Reclaimed),
            (None, Some(_)) => Some(Cause::Released),
            (None, None) => None,
        }
    }

    /// Why the end of its grace displaces what this record holds.
    pub(crate) fn cause_of_expiry(&self) -> Cause {
        match self.tenure {
            Some(_) => Cause::Expired,
            None => Cause::Released,
        }
    }

    pub(crate) fn status(&self) -> Status {
        match (&self.tenure, &self.grace) {
            (None, _) => Status::Vacant,
            (Some(_), None) => Status::Held,
            (Some(_), Some(grace)) => Status::Grace {
                deadline: grace.deadline,
            },
        }
    }
}

impl<C: ?Sized> Clone for Tenure<C> {
    fn clone(&self) -> Self {
        Self {
            binary: self.binary.clone(),
            epoch: self.epoch,
        }
    }
}
