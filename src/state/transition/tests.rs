//! Every row of the semantics table, without threads: the record goes in, the decision comes out.

use std::time::{Duration, Instant};

use super::*;

mod every_size;

type Wire = &'static str;

fn epochs() -> (Epoch, Epoch) {
    (Epoch::from_number(1), Epoch::from_number(2))
}

fn phone(conn_id: &'static str) -> Phone<Wire> {
    Phone::new(conn_id, Kept::of(conn_id))
}

fn a_grace(arming: u64) -> Grace {
    Grace {
        deadline: Instant::now() + Duration::from_secs(arming),
        arming: Some(arming),
        began: arming,
    }
}

/// A record with one phone, `p`.
fn record(tenure: Option<Tenure<Wire>>) -> Record<Wire> {
    Record {
        tenure,
        grace: None,
        phones: PhoneList::new().with(&phone("p")),
        removals: 5,
        changes: 7,
    }
}

fn vacant() -> Record<Wire> {
    record(None)
}

/// Vacant, with phones that wait to be displaced.
fn leaving(arming: u64) -> Record<Wire> {
    let mut record = vacant();
    record.grace = Some(Shared::new(a_grace(arming)));
    record
}

fn held(epoch: Epoch) -> Record<Wire> {
    record(Some(Tenure {
        binary: Kept::of("b"),
        epoch,
    }))
}

fn in_grace(epoch: Epoch, arming: u64) -> Record<Wire> {
    let mut record = held(epoch);
    record.grace = Some(Shared::new(a_grace(arming)));
    record
}

/// Claims without a condition.
fn claim(
    record: &Record<Wire>,
    binary: &Kept<Wire>,
    epoch: Epoch,
) -> Decision<Wire, Option<Cause>, ConflictKind> {
    let decision = super::claim(record, binary, || epoch, || true)?;
    Ok(displacing(decision, epoch))
}

fn take_over(
    record: &Record<Wire>,
    incumbent: Epoch,
    binary: &Kept<Wire>,
    epoch: Epoch,
) -> Decision<Wire, Option<Cause>, ConflictKind> {
    let decision = super::take_over(record, incumbent, binary, || epoch, || true)?;
    Ok(displacing(decision, epoch))
}

type Next<T> = (Option<Shared<Record<Wire>>>, T);

fn displacing((next, claimed): Next<Claimed>, epoch: Epoch) -> Next<Option<Cause>> {
    assert_eq!(claimed.epoch, epoch);
    (next, claimed.displaced)
}

fn without_phones(mut record: Record<Wire>) -> Record<Wire> {
    record.phones = PhoneList::new();
    record
}

#[allow(clippy::needless_pass_by_value, reason = "a decision is used up")]
fn next<T, E: std::fmt::Debug>(decision: Decision<Wire, T, E>) -> (Record<Wire>, T) {
    let Ok((record, value)) = decision else {
        panic!("refused");
    };
    let record = Shared::try_unwrap(record.expect("the transition does not retire the slot"));
    let Ok(record) = record else {
        panic!("something else refers to the record");
    };
    (record, value)
}

#[allow(clippy::needless_pass_by_value, reason = "a decision is used up")]
fn retires<T, E>(decision: Decision<Wire, T, E>) -> bool {
    matches!(decision, Ok((None, _)))
}

fn binary(record: &Record<Wire>) -> Option<Wire> {
    record.tenure.as_ref().map(|tenure| **tenure.binary)
}

#[test]
fn claim_of_a_vacant_server_id_keeps_the_phones() {
    let (_, epoch) = epochs();
    let (next, cause) = next(claim(&vacant(), &Kept::of("new"), epoch).map_err(drop));
    assert_eq!(cause, None);
    assert_eq!(binary(&next), Some("new"));
    assert!(next.held_by(epoch));
    assert_eq!((next.phones.len(), next.removals), (1, 5));
}

#[test]
fn claim_of_a_held_server_id_is_a_conflict() {
    let (old, epoch) = epochs();
    let decision = claim(&held(old), &Kept::of("new"), epoch);
    assert!(matches!(decision, Err(ConflictKind::Held)));
}

