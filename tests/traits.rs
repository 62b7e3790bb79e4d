//! Compile-time properties of the public types: threads, lifetimes, object safety, sizes.

mod common;

use std::fmt::Debug;
use std::mem::size_of;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use common::Wire;
use switchboard::bytes::Bytes;
use switchboard::{
    Broadcast, Builder, Cause, Change, Changed, Claim, ConflictKind, Conn, ConnRef, Counts,
    DefaultHashBuilder, Displaced, DisplacedIntoIter, DisplacedIter, EarlierDeadline, Epoch, Event,
    Events, Lagged, Membership, NextEvent, Orphans, Phones, PhonesIntoIter, PhonesIter,
    RegisterError, RegisterErrorKind, Registry, Route, SendError, Server, ServerIdConflict,
    Servers, Status, Version, WaitForBinary, Watch,
};

fn shared<T: Send + Sync + 'static>() {}
fn debug<T: Debug>() {}
fn future<T: Future + Unpin>() {}
fn error<T: std::error::Error + Send + Sync + 'static>() {}

/// Neither `Debug` nor `Sized`: the types must require nothing of a connection but `Conn`.
fn all_types_of<C: Conn + ?Sized>() {
    shared::<Registry<C>>();
    shared::<Builder<C>>();
    shared::<Claim<C>>();
    shared::<Membership<C>>();
    shared::<Route<C>>();
    shared::<ConnRef<C>>();
    shared::<Phones<C>>();
    shared::<Server<C>>();
    shared::<Displaced<C>>();
    shared::<ServerIdConflict<C>>();
    shared::<RegisterError<C>>();
    shared::<PhonesIter<'static, C>>();
    shared::<PhonesIntoIter<C>>();
    shared::<DisplacedIter<'static, C>>();
    shared::<DisplacedIntoIter<C>>();
    shared::<Servers<C>>();
    shared::<Watch<C>>();
    shared::<Events<C>>();
    shared::<WaitForBinary<C>>();
    shared::<EarlierDeadline<C>>();
    shared::<Changed<'static, C>>();
    shared::<NextEvent<'static, C>>();
    future::<WaitForBinary<C>>();
    future::<EarlierDeadline<C>>();
    future::<Changed<'_, C>>();
    future::<NextEvent<'_, C>>();
    debug::<Registry<C>>();
    debug::<Builder<C>>();
    debug::<Claim<C>>();
    debug::<Membership<C>>();
    debug::<Route<C>>();
    debug::<ConnRef<C>>();
    debug::<Phones<C>>();
    debug::<PhonesIter<'_, C>>();
    debug::<PhonesIntoIter<C>>();
    debug::<DisplacedIter<'_, C>>();
    debug::<DisplacedIntoIter<C>>();
    debug::<Servers<C>>();
    debug::<Server<C>>();
    debug::<Displaced<C>>();
    debug::<Watch<C>>();
    debug::<Events<C>>();
    debug::<WaitForBinary<C>>();
    debug::<EarlierDeadline<C>>();
    debug::<Changed<'_, C>>();
    debug::<NextEvent<'_, C>>();
    error::<ServerIdConflict<C>>();
    error::<RegisterError<C>>();
}

#[test]
fn every_public_type_can_be_shared_and_kept_across_an_await() {
    all_types_of::<Wire>();
    all_types_of::<dyn Conn>();
    all_types_of::<Arc<dyn Conn>>();
    all_types_of::<Box<dyn Conn>>();
    shared::<(Counts, Epoch, Status, Cause, Broadcast, DefaultHashBuilder)>();
    shared::<(RegisterErrorKind, ConflictKind, Orphans)>();
    shared::<(Event, Change, Version, Lagged)>();
    error::<SendError>();
    error::<Lagged>();
}

#[test]
fn types_without_a_bound_can_be_named_without_a_bound() {
    #[allow(dead_code)]
    struct Session<C: ?Sized> {
        registry: Registry<C>,
        claim: Option<Claim<C>>,
        membership: Option<Membership<C>>,
        refused: Option<RegisterError<C>>,
        conflict: Option<ServerIdConflict<C>>,
    }
    shared::<Session<dyn Conn>>();
}

