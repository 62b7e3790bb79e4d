//! What an operator sets and sees: flags, logs, signals, metrics, the page. Knows no connection.

pub(crate) mod config;
pub(crate) mod error;
pub mod files;
pub(crate) mod health;
pub mod logging;
pub(crate) mod metrics;
pub(crate) mod page;
pub mod signals;