#[test]
fn claim_in_grace_pushes_everybody_out() {
    let (old, epoch) = epochs();
    let (next, cause) = next(claim(&in_grace(old, 1), &Kept::of("new"), epoch).map_err(drop));
    assert_eq!(cause, Some(Cause::Reclaimed));
    assert!(next.held_by(epoch) && next.armed_grace().is_none());
    assert_eq!((next.phones.len(), next.removals), (0, 6));
}

#[test]
fn take_over_pushes_out_only_the_incumbent_that_it_names() {
    let (old, epoch) = epochs();
    let new = Kept::of("new");
    let (next_record, cause) = next(take_over(&held(old), old, &new, epoch).map_err(drop));
    assert_eq!(cause, Some(Cause::TakenOver));
    assert_eq!((next_record.phones.len(), next_record.removals), (0, 6));

    let stranger = Epoch::from_number(3);
    let refused = take_over(&held(stranger), old, &new, epoch);
    assert!(matches!(refused, Err(ConflictKind::Held)));

    for holder in [old, stranger] {
        let (_, cause) = next(take_over(&in_grace(holder, 1), old, &new, epoch).map_err(drop));
        assert_eq!(cause, Some(Cause::Reclaimed));
    }
    let (_, cause) = next(take_over(&vacant(), old, &new, epoch).map_err(drop));
    assert_eq!(cause, None);
}

#[test]
fn release_needs_the_right_claim() {
    let (mine, other) = epochs();
    for (whose, held_too, grace_too) in [
        (Whose::Anyone, true, true),
        (Whose::Claim(mine), true, true),
        (Whose::Present(mine), true, false),
        (Whose::Claim(other), false, false),
        (Whose::Present(other), false, false),
    ] {
        assert_eq!(release(&held(mine), whose, None).is_ok(), held_too);
        assert_eq!(release(&in_grace(mine, 1), whose, None).is_ok(), grace_too);
        assert!(release(&vacant(), whose, None).is_err());
        assert_eq!(grace(&held(mine), whose, a_grace(1)).is_ok(), held_too);
        assert_eq!(
            grace(&in_grace(mine, 1), whose, a_grace(2)).is_ok(),
            grace_too
        );
        assert!(grace(&vacant(), whose, a_grace(1)).is_err());
        assert_eq!(evict(&held(mine), whose).is_ok(), held_too);
        assert_eq!(evict(&in_grace(mine, 1), whose).is_ok(), grace_too);
        assert_eq!(
            evict(&vacant(), whose).is_ok(),
            matches!(whose, Whose::Anyone)
        );
    }
}

#[test]
fn release_leaves_the_phones_or_retires_the_slot() {
    let (mine, _) = epochs();
    let (vacant, ()) = next(release(&held(mine), Whose::Anyone, None));
    assert_eq!(
        (binary(&vacant), vacant.phones.len(), vacant.removals),
        (None, 1, 5)
    );
    assert!(retires(release(
        &without_phones(held(mine)),
        Whose::Anyone,
        None
    )));
}

#[test]
fn grace_keeps_binary_epoch_and_phones() {
    let (mine, _) = epochs();
    for record in [held(mine), in_grace(mine, 1)] {
        let (waiting, ()) = next(grace(&record, Whose::Claim(mine), a_grace(2)));
        assert!(waiting.held_by(mine));
        let began = record.armed_grace().map_or(2, |earlier| earlier.began);
        let arming = waiting.armed_grace().unwrap();
        assert_eq!((arming.arming, arming.began), (Some(2), began));
        assert_eq!((binary(&waiting), waiting.phones.len()), (Some("b"), 1));
        assert_eq!(waiting.removals, 5);
    }
}

#[test]
fn expiry_ends_a_grace_that_is_over_and_no_other() {
    let (mine, _) = epochs();
    let mut record = in_grace(mine, 7);
    let deadline = record.armed_grace().unwrap().deadline;
    assert!(retires(expire(&record, deadline, 8)));
    let just_before = deadline.checked_sub(Duration::from_nanos(1)).unwrap();
    assert!(expire(&record, just_before, 8).is_err());
    assert!(
        expire(&record, deadline, 7).is_err(),
        "it began after that expiry"
    );
    record.grace = Some(Shared::new(Grace {
        deadline,
        arming: None,
        began: 7,
    }));
    assert!(
        expire(&record, deadline, 8).is_err(),
        "it never ends by itself"
    );
    assert!(expire(&held(mine), deadline, 8).is_err());
    assert!(expire(&vacant(), deadline, 8).is_err());
}

