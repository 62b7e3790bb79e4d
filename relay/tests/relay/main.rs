//! The relay on the wire: each test starts one on a free port and talks to it as binaries and phones do.

mod admission;
mod closing;
mod common;
mod docs;
mod forwarding;
mod grace;
mod heartbeat;
mod limits;
mod monitor;
mod pressure;
mod process;
mod waiting;
