//! The state of a server-id at one instant, and the state that each operation makes of it: values and pure
//! functions. Nothing here knows that there are other threads.

pub(crate) mod cause;
pub(crate) mod epoch;
pub(crate) mod hash;
pub(crate) mod kept;
pub(crate) mod phone_list;
pub(crate) mod record;
pub(crate) mod shared;
pub(crate) mod transition;
