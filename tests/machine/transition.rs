//! `src/state/transition.rs` on the model's records.

use crate::model::Fault;
use crate::state::{Epoch, Grace, Key, Phone, Record, Tenure};

/// `transition::Whose`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Whose {
    Anyone,
    Claim(Epoch),
    Present(Epoch),
}

impl Whose {
    pub(crate) fn epoch(self) -> Option<Epoch> {
        match self {
            Self::Anyone => None,
            Self::Claim(epoch) | Self::Present(epoch) => Some(epoch),
        }
    }

    pub(crate) fn tenure(self, record: Record, fault: Option<Fault>) -> Option<Tenure> {
        let any_epoch = fault == Some(Fault::AnyEpoch);
        record.tenure.filter(|tenure| match self {
            Self::Anyone => true,
            Self::Claim(epoch) => any_epoch || tenure.epoch == epoch,
            Self::Present(epoch) => (any_epoch || tenure.epoch == epoch) && tenure.grace.is_none(),
        })
    }
}

/// `transition::Decision`: the next record, if any, or a refusal.
pub(crate) type Decision = Result<Option<Record>, Refused>;

pub(crate) struct Refused;

/// The operation passed to `Slot::apply`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    Claim { epoch: Epoch, insist: Insist },
    TakeOver { epoch: Epoch, incumbent: Epoch },
    Release { whose: Whose },
    Grace { whose: Whose, key: Key },
    Expire { newer: u8, met: Key },
    Evict,
    Register { phone: Phone },
    Leave { phone: Phone },
}

/// Whether a claim that meets an incumbent calls `ServerIdConflict::take_over`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Insist {
    No,
    Yes,
    /// It already has, and found no live slot. A take-over whose incumbent is gone is a claim.
    HasDone,
}

impl Op {
    pub(crate) fn whose(self) -> Whose {
        match self {
            Self::Release { whose } | Self::Grace { whose, .. } => whose,
            _ => Whose::Anyone,
        }
    }

    pub(crate) fn decide(self, record: Record, fault: Option<Fault>) -> Decision {
        match self {
            Self::Claim { epoch, .. } => claim(record, epoch),
            Self::TakeOver { epoch, incumbent } => {
                match Whose::Present(incumbent).tenure(record, fault) {
                    Some(_) => Ok(Some(Record::held(epoch))),
                    None => claim(record, epoch),
                }
            }
            Self::Release { whose } => {
                whose.tenure(record, fault).ok_or(Refused)?;
                let tenure = None;
                Ok(unless_empty(Record { tenure, ..record }))
            }
            Self::Grace { whose, key } => {
                let tenure = whose.tenure(record, fault).ok_or(Refused)?;
                let began = match tenure.grace {
                    Some(grace) if fault != Some(Fault::BeginsAnew) => grace.began,
                    _ => key.arming,
                };
                let grace = Some(Grace { key, began });
                let tenure = Some(Tenure { grace, ..tenure });
                Ok(Some(Record { tenure, ..record }))
            }
            Self::Expire { newer, .. } => {
                let over = record.grace().filter(|_| record.is_over());
                let grace = over.ok_or(Refused)?;
                let old = grace.began < newer || fault == Some(Fault::TakesNewGraces);
                old.then_some(None).ok_or(Refused)
            }
            Self::Evict => Ok(None),
            Self::Register { phone } => {
                record.tenure.ok_or(Refused)?;
                let phones = record.phones | (1 << phone);
                Ok(Some(Record { phones, ..record }))
            }
            Self::Leave { phone } => {
                let phones = record.phones & !(1 << phone);
                let without = Record { phones, ..record };
                record
                    .has(phone)
                    .then_some(unless_empty(without))
                    .ok_or(Refused)
            }
        }
    }
}

fn claim(record: Record, epoch: Epoch) -> Decision {
    let phones = match record.tenure {
        None => record.phones,
        Some(tenure) => {
            tenure.grace.ok_or(Refused)?;
            0
        }
    };
    Ok(Some(Record {
        phones,
        ..Record::held(epoch)
    }))
}

fn unless_empty(record: Record) -> Option<Record> {
    (record != Record::default()).then_some(record)
}
