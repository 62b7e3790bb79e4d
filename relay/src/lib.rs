//! A stateless WebSocket relay between *binaries* and *phones*, built on the connection registry
//! [`switchboard`].
//!
//! A binary connects to `/v1/server` and claims a server-id; phones connect to `/v1/client` and register
//! under it. A phone's frames reach its binary in an [envelope] that names the phone, and the binary's
//! envelopes reach the phone that they name. Frames are opaque.
//!
//! How a connection runs through the modules:
//!
//! | step | module |
//! | --- | --- |
//! | flags, logs, signals, open files | [`Config`], [`logging`], [`signals`], [`files`] |
//! | listeners, TLS, routes, shutdown; what all connections share | `server`, `tls`, `relay` |
//! | sockets that send without delay and queue little; no HTTP/2 | `tcp`, `http1` |
//! | rate, place, required headers, upgrade, conn-id | `gate`, `rate`, `forwarded`, `headers`, `upgrade`, `conn_id` |
//! | claim, if need be from a silent incumbent; forward to phones, leave in grace | `binary` |
//! | register, forward to the binary, leave with a notice | `phone` |
//! | what is said on leaving: codes and reasons | `close` |
//! | what waits for a peer, and how its connection is to end | `peer` |
//! | the bounded queue, which its senders share | `outbox` |
//! | whether a peer is alive: pings, pongs, progress | `pulse` |
//! | reading, writing in batches, closing handshake | `socket` |
//! | bytes below WebSocket and TLS: progress, messages that have begun | `wire`, `tcp`, `seen` |
//! | end of graces | `sweeper` |
//! | counters; the listener and the page that show them | `metrics`, `monitor` |
//!
//! A frame costs no lookup by server-id: a binary goes through its [`Claim`](switchboard::Claim), a phone
//! through its [`Membership`](switchboard::Membership).
#![forbid(unsafe_code)]

mod binary;
mod close;
mod config;
mod conn_id;
mod endpoint;
pub mod envelope;
mod error;
pub mod files;
mod forwarded;
mod gate;
mod headers;
mod health;
mod http1;
pub mod logging;
mod metrics;
mod monitor;
mod outbox;
mod peer;
mod phone;
mod pulse;
mod rate;
mod relay;
mod seen;
mod server;
pub mod signals;
mod socket;
mod sweeper;
mod tcp;
mod tls;
mod upgrade;
mod wire;

pub use config::{Config, MetricsListen};
pub use error::Error;
pub use forwarded::Proxies;
pub use server::Server;
