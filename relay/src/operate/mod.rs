//! The operator's side: flags, logs, signals, metrics, the live page. Nothing here knows a connection.

pub(crate) mod config;
pub(crate) mod error;
pub mod files;
pub(crate) mod generate;
pub(crate) mod health;
pub mod logging;
pub(crate) mod metrics;
pub(crate) mod page;
pub mod service_manager;
pub mod signals;
