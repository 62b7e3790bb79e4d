//! TCP connections: their socket options, and how much written data their peers take.

use std::future::{Ready, ready};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Extension;
use axum::middleware::AddExtension;
use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tower_layer::Layer;

use super::seen::Seen;

/// The most unsent bytes that the system queues for a connection. With more, a ping to a slow peer would wait behind
/// megabytes, and the pong would come too late.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 16 * 1024;

/// Accepts connections that send without delay and queue little. Attaches a [`Seen`] to the requests of each
/// connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TcpAcceptor;

impl<S> Accept<TcpStream, S> for TcpAcceptor {
    type Stream = Tcp<TcpStream>;
    type Service = AddExtension<S, Arc<Seen>>;
    type Future = Ready<io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, io: TcpStream, service: S) -> Self::Future {
        ready(set_up(&io).map(|()| {
            let seen = Arc::<Seen>::default();
            let service = Extension(Arc::clone(&seen)).layer(service);
            (Tcp::new(io, seen), service)
        }))
    }
}

fn set_up(stream: &TcpStream) -> io::Result<()> {
    // The relay batches frames itself. Nagle's algorithm would only delay them.
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT)?;
    Ok(())
}

/// A stream that counts the bytes that its peer takes after a write has blocked.
///
/// It sits below TLS: the TLS layer buffers writes, and so hides how slowly the peer takes them.
pub(crate) struct Tcp<Io> {
    io: Io,
    seen: Arc<Seen>,
    /// The last write blocked.
    is_blocked: bool,
}

impl<Io> Tcp<Io> {
    pub(crate) fn new(io: Io, seen: Arc<Seen>) -> Self {
        Self {
            io,
            seen,
            is_blocked: false,
        }
    }

    fn count(&mut self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Ready(Ok(bytes)) if self.is_blocked => {
                self.is_blocked = false;
                self.seen.add_taken(*bytes as u64);
            }
            Poll::Ready(_) => {}
            Poll::Pending => self.is_blocked = true,
        }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Tcp<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Tcp<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.count(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.count(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn only_a_write_that_blocked_counts_as_progress() {
        let (mut peer, io) = duplex(1 << 16);
        let seen = Arc::<Seen>::default();
        let mut tcp = Tcp::new(io, Arc::clone(&seen));
        let bytes = vec![0; 1 << 16];
        tcp.write_all(&bytes).await.expect("room");
        tcp.flush().await.expect("nothing to wait for");
        assert_eq!(seen.taken(), 0);
        let mut read = vec![0; 1000];
        let (written, ()) = tokio::join!(tcp.write_all(&bytes[..1000]), async {
            peer.read_exact(&mut read)
                .await
                .expect("the bytes were sent");
        });
        written.expect("room");
        assert_eq!((seen.taken(), seen.progress()), (1000, 1000));
    }
}
