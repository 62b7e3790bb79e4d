//! A WebSocket that holds no buffers while it is idle.

use std::cell::RefCell;
use std::io::{self, Cursor, ErrorKind, Read, Write};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tungstenite::error::{Error, Result};
use tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig, WebSocketContext};

use super::assembly::Assembly;
use super::seen::Seen;

/// The most bytes that are read at once.
const READ_BUFFER: usize = 32 * 1024;

/// The buffer in which the library gets messages while it also has something to write.
const LIBRARY_BUFFER: usize = 1024;

/// The size at which a batch is written.
const WRITE_BUFFER: usize = 32 * 1024;

/// An upper bound on the bytes that an envelope adds to a frame.
const ENVELOPE: usize = 4 * 1024;

thread_local! {
    /// What was read last. It is used up before the next task runs.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BUFFER].into());
}

/// A WebSocket to a client, after the handshake.
///
/// The [library's state](WebSocketContext) includes its buffers. It exists only while the library has something to read
/// or to write, and from the first close frame on. Bytes are read into a buffer of the thread; those of an incomplete
/// message are kept by [`Assembly`].
pub(crate) struct WebSocket<Io> {
    io: Io,
    seen: Arc<Seen>,
    assembly: Assembly,
    /// Frames that the library may read.
    incoming: Cursor<Vec<u8>>,
    library: Option<Box<WebSocketContext>>,
    /// The most bytes of a message.
    max: usize,
    /// The library may have messages, or a pong to write.
    may_have_more: bool,
    output: Output,
    /// The peer has closed its side.
    is_at_end: bool,
}

/// What the library has been given to write, or writes itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Output {
    /// All of it was written.
    Flushed,
    /// Some of it may be in the library's buffer.
    Buffered,
    /// The same, and a write has blocked.
    Blocked,
}

/// The stream that the library reads from and writes to.
struct Stream<'a, 'c, Io> {
    io: &'a mut Io,
    incoming: &'a mut Cursor<Vec<u8>>,
    output: &'a mut Output,
    is_at_end: bool,
    context: &'a mut Context<'c>,
}

