//! The peers that the registry is compared with: the same verbs on other maps, over the same connections.
//!
//! Each peer refuses a server-id that is held and a phone without a server, removes empty entries, and
//! returns values that a caller may keep across an `.await`. Each uses its default hasher: std's `SipHash`
//! for all but switchboard, whose default is a keyed foldhash. Only switchboard has graces and epochs,
//! refuses a second phone with the same conn-id, maintains its counts, and can tell that a phone left with
//! its server. The others do less.

mod dashmap;
mod locked;
pub mod papaya;
mod scc;
mod switchboard;

use std::sync::Arc;

pub use self::dashmap::Sharded;
pub use self::locked::{Locked, ParkingLot, StdLock};
pub use self::papaya::Records;
pub use self::scc::Buckets;
pub use self::switchboard::Switchboard;
use super::Wire;

pub trait Peer: Default + Send + Sync {
    const NAME: &'static str;
    /// A reference to a binary or to one phone.
    type Conn: Send + 'static;
    type Phones: Send + 'static;

    fn claim(&self, server_id: &str, conn: Arc<Wire>) -> bool;
    fn release(&self, server_id: &str) -> bool;
    fn register(&self, server_id: &str, conn: Arc<Wire>) -> bool;
    fn unregister(&self, server_id: &str, conn_id: &str) -> bool;
    /// Removes binary and phones, and returns them.
    fn evict(&self, server_id: &str) -> Option<(Option<Arc<Wire>>, Self::Phones)>;

    fn binary_for(&self, server_id: &str) -> Option<Self::Conn>;
    fn phone_for(&self, server_id: &str, conn_id: &str) -> Option<Self::Conn>;
    fn phones_for(&self, server_id: &str) -> Self::Phones;

    /// The number of binaries and of phones.
    fn counts(&self) -> (usize, usize);
    /// Visits every server-id with its binary and phones, each owned, and returns their number.
    fn servers(&self) -> usize;

    /// Fills a server-id. A peer that copies its list at each registration overrides this, or large lists
    /// would take minutes.
    fn register_all(&self, server_id: &str, conns: Vec<Arc<Wire>>) {
        for conn in conns {
            assert!(self.register(server_id, conn));
        }
    }

    /// A phone registers and leaves, as a relay would write it.
    fn visit(&self, server_id: &str, conn: &Arc<Wire>) {
        self.register(server_id, conn.clone());
        self.unregister(server_id, &conn.0);
    }

    /// A binary claims and releases, as a relay would write it.
    fn stay(&self, server_id: &str, conn: &Arc<Wire>) {
        self.claim(server_id, conn.clone());
        self.release(server_id);
    }
}

/// A server-id in the maps that keep binary and phones in one value.
#[derive(Default)]
struct Entry {
    binary: Option<Arc<Wire>>,
    phones: Vec<Arc<Wire>>,
}

impl Entry {
    fn claim(&mut self, conn: Arc<Wire>) -> bool {
        let free = self.binary.is_none();
        if free {
            self.binary = Some(conn);
        }
        free
    }

    fn register(&mut self, conn: Arc<Wire>) -> bool {
        let held = self.binary.is_some();
        if held {
            self.phones.push(conn);
        }
        held
    }

    fn is_empty(&self) -> bool {
        self.binary.is_none() && self.phones.is_empty()
    }

    fn phone(&self, conn_id: &str) -> Option<Arc<Wire>> {
        find(&self.phones, conn_id).map(|at| self.phones[at].clone())
    }
}

fn find(phones: &[Arc<Wire>], conn_id: &str) -> Option<usize> {
    phones.iter().position(|phone| phone.0 == conn_id)
}

/// Calls a function for every peer in turn.
macro_rules! each_peer {
    ($run:ident($($arg:expr),*)) => {{
        use $crate::common::peers;
        $run::<peers::Switchboard>($($arg),*);
        $run::<peers::Locked<peers::StdLock>>($($arg),*);
        $run::<peers::Locked<peers::ParkingLot>>($($arg),*);
        $run::<peers::Sharded>($($arg),*);
        $run::<peers::Buckets>($($arg),*);
        $run::<peers::Records>($($arg),*);
    }};
}
pub(crate) use each_peer;
