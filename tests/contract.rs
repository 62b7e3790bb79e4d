//! The contract, one test per sentence. The test names summarise the crate.

mod common;

use std::any::Any;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use common::{
    Living, Wire, assert_counts_are_exact, at, binary_id, ids, seconds, wire, wire_with_on_drop,
};
use switchboard::{
    Builder, Cause, Claim, Conn, Counts, Membership, Phones, RegisterError, RegisterErrorKind,
    Registry, Route, SendError, ServerIdConflict, Status,
};

fn registry() -> Registry<Wire> {
    Registry::new()
}

fn held(registry: &Registry<Wire>) -> Claim<Wire> {
    registry.claim_server("s", wire("b")).unwrap()
}

fn phone(registry: &Registry<Wire>, conn_id: &str) -> Membership<Wire> {
    registry.register_phone("s", wire(conn_id)).unwrap()
}

fn in_grace(registry: &Registry<Wire>, grace: Duration) -> switchboard::Epoch {
    let epoch = held(registry).detach();
    assert!(registry.release_claim_after("s", epoch, grace));
    epoch
}

fn status(registry: &Registry<Wire>) -> Option<Status> {
    registry.server("s").map(|server| server.status())
}

mod claim_server {
    use super::*;

    #[test]
    fn on_an_unknown_server_id_holds_it() {
        let registry = registry();
        let claim = held(&registry);
        assert!(claim.is_current());
        assert_eq!(claim.server_id(), "s");
        assert_eq!(claim.conn().conn_id(), "b");
        assert!(claim.displaced().is_none());
        assert_eq!(registry.binary_for("s").unwrap().conn_id(), "b");
        assert_eq!(status(&registry), Some(Status::Held));
    }

    #[test]
    fn on_a_vacant_one_keeps_the_phones_that_a_release_left() {
        let registry = registry();
        let first = held(&registry);
        let left = phone(&registry, "p");
        first.release();
        let second = registry.claim_server("s", wire("b2")).unwrap();
        assert!(second.displaced().is_none());
        assert_eq!(ids(&second.phones()), ["p"]);
        assert_eq!(left.binary().unwrap().conn_id(), "b2");
    }

    #[test]
    fn on_a_held_one_is_refused_with_the_incumbent_and_changes_nothing() {
        let registry = registry();
        let claim = held(&registry);
        let _phone = phone(&registry, "p");
        let late = wire("late");
        let conflict = registry.claim_server("s", late.clone()).unwrap_err();
        assert_eq!(conflict.server_id(), "s");
        assert_eq!(conflict.incumbent().conn_id(), "b");
        assert_eq!(conflict.incumbent_epoch(), claim.epoch());
        assert!(Arc::ptr_eq(conflict.conn(), &late));
        assert!(Arc::ptr_eq(&conflict.into_conn(), &late));
        assert!(claim.is_current());
        assert_eq!(ids(&registry.phones_for("s")), ["p"]);
    }

    #[test]
    fn in_grace_displaces_the_old_binary_and_all_phones() {
        let registry = registry();
        let old = held(&registry);
        let displaced = phone(&registry, "p");
        let old_epoch = old.epoch();
        old.release_after(seconds(30));
        let mut new = registry.claim_server("s", wire("b2")).unwrap();
        assert!(new.epoch() > old_epoch);
        assert!(new.phones().is_empty());
        let out = new.displaced().unwrap();
        assert_eq!(out.cause, Cause::Reclaimed);
        assert_eq!(&*out.server_id, "s");
        assert_eq!(binary_id(out), Some("b"));
        assert_eq!(ids(&out.phones), ["p"]);
        assert!(new.take_displaced().is_some());
        assert!(new.take_displaced().is_none());
        assert!(!displaced.is_registered());
        assert_eq!(registry.next_deadline(), None);
    }

    #[test]
    fn gives_each_success_a_larger_epoch() {
        let registry = registry();
        let other = Registry::<Wire>::new();
        let a = held(&registry).epoch();
        let b = held(&other).epoch();
        let c = held(&registry).epoch();
        assert!(a < b && b < c);
        assert!(a.get() < b.get());
        assert_eq!(a.to_string(), a.get().to_string());
    }
}

mod take_over {
    use super::*;

    fn conflict(registry: &Registry<Wire>) -> ServerIdConflict<Wire> {
        registry.claim_server("s", wire("b2")).unwrap_err()
    }

    #[test]
    fn displaces_the_incumbent_of_the_conflict_and_its_phones() {
        let registry = registry();
        let old = held(&registry);
        let displaced = phone(&registry, "p");
        let new = conflict(&registry).take_over().unwrap();
        let out = new.displaced().unwrap();
        assert_eq!(out.cause, Cause::TakenOver);
        assert_eq!(binary_id(out), Some("b"));
        assert_eq!(ids(&out.phones), ["p"]);
        assert!(!old.is_current());
        assert!(old.phones().is_empty());
        assert!(displaced.binary().is_none());
        assert_eq!(registry.binary_for("s").unwrap().conn_id(), "b2");
    }

    #[test]
    fn returns_a_fresh_conflict_if_another_claim_holds_it_by_now() {
        let registry = registry();
        let first = held(&registry);
        let conflict = conflict(&registry);
        first.release();
        let third = registry.claim_server("s", wire("b3")).unwrap();
        let fresh = conflict.take_over().unwrap_err();
        assert_eq!(fresh.incumbent_epoch(), third.epoch());
        assert_eq!(fresh.incumbent().conn_id(), "b3");
        assert_eq!(fresh.conn().conn_id(), "b2");
        assert!(fresh.take_over().is_ok());
        assert!(!third.is_current());
    }

    #[test]
    fn on_a_vacant_server_id_is_a_plain_claim() {
        let registry = registry();
        let first = held(&registry);
        let _left = phone(&registry, "p");
        let conflict = conflict(&registry);
        first.release();
        let claim = conflict.take_over().unwrap();
        assert!(claim.displaced().is_none());
        assert_eq!(ids(&claim.phones()), ["p"]);
    }

    #[test]
    fn on_a_server_id_that_is_gone_is_a_plain_claim() {
        let registry = registry();
        let first = held(&registry);
        let conflict = conflict(&registry);
        first.release();
        assert!(registry.server("s").is_none());
        let claim = conflict.take_over().unwrap();
        assert!(claim.displaced().is_none());
        assert!(claim.is_current());
        assert_eq!(registry.binary_for("s").unwrap().conn_id(), "b2");
        assert_counts_are_exact(&registry);
    }

    #[test]
    fn in_grace_is_a_reclaim_whichever_claim_is_in_grace() {
        let registry = registry();
        let first = held(&registry);
        let same = conflict(&registry);
        first.release_after(seconds(30));
        let claim = same.take_over().unwrap();
        assert_eq!(claim.displaced().unwrap().cause, Cause::Reclaimed);

        let stranger = registry.claim_server("s", wire("b4")).unwrap_err();
        claim.release();
        held(&registry).release_after(seconds(30));
        let claim = stranger.take_over().unwrap();
        assert_eq!(claim.displaced().unwrap().cause, Cause::Reclaimed);
    }
}

mod release {
    use super::*;

    #[test]
    fn of_a_held_server_id_leaves_it_vacant_with_its_phones() {
        let registry = registry();
        let claim = held(&registry);
        let left = phone(&registry, "p");
        assert!(registry.release_server("s"));
        assert!(!claim.is_current());
        assert_eq!(status(&registry), Some(Status::Vacant));
        assert!(registry.binary_for("s").is_none());
        assert_eq!(ids(&registry.phones_for("s")), ["p"]);
        assert!(left.is_registered());
        assert!(left.binary().is_none());
    }

