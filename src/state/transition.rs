//! The transitions of a record: pure functions from a record to a decision.
//!
//! [`Slot::apply`](crate::store::slot::Slot::apply) calls one, possibly several times, and installs the
//! record that it decided on.

use std::time::Instant;

use crate::state::cause::Cause;
use crate::state::epoch::Epoch;
use crate::state::kept::Kept;
use crate::state::phone_list::{Phone, PhoneList};
use crate::state::record::{Grace, Record, Tenure};
use crate::state::shared::Shared;

/// The next record (`None` retires the slot) and a result, or a refusal, which changes nothing.
pub(crate) type Decision<C, T, E> = Result<(Option<Shared<Record<C>>>, T), E>;

/// The record does not hold what the caller wants to change.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotHeld;

/// Why a claim was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConflictKind {
    /// Another binary holds the server-id and has not gone away.
    Held,
    /// The server-id is in grace, and the condition of
    /// [`claim_server_if`](crate::Registry::claim_server_if) returned `false`.
    ReclaimDenied,
}

/// A claim that succeeded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Claimed {
    pub(crate) epoch: Epoch,
    /// Why everything in the old record was displaced. `None` if its phones stay.
    pub(crate) displaced: Option<Cause>,
}

/// The reason why a phone was not added.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    NoServer,
    AtCapacity,
    DuplicateConnId,
}

/// The tenures that an operation may change or end.
#[derive(Clone, Copy)]
pub(crate) enum Whose {
    /// Any tenure.
    Anyone,
    /// The tenure of this claim.
    Claim(Epoch),
    /// The tenure of this claim, unless it is already in grace.
    Present(Epoch),
}

impl Whose {
    fn admits<C: ?Sized>(self, tenure: &Tenure<C>, in_grace: bool) -> bool {
        match self {
            Self::Anyone => true,
            Self::Claim(epoch) => tenure.epoch == epoch,
            Self::Present(epoch) => tenure.epoch == epoch && !in_grace,
        }
    }

    pub(crate) fn admitted<C: ?Sized>(self, record: &Record<C>) -> Result<&Tenure<C>, NotHeld> {
        match &record.tenure {
            Some(tenure) if self.admits(tenure, record.grace.is_some()) => Ok(tenure),
            _ => Err(NotHeld),
        }
    }
}

/// Makes the server-id held. If it was vacant, its phones stay, unless they wait to be displaced. If it was
/// in grace, the old binary and all phones are displaced, provided that `may_reclaim`. Draws the epoch only
/// for a claim that succeeds.
pub(crate) fn claim<C: ?Sized>(
    record: &Record<C>,
    binary: &Kept<C>,
    draw: impl FnOnce() -> Epoch,
    may_reclaim: impl FnOnce() -> bool,
) -> Decision<C, Claimed, ConflictKind> {
    if record.tenure.is_some() {
        let kind = match &record.grace {
            None => Some(ConflictKind::Held),
            Some(_) => (!may_reclaim()).then_some(ConflictKind::ReclaimDenied),
        };
        if let Some(kind) = kind {
            return Err(kind);
        }
    }
    Ok(admit(record, binary, draw()))
}

/// Like [`claim`], but also displaces the incumbent that the caller has seen.
pub(crate) fn take_over<C: ?Sized>(
    record: &Record<C>,
    incumbent: Epoch,
    binary: &Kept<C>,
    draw: impl FnOnce() -> Epoch,
    may_reclaim: impl FnOnce() -> bool,
) -> Decision<C, Claimed, ConflictKind> {
    match Whose::Present(incumbent).admitted(record) {
        Ok(_) => Ok(admit(record, binary, draw())),
        Err(NotHeld) => claim(record, binary, draw, may_reclaim),
    }
}

fn admit<C: ?Sized>(
    record: &Record<C>,
    binary: &Kept<C>,
    epoch: Epoch,
) -> (Option<Shared<Record<C>>>, Claimed) {
    let displaced = record.displaced_by_a_claim();
    let (phones, removals) = match displaced {
        None => (record.phones.clone(), record.removals),
        Some(_) => (PhoneList::new(), record.removals + 1),
    };
    let held = Record {
        tenure: Some(Tenure {
            binary: binary.clone(),
            epoch,
        }),
        grace: None,
        phones,
        removals,
        changes: record.changes + 1,
    };
    (Some(Shared::new(held)), Claimed { epoch, displaced })
}

