//! A stateless WebSocket relay between *binaries* and *phones*, built on the connection registry
//! [`switchboard`].
//!
//! A binary connects to `/v1/server` and claims a server-id. Phones connect to `/v1/client` and register under it.
//! The relay wraps each frame of a phone in an [envelope] that names the phone, and sends it to the binary. It unwraps
//! each envelope of the binary, and sends the frame to the phone that the envelope names. Frames are opaque.
//!
//! # Layers
//!
//! A layer is a folder. Imports go down only, and there are no circles.
//!
//! ```text
//! server, sweeper, drain   run the listeners, shut down; expire graces; close connections before a shutdown
//! admin/            the admin API: lists server-ids, evicts connections
//! admission/        one request: limits, headers, upgrade, access file and hook; spawns the connection's task
//! connection/       one connection: claim or register, forward, leave; the state that all connections share
//! transport/        WebSocket and the byte streams below it: TCP, TLS, HTTP/1.1, signs of life in the bytes, places
//! operate/          the operator's side: flags, logs, signals, metrics, the live page
//! protocol/         endpoints, envelopes, close codes: values and text, no I/O
//! ```
//!
//! The path of a connection:
//!
//! | step | module |
//! | --- | --- |
//! | accept it, if there is a place: no Nagle delay, a short send queue, no HTTP/2 | `transport::{arrivals, places, tcp, tls, http1}` |
//! | check rate limit, connection limit, headers and upgrade; draw a conn-id | `admission::gate` |
//! | if there is an access file, or a hook: ask it whether the client may connect | `admission::access` |
//! | a binary: claim the server-id (taking over from a silent incumbent), forward to phones, leave a grace | `connection::binary` |
//! | a phone: register, perhaps after a wait for the binary or for room, forward to it, leave a notice | `connection::{phone, held, room}` |
//! | read, write in batches, run the closing handshake | `connection::socket`, `transport::websocket` |
//! | queue frames for a peer, within bounds and fairly among senders | `connection::{peer, outbox}` |
//! | detect a dead peer by pings, pongs and progress | `connection::{pulse, probe}`, `transport::{assembly, tcp, seen}` |
//! | ask the operator's gateway to wake a phone | `connection::push`, `transport::http_client` |
//! | close a connection whose access has expired | `connection::expiry` |
//! | close displaced connections | `connection::displaced` |
//! | close codes and reasons | `protocol::close` |
//! | update the counters | `operate::metrics` |
//!
//! Forwarding a frame needs no lookup by server-id: a binary uses its [`Claim`](switchboard::Claim), a phone its
//! [`Membership`](switchboard::Membership).
#![forbid(unsafe_code)]

mod admin;
mod admission;
mod connection;
mod drain;
mod operate;
mod protocol;
mod server;
mod sweeper;
mod transport;

pub use operate::config::{
    Config, HeaderNames, Hosts, LogFormat, MetricsListen, Origins, Proxies, ServiceUrl,
};
pub use operate::error::Error;
pub use operate::generate::Generate;
pub use operate::{files, logging, service_manager, signals};
pub use protocol::envelope;
pub use server::Server;
pub use transport::health_check::check_health;
