//! The source addresses of connections.
//!
//! One address has some 28,000 ports, and a port is unusable for a minute after its connection. To a relay on
//! this machine, connections come from 127.0.0.1 to 127.0.0.250 in turn.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::net::{TcpSocket, TcpStream};

const ADDRESSES: u8 = 250;

/// The number of addresses tried per connection.
const ATTEMPTS: usize = 8;

#[derive(Default)]
pub(crate) struct Sources {
    next: AtomicU8,
}

impl Sources {
    /// The next source address for a connection to `target`; `None` leaves the choice to the system.
    fn next(&self, target: SocketAddr) -> Option<SocketAddr> {
        match target.ip() {
            IpAddr::V4(ip) if ip.is_loopback() => {
                let next = self.next.fetch_add(1, Ordering::Relaxed) % ADDRESSES;
                Some((Ipv4Addr::new(127, 0, 0, 1 + next), 0).into())
            }
            _ => None,
        }
    }

    pub(crate) async fn connect(&self, target: SocketAddr) -> io::Result<TcpStream> {
        for _ in 1..ATTEMPTS {
            match connect(self.next(target), target).await {
                Err(error) if is_used_up(&error) => {}
                result => return result,
            }
        }
        // Some systems only have 127.0.0.1.
        connect(None, target).await
    }
}

async fn connect(source: Option<SocketAddr>, target: SocketAddr) -> io::Result<TcpStream> {
    let socket = match target {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(source) = source {
        socket.bind(source)?;
    }
    let stream = socket.connect(target).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn is_used_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_has_many_sources() {
        let sources = Sources::default();
        let seen = |target: &str| {
            let target = target.parse().expect("an address");
            sources.next(target).map(|source| source.ip().to_string())
        };
        assert_eq!(seen("127.0.0.1:1").as_deref(), Some("127.0.0.1"));
        assert_eq!(seen("127.0.0.1:1").as_deref(), Some("127.0.0.2"));
        assert_eq!(seen("192.0.2.1:1"), None);
        assert_eq!(seen("[::1]:1"), None);
        for _ in 0..1000 {
            let last = seen("127.0.0.1:1").expect("a source");
            assert!(last.parse::<Ipv4Addr>().expect("IPv4").octets()[3] <= ADDRESSES);
        }
    }
}
