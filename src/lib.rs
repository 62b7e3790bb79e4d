//! A lock-free connection registry for relays.
//!
//! A relay sits between *binaries* (a daemon on somebody's machine, one for each server-id) and *phones* (its
//! clients, many for each server-id). Both dial out to the relay, and every frame that it forwards passes
//! through a lookup: who holds this server-id, and who belongs to it? This crate is that lookup, and nothing
//! else. It has no runtime, no threads and no timers of its own; it never sends, closes or spawns.
//!
//! - [Usage](#usage)
//! - [Terms](#terms)
//! - [Guarantees](#guarantees)
//! - [Consistency](#consistency)
//! - [Async](#async)
//! - [Limits and trade-offs](#limits-and-trade-offs)
//!
//! # Usage
//!
//! ```
#![doc = include_str!("docs/wire.in")]
//! use switchboard::{Conn, Registry};
//!
//! let registry: Registry<Wire> = Registry::new();
//!
//! // A daemon connects. The claim is its right to the server-id, for as long as it is kept.
//! let claim = registry.claim_server("laptop", Arc::new(Wire("daemon")))?;
//!
//! // A phone connects. Its membership is its registration, for as long as it is kept.
//! let membership = registry.register_phone("laptop", Arc::new(Wire("phone-1")))?;
//!
//! // Frames are routed through the guards: no hash and no search for the server-id.
//! membership.binary().expect("claimed above").send("to the daemon".into())?;
//! claim.phone("phone-1").expect("registered above").send("to the phone".into())?;
//! claim.phones().broadcast(&"to everybody".into());
//!
//! // Everybody else asks by key.
//! assert_eq!(registry.phones_for("laptop").len(), 1);
//! drop(claim);
//! assert!(registry.binary_for("laptop").is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Terms
//!
//! | term | meaning |
//! | --- | --- |
//! | server-id | opaque string key; may come from a hostile client |
//! | binary | the one connection that holds a server-id |
//! | phone | one of the connections registered under a server-id |
//! | claim | the act and the right of holding a server-id; each has a fresh [`Epoch`] |
//! | grace | the window after a binary went away in which its server-id is kept for it |
//! | displaced | what an operation took out of the registry, handed to the caller, who closes it |
//!
//! # Guarantees
//!
//! - One winner in every race for a server-id, and every operation on one server-id is linearizable: each is one
//!   compare-and-swap of one immutable record that holds the binary *and* the phones.
//! - Nothing that an old claim does, late or not, touches its successor.
//! - A phone is refused, or registered, or in exactly one [`Displaced`]: never lost, never in two.
//! - Every refusal gives the connection back.
//! - A connection that has left the registry and is held by no caller is dropped before the call that removed it
//!   returns, or when the last snapshot goes; that of a call which runs at the same moment counts, and so does a
//!   [`Route`]. The destructor of a connection may call the registry.
//! - Lookups never block, and allocate nothing after a thread's first. Nothing public holds a lock.
//! - Any string is a valid server-id or conn-id. Hostile ones cost time at most.
//! - The cap on phones holds under any race.
//!
//! # Consistency
//!
//! Operations on one server-id are linearizable. [`Registry::server`] is one instant; [`Registry::servers`],
//! [`Registry::expire`] and [`Registry::drain`] are one instant for each server-id. [`Registry::counts`] is exact at rest, and
//! otherwise off by at most what those calls change that overlap it.
//!
//! Lookups never wait. What changes a server-id that is and stays in the index doesn't either: registering, releasing
//! with phones left, taking over. Other changes can wait in two cases. The index has no room left, or too many places of
//! removed server-ids, and is copied: the claim that meets this does the work, and those that add or remove server-ids
//! meanwhile help and wait, and so do enumerations: a fraction of a second at a million server-ids. And a change that
//! empties a server-id passes through a bounded queue, where it waits for a thread that was interrupted in the middle of
//! the same few instructions.
//!
//! # Async
//!
//! Every value is `Send + Sync + 'static` and may be kept across an `.await`. No call is a future. Lookups never wait; a
//! first claim may, while the index is copied, as said [above](#consistency): build the registry with the
//! [capacity](Builder::capacity) that it will need. [`Registry::next_deadline`] and [`Registry::expire`] are for a timer of the caller's: call
//! `expire` when the deadline has come, and look again whenever a grace begins or is set anew.
//!
//! # Limits and trade-offs
//!
//! - A write copies: the record of its server-id, and of its phones a block of at most 16, with the path to it where
//!   there are more. One `RwLock` over two maps writes faster; where writes outnumber lookups, take that.
//! - A [`ConnRef`] or [`Phones`] keeps its whole record alive: the binary and all phones of that instant. So does
//!   [`Displaced::phones`]. Keep them short, or take [`ConnRef::into_arc`].
//! - Whoever drops the last snapshot of many phones that have left frees all of them: see
//!   [`Displaced`](Displaced#dropping-many-phones).
//! - A thread has eight cheap snapshots at a time. Further ones count references, which is slower and no less
//!   right.
//! - A write costs more the more threads have ever used the crate at the same time: it looks at a list of them.
//! - A guard may be dropped by the destructor of a thread-local; calls by key may not be made there: papaya is gone
//!   by then, and panics.
//! - Any call may drop the last reference to a connection, be it another caller's. So never call while holding a lock that
//!   the `Drop` of a connection takes. If such a `Drop` panics, the panic hook reports it and the panic ends there: it costs
//!   neither that call nor the other connections. Only the drop of an `Arc` that you hold unwinds. With `panic = "abort"` the
//!   process ends.
//! - A connection that owns its own [`Claim`] or [`Membership`] is never dropped: the guard holds the connection, and the
//!   connection the guard. A long chain of connections of which each owns the next one's guard is dropped recursively, and
//!   may overflow the stack.
//! - A [`Route`] keeps what it saw last until it is asked again. Drop it before a long wait.
//! - Places of server-ids that nobody holds stay for a while, empty: up to 1,024 of names up to 1 KiB in each of as many
//!   stripes as there are cores (rounded up to a power of two, 64 at the most), and a batch of 256 or so in each thread
//!   that removed some. The stripes themselves are 16 KiB each.
//! - One process: the registry knows nothing of other machines.
#![forbid(unsafe_code)]
// The unit tests belong to the package switchboard, and know no scheduler.
#![cfg(not(all(test, switchboard_shuttle)))]

mod builder;
mod claim;
mod conn;
mod counts;
mod deadlines;
mod displaced;
mod epoch;
mod error;
mod expiry;
mod facade;
mod hash;
mod index;
mod kept;
mod ledger;
mod lingering;
mod membership;
mod phone_list;
mod record;
mod registry;
mod route;
mod slot;
mod snapshot;
mod striped;
mod transition;

pub use builder::Builder;
pub use claim::Claim;
pub use conn::{Conn, SendError};
pub use counts::Counts;
pub use displaced::{Cause, Displaced};
pub use epoch::Epoch;
pub use error::{RegisterError, ServerIdConflict};
pub use hash::DefaultHashBuilder;
pub use membership::Membership;
#[doc(hidden)]
pub use registry::Books;
pub use registry::Registry;
pub use route::Route;
pub use snapshot::{Broadcast, ConnRef, Phones, PhonesIter, Server, Status};

/// The example of the README compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