    #[test]
    fn of_a_vacant_or_unknown_server_id_is_false() {
        let registry = registry();
        assert!(!registry.release_server("s"));
        let claim = held(&registry);
        let _left = phone(&registry, "p");
        assert!(claim.release());
        assert!(!registry.release_server("s"));
    }

    #[test]
    fn in_grace_leaves_it_vacant_and_the_deadline_is_gone() {
        let registry = registry();
        let claim = held(&registry);
        let _left = phone(&registry, "p");
        claim.release_after(seconds(1));
        assert!(registry.next_deadline().is_some());
        assert!(registry.release_server("s"));
        assert_eq!(registry.next_deadline(), None);
        assert!(registry.expire(at(2)).is_empty());
        assert_eq!(ids(&registry.phones_for("s")), ["p"]);
    }

    #[test]
    fn by_a_claim_or_an_epoch_touches_no_successor() {
        let registry = registry();
        let old = held(&registry);
        let epoch = old.epoch();
        registry.release_server("s");
        let new = registry.claim_server("s", wire("b2")).unwrap();
        assert!(!registry.release_claim("s", epoch));
        assert!(!registry.release_claim_after("s", epoch, seconds(0)));
        assert!(!old.release());
        assert!(new.is_current());
    }

    #[test]
    fn by_its_own_epoch_works_while_held_and_in_grace() {
        let registry = registry();
        let epoch = held(&registry).detach();
        assert!(registry.release_claim("s", epoch));
        assert!(!registry.release_claim("s", epoch));

        let epoch = in_grace(&registry, seconds(30));
        assert!(registry.release_claim("s", epoch));
        assert!(registry.server("s").is_none());

        let claim = held(&registry);
        registry.release_claim_after("s", claim.epoch(), seconds(30));
        assert!(claim.release());
    }
}

mod release_after {
    use super::*;

    #[test]
    fn keeps_the_server_id_and_shows_the_binary_that_went_away() {
        let registry = registry();
        let claim = held(&registry);
        let waiting = phone(&registry, "p");
        let before = Instant::now();
        assert!(claim.release_after(seconds(30)));
        let deadline = registry.next_deadline().unwrap();
        assert!(deadline >= before + seconds(30) && deadline <= at(30));
        assert_eq!(status(&registry), Some(Status::Grace { deadline }));
        assert_eq!(registry.binary_for("s").unwrap().conn_id(), "b");
        assert_eq!(waiting.binary().unwrap().conn_id(), "b");
        let counts = Counts {
            binaries: 1,
            phones: 1,
            in_grace: 1,
        };
        assert_eq!(registry.counts(), counts);
    }

    #[test]
    fn again_sets_a_new_deadline_and_the_last_call_wins() {
        let registry = registry();
        let epoch = in_grace(&registry, seconds(60));
        assert!(registry.release_claim_after("s", epoch, seconds(10)));
        assert!(registry.next_deadline().unwrap() <= at(10));
        assert!(registry.release_claim_after("s", epoch, seconds(90)));
        assert!(registry.expire(at(70)).is_empty());
        assert_eq!(registry.expire(at(91)).len(), 1);
    }

    #[test]
    fn on_a_vacant_server_id_is_false() {
        let registry = registry();
        let claim = held(&registry);
        let _left = phone(&registry, "p");
        registry.release_server("s");
        assert!(!registry.release_claim_after("s", claim.epoch(), seconds(1)));
        assert!(!claim.release_after(seconds(1)));
        assert_eq!(registry.next_deadline(), None);
    }

    #[test]
    fn with_a_deadline_beyond_every_instant_never_ends() {
        let registry = registry();
        let epoch = in_grace(&registry, Duration::MAX);
        let Some(Status::Grace { deadline }) = status(&registry) else {
            panic!("not in grace");
        };
        assert!(deadline > at(1_000_000_000));
        assert_eq!(registry.next_deadline(), None);
        assert!(registry.expire(deadline).is_empty());
        assert!(registry.release_claim_after("s", epoch, seconds(1)));
        assert_eq!(registry.expire(at(2)).len(), 1);

        let epoch = in_grace(&registry, seconds(1));
        assert!(registry.release_claim_after("s", epoch, Duration::MAX));
        assert_eq!(registry.next_deadline(), None);
        assert!(registry.expire(at(2)).is_empty());
    }

    #[test]
    fn of_zero_expires_at_once() {
        let registry = registry();
        in_grace(&registry, Duration::ZERO);
        assert_eq!(registry.expire(Instant::now()).len(), 1);
    }
}

mod drop_of_a_claim {
    use super::*;

    #[test]
    fn releases_where_the_registry_has_no_grace() {
        let registry = registry();
        let claim = held(&registry);
        let _left = phone(&registry, "p");
        drop(claim);
        assert_eq!(status(&registry), Some(Status::Vacant));
    }

    #[test]
    fn leaves_it_in_grace_where_the_registry_has_one() {
        let registry: Registry<Wire> = Registry::builder().grace(seconds(30)).build();
        drop(held(&registry));
        assert_eq!(registry.counts().in_grace, 1);
        assert!(registry.expire(at(29)).is_empty());
        assert_eq!(registry.expire(at(31)).len(), 1);
    }

    #[test]
    fn in_grace_or_vacant_does_nothing() {
        let registry: Registry<Wire> = Registry::builder().grace(seconds(30)).build();
        let claim = held(&registry);
        registry.release_claim_after("s", claim.epoch(), seconds(60));
        drop(claim);
        assert!(registry.expire(at(31)).is_empty());
        assert_eq!(registry.expire(at(61)).len(), 1);

        let claim = held(&registry);
        let _left = phone(&registry, "p");
        registry.release_server("s");
        drop(claim);
        assert_eq!(status(&registry), Some(Status::Vacant));
    }

    #[test]
    fn touches_no_successor() {
        let registry = registry();
        let old = held(&registry);
        let new = registry
            .claim_server("s", wire("b2"))
            .unwrap_err()
            .take_over()
            .unwrap();
        drop(old);
        assert!(new.is_current());
    }

    #[test]
    fn does_nothing_after_detach() {
        let registry = registry();
        let epoch = held(&registry).detach();
        assert_eq!(registry.server("s").unwrap().epoch(), Some(epoch));
    }
}

mod a_claim {
    use super::*;

    #[test]
    fn sees_its_phones_by_handle() {
        let registry = registry();
        let claim = held(&registry);
        let _p = phone(&registry, "p");
        let _q = phone(&registry, "q");
        assert_eq!(ids(&claim.phones()), ["p", "q"]);
        assert_eq!(claim.phone("q").unwrap().conn_id(), "q");
        assert!(claim.phone("r").is_none());
    }

    #[test]
    fn that_is_displaced_sees_no_phones_even_under_a_successor() {
        let registry = registry();
        let old = held(&registry);
        registry.release_server("s");
        let _new = registry.claim_server("s", wire("b2")).unwrap();
        let _p = phone(&registry, "p");
        assert!(!old.is_current());
        assert!(old.phones().is_empty());
        assert!(old.phone("p").is_none());
    }

    #[test]
    fn in_grace_is_still_current() {
        let registry = registry();
        let claim = held(&registry);
        let _p = phone(&registry, "p");
        registry.release_claim_after("s", claim.epoch(), seconds(30));
        assert!(claim.is_current());
        assert_eq!(ids(&claim.phones()), ["p"]);
    }

