//! Each transition on records with few phones and with many: the right phones stay and the right ones go,
//! whatever their number.

use super::*;

/// All sizes around which the phone list changes its form, and all small ones.
fn sizes() -> impl Iterator<Item = usize> {
    (0..=70).chain([127, 128, 129, 255, 256, 257, 300])
}

type Registered = Vec<Phone<Wire>>;

fn some_phones(size: usize) -> Registered {
    (0..size)
        .map(|i| Phone::new(&i.to_string(), Kept::of("phone")))
        .collect()
}

fn with_phones(mut record: Record<Wire>, phones: &Registered) -> Record<Wire> {
    let none = PhoneList::new();
    record.phones = phones.iter().fold(none, |list, phone| list.with(phone));
    record
}

/// Asserts that the record has these phones and no others: by iteration, by identity and by name.
fn assert_phones(record: &Record<Wire>, phones: &[&Phone<Wire>]) {
    let address = |phone: &Phone<Wire>| std::ptr::from_ref(phone.conn()).addr();
    let mut seen: Vec<_> = record.phones.iter().map(address).collect();
    let mut expected: Vec<_> = phones.iter().map(|phone| address(phone)).collect();
    seen.sort_unstable();
    expected.sort_unstable();
    assert_eq!(seen, expected);
    assert_eq!(record.phones.len(), phones.len());
    for phone in phones {
        assert!(record.phones.contains(phone));
        let found = record
            .phones
            .get(phone.conn_id())
            .expect("the phone is registered");
        assert!(found.is(phone));
    }
}

/// All parts of a tenure, for comparison.
type Parts = Option<(Wire, Epoch, Option<(Instant, Option<u64>, u64)>)>;

fn parts(record: &Record<Wire>) -> Parts {
    let tenure = record.tenure.as_ref()?;
    let grace = record.grace.as_ref();
    let grace = grace.map(|grace| (grace.deadline, grace.arming, grace.began));
    Some((**tenure.binary, tenure.epoch, grace))
}

/// Every state that a record with these phones can be in: vacant, vacant with phones that wait to be
/// displaced, held, in grace, in a grace that never ends.
fn states(mine: Epoch, phones: &Registered) -> Vec<Record<Wire>> {
    let mut endless = in_grace(mine, 1);
    endless.grace = Some(Shared::new(Grace {
        arming: None,
        ..a_grace(1)
    }));
    let states = [vacant(), leaving(1), held(mine), in_grace(mine, 1), endless];
    let with = |record| with_phones(record, phones);
    let is_kept = |record: &Record<_>| record.tenure.is_some() || record.phones.len() > 0;
    states.into_iter().map(with).filter(is_kept).collect()
}

/// Calls `check` with the phones of a record and with the record, in each state and at each size. Then
/// asserts that the record is unchanged: snapshots of a record outlive its replacement.
fn of_every_size(check: impl Fn(Epoch, &Registered, &Record<Wire>)) {
    let mine = Epoch::from_number(7);
    for size in sizes() {
        let phones = some_phones(size);
        for record in states(mine, &phones) {
            let before = (parts(&record), record.removals);
            check(mine, &phones, &record);
            assert_eq!((parts(&record), record.removals), before);
            assert_phones(&record, &phones.iter().collect::<Vec<_>>());
        }
    }
}

fn all(phones: &Registered) -> Vec<&Phone<Wire>> {
    phones.iter().collect()
}

/// Asserts that the new binary holds the record, with all phones and no removal, or with no phones and one
/// removal.
fn assert_claimed(next: &Record<Wire>, epoch: Epoch, phones: &Registered, stay: bool) {
    assert_eq!(parts(next), Some(("new", epoch, None)));
    let left = if stay { all(phones) } else { Vec::new() };
    assert_phones(next, &left);
    assert_eq!(next.removals, if stay { 5 } else { 6 });
}

#[test]
fn a_claim_keeps_all_phones_of_a_vacant_server_id_and_none_of_one_in_grace() {
    of_every_size(|_, phones, record| {
        let epoch = Epoch::from_number(8);
        let decision = claim(record, &Kept::of("new"), epoch);
        let Some(_) = &record.tenure else {
            let (next, cause) = next(decision.map_err(drop));
            assert_eq!(cause, record.grace.as_ref().map(|_| Cause::Released));
            return assert_claimed(&next, epoch, phones, record.grace.is_none());
        };
        if record.grace.is_none() {
            assert!(decision.is_err());
        } else {
            let (next, cause) = next(decision.map_err(drop));
            assert_eq!(cause, Some(Cause::Reclaimed));
            assert_claimed(&next, epoch, phones, false);
        }
    });
}

#[test]
fn a_take_over_keeps_all_phones_of_a_vacant_server_id_and_none_of_another() {
    of_every_size(|mine, phones, record| {
        let epoch = Epoch::from_number(8);
        let new = Kept::of("new");
        let (next, cause) = next(take_over(record, mine, &new, epoch).map_err(drop));
        let expected = match (&record.tenure, &record.grace) {
            (None, None) => None,
            (None, Some(_)) => Some(Cause::Released),
            (Some(_), None) => Some(Cause::TakenOver),
            (Some(_), Some(_)) => Some(Cause::Reclaimed),
        };
        assert_eq!(cause, expected);
        assert_claimed(&next, epoch, phones, expected.is_none());
    });
}