impl<Io> Read for Stream<'_, '_, Io> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.incoming.read(buffer)? {
            0 if !self.is_at_end => Err(ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}

impl<Io: AsyncWrite + Unpin> Write for Stream<'_, '_, Io> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = Pin::new(&mut *self.io).poll_write(self.context, bytes);
        let Poll::Ready(written) = written else {
            *self.output = Output::Blocked;
            return Err(ErrorKind::WouldBlock.into());
        };
        written
    }

    /// The library flushes when it has written all of its buffer.
    fn flush(&mut self) -> io::Result<()> {
        let Poll::Ready(flushed) = Pin::new(&mut *self.io).poll_flush(self.context) else {
            *self.output = Output::Blocked;
            return Err(ErrorKind::WouldBlock.into());
        };
        *self.output = Output::Flushed;
        flushed
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> WebSocket<Io> {
    /// A WebSocket for messages of at most `max` bytes.
    pub(crate) fn new(io: Io, max: usize, seen: Arc<Seen>) -> Self {
        Self {
            io,
            seen,
            assembly: Assembly::new(max),
            incoming: Cursor::default(),
            library: None,
            max,
            may_have_more: false,
            output: Output::Flushed,
            is_at_end: false,
        }
    }

    /// Reads the next message. The library answers pings and close frames. Returns an error when the connection is
    /// over, and `Pending` once a close frame was [withheld](Self::withheld_close).
    pub(crate) fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Result<Message>> {
        loop {
            if self.may_have_more {
                match self.call(context, |library, stream| library.read(stream)) {
                    Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                        // A pong that could not be written is tried again with the next poll.
                        self.may_have_more = self.output == Output::Blocked;
                    }
                    done => return Poll::Ready(done),
                }
            }
            if self.assembly.close().is_some() {
                return Poll::Pending;
            }
            let read = self.poll_read(context);
            if read.is_pending() {
                self.rest();
            }
            ready!(read)?;
            self.may_have_more = true;
        }
    }

    /// The peer's close frame, if it has a code that may be sent and that the library does not know. Nothing is read
    /// after it.
    pub(crate) fn withheld_close(&self) -> Option<&CloseFrame> {
        self.assembly.close()
    }

    /// Reads until there is something for the library.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.assembly.close().is_none() {
            let count = BUFFER.with_borrow_mut(|buffer| {
                let mut buffer = ReadBuf::new(buffer);
                ready!(Pin::new(&mut self.io).poll_read(context, &mut buffer))?;
                let output = self.incoming.get_mut();
                self.assembly.process(buffer.filled(), output, &self.seen);
                Poll::Ready(io::Result::Ok(buffer.filled().len()))
            });
            self.is_at_end = ready!(count)? == 0;
            if self.is_at_end || !self.incoming.get_ref().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Pending
    }

    /// Whether a message may be written.
    pub(crate) fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        if self.output == Output::Blocked {
            self.poll_flush(context)
        } else {
            Poll::Ready(Ok(()))
        }
    }

    /// Writes a message, for which the WebSocket must be [ready](Self::poll_ready).
    pub(crate) fn write(&mut self, message: Message) -> Result<()> {
        if self.output == Output::Flushed {
            self.output = Output::Buffered;
        }
        // If the write blocks, the library keeps the message, and the next call waits.
        let mut context = Context::from_waker(Waker::noop());
        match self.call(&mut context, |library, stream| {
            library.write(stream, message)
        }) {
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            done => done,
        }
    }

    pub(crate) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        if self.library.is_some() {
            match self.call(context, |library, stream| library.flush(stream)) {
                // The close frame was the last one.
                Ok(()) | Err(Error::ConnectionClosed) => {}
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                    return Poll::Pending;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        self.output = Output::Flushed;
        self.rest();
        Poll::Ready(Ok(()))
    }

    /// Closes the sending side.
    pub(crate) fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    /// Reads bytes that nobody needs. Returns how many; 0 if the peer has closed its side.
    pub(crate) fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        BUFFER.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(&mut self.io).poll_read(context, &mut buffer))?;
            Poll::Ready(Ok(buffer.filled().len()))
        })
    }

    /// Lets the library read or write.
    fn call<T>(
        &mut self,
        context: &mut Context<'_>,
        call: impl FnOnce(&mut WebSocketContext, &mut Stream<'_, '_, Io>) -> Result<T>,
    ) -> Result<T> {
        let config = || {
            WebSocketConfig::default()
                .read_buffer_size(LIBRARY_BUFFER)
                .write_buffer_size(WRITE_BUFFER)
                // One message more than a batch, and pongs.
                .max_write_buffer_size(WRITE_BUFFER + self.max + 2 * ENVELOPE)
                .max_frame_size(Some(self.max))
                .max_message_size(Some(self.max))
        };
        let library = self.library.get_or_insert_with(|| {
            let incoming = mem::take(&mut self.incoming).into_inner();
            let library =
                WebSocketContext::from_partially_read(incoming, Role::Server, Some(config()));
            Box::new(library)
        });
        let mut stream = Stream {
            io: &mut self.io,
            incoming: &mut self.incoming,
            output: &mut self.output,
            is_at_end: self.is_at_end,
            context,
        };
        let done = call(library, &mut stream);
        if self.incoming.position() == self.incoming.get_ref().len() as u64 {
            self.incoming = Cursor::default();
        }
        done
    }

    /// Drops the library's state if there is nothing in it.
    fn rest(&mut self) {
        let is_idle = !self.may_have_more
            && self.output == Output::Flushed
            && !self.is_at_end
            && self.assembly.passes_messages()
            && self.incoming.get_ref().is_empty();
        if let Some(library) = &self.library
            && is_idle
            && library.can_write()
        {
            self.library = None;
        }
    }
}

#[cfg(test)]
mod tests;
