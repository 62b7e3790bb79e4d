use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use crate::state::epoch::Epoch;
use crate::store::switch_point::switch_point;

/// Draws the epoch of a new claim.
///
/// One counter serves all registries: an epoch of one matches nothing in another. All draws are
/// read-modify-writes of that counter, so they have one order. `SeqCst` also puts them into the total order
/// of all cell operations. So the later of two claims has the larger epoch even if the two threads have
/// synchronized only through the cell of a third server-id.
pub(crate) fn draw() -> Epoch {
    static NEXT: CachePadded<AtomicU64> = CachePadded::new(AtomicU64::new(1));
    switch_point();
    Epoch::from_number(NEXT.fetch_add(1, Ordering::SeqCst))
}