    #[test]
    fn evicts_itself_and_its_phones_at_one_instant_and_no_successor() {
        let registry = registry();
        let claim = held(&registry);
        let p = phone(&registry, "p");
        let out = claim.evict().unwrap();
        assert_eq!(out.cause, Cause::Evicted);
        assert_eq!(binary_id(&out), Some("b"));
        assert_eq!(ids(&out.phones), ["p"]);
        assert!(!p.is_registered());
        assert!(registry.server("s").is_none());

        let old = held(&registry);
        registry.release_server("s");
        let new = registry.claim_server("s", wire("b2")).unwrap();
        assert!(old.evict().is_none());
        assert!(new.is_current());
    }

    #[test]
    fn outlives_the_handles_of_its_registry() {
        let registry = registry();
        let claim = held(&registry);
        let p = phone(&registry, "p");
        let conflict = registry.claim_server("s", wire("b2")).unwrap_err();
        drop(registry);
        assert_eq!(ids(&claim.phones()), ["p"]);
        assert_eq!(p.binary().unwrap().conn_id(), "b");
        let next = conflict.take_over().unwrap();
        assert!(!claim.is_current());
        assert!(next.release_after(seconds(1)));
        assert!(!p.unregister());
    }
}

mod register_phone {
    use super::*;

    #[test]
    fn adds_it_while_held_and_in_grace() {
        let registry = registry();
        let claim = held(&registry);
        let p = phone(&registry, "p");
        assert_eq!((p.server_id(), p.conn_id()), ("s", "p"));
        assert_eq!(p.conn().conn_id(), "p");
        claim.release_after(seconds(30));
        let _q = phone(&registry, "q");
        assert_eq!(ids(&registry.phones_for("s")), ["p", "q"]);
    }

    #[test]
    fn is_refused_if_no_claim_holds_the_server_id() {
        let registry = registry();
        let conn = wire("p");
        let refused = registry.register_phone("s", conn.clone()).unwrap_err();
        assert!(matches!(refused, RegisterError::NoServer(_)));
        assert!(Arc::ptr_eq(&refused.into_conn(), &conn));

        let claim = held(&registry);
        let _left = phone(&registry, "left");
        claim.release();
        let refused = registry.register_phone("s", conn).unwrap_err();
        assert!(matches!(refused, RegisterError::NoServer(_)));
    }

    #[test]
    fn is_refused_at_the_cap() {
        let registry: Registry<Wire> = Registry::builder().max_phones(1).build();
        let _claim = held(&registry);
        let p = phone(&registry, "p");
        let refused = registry.register_phone("s", wire("q")).unwrap_err();
        assert!(matches!(refused, RegisterError::AtCapacity(_)));
        drop(p);
        let _q = phone(&registry, "q");
    }

    #[test]
    fn is_refused_for_a_conn_id_that_is_registered() {
        let registry = registry();
        let _claim = held(&registry);
        let _p = phone(&registry, "p");
        let refused = registry.register_phone("s", wire("p")).unwrap_err();
        assert!(matches!(refused, RegisterError::DuplicateConnId(_)));
        assert_eq!(registry.counts().phones, 1);
    }

    #[test]
    fn refuses_in_the_order_no_server_at_capacity_duplicate() {
        let registry: Registry<Wire> = Registry::builder().max_phones(1).build();
        let claim = held(&registry);
        let _p = phone(&registry, "p");
        let refused = registry.register_phone("s", wire("p")).unwrap_err();
        assert!(matches!(refused, RegisterError::AtCapacity(_)));
        claim.release();
        let refused = registry.register_phone("s", wire("p")).unwrap_err();
        assert!(matches!(refused, RegisterError::NoServer(_)));
    }

    #[test]
    fn with_a_cap_of_zero_refuses_every_phone() {
        let registry: Registry<Wire> = Registry::builder().max_phones(0).build();
        let _claim = held(&registry);
        let refused = registry.register_phone("s", wire("p")).unwrap_err();
        assert!(matches!(refused, RegisterError::AtCapacity(_)));
    }

    #[test]
    fn with_a_cap_of_its_own_ignores_that_of_the_registry() {
        let registry: Registry<Wire> = Registry::builder().max_phones(2).build();
        let _claim = held(&registry);
        let kind = |conn_id: &str, cap| {
            let registered = registry.register_phone_with_cap("s", wire(conn_id), cap);
            registered.map(Membership::detach).map_err(|e| e.kind())
        };
        assert_eq!(kind("p", 0), Err(RegisterErrorKind::AtCapacity));
        assert_eq!(kind("p", 1), Ok(()));
        assert_eq!(kind("q", 1), Err(RegisterErrorKind::AtCapacity));
        assert_eq!(kind("q", 2), Ok(()));
        let refused = registry.register_phone("s", wire("r")).unwrap_err();
        assert_eq!(refused.kind(), RegisterErrorKind::AtCapacity);
        assert_eq!(kind("r", 3), Ok(()));
        assert_eq!(kind("t", usize::MAX), Ok(()));
        assert_eq!(kind("u", 1), Err(RegisterErrorKind::AtCapacity));
        assert_eq!(
            ids(&registry.phones_for("s")),
            ["p", "q", "r", "t"],
            "a smaller cap removes nobody"
        );
    }

    #[test]
    fn reads_the_conn_id_once() {
        let registry = registry();
        let binary = wire("b");
        let _claim = registry.claim_server("s", binary.clone()).unwrap();
        assert!(binary.conn_id_reads.load(Relaxed) <= 1);
        let conn = wire("p");
        let p = registry.register_phone("s", conn.clone()).unwrap();
        let _ = registry.phone_for("s", "p");
        let _ = p.conn_id();
        drop(p);
        assert_eq!(conn.conn_id_reads.load(Relaxed), 1);
        let refused = wire("q");
        registry.release_server("s");
        assert!(registry.register_phone("s", refused.clone()).is_err());
        assert_eq!(refused.conn_id_reads.load(Relaxed), 1);
    }
}

mod unregister_phone {
    use super::*;

    #[test]
    fn hands_the_phone_back() {
        let registry = registry();
        let _claim = held(&registry);
        let p = phone(&registry, "p");
        let conn = registry.unregister_phone("s", "p").unwrap();
        assert!(Arc::ptr_eq(&conn, p.conn()));
        assert!(!p.is_registered());
        assert!(p.binary().is_none());
        assert!(!p.unregister());
    }

    #[test]
    fn of_an_unknown_phone_is_a_no_op() {
        let registry = registry();
        assert!(registry.unregister_phone("s", "p").is_none());
        let _claim = held(&registry);
        assert!(registry.unregister_phone("s", "p").is_none());
    }

    #[test]
    fn works_in_every_state() {
        let registry = registry();
        let claim = held(&registry);
        for conn_id in ["held", "grace", "vacant", "guard", "drop"] {
            phone(&registry, conn_id).detach();
        }
        assert!(registry.unregister_phone("s", "held").is_some());
        let epoch = claim.detach();
        registry.release_claim_after("s", epoch, seconds(30));
        assert!(registry.unregister_phone("s", "grace").is_some());
        let guard = phone(&registry, "g");
        let dropped = phone(&registry, "d");
        registry.release_server("s");
        assert!(registry.unregister_phone("s", "vacant").is_some());
        assert!(guard.unregister());
        drop(dropped);
        assert_eq!(ids(&registry.phones_for("s")), ["drop", "guard"]);
    }

    #[test]
    fn of_the_last_phone_of_a_vacant_server_id_leaves_nothing() {
        let registry = registry();
        let claim = held(&registry);
        let p = phone(&registry, "p");
        claim.release();
        assert!(registry.server("s").is_some());
        drop(p);
        assert!(registry.server("s").is_none());
        assert_eq!(registry.servers().count(), 0);
    }
}

mod a_membership {
    use super::*;