#[test]
fn eviction_retires_the_slot() {
    let (mine, _) = epochs();
    assert!(retires(evict(&held(mine), Whose::Claim(mine))));
    assert!(retires(evict(&vacant(), Whose::Anyone)));
}

#[test]
fn register_adds_a_phone_or_says_why_not_in_order() {
    let (mine, _) = epochs();
    let q = phone("q");
    for record in [held(mine), in_grace(mine, 1)] {
        let (larger, removals) = next(register(&record, 2, &q));
        assert_eq!((larger.phones.len(), larger.removals, removals), (2, 5, 5));
        assert!(larger.phones.contains(&q));
        assert!(larger.held_by(mine));
    }
    let same = phone("p");
    let refusal = |record: Record<Wire>, max| register(&record, max, &same).err();
    assert_eq!(refusal(vacant(), 1), Some(Refusal::NoServer));
    assert_eq!(refusal(held(mine), 1), Some(Refusal::AtCapacity));
    assert_eq!(refusal(held(mine), 2), Some(Refusal::DuplicateConnId));
}

#[test]
fn leaving_is_not_counted_as_a_removal() {
    let (mine, _) = epochs();
    let q = phone("q");
    let (both, _) = next(register(&held(mine), 9, &q));
    let (left, ()) = next(leave(&both, &q));
    assert_eq!((left.phones.len(), left.removals), (1, 5));
    let (removed, conn) = next(unregister(&both, "q"));
    assert_eq!(
        (removed.phones.len(), removed.removals, **conn),
        (1, 6, "q")
    );
    assert_eq!(leave(&removed, &q).err(), Some(NotHeld));
    assert_eq!(
        leave(&both, &phone("q")).err(),
        Some(NotHeld),
        "another registration"
    );
    assert_eq!(unregister(&removed, "q").err(), Some(NotHeld));
}

#[test]
fn the_last_phone_of_a_vacant_server_id_retires_the_slot() {
    assert!(retires(unregister(&vacant(), "p")));
    let record = vacant();
    let p = record.phones.get("p").unwrap().clone();
    assert!(retires(leave(&record, &p)));
}

#[test]
fn each_change_counts() {
    let (mine, epoch) = epochs();
    let (new, q) = (Kept::of("new"), phone("q"));
    let changes = |decision: Option<Shared<Record<Wire>>>| decision.map(|next| next.changes);
    let held = held(mine);
    let all = [
        claim(&vacant(), &new, epoch).ok().map(|next| next.0),
        take_over(&held, mine, &new, epoch).ok().map(|next| next.0),
        release(&held, Whose::Anyone, None).ok().map(|next| next.0),
        grace(&held, Whose::Anyone, a_grace(1))
            .ok()
            .map(|next| next.0),
        register(&held, 9, &q).ok().map(|next| next.0),
        unregister(&held, "p").ok().map(|next| next.0),
    ];
    for next in all {
        assert_eq!(changes(next.expect("admitted")), Some(8));
    }
}

#[test]
fn a_grace_is_reclaimed_only_on_the_condition_and_nothing_else_asks_for_it() {
    let (old, epoch) = epochs();
    let new = Kept::of("new");
    let claim_if = |record: Record<Wire>, answer: Option<bool>| {
        super::claim(&record, &new, || epoch, || answer.expect("nobody asks"))
            .map(|(_, claimed)| claimed.displaced)
    };
    assert_eq!(claim_if(vacant(), None), Ok(None));
    assert_eq!(claim_if(leaving(1), None), Ok(Some(Cause::Released)));
    assert_eq!(claim_if(held(old), None), Err(ConflictKind::Held));
    let reclaimed = claim_if(in_grace(old, 1), Some(true));
    assert_eq!(reclaimed, Ok(Some(Cause::Reclaimed)));
    let denied = claim_if(in_grace(old, 1), Some(false));
    assert_eq!(denied, Err(ConflictKind::ReclaimDenied));
}

#[test]
fn a_refused_claim_draws_no_epoch() {
    let (old, _) = epochs();
    let draw = || panic!("drawn");
    let new = Kept::of("new");
    assert!(super::claim(&held(old), &new, draw, || true).is_err());
    assert!(super::claim(&in_grace(old, 1), &new, draw, || false).is_err());
}
