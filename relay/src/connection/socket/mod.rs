//! A WebSocket, split into two halves, and its closing handshake.

mod closing;
mod open;
mod reader;
mod stream;
mod unfinished;
mod writer;

pub(crate) use self::closing::close;
pub(crate) use self::open::open;
pub(crate) use self::reader::Reader;
pub(crate) use self::writer::Writer;