#[test]
fn a_panic_elsewhere_does_not_poison_a_registry() {
    fn unwind_safe<T: UnwindSafe + RefUnwindSafe>() {}
    unwind_safe::<(Counts, Epoch, Status, Cause)>();
    let registry: Registry<Wire> = Registry::new();
    let claim = registry.claim_server("s", common::wire("b")).unwrap();
    let unwound = std::thread::scope(|scope| {
        let registry = &registry;
        let thread = scope.spawn(move || {
            let _phone = registry.register_phone("s", common::wire("p"));
            panic!("on purpose");
        });
        thread.join()
    });
    assert!(unwound.is_err());
    assert!(claim.is_current());
    assert_eq!(registry.counts().phones, 0);
}

#[test]
fn a_registry_of_trait_objects_works() {
    struct Other;
    impl Conn for Other {
        fn conn_id(&self) -> &'static str {
            "other"
        }
        fn send(&self, _: Bytes) -> Result<(), SendError> {
            Err(SendError::Full)
        }
        fn close(&self) {}
    }
    let registry: Registry = Registry::new();
    let claim = registry.claim_server("s", common::wire("b")).unwrap();
    let _phone = registry.register_phone("s", Arc::new(Other)).unwrap();
    assert_eq!(claim.phone("other").unwrap().conn_id(), "other");
    let sent = claim.phones().broadcast(&Bytes::new());
    assert_eq!((sent.delivered, sent.failed), (0, 1));
}

#[test]
fn a_registry_of_the_callers_own_trait_objects_works() {
    trait Labelled: Conn {
        fn label(&self) -> u32;
    }
    impl Labelled for Wire {
        fn label(&self) -> u32 {
            self.label
        }
    }
    let registry: Registry<dyn Labelled> = Registry::builder().build();
    let claim = registry.claim_server("s", common::labelled("b", 7));
    assert_eq!(registry.binary_for("s").unwrap().label(), 7);
    drop(claim);
    assert!(registry.is_empty());
}

#[test]
fn the_type_of_the_connections_can_be_named_on_either_side() {
    let registry: Registry = Registry::builder().build();
    let named = Registry::<dyn Conn>::builder().build();
    let defaulted: Registry = Builder::default().build();
    assert!(registry.is_empty() && named.is_empty() && defaulted.is_empty());
}

#[test]
fn every_match_on_a_status_is_complete_without_a_wildcard() {
    let registry: Registry<Wire> = Registry::new();
    let _claim = registry.claim_server("s", common::wire("b")).unwrap();
    let held = match registry.server("s").unwrap().status() {
        Status::Held => true,
        Status::Vacant | Status::Grace { .. } => false,
    };
    assert!(held);
}

#[test]
fn pointers_to_a_connection_are_connections() {
    let inner: Arc<dyn Conn> = common::wire("inner");
    let registry: Registry<Arc<dyn Conn>> = Registry::new();
    let _claim = registry.claim_server("s", Arc::new(inner.clone())).unwrap();
    let found = registry.binary_for("s").unwrap();
    assert_eq!(found.conn_id(), "inner");
    found.close_with(4404, "no server with that id");
    assert!(Box::new(inner).send(Bytes::new()).is_err(), "it is closed");
}

#[test]
fn handles_are_small() {
    let pointer = size_of::<usize>();
    assert!(size_of::<Registry<Wire>>() <= 3 * pointer);
    assert!(size_of::<Phones<Wire>>() <= 2 * pointer);
    assert!(size_of::<ConnRef<Wire>>() <= 5 * pointer);
    assert!(size_of::<Membership<Wire>>() <= 4 * pointer);
    assert!(size_of::<Server<Wire>>() <= 3 * pointer);
    assert_eq!(size_of::<Epoch>(), size_of::<Option<Epoch>>());
    // Results are returned by value, so an error must stay below clippy's limit for large errors.
    assert!(size_of::<ServerIdConflict<dyn Conn>>() <= 128);
    assert!(size_of::<RegisterError<dyn Conn>>() <= 3 * pointer);
}

#[test]
fn a_connection_without_close_codes_is_closed_plainly() {
    let plain = common::wire("p");
    plain.close_with(4404, "no server with that id");
    assert_eq!(plain.closed.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[test]
fn no_two_registries_hash_alike() {
    use std::hash::BuildHasher;
    let one = DefaultHashBuilder::default();
    assert_eq!(one.hash_one("s"), one.clone().hash_one("s"));
    assert_ne!(
        one.hash_one("s"),
        DefaultHashBuilder::default().hash_one("s")
    );
}
