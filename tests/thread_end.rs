//! Guards that a thread's thread-locals drop as the thread ends, in every order in which the thread-locals
//! can be set up.
//!
//! Destructors of thread-locals run in reverse order. A panic in one of them aborts the process, so this
//! program starts itself again for each order.

mod common;

use std::any::Any;
use std::cell::RefCell;
use std::env;
use std::process::Command;
use std::thread;

use common::{Wire, wire};
use switchboard::{Counts, Registry};

const ORDER: &str = "SWITCHBOARD_THREAD_END";

/// More than the index lets linger, so that some slots must be removed from it.
const CLAIMS: usize = 3_000;

thread_local! {
    static KEPT: RefCell<Vec<Box<dyn Any>>> = const { RefCell::new(Vec::new()) };
}

type SetUp = fn(&Registry<Wire>);

/// Each step sets up a thread-local.
const STEPS: [(char, SetUp); 4] = [
    // The test's own, which drops the guards.
    ('u', |_| KEPT.with_borrow(|_| ())),
    // A lookup in a registry.
    ('r', |registry| drop(registry.binary_for("s"))),
    // The collector beneath papaya.
    ('s', |_| drop(seize::Collector::new().enter())),
    // Another papaya map.
    ('p', |_| drop(papaya::HashMap::<u8, u8>::new().pin())),
];

/// Runs a thread that sets up thread-locals in this order, keeps guards made by another thread, and ends.
fn end_a_thread(order: &str) {
    let registry: Registry<Wire> = Registry::new();
    let long = "long".repeat(1_000);
    let server_ids = (0..CLAIMS).map(|i| i.to_string()).chain([long]);
    let mut guards: Vec<Box<dyn Any + Send>> = Vec::new();
    for server_id in server_ids {
        let claim = registry.claim_server(&server_id, wire("b")).unwrap();
        let phone = registry.register_phone(&server_id, wire("p")).unwrap();
        guards.push(Box::new((claim, phone)));
    }
    let other = registry.clone();
    let order = order.to_owned();
    let ended = thread::spawn(move || {
        for step in order.chars() {
            let (_, set_up) = STEPS.iter().find(|(name, _)| *name == step).unwrap();
            set_up(&other);
        }
        // Drop this handle now: the test is about guards, not about the registry's own end.
        drop(other);
        KEPT.with_borrow_mut(|kept| {
            kept.extend(guards.into_iter().map(|guard| guard as Box<dyn Any>));
        });
    });
    assert!(ended.join().is_ok());
    assert_eq!(registry.counts(), Counts::default());
    assert_eq!(registry.servers().count(), 0);
    for i in 0..CLAIMS {
        assert!(registry.claim_server(&i.to_string(), wire("b")).is_ok());
    }
}

/// Collects all orders of all subsets of `left` that contain `u`.
fn orders(left: &[char], begun: &str, into: &mut Vec<String>) {
    if begun.contains('u') {
        into.push(begun.to_owned());
    }
    for (at, step) in left.iter().enumerate() {
        let mut rest = left.to_vec();
        rest.remove(at);
        orders(&rest, &format!("{begun}{step}"), into);
    }
}

#[test]
fn guards_dropped_at_the_end_of_a_thread_never_abort_whatever_the_order_of_thread_locals() {
    if let Ok(order) = env::var(ORDER) {
        return end_a_thread(&order);
    }
    let mut all = Vec::new();
    orders(&STEPS.map(|(name, _)| name), "", &mut all);
    assert_eq!(all.len(), 49);
    let this = env::current_exe().unwrap();
    for order in all {
        let ended = Command::new(&this).env(ORDER, &order).output().unwrap();
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{order}: {stderr}");
    }
}
