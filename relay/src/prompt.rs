//! How the sockets of connections are set up, so that what is written is on its way soon.

use std::future::{Ready, ready};
use std::io;

use axum_server::accept::Accept;
use tokio::net::TcpStream;

/// The most that the system keeps of a connection before it is sent. With more, a ping would wait behind megabytes for a
/// slow peer, and its pong would come too late.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 64 * 1024;

/// Accepts connections that send without delay and queue little.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prompt;

impl<S> Accept<TcpStream, S> for Prompt {
    type Stream = TcpStream;
    type Service = S;
    type Future = Ready<io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        ready(set_up(&stream).map(|()| (stream, service)))
    }
}

fn set_up(stream: &TcpStream) -> io::Result<()> {
    // Frames are batched here already. With Nagle's algorithm they only come a little later.
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT)?;
    Ok(())
}
