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

/// The claim that already holds the server-id.
pub(crate) struct Conflict<C: ?Sized> {
    pub(crate) incumbent: Kept<C>,
    pub(crate) epoch: Epoch,
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
    fn admits<C: ?Sized>(self, tenure: &Tenure<C>) -> bool {
        match self {
            Self::Anyone => true,
            Self::Claim(epoch) => tenure.epoch == epoch,
            Self::Present(epoch) => tenure.epoch == epoch && tenure.grace.is_none(),
        }
    }

    pub(crate) fn admitted<C: ?Sized>(self, record: &Record<C>) -> Result<&Tenure<C>, NotHeld> {
        match &record.tenure {
            Some(tenure) if self.admits(tenure) => Ok(tenure),
            _ => Err(NotHeld),
        }
    }
}

/// Makes the server-id held. If it was vacant, its phones stay. If it was in grace, the old binary and all
/// phones are displaced.
pub(crate) fn claim<C: ?Sized>(
    record: &Record<C>,
    binary: &Kept<C>,
    epoch: Epoch,
) -> Decision<C, Option<Cause>, Conflict<C>> {
    match &record.tenure {
        None => Ok((
            Some(Shared::new(Record {
                tenure: Some(Tenure::held(binary.clone(), epoch)),
                phones: record.phones.clone(),
                removals: record.removals,
            })),
            None,
        )),
        Some(tenure) if tenure.grace.is_some() => Ok((
            Some(displace(record, binary, epoch)),
            Some(Cause::Reclaimed),
        )),
        Some(tenure) => Err(Conflict {
            incumbent: tenure.binary.clone(),
            epoch: tenure.epoch,
        }),
    }
}

/// Like [`claim`], but also displaces the incumbent that the caller has seen.
pub(crate) fn take_over<C: ?Sized>(
    record: &Record<C>,
    incumbent: Epoch,
    binary: &Kept<C>,
    epoch: Epoch,
) -> Decision<C, Option<Cause>, Conflict<C>> {
    match Whose::Present(incumbent).admitted(record) {
        Ok(_) => Ok((
            Some(displace(record, binary, epoch)),
            Some(Cause::TakenOver),
        )),
        Err(NotHeld) => claim(record, binary, epoch),
    }
}

fn displace<C: ?Sized>(record: &Record<C>, binary: &Kept<C>, epoch: Epoch) -> Shared<Record<C>> {
    Shared::new(Record {
        tenure: Some(Tenure::held(binary.clone(), epoch)),
        phones: PhoneList::new(),
        removals: record.removals + 1,
    })
}

/// Makes the server-id vacant. The phones stay.
pub(crate) fn release<C: ?Sized>(record: &Record<C>, whose: Whose) -> Decision<C, (), NotHeld> {
    whose.admitted(record)?;
    let vacant = Record {
        tenure: None,
        phones: record.phones.clone(),
        removals: record.removals,
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
    let began = tenure.grace.map_or(grace.began, |earlier| earlier.began);
    let tenure = Tenure {
        grace: Some(Grace { began, ..grace }),
        ..tenure.clone()
    };
    let waiting = Record {
        tenure: Some(tenure),
        phones: record.phones.clone(),
        removals: record.removals,
    };
    Ok((Some(Shared::new(waiting)), ()))
}

/// Removes the binary and all phones if the grace is over and `began` is smaller than `newer`. Only the
/// deadline in the record counts: the entry of the queue that led here may be out of date.
pub(crate) fn expire<C: ?Sized>(
    record: &Record<C>,
    now: Instant,
    newer: u64,
) -> Decision<C, (), NotHeld> {
    match record.armed_grace() {
        Some(grace) if grace.deadline <= now && grace.began < newer => Ok((None, ())),
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
    phone: &Shared<Phone<C>>,
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
        phones: record.phones.with(phone),
        removals: record.removals,
    };
    Ok((Some(Shared::new(larger)), record.removals))
}

/// Removes this registration for its own membership. The removal count stays the same, so the memberships of
/// other phones need not search.
pub(crate) fn leave<C: ?Sized>(
    record: &Record<C>,
    phone: &Shared<Phone<C>>,
) -> Decision<C, (), NotHeld> {
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
    let conn = phone.conn.clone();
    Ok((without(record, phone, record.removals + 1), conn))
}

fn without<C: ?Sized>(
    record: &Record<C>,
    phone: &Shared<Phone<C>>,
    removals: u64,
) -> Option<Shared<Record<C>>> {
    unless_empty(Record {
        tenure: record.tenure.clone(),
        phones: record.phones.without(phone),
        removals,
    })
}

fn unless_empty<C: ?Sized>(record: Record<C>) -> Option<Shared<Record<C>>> {
    (record.tenure.is_some() || record.phones.len() > 0).then(|| Shared::new(record))
}

#[cfg(test)]
mod tests;
