//! A lock-free connection registry for relays.
//!
//! A relay sits between *binaries* (a daemon on somebody's machine, one per server-id) and *phones* (its
//! clients, many per server-id). Both connect to the relay, and every frame it forwards needs a lookup: which
//! binary holds this server-id, and which phones belong to it? This crate does that lookup, and wakes those
//! who wait for its result to change. It has no runtime, threads or timers of its own. It sends on a
//! connection only in [`Phones::broadcast`], and never closes one.
//!
//! - [Usage](#usage)
//! - [Terms](#terms)
//! - [Guarantees](#guarantees)
//! - [What becomes of the phones](#what-becomes-of-the-phones)
//! - [Consistency](#consistency)
//! - [Features](#features)
//! - [Versions](#versions)
//! - [Async](#async)
//! - [Limits and trade-offs](#limits-and-trade-offs)
//!
//! # Usage
//!
//! ```
//! use std::sync::Arc;
//!
//! use switchboard::bytes::Bytes;
//! use switchboard::{Conn, Registry, SendError};
//!
//! /// A relay has the queue of a socket here.
//! struct Wire(&'static str);
//!
//! impl Conn for Wire {
//!     fn conn_id(&self) -> &str { self.0 }
//!     fn send(&self, _frame: Bytes) -> Result<(), SendError> { Ok(()) }
//!     fn close(&self) {}
//! }
//!
//! let registry: Registry<Wire> = Registry::new();
//!
//! // A daemon connects. The claim is its right to the server-id: dropping it releases the server-id.
//! let claim = registry.claim_server("laptop", Arc::new(Wire("daemon")))?;
//!
//! // A phone connects. The membership is its registration: dropping it unregisters the phone.
//! let membership = registry.register_phone("laptop", Arc::new(Wire("phone-1")))?;
//!
//! // Frames are routed through the guards, which neither hash the server-id nor look it up.
//! membership.binary().expect("claimed above").send("to the daemon".into())?;
//! claim.phone("phone-1").expect("registered above").send("to the phone".into())?;
//! claim.phones().broadcast(&"to everybody".into());
//!
//! // Other code looks connections up by server-id.
//! assert_eq!(registry.phones_for("laptop").len(), 1);
//! drop(claim);
//! assert!(registry.binary_for("laptop").is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The other examples use this `Wire` too, and hide it.
//!
//! # Terms
//!
//! | term | meaning |
//! | --- | --- |
//! | server-id | opaque string key; may come from a hostile client |
//! | binary | the one connection that holds a server-id |
//! | phone | one of the connections registered under a server-id |
//! | claim | the act and the right of holding a server-id; each has a fresh [`Epoch`] |
//! | held | claimed by a binary that has not gone away |
//! | grace | the time after a binary went away in which it and its phones stay registered; the next claim ends it |
//! | vacant | claimed by nobody, but phones of an earlier claim remain |
//! | displaced | removed along with the whole server-id, or by the next claim; the caller gets these connections and closes them |
//!
//! # Guarantees
//!
//! - Every race for a server-id has one winner, and every operation on one server-id is linearizable. Each
//!   change replaces one immutable record, which holds the binary *and* the phones, in one step.
//! - Nothing that an old claim does, late or not, touches its successor.
//! - A registered phone stays registered until it is unregistered or displaced. A displaced phone is in
//!   exactly one [`Displaced`]. A [table](#what-becomes-of-the-phones) says which changes displace it.
//! - Every refusal returns the rejected connection.
//! - A connection that has left the registry and is held by no caller is dropped before the call that removed
//!   it returns, or when the last snapshot of it is dropped. Snapshots include those of concurrent calls, a
//!   [`Route`] and a [`ServerIdConflict`]. The destructor of a connection may call the registry.
//! - Lookups never block. After a thread's first lookup they allocate nothing. No public type holds a lock.
//! - No wake-up is lost: no wait sleeps on while what it waits for is there. A listener gets every change, in
//!   the order in which the changes took effect, or [`Lagged`] if it missed some.
//! - Any string is a valid server-id or conn-id. Hostile ids can only slow things down.
//! - The cap on phones holds under any race.
//!
//! # What becomes of the phones
//!
//! [`Builder::orphans`] chooses the column. The default is [`Orphans::Keep`].
//!
//! | event | the phones, with [`Orphans::Keep`] | the phones, with [`Orphans::Displace`] |
//! | --- | --- | --- |
//! | the server-id is released, also during a grace | stay, without a binary | the same |
//! | the claim is dropped, in a registry without `.grace()` | stay, without a binary | the same |
//! | the claim is dropped, in a registry with `.grace()` | stay, with the binary that went away | the same |
//! | a grace begins, or its deadline moves | stay, with the binary that went away | the same |
//! | a claim succeeds during the grace | displaced: [`Reclaimed`](Cause::Reclaimed) | the same |
//! | the condition of `claim_server_if` refuses a claim during the grace | stay, with the binary that went away | the same |
//! | a claim is refused because the server-id is held | stay, with their binary | the same |
//! | another binary takes over a server-id that is held | displaced: [`TakenOver`](Cause::TakenOver) | the same |
//! | a binary claims a vacant server-id | stay, with the new binary | displaced: [`Released`](Cause::Released) |
//! | `expire` ends the grace | displaced: [`Expired`](Cause::Expired) | the same |
//! | `expire` comes before the deadline | stay, with the binary that went away | the same |
//! | `expire` comes to a vacant server-id | stay, without a binary | displaced: [`Released`](Cause::Released) |
//! | the server-id is evicted, whatever its status | displaced: [`Evicted`](Cause::Evicted) | the same |
//! | the registry is drained | displaced: [`Drained`](Cause::Drained) | the same |
//!
//! *Displaced* phones are no longer registered. They are in [`Claim::displaced`] or in what the call
//! returned, together with their binary if there was one. Phones that *stay* are still registered. *Without a
//! binary* means that [`Membership::binary`] is `None`, and that new phones are refused.
//!
//! **[`Builder::grace`] also decides who gets the phones.** With [`Orphans::Keep`] and without a grace, the
//! drop of a claim releases the server-id, and the next claim adopts the phones that stayed, whoever makes
//! it. With a grace, the drop begins it, and a claim during the grace displaces the phones. So a
//! stranger that claims the server-id after the binary has gone gets its phones in the one case and not in
//! the other. With [`Orphans::Displace`] no claim ever gets the phones of another one, with or without a
//! grace. [`claim_server_if`](Registry::claim_server_if) is no substitute: it asks its condition only during
//! a grace, and not for a vacant server-id.
//!
//! With [`Orphans::Displace`], the phones of a released server-id wait for the next call of
//! [`Registry::expire`] or for the next claim. Until then, [`Registry::next_deadline`] returns an instant
//! that has passed, so [the loop that ends graces](#ending-graces) displaces them at once.
//!
//! # Consistency
//!
//! Operations on one server-id are linearizable. [`Registry::server`] shows one instant.
//! [`Registry::servers`], [`Registry::expire`] and [`Registry::drain`] act at one instant per server-id.
//! [`Registry::counts`] is exact at rest; otherwise it is off by at most the changes of the calls that
//! overlap it.
//!
//! Lookups never wait. Most changes to a server-id that stays indexed don't wait either: registering,
//! releasing while phones remain, taking over. A change can wait in these cases:
//!
//! - The index is copied when it runs out of room, or when it holds too many entries of removed server-ids.
//!   The claim that finds this does the copying. Calls that add or remove server-ids meanwhile help and wait,
//!   and enumerations wait too. At a million server-ids this takes a fraction of a second.
//! - A change that empties a server-id goes through a bounded queue. It waits there if another thread was
//!   interrupted in the middle of the same few instructions.
//! - A change that begins a grace, or moves its deadline, takes a short lock to wake those who wait for an
//!   [earlier deadline](Registry::earlier_deadline). So does a release after which phones wait to be
//!   displaced.
//! - While somebody [watches](Registry::watch) or [waits for](Registry::wait_for_binary) any server-id, every
//!   change takes a short lock to see whether its own server-id is meant.
//! - While somebody listens to [events](Registry::events), changes take turns under one lock.
//!
//! # Features
//!
//! `serde`, off by default: [`Counts`], [`Broadcast`], [`Cause`], [`Status`] and [`Epoch`] can be serialized.
//! The first three can also be deserialized. An epoch cannot: only the registry makes one. Nor can a status,
//! whose deadline is an instant of this process. Names are in `snake_case`.
//!
//! # Versions
//!
//! Every public enum may get more variants in a minor release, except [`Status`]: its three states are all
//! that a server-id can be in.
//!
//! # Async
//!
//! Four calls return a future. No other call does.
//!
//! | call | the future completes with |
//! | --- | --- |
//! | [`Registry::wait_for_binary`] | a binary that holds the server-id and has not gone away |
//! | [`Watch::changed`] | the next state of one server-id |
//! | [`Events::next`] | the next change of any server-id |
//! | [`Registry::earlier_deadline`] | the deadline of a grace, if it is earlier than the one given |
//!
//! The futures need no particular runtime: a timeout is the runtime's. They are cancel-safe: dropping one
//! loses nothing, and the next one continues where it was. Each has a method `block_until` for threads, which
//! blocks until the future completes or a deadline has passed.
//!
//! Every value is `Send + Sync` and may be kept across an `.await`. It is `'static`, too, unless it borrows
//! another one. A first claim may wait while the index is copied, as described [above](#consistency); to
//! avoid that, build the registry with the [capacity](Builder::capacity) that it will need.
//!
//! A change wakes those who wait for it before its call returns, on its own thread and under a lock of the
//! crate event-listener. So a waker must only schedule its task, as the wakers of the usual runtimes do. A
//! waker that polls, waits or changes the registry can deadlock. A waker must not panic: the change has been
//! made by then, but a guard that the call would have returned is lost, and the counts may be wrong for good.
//!
//! ## Ending graces
//!
//! The registry has no timer, so a task or thread of the caller's ends the graces. This loop misses none,
//! whoever begins it: a call, or the drop of a claim whose task panics.
//!
//! ```
#![doc = include_str!("docs/wire.in")]
//! # use std::{sync::mpsc, time::Duration};
//! # use switchboard::{Cause, Conn, Registry};
//! # let registry = Registry::<Wire>::builder().grace(Duration::from_millis(1)).build();
//! # let (ended, has_ended) = mpsc::channel();
//! use std::thread;
//! use std::time::Instant;
//!
//! let expiring = registry.clone();
//! thread::spawn(move || loop {
//!     let next = expiring.next_deadline();
//!     let _ = expiring.earlier_deadline(next).block_until(next);
//!     for out in expiring.expire(Instant::now()) {
//!         out.iter().for_each(|conn| conn.close());
//! #       ended.send(out.cause).expect("received below");
//!     }
//! });
//! # // Begins a grace while the loop sleeps, or before it does.
//! # drop(registry.claim_server("s", Arc::new(Wire("b")))?);
//! # assert_eq!(has_ended.recv_timeout(Duration::from_secs(60))?, Cause::Expired);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! It sleeps until the earliest deadline. A grace that ends earlier wakes it, even if that grace began
//! between the first two calls. In async code, a timeout of the runtime takes the place of `block_until`:
//! with tokio, `timeout_at(next.into(), expiring.earlier_deadline(next)).await`, and no timeout while `next`
//! is `None`. `examples/axum` in the repository has that loop. A registry needs no loop if no grace ever
//! begins in it and it keeps its orphans.
//!
//! # Limits and trade-offs
//!
//! - A write copies the record of its server-id. A change to the phones also copies a block of at most 16
//!   phones and, in a longer list, the path to that block. One `RwLock` over two maps writes faster: use that
//!   where writes outnumber lookups.
//! - A [`ConnRef`] or [`Phones`] keeps its whole record alive: the binary and all phones of that instant. So
//!   do [`Displaced::phones`] and a [`ServerIdConflict`]. Drop them soon, or use [`ConnRef::into_arc`].
//! - The thread that drops the last snapshot of many departed phones frees all of them: see
//!   [`Displaced`](Displaced#dropping-many-phones).
//! - A thread can hold eight cheap snapshots at a time. Further ones count references, which is slower but
//!   just as correct.
//! - Each write scans a list of threads. The list is as long as the largest number of threads that have used
//!   the crate at the same time, so a write costs more with more threads. Lookups do not. Use a bounded pool
//!   of threads, not one for each of hundreds of connections.
//! - The destructor of a thread-local may drop a guard, but it must not make calls by server-id: papaya's own
//!   thread-locals are gone by then, and papaya panics.
//! - Any call may drop the last reference to a connection, even to another caller's. So never call the
//!   registry while holding a lock that the `Drop` of a connection takes. If such a `Drop` panics, the panic
//!   hook reports it and the panic ends there: neither that call nor the other connections are affected. Only
//!   the drop of an `Arc` that you hold unwinds. With `panic = "abort"` the process ends.
//! - A connection that owns its own [`Claim`] or [`Membership`] is never dropped: the guard holds the
//!   connection, and the connection the guard. A long chain of connections, each owning the guard of the
//!   next, is dropped recursively and may overflow the stack.
//! - A [`Route`] keeps the record it saw last until it is used again. Drop it before a long wait.
//! - Entries of removed server-ids stay in memory, empty, until enough others have been removed after them,
//!   or until their server-id is claimed again. Each stripe of the registry keeps up to 1,024 of them, with
//!   names of up to 1 KiB, and each thread that removed some keeps a batch of about 256. There are as many
//!   stripes as cores, rounded up to a power of two, and at most 64. Each stripe itself takes 16 KiB.
//! - One process: the registry knows nothing of other machines.
#![forbid(unsafe_code)]
// The unit tests belong to the package `switchboard` and run under no scheduler: with shuttle, the test build
// is empty.
#![cfg(not(all(test, switchboard_shuttle)))]

