//! Forwards TCP connections by tokio's `copy_bidirectional`, byte for byte: what a relay is measured beside.
//!
//! It is the least that a relay on tokio can do with a byte. For each connection it opens one to `--to`; it merges
//! nothing, and looks at nothing.
#![forbid(unsafe_code)]

use std::io;
use std::net::SocketAddr;

use clap::Parser;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

/// Forwards TCP connections, byte for byte
#[derive(Parser)]
struct Options {
    /// Where to listen; port 0 picks a free one
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,

    /// Where each connection is forwarded to
    #[arg(long, value_name = "ADDR")]
    to: SocketAddr,
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let options = Options::parse();
    rlimit::increase_nofile_limit(u64::MAX)?;
    let listener = TcpListener::bind(options.listen).await?;
    // switchboard-load looks for this line.
    eprintln!("listening address={} tls=false", listener.local_addr()?);
    loop {
        let (near, _) = listener.accept().await?;
        tokio::spawn(forward(near, options.to));
    }
}

/// Until both sides have ended; an error ends the connection and no other one.
async fn forward(mut near: TcpStream, to: SocketAddr) -> io::Result<(u64, u64)> {
    let mut far = TcpStream::connect(to).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    copy_bidirectional(&mut near, &mut far).await
}
