//! A stateless WebSocket relay between *binaries* and *phones*, built on the connection registry
//! [`switchboard`].
//!
//! A binary connects to `/v1/server` and claims a server-id; phones connect to `/v1/client` and register
//! under it. A phone's frames reach its binary in an [envelope] that names the phone, and the binary's
//! envelopes reach the phone that they name. Frames are opaque.
//!
//! # Layers
//!
//! A layer is a folder. Imports go down only, and there are no circles.
//!
//! ```text
//! server, sweeper   the listeners, from start to shutdown; the end of graces
//! admission/        one request: rate, place, headers, upgrade; then a task for the connection
//! connection/       one connection: claim or register, forward, leave; the registry that all share
//! transport/        byte streams below WebSocket: TCP, TLS, HTTP/1.1, and signs of life in the bytes
//! operate/          the operator's side: flags, logs, signals, metrics, the page
//! protocol/         endpoints, envelopes, close codes: values and text, no I/O
//! ```
//!
//! How a connection passes through them:
//!
//! | step | module |
//! | --- | --- |
//! | accept: send without delay, queue little, no HTTP/2 | `transport::{tcp, tls, http1}` |
//! | admit: rate, place, required headers, upgrade, conn-id | `admission::gate` |
//! | a binary: claim, from a silent incumbent if necessary; forward to phones; leave a grace | `connection::binary` |
//! | a phone: register, forward to the binary, leave with a notice | `connection::phone` |
//! | read, write in batches, close with a handshake | `connection::socket` |
//! | the bounded queue of a peer, which its senders share | `connection::{peer, outbox}` |
//! | whether the peer is alive: pings, pongs, progress | `connection::pulse`, `transport::{wire, tcp, seen}` |
//! | the code and the reason with which it is closed | `protocol::close` |
//! | what it adds to the counters | `operate::metrics` |
//!
//! A frame costs no lookup by server-id: a binary goes through its [`Claim`](switchboard::Claim), a phone
//! through its [`Membership`](switchboard::Membership).
#![forbid(unsafe_code)]

mod admission;
mod connection;
mod operate;
mod protocol;
mod server;
mod sweeper;
mod transport;

pub use operate::config::{Config, MetricsListen, Proxies};
pub use operate::error::Error;
pub use operate::{files, logging, signals};
pub use protocol::envelope;
pub use server::Server;