    #[test]
    fn removes_its_own_registration_and_never_a_later_one() {
        let registry = registry();
        let _claim = held(&registry);
        let old = phone(&registry, "p");
        let conn = registry.unregister_phone("s", "p").unwrap();
        let new = registry.register_phone("s", conn).unwrap();
        assert!(!old.is_registered());
        assert!(old.binary().is_none());
        drop(old);
        assert!(new.is_registered());
        assert!(new.unregister());
    }

    #[test]
    fn sees_the_binary_while_it_is_registered() {
        let registry = registry();
        let claim = held(&registry);
        let p = phone(&registry, "p");
        let q = phone(&registry, "q");
        assert_eq!(p.binary().unwrap().conn_id(), "b");
        registry.unregister_phone("s", "q");
        assert!(q.binary().is_none());
        assert_eq!(p.binary().unwrap().conn_id(), "b");
        claim.release();
        assert!(p.binary().is_none());
        assert!(p.is_registered());
    }

    /// A membership relies on the record's count of removed phones, so every later record must carry it.
    #[test]
    fn that_was_unregistered_stays_unregistered_whatever_follows() {
        type Next = fn(&Registry<Wire>, Claim<Wire>) -> Box<dyn Any>;
        let nexts: [(&str, Next); 11] = [
            ("nothing", |_, claim| Box::new(claim)),
            ("release", |_, claim| Box::new(claim.release())),
            ("release and claim", |registry, claim| {
                claim.release();
                Box::new(held(registry))
            }),
            ("grace", |_, claim| {
                Box::new(claim.release_after(seconds(9)))
            }),
            ("grace, twice", |registry, claim| {
                registry.release_claim_after("s", claim.epoch(), seconds(9));
                Box::new(claim.release_after(seconds(9)))
            }),
            ("grace and claim", |registry, claim| {
                claim.release_after(seconds(9));
                Box::new(held(registry))
            }),
            ("take over", |registry, _claim| {
                let conflict = registry.claim_server("s", wire("b2")).unwrap_err();
                Box::new(conflict.take_over())
            }),
            ("a phone comes", |registry, claim| {
                Box::new((claim, phone(registry, "r")))
            }),
            ("its namesake comes", |registry, claim| {
                Box::new((claim, phone(registry, "p")))
            }),
            ("a phone comes and goes", |registry, claim| {
                phone(registry, "r").unregister();
                Box::new(claim)
            }),
            ("a sibling is unregistered", |registry, claim| {
                registry.unregister_phone("s", "q");
                Box::new(claim)
            }),
        ];
        for (what, next) in nexts {
            let registry = registry();
            let claim = held(&registry);
            let out = phone(&registry, "p");
            phone(&registry, "q").detach();
            registry.unregister_phone("s", "p").unwrap();
            // The membership has not looked since before the removal.
            let _kept = next(&registry, claim);
            assert!(out.binary().is_none(), "it sees a binary after: {what}");
            assert!(!out.is_registered(), "after: {what}");
            assert!(!out.unregister(), "after: {what}");
        }
    }

    #[test]
    fn that_is_displaced_sees_no_binary_even_under_a_successor() {
        let registry = registry();
        held(&registry).release_after(seconds(30));
        let displaced = phone(&registry, "p");
        let _new = registry.claim_server("s", wire("b2")).unwrap();
        let _same_name = phone(&registry, "p");
        assert!(!displaced.is_registered());
        assert!(displaced.binary().is_none());
        assert!(!displaced.unregister());
        assert_eq!(registry.counts().phones, 1);
    }

    #[test]
    fn dropped_unregisters_and_detached_does_not() {
        let registry = registry();
        let _claim = held(&registry);
        drop(phone(&registry, "p"));
        phone(&registry, "q").detach();
        assert_eq!(ids(&registry.phones_for("s")), ["q"]);
    }
}

mod a_route {
    use super::*;

    fn binary(route: &mut Route<Wire>) -> Option<&str> {
        route.binary().map(Conn::conn_id)
    }

    #[test]
    fn sees_the_binary_while_its_phone_is_registered() {
        let registry = registry();
        let claim = held(&registry);
        let p = phone(&registry, "p");
        let mut route = p.route();
        assert_eq!(binary(&mut route), Some("b"));
        claim.release();
        assert_eq!(binary(&mut route), None);
        let again = registry.claim_server("s", wire("b2")).unwrap();
        assert_eq!(binary(&mut route), Some("b2"));
        again.release_after(seconds(30));
        assert_eq!(binary(&mut route), Some("b2"), "in grace");
        assert!(p.unregister());
        assert_eq!(binary(&mut route), None);
    }

    #[test]
    fn that_begins_while_the_server_id_is_vacant_sees_the_next_binary() {
        let registry = registry();
        let claim = held(&registry);
        let p = phone(&registry, "p");
        claim.release();
        let mut route = p.route();
        assert_eq!(binary(&mut route), None);
        let _next = registry.claim_server("s", wire("b2")).unwrap();
        assert_eq!(binary(&mut route), Some("b2"));
    }

    #[test]
    fn lasts_through_the_changes_of_siblings() {
        let registry = registry();
        let _claim = held(&registry);
        let p = phone(&registry, "p");
        let mut route = p.route();
        let siblings: Vec<_> = (0..100).map(|i| phone(&registry, &i.to_string())).collect();
        assert_eq!(binary(&mut route), Some("b"));
        for i in 0..50 {
            registry.unregister_phone("s", &i.to_string());
            assert_eq!(binary(&mut route), Some("b"));
        }
        drop(siblings);
        assert_eq!(binary(&mut route), Some("b"));
    }

    #[test]
    fn of_a_displaced_phone_sees_no_binary_even_under_a_successor() {
        let registry = registry();
        held(&registry).release_after(seconds(30));
        let displaced = phone(&registry, "p");
        let (mut before, conn) = (displaced.route(), Arc::clone(displaced.conn()));
        let _new = registry.claim_server("s", wire("b2")).unwrap();
        let _same_conn = registry.register_phone("s", conn).unwrap();
        let mut after = displaced.route();
        for _ in 0..2 {
            assert_eq!(binary(&mut before), None);
            assert_eq!(binary(&mut after), None);
        }
    }

    #[test]
    fn does_not_unregister_its_phone_when_dropped() {
        let registry = registry();
        let _claim = held(&registry);
        let p = phone(&registry, "p");
        let mut route = p.route();
        p.detach();
        assert_eq!(binary(&mut route), Some("b"));
        drop(route);
        assert!(registry.phone_for("s", "p").is_some());
    }

    #[test]
    fn outlives_its_registry_and_sees_what_its_claim_does() {
        let registry = registry();
        let claim = held(&registry);
        let p = phone(&registry, "p");
        let mut route = p.route();
        drop(registry);
        assert_eq!(binary(&mut route), Some("b"));
        claim.release();
        assert_eq!(binary(&mut route), None);
    }
}

mod lookups {
    use super::*;

    #[test]
    fn of_an_unknown_server_id_find_nothing_and_create_nothing() {
        let registry = registry();
        assert!(registry.binary_for("s").is_none());
        assert!(registry.phones_for("s").is_empty());
        assert!(registry.phone_for("s", "p").is_none());
        assert!(registry.server("s").is_none());
        assert!(registry.evict_server("s").is_none());
        assert_eq!(registry.servers().count(), 0);
    }

    #[test]
    fn find_one_phone() {
        let registry = registry();
        let _claim = held(&registry);
        let p = phone(&registry, "p");
        let found = registry.phone_for("s", "p").unwrap();
        assert!(Arc::ptr_eq(&found.to_arc(), p.conn()));
        assert!(Arc::ptr_eq(&found.into_arc(), p.conn()));
        assert!(registry.phone_for("s", "q").is_none());
    }

