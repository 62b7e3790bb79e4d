//! Random sequences of operations on one thread, checked against the sequential model.
//!
//! After every operation:
//!
//! 1. its result is the model's: who won, who was refused and why, who was displaced and by which cause;
//! 2. every lookup, by key and by handle, shows the model's state for every server-id and conn-id. With many
//!    conn-ids, all of them are compared after an operation on a server-id, and a sample after an operation
//!    on phones;
//! 3. a claim that no longer holds its server-id sees no phones, and a membership that is no longer
//!    registered sees no binary;
//! 4. epochs grow;
//! 5. `counts()`, the enumeration and `next_deadline()` agree with the model;
//! 6. departed server-ids are not enumerated, the queue holds one deadline for each grace that ends by
//!    itself, and no retired slot is forgotten;
//! 7. a listener hears exactly the model's changes, and versions grow;
//! 8. a wait for a binary, for a change or for an earlier deadline is ready if and only if that has come, and
//!    was woken by it.

mod common;

use common::driver::{Driver, Op, Shape};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use switchboard::Orphans;

fn op() -> impl Strategy<Value = Op> {
    let n = any::<u8>;
    let grace = || 0..16_u8;
    prop_oneof![
        6 => n().prop_map(|server| Op::Claim { server }),
        3 => (n(), n()).prop_map(|(server, condition)| Op::ClaimIf { server, condition }),
        3 => (n(), n()).prop_map(|(conflict, condition)| Op::TakeOver { conflict, condition }),
        1 => n().prop_map(|conflict| Op::DropConflict { conflict }),
        1 => n().prop_map(|server| Op::ReleaseServer { server }),
        2 => n().prop_map(|past| Op::ReleaseClaim { past }),
        3 => (n(), grace()).prop_map(|(past, grace)| Op::ReleaseClaimAfter { past, grace }),
        1 => (n(), grace()).prop_map(|(past, grace)| Op::ReleaseClaimUntil { past, grace }),
        1 => n().prop_map(|claim| Op::Release { claim }),
        3 => (n(), grace()).prop_map(|(claim, grace)| Op::ReleaseAfter { claim, grace }),
        1 => (n(), grace()).prop_map(|(claim, grace)| Op::ReleaseUntil { claim, grace }),
        2 => n().prop_map(|claim| Op::DropClaim { claim }),
        1 => n().prop_map(|claim| Op::DetachClaim { claim }),
        1 => n().prop_map(|claim| Op::EvictClaim { claim }),
        10 => (n(), n()).prop_map(|(server, conn_id)| Op::Register { server, conn_id }),
        2 => (n(), n(), n())
            .prop_map(|(server, conn_id, cap)| Op::RegisterWithCap { server, conn_id, cap }),
        3 => (n(), n()).prop_map(|(server, conn_id)| Op::UnregisterPhone { server, conn_id }),
        2 => n().prop_map(|membership| Op::Unregister { membership }),
        2 => n().prop_map(|membership| Op::DropMembership { membership }),
        1 => n().prop_map(|membership| Op::DetachMembership { membership }),
        1 => n().prop_map(|server| Op::EvictServer { server }),
        3 => n().prop_map(|hours| Op::Expire { hours }),
        1 => Just(Op::Drain),
        1 => Just(Op::Listen),
        1 => n().prop_map(|server| Op::Wait { server }),
    ]
}

fn orphans() -> impl Strategy<Value = Orphans> {
    prop_oneof![Just(Orphans::Keep), Just(Orphans::Displace)]
}

/// Mostly runs of many phones.
fn wide_op() -> impl Strategy<Value = Op> {
    let n = any::<u8>;
    let many = || (n(), n(), n());
    prop_oneof![
        6 => many().prop_map(|(server, first, count)| Op::RegisterMany { server, first, count }),
        3 => many().prop_map(|(server, first, count)| Op::UnregisterMany { server, first, count }),
        2 => (n(), n()).prop_map(|(membership, count)| Op::LeaveMany { membership, count }),
        // Without these, most operations that end a tenure would displace all phones too.
        2 => n().prop_map(|server| Op::ReleaseServer { server }),
        2 => n().prop_map(|server| Op::Claim { server }),
        18 => op(),
    ]
}

fn config(cases: u32) -> ProptestConfig {
    let file = FileFailurePersistence::Direct("proptest-regressions/properties.txt");
    ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(file)),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(1_000))]

    #[test]
    fn every_sequence_of_operations_does_what_the_model_does(
        grace in proptest::option::of(0..16_u8),
        orphans in orphans(),
        ops in vec(op(), 1..80),
    ) {
        let mut driver = Driver::new(grace, orphans, Shape::NARROW);
        for op in ops {
            driver.run(op);
        }
    }
}

proptest! {
    #![proptest_config(config(700))]

    #[test]
    fn every_sequence_of_operations_on_many_phones_does_what_the_model_does(
        grace in proptest::option::of(0..16_u8),
        orphans in orphans(),
        cap in any::<u8>(),
        ops in vec(wide_op(), 1..60),
    ) {
        let mut driver = Driver::new(grace, orphans, Shape::wide(cap));
        // Phones need a claimed server-id to register under.
        (0..3).for_each(|server| driver.run(Op::Claim { server }));
        for op in ops {
            driver.run(op);
        }
    }
}
