//! Rejecting HTTP/2, and noticing what the server library rejects.
//!
//! The library itself answers a request whose headers are too large, and tells nobody.
//!
//! WebSocket over HTTP/2 is another protocol. The server library would speak HTTP/2 with a client that starts it, and
//! has no timeout for such a connection when it is idle.

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum_server::accept::Accept;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tracing::debug;

use super::arrivals::Arrival;
use crate::operate::metrics::Unheard;

/// The first bytes of HTTP/2, a method reserved for this purpose (RFC 9113, section 3.4).
const HTTP2: &[u8] = b"PRI";

/// How the library's answer to headers that are too large begins.
const TOO_LARGE: &[u8] = b"HTTP/1.1 431 ";

/// Wraps an acceptor, and closes connections that begin with HTTP/2.
#[derive(Clone, Debug)]
pub(crate) struct Http1Acceptor<A> {
    pub(crate) inner: A,
    pub(crate) unheard: Unheard,
}

impl<A, S> Accept<Arrival, S> for Http1Acceptor<A>
where
    A: Accept<Arrival, S, Future: Send + 'static>,
{
    type Stream = Http1<A::Stream>;
    type Service = A::Service;
    type Future = BoxFuture<'static, io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, arrival: Arrival, service: S) -> Self::Future {
        let address = arrival.caller.0;
        let accepted = self.inner.accept(arrival, service);
        let unheard = self.unheard.clone();
        async move {
            let (io, service) = accepted.await?;
            let first_write = Some(FirstWrite { address, unheard });
            let io = Http1 {
                io,
                begins: HTTP2,
                first_write,
            };
            Ok((io, service))
        }
        .boxed()
    }
}

/// A stream that fails if its peer begins with HTTP/2.
pub(crate) struct Http1<Io> {
    io: Io,
    /// The bytes that would make it HTTP/2 if they came next. Empty once it is known not to be HTTP/2.
    begins: &'static [u8],
    /// Nothing was written yet.
    first_write: Option<FirstWrite>,
}

/// Looks at the first bytes that the library writes.
struct FirstWrite {
    address: IpAddr,
    unheard: Unheard,
}

impl FirstWrite {
    fn look(self, bytes: &[u8]) {
        if bytes.starts_with(TOO_LARGE) {
            self.unheard.headers_too_large.inc();
            debug!(address = %self.address, "request refused: headers too large");
        }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Http1<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(context, buffer))?;
        if self.begins.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let read = &buffer.filled()[before..];
        let part = read.len().min(self.begins.len());
        let (begins, rest) = self.begins.split_at(part);
        if read[..part] != *begins {
            self.begins = &[];
        } else if rest.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        } else {
            self.begins = rest;
        }
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Http1<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(first) = self.first_write.take() {
            first.look(bytes);
        }
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(first) = self.first_write.take() {
            first.look(slices.first().map_or(&[], |slice| slice));
        }
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
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

    /// Reads from a peer that sends these parts.
    async fn read(parts: &[&'static str]) -> io::Result<String> {
        let (mut peer, io) = duplex(64);
        let mut io = Http1 {
            io,
            begins: HTTP2,
            first_write: None,
        };
        let mut text = String::new();
        for part in parts {
            peer.write_all(part.as_bytes()).await?;
            let mut bytes = vec![0; part.len()];
            io.read_exact(&mut bytes).await?;
            text.push_str(&String::from_utf8_lossy(&bytes));
        }
        Ok(text)
    }

    #[tokio::test]
    async fn only_http2_is_refused_however_its_bytes_are_split() {
        for parts in [
            &["PRI * HTTP/2.0\r\n"] as &[&str],
            &["P", "R", "I"],
            &["PR", "I "],
        ] {
            let error = read(parts).await.expect_err("HTTP/2");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
        for parts in [
            &["GET /PRI"] as &[&str],
            &["P", "UT PRI"],
            &["PR", "OPFIND"],
            &[],
        ] {
            assert_eq!(read(parts).await.expect("HTTP/1"), parts.concat());
        }
    }
}
