//! docs
#![forbid(unsafe_code)]

mod builder;
mod claim;
mod conn;
mod counts;
mod deadlines;
mod displaced;
mod epoch;
mod error;
mod hash;
mod index;
mod ledger;
mod membership;
mod phone_list;
mod record;
mod registry;
mod slot;
mod snapshot;
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
pub use registry::Registry;
pub use snapshot::{Broadcast, ConnRef, Phones, PhonesIter, Server, Status};