/// A grace, or the earlier one of this record with another deadline: then it keeps its `began`.
fn continuing<C: ?Sized>(record: &Record<C>, grace: Grace) -> Shared<Grace> {
    let earlier = record.grace.as_ref();
    let began = earlier.map_or(grace.began, |earlier| earlier.began);
    Shared::new(Grace { began, ..grace })
}

/// Makes the server-id vacant. The phones stay. With `leave`, they stay only until its deadline or the next
/// claim: an `expire` that would have ended the grace displaces them.
pub(crate) fn release<C: ?Sized>(
    record: &Record<C>,
    whose: Whose,
    leave: Option<Grace>,
) -> Decision<C, (), NotHeld> {
    whose.admitted(record)?;
    let vacant = Record {
        tenure: None,
        grace: leave.map(|leave| continuing(record, leave)),
        phones: record.phones.clone(),
        removals: record.removals,
        changes: record.changes + 1,
    };
    Ok((unless_empty(vacant), ()))
}

/// Begins a grace, or re-arms it. A re-armed grace keeps its `began`. The phones stay.
pub(crate) fn grace<C: ?Sized>(
    record: &Record<C>,
    whose: Whose,
    grace: Grace,
) -> Decision<C, (), NotHeld> {
    let tenure = whose.admitted(record)?;
    let waiting = Record {
        tenure: Some(tenure.clone()),
        grace: Some(continuing(record, grace)),
        phones: record.phones.clone(),
        removals: record.removals,
        changes: record.changes + 1,
    };
    Ok((Some(Shared::new(waiting)), ()))
}

/// Removes the binary and all phones if the grace is over and `began` is smaller than `newer`. Only the
/// deadline in the record counts: the entry of the queue that led here may be out of date. Also removes
/// phones that a release left to be displaced.
pub(crate) fn expire<C: ?Sized>(
    record: &Record<C>,
    now: Instant,
    newer: u64,
) -> Decision<C, Cause, NotHeld> {
    match record.armed_grace() {
        Some(grace) if grace.deadline <= now && grace.began < newer => {
            Ok((None, record.cause_of_expiry()))
        }
        _ => Err(NotHeld),
    }
}

/// Removes the binary and all phones. `Whose::Anyone` also evicts the phones of a vacant server-id.
pub(crate) fn evict<C: ?Sized>(record: &Record<C>, whose: Whose) -> Decision<C, (), NotHeld> {
    if !matches!(whose, Whose::Anyone) {
        whose.admitted(record)?;
    }
    Ok((None, ()))
}

/// Adds a phone. The result is the removal count at which it was added.
pub(crate) fn register<C: ?Sized>(
    record: &Record<C>,
    max_phones: usize,
    phone: &Phone<C>,
) -> Decision<C, u64, Refusal> {
    let Some(tenure) = &record.tenure else {
        return Err(Refusal::NoServer);
    };
    if record.phones.len() >= max_phones {
        return Err(Refusal::AtCapacity);
    }
    if record.phones.has_namesake(phone) {
        return Err(Refusal::DuplicateConnId);
    }
    let larger = Record {
        tenure: Some(tenure.clone()),
        grace: record.grace.clone(),
        phones: record.phones.with(phone),
        removals: record.removals,
        changes: record.changes + 1,
    };
    Ok((Some(Shared::new(larger)), record.removals))
}

/// Removes this registration for its own membership. The removal count stays the same, so the memberships of
/// other phones need not search.
pub(crate) fn leave<C: ?Sized>(record: &Record<C>, phone: &Phone<C>) -> Decision<C, (), NotHeld> {
    if record.phones.contains(phone) {
        Ok((without(record, phone, record.removals), ()))
    } else {
        Err(NotHeld)
    }
}

/// Removes the phone with this conn-id, and counts a removal.
pub(crate) fn unregister<C: ?Sized>(
    record: &Record<C>,
    conn_id: &str,
) -> Decision<C, Kept<C>, NotHeld> {
    let phone = record.phones.get(conn_id).ok_or(NotHeld)?;
    let conn = phone.conn().clone();
    Ok((without(record, phone, record.removals + 1), conn))
}

fn without<C: ?Sized>(
    record: &Record<C>,
    phone: &Phone<C>,
    removals: u64,
) -> Option<Shared<Record<C>>> {
    unless_empty(Record {
        tenure: record.tenure.clone(),
        grace: record.grace.clone(),
        phones: record.phones.without(phone),
        removals,
        changes: record.changes + 1,
    })
}

fn unless_empty<C: ?Sized>(record: Record<C>) -> Option<Shared<Record<C>>> {
    (record.tenure.is_some() || record.phones.len() > 0).then(|| Shared::new(record))
}

#[cfg(test)]
mod tests;