#[test]
fn a_release_keeps_all_phones_and_is_no_removal() {
    of_every_size(|mine, phones, record| {
        for whose in [Whose::Anyone, Whose::Claim(mine), Whose::Present(mine)] {
            let leave = Some(a_grace(9));
            assert_eq!(
                release(record, whose, leave).is_ok(),
                whose.admitted(record).is_ok()
            );
            let decision = release(record, whose, None);
            if whose.admitted(record).is_err() {
                assert!(decision.is_err());
            } else if phones.is_empty() {
                assert!(retires(decision));
            } else {
                let (next, ()) = next(decision);
                assert_eq!(parts(&next), None);
                assert!(next.grace.is_none());
                assert_phones(&next, &all(phones));
                assert_eq!(next.removals, 5);
                let (leaving, ()) = super::next(release(record, whose, leave));
                let began = record.grace.as_ref().map_or(9, |earlier| earlier.began);
                assert_eq!(leaving.armed_grace().map(|grace| grace.began), Some(began));
                assert_phones(&leaving, &all(phones));
            }
        }
    });
}

#[test]
fn a_grace_keeps_binary_epoch_and_all_phones_and_is_no_removal() {
    of_every_size(|mine, phones, record| {
        let anew = a_grace(9);
        let decision = grace(record, Whose::Claim(mine), anew);
        if record.tenure.is_none() {
            return assert!(decision.is_err());
        }
        let (next, ()) = next(decision);
        // A grace that is re-armed keeps the number with which it began.
        let earlier = record.grace.as_ref();
        let began = earlier.map_or(9, |earlier| earlier.began);
        let expected = ("b", mine, Some((anew.deadline, Some(9), began)));
        assert_eq!(parts(&next), Some(expected));
        assert_phones(&next, &all(phones));
        assert_eq!(next.removals, 5);
    });
}

#[test]
fn an_eviction_takes_everybody_out_of_any_record() {
    of_every_size(|mine, _, record| {
        assert!(retires(evict(record, Whose::Anyone)));
        let by_claim = evict(record, Whose::Claim(mine));
        assert!(by_claim.is_err() == record.tenure.is_none());
        assert!(by_claim.is_err() || retires(by_claim));
    });
}

#[test]
fn an_expiry_takes_everybody_out_where_the_grace_ends() {
    of_every_size(|_, _, record| {
        let deadline = record.armed_grace().map(|grace| grace.deadline);
        let now = deadline.unwrap_or_else(|| Instant::now() + Duration::from_secs(1 << 30));
        assert!(
            expire(record, now, 1).is_err(),
            "it began after that expiry"
        );
        let decision = expire(record, now, 2);
        assert_eq!(decision.is_ok(), deadline.is_some());
        assert!(decision.is_err() || retires(decision));
    });
}

#[test]
fn a_registration_adds_one_phone_to_all_others_below_the_cap() {
    of_every_size(|_, phones, record| {
        let new = phone("new");
        let refusal = |max, phone: &Phone<_>| register(record, max, phone).err();
        if record.tenure.is_none() {
            return assert_eq!(refusal(usize::MAX, &new), Some(Refusal::NoServer));
        }
        assert_eq!(refusal(phones.len(), &new), Some(Refusal::AtCapacity));
        for max in [phones.len() + 1, usize::MAX] {
            let (next, removals) = next(register(record, max, &new));
            assert_eq!((removals, next.removals), (5, 5));
            assert_eq!(parts(&next), parts(record));
            let with_it: Vec<_> = phones.iter().chain([&new]).collect();
            assert_phones(&next, &with_it);
            for namesake in phones {
                let conn_id = namesake.conn_id();
                let namesake = Phone::new(conn_id, Kept::of("namesake"));
                assert_eq!(refusal(max, &namesake), Some(Refusal::DuplicateConnId));
            }
        }
    });
}

/// All other phones stay, and so does the tenure. A membership's own removal is not counted; one by conn-id
/// is.
#[test]
fn one_phone_goes_and_all_others_stay() {
    of_every_size(|_, phones, record| {
        let stranger = phone("stranger");
        assert_eq!(leave(record, &stranger).err(), Some(NotHeld));
        assert_eq!(unregister(record, "stranger").err(), Some(NotHeld));
        // Every phone of a short list; of a long one, phones from all parts of the list.
        let some = phones.iter().step_by(phones.len() / 16 + 1);
        for gone in some.chain(phones.last()) {
            let others: Vec<_> = phones.iter().filter(|phone| !phone.is(gone)).collect();
            let left = leave(record, gone);
            let removed = unregister(record, gone.conn_id());
            if record.tenure.is_none() && others.is_empty() {
                assert!(retires(left) && retires(removed));
                continue;
            }
            let (left, ()) = next(left);
            let (removed, conn) = next(removed);
            assert!(std::sync::Arc::ptr_eq(&conn, gone.conn()));
            for (next, removals) in [(left, 5), (removed, 6)] {
                assert_eq!(parts(&next), parts(record));
                assert_phones(&next, &others);
                assert_eq!(next.removals, removals);
                assert!(!next.phones.contains(gone));
                assert!(next.phones.get(gone.conn_id()).is_none());
            }
        }
    });
}