    #[test]
    fn show_binary_and_phones_of_one_instant() {
        let registry = registry();
        let claim = held(&registry);
        let _p = phone(&registry, "p");
        let server = registry.server("s").unwrap();
        assert_eq!(server.server_id(), "s");
        assert_eq!(server.binary().unwrap().conn_id(), "b");
        assert_eq!(server.epoch(), Some(claim.epoch()));
        assert_eq!(ids(&server.phones()), ["p"]);
        registry.evict_server("s");
        assert_eq!(ids(&server.clone().phones()), ["p"]);
        assert_eq!(server.status(), Status::Held);
    }

    #[test]
    fn enumerate_every_server_id_once() {
        let registry = registry();
        let claims: Vec<_> = (0..1_000)
            .map(|i| registry.claim_server(&format!("s{i}"), wire("b")).unwrap())
            .collect();
        let mut names: Vec<_> = registry
            .servers()
            .map(|server| server.server_id().to_owned())
            .collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), claims.len());
    }

    #[test]
    fn enumerate_a_borrowed_registry_like_its_servers() {
        let registry = registry();
        let _claim = held(&registry);
        let mut names = Vec::new();
        for server in &registry {
            names.push(server.server_id().to_owned());
        }
        assert_eq!(names, ["s"]);
        let mut servers = registry.servers();
        assert_eq!(servers.size_hint(), (0, Some(1)));
        assert!(servers.next().is_some());
        assert!(servers.next().is_none() && servers.next().is_none());
    }

    #[test]
    fn contain_a_server_id_as_long_as_it_has_a_binary_or_phones() {
        let registry = registry();
        assert!(!registry.contains("s") && registry.is_empty());
        let claim = held(&registry);
        assert!(registry.contains("s") && !registry.is_empty());
        assert!(!registry.contains("t"));
        let p = phone(&registry, "p");
        claim.release();
        assert!(registry.contains("s"), "a phone is left");
        drop(p);
        assert!(!registry.contains("s") && registry.is_empty());
        in_grace(&registry, seconds(30));
        assert!(registry.contains("s") && registry.len() == 1);
        drop(registry.expire(at(31)));
        assert!(!registry.contains("s") && registry.is_empty());
    }
}

mod a_snapshot {
    use super::*;

    #[test]
    fn of_phones_never_changes() {
        let registry = registry();
        let _claim = held(&registry);
        let p = phone(&registry, "p");
        let before = registry.phones_for("s");
        drop(p);
        let _q = phone(&registry, "q");
        assert_eq!(ids(&before), ["p"]);
        assert_eq!(ids(&before.clone()), ["p"]);
        assert!(before.contains("p") && !before.contains("q"));
        assert_eq!(before.get("p").unwrap().conn_id(), "p");
        assert_eq!(format!("{before:?}"), r#"{"p"}"#);
    }

    #[test]
    fn of_many_phones_finds_and_enumerates_each_once() {
        let registry = registry();
        let claim = held(&registry);
        let mut members = Vec::new();
        for i in 0..1_000 {
            members.push(phone(&registry, &format!("p{i}")));
        }
        for i in (0..1_000).step_by(3) {
            registry.unregister_phone("s", &format!("p{i}")).unwrap();
        }
        let phones = claim.phones();
        assert_eq!(phones.len(), 666);
        assert_eq!(phones.iter().len(), 666);
        assert_eq!(phones.iter().count(), 666);
        for (i, member) in members.iter().enumerate() {
            assert_eq!(phones.contains(&format!("p{i}")), i % 3 != 0);
            assert_eq!(member.is_registered(), i % 3 != 0);
            assert_eq!(claim.phone(&format!("p{i}")).is_some(), i % 3 != 0);
        }
        let mut distinct = ids(&phones);
        distinct.dedup();
        assert_eq!(distinct.len(), 666);
    }

    #[test]
    fn is_empty_if_no_phone_is_registered() {
        let registry = registry();
        assert!(registry.phones_for("s").is_empty());
        let _claim = registry.claim_server("s", wire("b")).unwrap();
        let phone = registry.register_phone("s", wire("p")).unwrap();
        assert!(!registry.phones_for("s").is_empty());
        drop(phone);
        assert!(registry.phones_for("s").is_empty());
    }

    #[test]
    fn broadcasts_to_every_phone_and_counts_those_that_refuse() {
        let registry = registry();
        let _claim = held(&registry);
        let (p, q) = (phone(&registry, "p"), phone(&registry, "q"));
        q.conn().close();
        let sent = registry.phones_for("s").broadcast(&"frame".into());
        assert_eq!((sent.delivered, sent.failed), (1, 1));
        assert_eq!(*p.conn().frames.lock().unwrap(), ["frame"]);
        assert_eq!(
            q.conn().closed.load(Relaxed),
            1,
            "the registry closes no connection"
        );
    }

    #[test]
    fn is_a_fused_exact_size_iterator() {
        let registry = registry();
        let _claim = held(&registry);
        let _p = phone(&registry, "p");
        let phones = registry.phones_for("s");
        let mut iter = phones.iter();
        assert_eq!(iter.len(), 1);
        assert!(iter.next().is_some());
        assert_eq!(iter.len(), 0);
        assert!(iter.next().is_none());
        assert!(iter.next().is_none());
        assert_eq!(Phones::iter(&phones).count(), 1);
    }

    #[test]
    fn by_value_yields_its_phones_and_lets_go_of_the_rest() {
        let registry = registry();
        let living = Living::default();
        let claim = registry.claim_server("s", living.wire("b")).unwrap();
        for i in 0..40 {
            let conn = living.wire(&format!("p{i}"));
            registry.register_phone("s", conn).unwrap().detach();
        }
        let mut phones = claim.phones().into_iter();
        drop(claim.evict());
        assert_eq!(living.count(), 40, "the snapshot is gone, and the binary");
        assert_eq!(phones.len(), 40);
        let first: Arc<Wire> = phones.next().unwrap();
        drop(first);
        assert_eq!((phones.len(), living.count()), (39, 39));
        let mut left: Vec<_> = phones.map(|conn| conn.conn_id().to_owned()).collect();
        assert_eq!(living.count(), 0);
        left.sort();
        left.dedup();
        assert_eq!(left.len(), 39);
        assert_eq!(registry.phones_for("s").into_iter().len(), 0);
    }
}

mod the_queue_of_deadlines {
    use super::*;

    /// Acts on a server-id in grace. Takes the guard of its claim, and a conflict from before the grace. The
    /// result is kept until the queue has been checked.
    type Way = fn(&Registry<Wire>, Claim<Wire>, ServerIdConflict<Wire>) -> Box<dyn Any>;

    /// Checks the number of deadlines left after each way, of the grace it acts on and of another that stays.
    fn check(ways: &[(&str, usize, Way)]) {
        for (way, left, run) in ways {
            let registry = registry();
            let other = registry.claim_server("other", wire("b")).unwrap();
            other.release_after(seconds(3600));
            let claim = held(&registry);
            phone(&registry, "p").detach();
            let conflict = registry.claim_server("s", wire("b2")).unwrap_err();
            registry.release_claim_after("s", claim.epoch(), seconds(10));
            assert_eq!(registry.internals().deadlines, 2);
            let _kept = run(&registry, claim, conflict);
            assert_eq!(registry.internals().deadlines, *left, "after: {way}");
            assert_eq!(registry.next_deadline().is_some(), *left > 0);
            assert_counts_are_exact(&registry);
        }
    }

