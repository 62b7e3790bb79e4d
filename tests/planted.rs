//! Deliberate bugs. A sanitizer that misses its own bug proves nothing about the other tests, so
//! `scripts/verify` runs each of these first and stops if it passes.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use bytes::Bytes;
use common::{Living, wire};
use switchboard::{Conn, Registry, SendError};

/// A raw pointer that crosses threads, or outlives its target.
struct Raw<T>(*mut T);

// SAFETY: deliberately unsound.
unsafe impl<T> Send for Raw<T> {}
unsafe impl<T> Sync for Raw<T> {}

/// A connection that counts its frames without synchronization.
struct Careless {
    frames: Raw<u64>,
}

impl Conn for Careless {
    fn conn_id(&self) -> &'static str {
        "careless"
    }
    fn send(&self, _: Bytes) -> Result<(), SendError> {
        // SAFETY: deliberately unsound. Two threads may run this at once.
        unsafe { *self.frames.0 += 1 };
        Ok(())
    }
    fn close(&self) {}
}

#[test]
#[ignore = "a deliberate data race: ThreadSanitizer must report it"]
fn a_race() {
    let frames = Raw(Box::into_raw(Box::new(0)));
    let registry = Registry::new();
    let _claim = registry
        .claim_server("s", Arc::new(Careless { frames }))
        .unwrap();
    let there = Arc::new(AtomicUsize::new(0));
    let senders = [(); 2].map(|()| {
        let (registry, there): (Registry<Careless>, _) = (registry.clone(), Arc::clone(&there));
        thread::spawn(move || {
            let binary = registry.binary_for("s").unwrap();
            // Start both threads together, with no ordering between them.
            there.fetch_add(1, Relaxed);
            while there.load(Relaxed) < 2 {
                thread::yield_now();
            }
            for _ in 0..1_000 {
                binary.send(Bytes::new()).unwrap();
            }
        })
    });
    for sender in senders {
        sender.join().unwrap();
    }
}

#[test]
#[ignore = "a deliberate leak: LeakSanitizer must report it"]
fn a_leak() {
    let registry = Registry::new();
    let _claim = registry.claim_server("s", wire("b")).unwrap();
    std::mem::forget(registry.binary_for("s").unwrap().into_arc());
}

#[test]
#[ignore = "a deliberate use after free: AddressSanitizer must report it"]
fn a_use_after_free() {
    let living = Living::default();
    let registry = Registry::new();
    let claim = registry.claim_server("s", living.wire("b")).unwrap();
    let binary = Arc::as_ptr(claim.conn());
    drop(claim);
    assert_eq!(living.count(), 0, "the connection was not dropped at once");
    // SAFETY: deliberately unsound. The connection has been freed.
    let label = unsafe { std::ptr::read_volatile(&raw const (*binary).label) };
    println!("{label}");
}
