use std::time::Instant;

use crate::displaced::Displaced;
use crate::state::change::Attempt;
use crate::state::transition;
use crate::store::deadlines::Key;
use crate::store::ledger::Ledger;
use crate::store::slot::Slot;

/// One scan of the deadlines that are over, from the latest to the earliest. Each step takes one entry of the
/// queue and yields what it ended.
///
/// The scan ends the graces that began before it did, wherever their deadlines move meanwhile: the entries
/// that they had when the scan began stay until it ends. It runs backwards so that a storm of new graces does
/// not prolong it: if they all last equally long, their deadlines are later than those it has left.
pub(crate) struct Expiry<'a, C: ?Sized> {
    ledger: &'a Ledger<Slot<C>>,
    now: Instant,
    /// The first arming that this scan does not end.
    newer: u64,
    /// The remaining entries come before this key.
    end: Key,
}

impl<'a, C: ?Sized> Expiry<'a, C> {
    pub(crate) fn new(ledger: &'a Ledger<Slot<C>>, now: Instant) -> Self {
        ledger.deadlines.begin_scan();
        Self {
            ledger,
            now,
            newer: ledger.armings(),
            end: Key::last_at(now),
        }
    }
}

impl<C: ?Sized> Iterator for Expiry<'_, C> {
    type Item = Option<Displaced<C>>;

    fn next(&mut self) -> Option<Self::Item> {
        let (key, slot) = self.ledger.deadlines.before(self.end)?;
        self.end = key;
        let ended = slot.apply(Attempt::Expire, |record| {
            transition::expire(record, self.now, self.newer)
        });
        let ended = ended.and_then(Result::ok);
        Some(ended.map(|ended| Displaced::of(&slot, ended.before, ended.value)))
    }
}

impl<C: ?Sized> Drop for Expiry<'_, C> {
    fn drop(&mut self) {
        self.ledger.deadlines.end_scan();
    }
}

/// The earliest deadline of a grace.
pub(crate) fn next_deadline<C: ?Sized>(ledger: &Ledger<Slot<C>>) -> Option<Instant> {
    let mut last = None;
    // Read from the records, not from the entries: a deadline may have moved since, even to before `last`.
    let mut earliest: Option<Instant> = None;
    while let Some((key, slot)) = ledger.deadlines.after(last) {
        let deadline = slot
            .snapshot()
            .get()
            .and_then(|record| Some(record.armed_grace()?.deadline));
        earliest = earliest.into_iter().chain(deadline).min();
        if earliest.is_some_and(|earliest| earliest <= key.deadline) {
            break;
        }
        last = Some(key);
    }
    earliest
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::{Conn, Registry, SendError};

    struct Wire;

    impl Conn for Wire {
        fn conn_id(&self) -> &'static str {
            "wire"
        }
        fn send(&self, _: Bytes) -> Result<(), SendError> {
            Ok(())
        }
        fn close(&self) {}
    }

    const GRACES: u32 = 1_000;

    fn begin_grace(registry: &Registry<Wire>, server_id: &str, seconds: u32) {
        let claim = registry.claim_server(server_id, Arc::new(Wire)).unwrap();
        claim.release_after(Duration::from_secs(seconds.into()));
    }

    /// Returns the number of steps, and of those that ended a grace. Calls `storm` after each step.
    fn scan(registry: &Registry<Wire>, mut storm: impl FnMut(u32)) -> (u32, u32) {
        let now = Instant::now() + Duration::from_secs(u64::from(GRACES));
        let (mut steps, mut ended) = (0, 0);
        for step in Expiry::new(&registry.store.ledger, now) {
            steps += 1;
            ended += u32::from(step.is_some());
            storm(steps);
            assert!(steps < 10 * GRACES, "the scan does not end");
        }
        (steps, ended)
    }

    fn registry() -> Registry<Wire> {
        let registry = Registry::new();
        for i in 0..GRACES {
            begin_grace(&registry, &i.to_string(), i);
        }
        registry
    }

    #[test]
    fn takes_a_step_for_each_grace_that_is_over() {
        let registry = registry();
        begin_grace(&registry, "later", GRACES + 60);
        assert_eq!(scan(&registry, |_| {}), (GRACES, GRACES));
    }

    #[test]
    fn ends_while_a_storm_continues() {
        for seconds in [0, GRACES / 2, GRACES - 10] {
            let registry = registry();
            let (steps, ended) = scan(&registry, |step| {
                for storm in 0..3 {
                    begin_grace(&registry, &format!("{step} {storm}"), seconds);
                }
            });
            assert_eq!(ended, GRACES, "no more than there were");
            // One more step for each grace that began at a key that the scan had not reached yet.
            assert!(steps <= 4 * GRACES, "{steps} steps with {seconds} s");
        }
    }

    #[test]
    fn ends_while_one_grace_is_re_armed_repeatedly() {
        let registry = registry();
        let epoch = registry.claim_server("s", Arc::new(Wire)).unwrap().detach();
        let arm = |seconds| {
            registry.release_claim_after("s", epoch, Duration::from_secs(seconds));
        };
        arm(u64::from(2 * GRACES));
        let (steps, ended) = scan(&registry, |_| arm(u64::from(2 * GRACES)));
        assert_eq!((steps, ended), (GRACES, GRACES));
    }

    #[test]
    fn keeps_a_superseded_entry_until_no_scan_is_running() {
        let registry = Registry::new();
        let epoch = registry.claim_server("s", Arc::new(Wire)).unwrap().detach();
        let arm = |seconds| {
            assert!(registry.release_claim_after("s", epoch, Duration::from_secs(seconds)));
            registry.internals().deadlines
        };
        let begin = || Expiry::new(&registry.store.ledger, Instant::now());
        assert_eq!(arm(60), 1);
        let (one, other) = (begin(), begin());
        assert_eq!(arm(120), 2);
        assert_eq!(arm(180), 3);
        drop(one);
        assert_eq!(
            registry.internals().deadlines,
            3,
            "the other one is running"
        );
        drop(other);
        assert_eq!(registry.internals().deadlines, 1);
        assert_eq!(arm(60), 1);
    }

    #[test]
    fn keeps_no_entry_of_a_grace_that_has_ended() {
        let registry = Registry::new();
        begin_grace(&registry, "s", 60);
        let scan = Expiry::new(&registry.store.ledger, Instant::now());
        let _claim = registry.claim_server("s", Arc::new(Wire)).unwrap();
        assert_eq!(registry.internals().deadlines, 0);
        drop(scan);
    }
}