    #[test]
    fn removes_the_deadline_of_a_grace_on_every_way_out() {
        check(&[
            ("claim", 1, |registry, _, _| {
                Box::new(registry.claim_server("s", wire("b3")))
            }),
            ("take over", 1, |_, _, conflict| {
                Box::new(conflict.take_over())
            }),
            ("release of the server-id", 1, |registry, _, _| {
                Box::new(registry.release_server("s"))
            }),
            ("release by epoch", 1, |registry, claim, _| {
                Box::new(registry.release_claim("s", claim.epoch()))
            }),
            ("release by guard", 1, |_, claim, _| {
                Box::new(claim.release())
            }),
            ("eviction of the server-id", 1, |registry, _, _| {
                Box::new(registry.evict_server("s"))
            }),
            ("eviction by guard", 1, |_, claim, _| {
                Box::new(claim.evict())
            }),
            ("expiry", 1, |registry, _, _| {
                Box::new(registry.expire(at(20)))
            }),
            ("drain", 0, |registry, _, _| Box::new(registry.drain())),
            ("a grace without end", 1, |registry, claim, _| {
                Box::new(registry.release_claim_after("s", claim.epoch(), Duration::MAX))
            }),
            ("expiry of both", 0, |registry, _, _| {
                Box::new(registry.expire(at(7200)))
            }),
            ("release of a grace without phones", 1, |registry, _, _| {
                registry.unregister_phone("s", "p");
                Box::new(registry.release_server("s"))
            }),
        ]);
    }

    #[test]
    fn holds_one_deadline_per_grace_however_often_it_is_rearmed() {
        check(&[
            ("later", 2, |registry, claim, _| {
                Box::new(registry.release_claim_after("s", claim.epoch(), seconds(30)))
            }),
            ("earlier", 2, |registry, claim, _| {
                Box::new(registry.release_claim_after("s", claim.epoch(), seconds(5)))
            }),
            ("by guard", 2, |_, claim, _| {
                Box::new(claim.release_after(seconds(30)))
            }),
            ("never, and then again", 2, |registry, claim, _| {
                registry.release_claim_after("s", claim.epoch(), Duration::MAX);
                Box::new(registry.release_claim_after("s", claim.epoch(), seconds(5)))
            }),
            ("a hundred times", 2, |registry, claim, _| {
                let arm = |i: u64| registry.release_claim_after("s", claim.epoch(), seconds(i % 7));
                Box::new((0..100).all(arm))
            }),
        ]);
    }

    #[test]
    fn keeps_the_deadline_of_a_grace_that_has_not_ended() {
        check(&[
            ("drop of the guard", 2, |_, claim, _| {
                drop(claim);
                Box::new(())
            }),
            ("detached guard", 2, |_, claim, _| Box::new(claim.detach())),
            ("dropped conflict", 2, |_, _, conflict| {
                drop(conflict);
                Box::new(())
            }),
            ("expiry before the deadline", 2, |registry, _, _| {
                Box::new(registry.expire(at(5)))
            }),
            ("a phone comes", 2, |registry, _, _| {
                Box::new(phone(registry, "q"))
            }),
            ("a phone goes", 2, |registry, _, _| {
                Box::new(registry.unregister_phone("s", "p"))
            }),
            ("an unknown phone goes", 2, |registry, _, _| {
                Box::new(registry.unregister_phone("s", "nobody"))
            }),
        ]);
    }

    #[test]
    fn accepts_none_from_a_claim_that_may_not_begin_a_grace() {
        check(&[
            ("after a release", 1, |registry, claim, _| {
                registry.release_server("s");
                Box::new(registry.release_claim_after("s", claim.epoch(), seconds(10)))
            }),
            ("after a release, by guard", 1, |registry, claim, _| {
                registry.release_server("s");
                Box::new(claim.release_after(seconds(10)))
            }),
            ("after an eviction", 1, |registry, claim, _| {
                registry.evict_server("s");
                Box::new(claim.release_after(seconds(10)))
            }),
            ("under a successor", 1, |registry, claim, conflict| {
                let successor = conflict.take_over().unwrap();
                let armed = registry.release_claim_after("s", claim.epoch(), seconds(10));
                Box::new((successor, armed))
            }),
        ]);
    }

    #[test]
    fn keeps_no_connection_alive_after_the_registry() {
        let living = Living::default();
        let registry = registry();
        let claim = registry.claim_server("s", living.wire("b")).unwrap();
        registry
            .register_phone("s", living.wire("p"))
            .unwrap()
            .detach();
        claim.release_after(seconds(10));
        drop(registry);
        assert_eq!(living.count(), 0);
    }

    #[test]
    fn lets_a_claim_that_outlives_the_registry_still_begin_and_end_a_grace() {
        let living = Living::default();
        let registry = registry();
        let claim = registry.claim_server("s", living.wire("b")).unwrap();
        drop(registry);
        assert!(claim.release_after(seconds(10)));
        assert_eq!(living.count(), 0);
    }
}

mod expire {
    use super::*;

    #[test]
    fn ends_every_grace_whose_deadline_has_passed_and_no_other() {
        let registry = registry();
        for (server_id, grace) in [("a", 10), ("b", 20), ("c", 30)] {
            let claim = registry.claim_server(server_id, wire("b")).unwrap();
            registry
                .register_phone(server_id, wire("p"))
                .unwrap()
                .detach();
            claim.release_after(seconds(grace));
        }
        let _held = held(&registry);
        let out = registry.expire(at(21));
        let names: Vec<_> = out.iter().map(|out| &*out.server_id).collect();
        assert_eq!(names, ["a", "b"]);
        for out in &out {
            assert_eq!(out.cause, Cause::Expired);
            assert_eq!(binary_id(out), Some("b"));
            assert_eq!(ids(&out.phones), ["p"]);
        }
        assert!(registry.server("a").is_none());
        assert!(registry.server("c").is_some());
        let counts = Counts {
            binaries: 2,
            phones: 1,
            in_grace: 1,
        };
        assert_eq!(registry.counts(), counts);
        assert!(registry.expire(at(21)).is_empty());
    }

    #[test]
    fn ends_a_grace_whose_deadline_is_exactly_now() {
        let registry = registry();
        in_grace(&registry, seconds(5));
        let deadline = registry.next_deadline().unwrap();
        assert!(
            registry
                .expire(deadline.checked_sub(Duration::from_nanos(1)).unwrap())
                .is_empty()
        );
        assert_eq!(registry.expire(deadline).len(), 1);
        assert_eq!(registry.next_deadline(), None);
    }

    #[test]
    fn leaves_a_reclaimed_server_id_alone() {
        let registry = registry();
        in_grace(&registry, seconds(5));
        let new = registry.claim_server("s", wire("b2")).unwrap();
        assert!(registry.expire(at(60)).is_empty());
        assert!(new.is_current());
    }

    #[test]
    fn next_deadline_is_the_earliest() {
        let registry = registry();
        assert_eq!(registry.next_deadline(), None);
        for (server_id, grace) in [("a", 30), ("b", 10), ("c", 20)] {
            let claim = registry.claim_server(server_id, wire("b")).unwrap();
            claim.release_after(seconds(grace));
        }
        assert!(registry.next_deadline().unwrap() <= at(10));
        registry.release_server("b");
        let next = registry.next_deadline().unwrap();
        assert!(next > at(10) && next <= at(20));
    }
}

mod evict_and_drain {
    use super::*;

    #[test]
    fn evict_removes_binary_and_phones_at_one_instant() {
        let registry = registry();
        let claim = held(&registry);
        let p = phone(&registry, "p");
        let out = registry.evict_server("s").unwrap();
        assert_eq!(out.cause, Cause::Evicted);
        assert_eq!(binary_id(&out), Some("b"));
        assert_eq!(ids(&out.phones), ["p"]);
        assert!(!claim.is_current() && !p.is_registered());
        assert!(registry.evict_server("s").is_none());
    }

