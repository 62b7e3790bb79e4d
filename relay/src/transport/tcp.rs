//! TCP connections: their socket options, and how much written data their peers take.

use std::future::{self, Ready};
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

use super::arrivals::{Arrival, Arrivals};
use super::caller::Caller;
use super::places::Place;
use super::seen::Seen;
use super::write_limit::WriteLimit;

/// The most unsent bytes that the system queues for a connection. With more, a ping to a slow peer would wait behind
/// megabytes, and the pong would come too late.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 16 * 1024;

/// Accepts connections that have a place. They send without delay and queue little. Attaches a [`Caller`] and
/// a [`Seen`] to the requests of each connection.
///
/// The service of the connection holds the place: it is dropped when the connection is upgraded or ends.
#[derive(Clone, Debug)]
pub(crate) struct TcpAcceptor(pub(crate) Arc<Arrivals>);

impl<S> Accept<Arrival, S> for TcpAcceptor {
    type Stream = Tcp<TcpStream>;
    type Service = AddExtension<AddExtension<AddExtension<S, Arc<Seen>>, Arc<Place>>, Caller>;
    type Future = Ready<io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, arrival: Arrival, service: S) -> Self::Future {
        let Arrival { io, caller, place } = arrival;
        let accepted = set_up(&io).map(|()| {
            let seen = Arc::<Seen>::default();
            let service = Extension(Arc::clone(&seen)).layer(service);
            let service = Extension(Arc::new(place)).layer(service);
            let service = Extension(caller).layer(service);
            let mut tcp = Tcp::new(io, seen);
            tcp.limit = self.0.write_limit(caller).map(Box::new);
            (tcp, service)
        });
        future::ready(accepted)
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
    limit: Option<Box<WriteLimit>>,
}

impl<Io> Tcp<Io> {
    pub(crate) fn new(io: Io, seen: Arc<Seen>) -> Self {
        Self {
            io,
            seen,
            is_blocked: false,
            limit: None,
        }
    }

    fn written(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(bytes)) if self.is_blocked => {
                self.is_blocked = false;
                self.seen.add_taken(*bytes as u64);
            }
            Poll::Ready(_) => {}
            Poll::Pending => self.is_blocked = true,
        }
        match &mut self.limit {
            Some(limit) => limit.apply(context, written),
            None => written,
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
        self.written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.written(context, written)
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
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use prometheus_client::metrics::counter::Counter;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_write_that_blocks_for_too_long_fails_and_one_that_trickles_does_not() {
        let (mut peer, io) = duplex(16);
        let mut tcp = Tcp::new(io, Arc::default());
        let exceeded = Counter::default();
        tcp.limit = Some(Box::new(WriteLimit::new(
            Duration::from_secs(10),
            Ipv4Addr::LOCALHOST.into(),
            exceeded.clone(),
        )));
        let trickle = async {
            for _ in 0..32 {
                sleep(Duration::from_secs(9)).await;
                peer.read_u8().await.expect("it was sent");
            }
        };
        let (written, ()) = tokio::join!(tcp.write_all(&[0; 48]), trickle);
        written.expect("each write took 9 seconds");
        let blocked = tcp.write_all(&[0; 1]).await.expect_err("nobody reads");
        assert_eq!(blocked.kind(), io::ErrorKind::TimedOut);
        assert_eq!(exceeded.get(), 1);
    }

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
