//! Recorded calls, and how the model explains each of them.

use std::time::{Duration, Instant};

use switchboard::{
    Cause, Change, Claim, ConflictKind, Conn, Displaced, Orphans, Phones, Registry,
    ServerIdConflict, Status,
};

use super::linearizability::Sequential;
use super::model::{self, Conflict, MayReclaim, Phone, Phones as Known, Refusal, Server, Tenure};
use super::{Wire, at};

/// Deadlines of the model. `expire` runs at `NOW`: it ends a grace with the deadline `OVER`, and leaves one
/// with the deadline `LATER`.
pub const OVER: u64 = 0;
pub const NOW: u64 = 1;
pub const LATER: u64 = 2;

pub fn duration(deadline: u64) -> Duration {
    match deadline {
        OVER => Duration::ZERO,
        _ => Duration::from_secs(3600),
    }
}

pub fn until(deadline: u64) -> Instant {
    Instant::now() + duration(deadline)
}

/// A call with its result.
#[derive(Clone, Debug)]
pub enum Call {
    Claim {
        claim: u32,
        may_reclaim: MayReclaim,
        result: Result<Option<model::Displaced>, Conflict>,
    },
    TakeOver {
        incumbent: u32,
        claim: u32,
        may_reclaim: MayReclaim,
        result: Result<Option<model::Displaced>, Conflict>,
    },
    ReleaseServer(bool),
    ReleaseClaim {
        claim: u32,
        done: bool,
    },
    ReleaseAfter {
        claim: u32,
        deadline: u64,
        done: bool,
    },
    /// The deadline comes from the grace with which the registry was built.
    DropClaim {
        claim: u32,
        deadline: Option<u64>,
    },
    Evict {
        claim: Option<u32>,
        out: Option<model::Displaced>,
    },
    Drain(Option<model::Displaced>),
    Expire(Option<model::Displaced>),
    Register {
        phone: Phone,
        max_phones: usize,
        result: Result<(), Refusal>,
    },
    Unregister {
        conn_id: u16,
        out: Option<Phone>,
    },
    Leave {
        phone: Phone,
        done: bool,
    },
    DropMembership {
        phone: Phone,
    },
    IsCurrent {
        claim: u32,
        current: bool,
    },
    PhonesOf {
        claim: u32,
        phones: Known,
    },
    PhoneOf {
        claim: u32,
        conn_id: u16,
        phone: Option<Phone>,
    },
    BinaryFor(Option<u32>),
    PhonesFor(Known),
    PhoneFor {
        conn_id: u16,
        phone: Option<Phone>,
    },
    IsRegistered {
        phone: Phone,
        registered: bool,
    },
    /// Seen by a membership or a route.
    BinaryOf {
        phone: Phone,
        binary: Option<u32>,
    },
    /// Seen by a wait for a binary that is polled once.
    PresentBinary(Option<u32>),
    Contains(bool),
    /// `server()`, or the entry in `servers()`.
    Look(Server),
}

impl Sequential for Server {
    type Call = Call;

    fn step(&self, call: &Call) -> Option<Self> {
        let mut next = self.clone();
        let binary = |server: &Self| server.tenure.map(|tenure| tenure.claim);
        let explained = match call {
            Call::Claim {
                claim,
                may_reclaim,
                result,
            } => next.claim(*claim, *may_reclaim) == *result,
            Call::TakeOver {
                incumbent,
                claim,
                may_reclaim,
                result,
            } => next.take_over(*incumbent, *claim, *may_reclaim) == *result,
            Call::ReleaseServer(done) => next.release(None) == *done,
            Call::ReleaseClaim { claim, done } => next.release(Some(*claim)) == *done,
            Call::ReleaseAfter {
                claim,
                deadline,
                done,
            } => next.release_after(*claim, *deadline) == *done,
            Call::DropClaim { claim, deadline } => {
                next.drop_claim(*claim, *deadline);
                true
            }
            Call::Evict { claim, out } => next.evict(*claim, model::Cause::Evicted) == *out,
            Call::Drain(out) => next.evict(None, model::Cause::Drained) == *out,
            Call::Expire(out) => next.expire(NOW) == *out,
            Call::Register {
                phone,
                max_phones,
                result,
            } => next.register(*phone, *max_phones) == *result,
            Call::Unregister { conn_id, out } => next.unregister(*conn_id) == *out,
            Call::Leave { phone, done } => next.leave(*phone) == *done,
            Call::DropMembership { phone } => {
                next.leave(*phone);
                true
            }
            Call::IsCurrent { claim, current } => next.is_current(*claim) == *current,
            Call::PhonesOf { claim, phones } => {
                let visible = Some(&next.phones).filter(|_| next.is_current(*claim));
                visible.unwrap_or(&Known::default()) == phones
            }
            Call::PhoneOf {
                claim,
                conn_id,
                phone,
            } => {
                let visible = next.phone(*conn_id).filter(|_| next.is_current(*claim));
                visible == *phone
            }
            Call::BinaryFor(found) => binary(&next) == *found,
            Call::PhonesFor(phones) => next.phones == *phones,
            Call::PhoneFor { conn_id, phone } => next.phone(*conn_id) == *phone,
            Call::IsRegistered { phone, registered } => next.phones.has(*phone) == *registered,
            Call::BinaryOf {
                phone,
                binary: found,
            } => {
                let registered = next.phones.has(*phone);
                binary(&next).filter(|_| registered) == *found
            }
            Call::PresentBinary(found) => next.present_binary() == *found,
            Call::Contains(contained) => next.is_gone() != *contained,
            Call::Look(seen) => next == *seen,
        };
        explained.then_some(next)
    }
}