    #[test]
    fn evict_removes_orphaned_phones_and_a_server_id_in_grace() {
        let registry = registry();
        let claim = held(&registry);
        phone(&registry, "p").detach();
        claim.release();
        let out = registry.evict_server("s").unwrap();
        assert_eq!(binary_id(&out), None);
        assert_eq!(ids(&out.phones), ["p"]);

        in_grace(&registry, seconds(30));
        assert!(registry.evict_server("s").unwrap().binary.is_some());
        assert_eq!(registry.next_deadline(), None);
    }

    #[test]
    fn what_they_displaced_iterates_over_the_binary_and_then_the_phones() {
        let registry = registry();
        let claim = held(&registry);
        phone(&registry, "p").detach();
        phone(&registry, "q").detach();
        claim.release_after(seconds(30));
        let out = registry.evict_server("s").unwrap();
        let mut borrowed: Vec<_> = (&out).into_iter().map(Conn::conn_id).collect();
        assert_eq!(out.iter().len(), 3);
        assert_eq!(borrowed.remove(0), "b");
        borrowed.sort_unstable();
        assert_eq!(borrowed, ["p", "q"]);
        let mut owned = out.into_iter();
        assert_eq!(owned.len(), 3);
        let binary: Arc<Wire> = owned.next().unwrap();
        assert_eq!(binary.conn_id(), "b");
        assert_eq!(owned.by_ref().count(), 2);
        assert!(owned.next().is_none());

        let claim = held(&registry);
        phone(&registry, "p").detach();
        claim.release();
        let orphans = registry.evict_server("s").unwrap();
        assert_eq!(orphans.iter().len(), 1);
        assert_eq!(orphans.into_iter().next().unwrap().conn_id(), "p");
    }

    #[test]
    fn drain_empties_the_registry() {
        let registry = registry();
        for i in 0..100 {
            let server_id = format!("s{i}");
            let claim = registry.claim_server(&server_id, wire("b")).unwrap();
            registry
                .register_phone(&server_id, wire("p"))
                .unwrap()
                .detach();
            match i % 3 {
                0 => drop(claim.detach()),
                1 => assert!(claim.release_after(seconds(30))),
                _ => assert!(claim.release()),
            }
        }
        let out = registry.drain();
        assert_eq!(out.len(), 100);
        assert!(out.iter().all(|out| out.cause == Cause::Drained));
        assert!(out.iter().all(|out| out.phones.len() == 1));
        assert_eq!(registry.counts(), Counts::default());
        assert_eq!(registry.next_deadline(), None);
        assert_eq!(registry.servers().count(), 0);
        assert!(registry.drain().is_empty());
        assert!(
            held(&registry).is_current(),
            "a drained registry still accepts claims"
        );
    }
}

mod counts {
    use super::*;

    #[test]
    fn follow_every_operation() {
        let registry = registry();
        let expect = |binaries, phones, in_grace| {
            let counts = Counts {
                binaries,
                phones,
                in_grace,
            };
            assert_eq!(registry.counts(), counts);
            assert_counts_are_exact(&registry);
            assert_eq!(registry.len(), registry.servers().count());
        };
        expect(0, 0, 0);
        let claim = held(&registry);
        expect(1, 0, 0);
        assert!(registry.claim_server("s", wire("late")).is_err());
        assert!(registry.register_phone("unknown", wire("p")).is_err());
        expect(1, 0, 0);
        let p = phone(&registry, "p");
        phone(&registry, "q").detach();
        assert!(registry.register_phone("s", wire("q")).is_err());
        expect(1, 2, 0);
        drop(p);
        expect(1, 1, 0);
        claim.release_after(seconds(30));
        expect(1, 1, 1);
        let claim = held(&registry);
        expect(1, 0, 0);
        phone(&registry, "p").detach();
        claim.release();
        expect(0, 1, 0);
        let claim = held(&registry);
        expect(1, 1, 0);
        claim.release_after(seconds(0));
        expect(1, 1, 1);
        drop(registry.expire(at(1)));
        expect(0, 0, 0);
    }

    #[test]
    fn of_server_ids_survive_claims_and_releases_on_many_threads() {
        let registry = registry();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let registry = &registry;
                scope.spawn(move || {
                    for i in 0..2_000 {
                        let server_id = format!("s{}", i % 3);
                        let Ok(claim) = registry.claim_server(&server_id, wire("b")) else {
                            continue;
                        };
                        let p = registry.register_phone(&server_id, wire("p"));
                        match (i + thread) % 3 {
                            0 => drop(claim.evict()),
                            1 => drop(claim),
                            _ => drop((claim.release_after(seconds(0)), p)),
                        }
                    }
                });
            }
        });
        assert_eq!(registry.len(), registry.servers().count());
        drop(registry.drain());
        assert!(registry.is_empty());
    }
}

mod hostile {
    use super::*;

    /// Puts every server-id into one bucket.
    #[derive(Clone, Default)]
    struct Colliding;
    impl BuildHasher for Colliding {
        type Hasher = Self;
        fn build_hasher(&self) -> Self {
            Self
        }
    }
    impl Hasher for Colliding {
        fn finish(&self) -> u64 {
            42
        }
        fn write(&mut self, _: &[u8]) {}
    }

    #[test]
    fn any_string_is_a_server_id_and_a_conn_id() {
        let registry = registry();
        let long = "x".repeat(1 << 20);
        let strange = ["", "\0", "a\0b", "ü", "🦀\u{202e}", "\r\n", " ", &long];
        for server_id in strange {
            let claim = registry.claim_server(server_id, wire(server_id)).unwrap();
            for conn_id in strange {
                let p = registry.register_phone(server_id, wire(conn_id)).unwrap();
                assert_eq!(p.conn_id(), conn_id);
                p.detach();
            }
            assert_eq!(claim.server_id(), server_id);
            let conflict = registry.claim_server(server_id, wire("late")).unwrap_err();
            assert!(conflict.to_string().contains(&format!("{server_id:?}")));
            claim.detach();
        }
        for server_id in strange {
            for conn_id in strange {
                assert!(registry.phone_for(server_id, conn_id).is_some());
            }
            assert_eq!(registry.phones_for(server_id).len(), strange.len());
        }
        assert_eq!(registry.servers().count(), strange.len());
    }

    #[test]
    fn a_hasher_under_which_all_ids_collide_affects_only_speed() {
        let registry: Registry<Wire, Colliding> = Registry::builder().hasher(Colliding).build();
        let claims: Vec<_> = (0..1_000)
            .map(|i| {
                registry
                    .claim_server(&format!("s{i}"), wire(&format!("b{i}")))
                    .unwrap()
            })
            .collect();
        for i in 0..1_000 {
            let found = registry.binary_for(&format!("s{i}")).unwrap();
            assert_eq!(found.conn_id(), format!("b{i}"));
        }
        assert!(registry.binary_for("s1000").is_none());
        assert_eq!(registry.servers().count(), 1_000);
        for claim in claims.into_iter().step_by(2) {
            claim.detach();
        }
        assert_eq!(registry.servers().count(), 500);
        assert_counts_are_exact(&registry);
        assert_eq!(registry.drain().len(), 500);
    }

    #[test]
    fn a_default_builder_builds_a_registry_with_the_default_settings() {
        let registry: Registry<Wire> = Builder::default().build();
        drop(held(&registry));
        assert_eq!(status(&registry), None, "no grace");
        let _claim = held(&registry);
        let _phones = [phone(&registry, "p"), phone(&registry, "q")];
        let other: Registry<Wire, std::hash::RandomState> = Builder::default().build();
        assert!(other.is_empty());
    }

    #[test]
    fn the_registry_takes_any_hasher_and_its_clones_agree() {
        let registry: Registry<Wire, std::hash::RandomState> = Registry::default();
        let _claim = registry.claim_server("s", wire("b")).unwrap();
        assert!(registry.clone().binary_for("s").is_some());
    }
}

