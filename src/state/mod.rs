//! The state of a server-id at one instant, as immutable values, and the transitions between states, as pure
//! functions. Also what these are made of: reference counts, names and hashes.

pub(crate) mod cause;
pub(crate) mod change;
pub(crate) mod epoch;
pub(crate) mod hash;
pub(crate) mod kept;
pub(crate) mod name;
pub(crate) mod phone_list;
pub(crate) mod record;
pub(crate) mod shared;
pub(crate) mod status;
pub(crate) mod transition;
