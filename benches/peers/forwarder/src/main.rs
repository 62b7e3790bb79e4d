//! Forwards TCP connections byte for byte with tokio's `copy_bidirectional`. The relay is compared with it.
//!
//! It is the least that a relay on tokio can do with a byte. It opens one connection to `--to` for each that
//! it accepts; it merges nothing and inspects nothing.
#![forbid(unsafe_code)]

use std::io;
use std::net::SocketAddr;

use clap::Parser;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

/// Forwards TCP connections, byte for byte
#[derive(Parser)]
struct Options {
    /// Address to listen on; port 0 picks a free port
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,

    /// Address to forward each connection to
    #[arg(long, value_name = "ADDR")]
    to: SocketAddr,
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let options = Options::parse();
    rlimit::increase_nofile_limit(u64::MAX)?;
    let listener = TcpListener::bind(options.listen).await?;
    // switchboard-load waits for this line.
    eprintln!("listening address={} tls=false", listener.local_addr()?);
    loop {
        let (near, _) = listener.accept().await?;
        tokio::spawn(forward(near, options.to));
    }
}

/// Forwards until both sides have ended. An error ends this connection only.
async fn forward(mut near: TcpStream, to: SocketAddr) -> io::Result<(u64, u64)> {
    let mut far = TcpStream::connect(to).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    copy_bidirectional(&mut near, &mut far).await
}