pub fn phone(wire: &Wire) -> Phone {
    Phone {
        conn_id: wire.conn_id().parse().unwrap(),
        number: wire.label,
    }
}

pub fn phones(snapshot: &Phones<Wire>) -> Known {
    assert_eq!(snapshot.iter().count(), snapshot.len());
    snapshot.iter().map(|wire| phone(wire)).collect()
}

pub fn cause(cause: Cause) -> model::Cause {
    match cause {
        Cause::Reclaimed => model::Cause::Reclaimed,
        Cause::TakenOver => model::Cause::TakenOver,
        Cause::Expired => model::Cause::Expired,
        Cause::Released => model::Cause::Released,
        Cause::Evicted => model::Cause::Evicted,
        Cause::Drained => model::Cause::Drained,
        other => panic!("a cause unknown to the model: {other:?}"),
    }
}

pub fn displaced(out: &Displaced<Wire>) -> model::Displaced {
    model::Displaced {
        claim: out.binary.as_ref().map(|wire| wire.label),
        phones: phones(&out.phones),
        cause: cause(out.cause),
    }
}

pub fn change(told: &Change) -> model::Change {
    let conn_id = |conn_id: &str| conn_id.parse().unwrap();
    match told {
        Change::Claimed { displaced } => model::Change::Claimed(displaced.map(cause)),
        Change::Released => model::Change::Released,
        Change::GraceArmed => model::Change::GraceArmed,
        Change::Displaced(why) => model::Change::Displaced(cause(*why)),
        Change::PhoneRegistered { conn_id: id } => model::Change::PhoneRegistered(conn_id(id)),
        Change::PhoneUnregistered { conn_id: id } => model::Change::PhoneUnregistered(conn_id(id)),
        other => panic!("a change unknown to the model: {other:?}"),
    }
}

/// The result of `server()`: binary, status and phones at one instant.
pub fn look(registry: &Registry<Wire>, server_id: &str, orphans: Orphans) -> Server {
    seen(registry.server(server_id).as_ref(), orphans)
}

pub fn seen(server: Option<&switchboard::Server<Wire>>, orphans: Orphans) -> Server {
    let Some(server) = server else {
        return Server::new(orphans);
    };
    let soon = at(1800);
    Server {
        tenure: server.binary().map(|binary| Tenure {
            claim: binary.label,
            deadline: match server.status() {
                Status::Grace { deadline } if deadline > soon => Some(LATER),
                Status::Grace { .. } => Some(OVER),
                Status::Held | Status::Vacant => None,
            },
        }),
        phones: phones(&server.phones()),
        orphans,
    }
}

/// The result of a claim: the displaced connections, or the conflict.
pub fn claim_outcome(
    result: &Result<Claim<Wire>, ServerIdConflict<Wire>>,
) -> Result<Option<model::Displaced>, Conflict> {
    match result {
        Ok(claim) => Ok(claim.displaced().map(displaced)),
        Err(conflict) => Err(Conflict {
            incumbent: conflict.incumbent().label,
            denied: conflict.kind() == ConflictKind::ReclaimDenied,
        }),
    }
}