mod debug_output {
    use super::*;

    fn shows(thing: impl std::fmt::Debug, what: &[&str]) {
        let text = format!("{thing:?}");
        for what in what {
            assert!(text.contains(what), "{what} is not in {text}");
        }
    }

    #[test]
    fn names_the_type_and_its_ids() {
        let builder = Registry::<Wire>::builder().max_phones(7).grace(seconds(30));
        shows(&builder, &["Builder", "max_phones: 7", "grace: Some(30s)"]);
        let registry: Registry<Wire> = builder.build();
        let mut claim = registry.claim_server("server-1", wire("b")).unwrap();
        let member = registry.register_phone("server-1", wire("p")).unwrap();
        shows(&registry, &["Registry", "binaries: 1", "phones: 1"]);
        shows(&claim, &["Claim", "server-1", "Epoch", "is_current: true"]);
        shows(
            &member,
            &["Membership", "server-1", "\"p\"", "is_registered: true"],
        );
        shows(member.route(), &["Route"]);
        shows(registry.binary_for("server-1").unwrap(), &["ConnRef"]);
        shows(registry.phones_for("server-1"), &["{\"p\"}"]);
        shows(
            registry.phones_for("server-1").iter(),
            &["PhonesIter", "left: 1"],
        );
        let server = registry.server("server-1").unwrap();
        shows(server, &["Server", "server-1", "Held", "Epoch", "\"p\""]);
        let conflict = registry.claim_server("server-1", wire("b2")).unwrap_err();
        shows(
            &conflict,
            &["ServerIdConflict", "server-1", "Epoch", "kind: Held"],
        );
        claim = conflict.take_over().unwrap();
        shows(registry.servers(), &["Servers", "left: 1"]);
        let displaced = claim.displaced();
        let both = displaced.unwrap();
        shows(both.iter(), &["DisplacedIter", "left: 2"]);
        shows(
            both.phones.clone().into_iter(),
            &["PhonesIntoIter", "left: 1"],
        );
        shows(
            displaced,
            &[
                "Displaced",
                "server-1",
                "binary: true",
                "\"p\"",
                "TakenOver",
            ],
        );
    }
}

mod errors {
    use super::*;

    #[test]
    fn name_what_was_refused_and_the_reason_and_nothing_else() {
        let registry: Registry<Wire> = Registry::builder().max_phones(1).build();
        let no_server = registry.register_phone("s", wire("p1")).unwrap_err();
        let claim = held(&registry);
        let held = registry.claim_server("s", wire("b2")).unwrap_err();
        let _p2 = phone(&registry, "p2");
        let at_capacity = registry.register_phone("s", wire("p3")).unwrap_err();
        let duplicate = registry
            .register_phone_with_cap("s", wire("p2"), 2)
            .unwrap_err();
        claim.release_after(seconds(30));
        let denied = registry
            .claim_server_if("s", wire("b2"), |_| false)
            .unwrap_err();
        for (text, expected) in [
            (held.to_string(), r#"server-id "s" is already claimed"#),
            (
                denied.to_string(),
                r#"server-id "s" is in grace, and the condition refused the reclaim"#,
            ),
            (
                no_server.to_string(),
                r#"phone "p1" was not registered: no binary holds its server-id"#,
            ),
            (
                at_capacity.to_string(),
                r#"phone "p3" was not registered: its server-id has as many phones as allowed"#,
            ),
            (
                duplicate.to_string(),
                r#"phone "p2" was not registered: its conn-id is already registered under the server-id"#,
            ),
        ] {
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn of_phones_tell_their_kind_and_lend_and_return_the_connection() {
        let registry: Registry<Wire> = Registry::builder().max_phones(1).build();
        let _claim = held(&registry);
        let _p = phone(&registry, "p");
        let conn = wire("p");
        let no_server = registry.register_phone("other", conn.clone()).unwrap_err();
        let at_capacity = registry.register_phone("s", conn.clone()).unwrap_err();
        let duplicate = registry
            .register_phone_with_cap("s", conn.clone(), 2)
            .unwrap_err();
        for (error, kind) in [
            (no_server, RegisterErrorKind::NoServer),
            (at_capacity, RegisterErrorKind::AtCapacity),
            (duplicate, RegisterErrorKind::DuplicateConnId),
        ] {
            assert_eq!(error.kind(), kind);
            assert!(error.to_string().ends_with(&kind.to_string()));
            assert!(Arc::ptr_eq(error.conn(), &conn));
            let debug = format!("{error:?}");
            assert!(debug.contains(&format!("{kind:?}")), "{debug}");
            assert!(debug.contains(&kind.to_string()), "{debug}");
            assert!(Arc::ptr_eq(&error.into_conn(), &conn));
        }
    }

    #[test]
    fn escape_untrusted_ids() {
        let registry = registry();
        let _claim = registry.claim_server("a\nb\u{1b}[31m", wire("b")).unwrap();
        let conflict = registry
            .claim_server("a\nb\u{1b}[31m", wire("b"))
            .unwrap_err();
        for text in [conflict.to_string(), format!("{conflict:?}")] {
            assert!(!text.contains(['\n', '\u{1b}']), "{text:?}");
        }
    }

    #[test]
    fn say_why_a_send_failed() {
        assert!(SendError::Closed.to_string().contains("closed"));
        assert!(SendError::Full.to_string().contains("full"));
        assert_eq!(SendError::Other("no route".into()).to_string(), "no route");
        assert_eq!(
            SendError::from(Box::<dyn std::error::Error + Send + Sync>::from("x")).to_string(),
            "x"
        );
    }
}

mod a_drop_that_calls_back {
    use super::*;
    use std::sync::Mutex;

    /// A connection whose destructor makes every kind of call that a destructor might.
    fn meddler(registry: &Registry<Wire>, seen: &Arc<Mutex<Vec<Counts>>>) -> Arc<Wire> {
        let (registry, seen) = (registry.clone(), seen.clone());
        wire_with_on_drop("meddler", move || {
            assert_counts_are_exact(&registry);
            seen.lock().unwrap().push(registry.counts());
            if let Ok(claim) = registry.claim_server("s", wire("from a drop")) {
                let _ = registry.register_phone("s", wire("p from a drop"));
                claim.release_after(seconds(1));
            }
            drop(registry.expire(at(2)));
            drop(registry.evict_server("other"));
        })
    }

    #[test]
    fn finds_the_registry_consistent_on_every_way_out() {
        type Exit = fn(&Registry<Wire>, Claim<Wire>);
        let exits: [Exit; 8] = [
            |_, claim| drop(claim),
            |_, claim| assert!(claim.release()),
            |registry, claim| drop((registry.release_server("s"), claim)),
            |registry, claim| drop((registry.evict_server("s"), claim)),
            |registry, claim| drop((registry.drain(), claim)),
            |_, claim| drop(claim.evict()),
            |registry, claim| {
                claim.release_after(seconds(0));
                drop(registry.expire(at(1)));
            },
            |registry, claim| {
                claim.release_after(seconds(1));
                drop(registry.claim_server("s", wire("b2")));
            },
        ];
        for exit in exits {
            let registry = registry();
            let seen = Arc::default();
            let claim = registry
                .claim_server("s", meddler(&registry, &seen))
                .unwrap();
            let conn = meddler(&registry, &seen);
            registry.register_phone("s", conn).unwrap().detach();
            exit(&registry, claim);
            drop(registry.drain());
            assert_eq!(seen.lock().unwrap().len(), 2, "both destructors have run");
            assert_eq!(registry.counts(), Counts::default());
            assert_eq!(registry.next_deadline(), None);
        }
    }
}