// Three layers, and imports go down only: the handles (the files beside this one), `store` (what threads
// share) and `state` (immutable values and pure functions). IMPLEMENTATION.md draws them.
mod builder;
mod claim;
mod conn;
mod deadline;
mod displaced;
mod error;
mod events;
mod expiry;
mod membership;
mod registry;
mod route;
mod snapshot;
mod wait;
mod watch;

mod store;

mod state;

/// The crate of [`Bytes`](bytes::Bytes), the type of a frame. An implementation of [`Conn`] needs no
/// dependency of its own for it.
pub use bytes;

pub use builder::Builder;
pub use claim::Claim;
pub use conn::{Conn, SendError};
pub use deadline::EarlierDeadline;
pub use displaced::{Displaced, DisplacedIntoIter, DisplacedIter};
pub use error::{RegisterError, RegisterErrorKind, ServerIdConflict};
pub use events::{Events, Lagged, NextEvent};
pub use membership::Membership;
#[doc(hidden)]
pub use registry::Internals;
pub use registry::Registry;
pub use route::Route;
pub use snapshot::{Broadcast, ConnRef, Phones, PhonesIntoIter, PhonesIter, Server, Servers};
pub use state::cause::Cause;
pub use state::change::{Change, Event, Version};
pub use state::epoch::Epoch;
pub use state::hash::DefaultHashBuilder;
pub use state::status::Status;
pub use state::transition::ConflictKind;
pub use store::counts::Counts;
pub use store::ledger::Orphans;
pub use watch::{Changed, WaitForBinary, Watch};

/// Compiles and runs the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
