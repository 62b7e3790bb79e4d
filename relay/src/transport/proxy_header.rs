//! The header of the PROXY protocol, version 2: with it, a proxy says for which client it connects.

use std::io;
use std::net::IpAddr;

use proxy_header::{Error, ParseConfig, Protocol, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The bytes before the variable part. The last two are its length.
const FIXED: usize = 16;

/// The most bytes of a header. Addresses need 52, and what proxies append about TLS some hundred more.
const MOST: usize = 2048;

const VERSION_2: ParseConfig = ParseConfig {
    include_tlvs: false,
    allow_v1: false,
    allow_v2: true,
};

/// Why a connection has no usable header.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadHeader {
    #[error("the connection does not begin with a PROXY protocol header of version 2")]
    Invalid,
    #[error("the PROXY protocol header has {0} bytes, more than {MOST}")]
    TooLarge(usize),
    #[error("the PROXY protocol header was not complete in time")]
    TooSlow,
    #[error("the connection ended before its PROXY protocol header: {0}")]
    Incomplete(#[from] io::Error),
}

/// Reads a header, and no byte after it. Returns the address of the client, or `None` if the proxy connects for
/// itself, or for a client without an IP address.
pub(super) async fn read(io: &mut (impl AsyncRead + Unpin)) -> Result<Option<IpAddr>, BadHeader> {
    let mut header = vec![0; FIXED];
    io.read_exact(&mut header).await?;
    // Refuse what is no header before its supposed length is believed.
    if !matches!(
        ProxyHeader::parse(&header, VERSION_2),
        Ok(_) | Err(Error::BufferTooShort)
    ) {
        return Err(BadHeader::Invalid);
    }
    let rest = u16::from_be_bytes([header[FIXED - 2], header[FIXED - 1]]);
    let length = FIXED + usize::from(rest);
    if length > MOST {
        return Err(BadHeader::TooLarge(length));
    }
    header.resize(length, 0);
    io.read_exact(&mut header[FIXED..]).await?;
    let parsed = ProxyHeader::parse(&header, VERSION_2);
    let (parsed, _) = parsed.map_err(|_| BadHeader::Invalid)?;
    match parsed.proxied_address() {
        None => Ok(None),
        Some(client) if client.protocol == Protocol::Stream => {
            Ok(Some(client.source.ip().to_canonical()))
        }
        Some(_) => Err(BadHeader::Invalid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    const IPV4: &[u8] = &[198, 51, 100, 7, 127, 0, 0, 1, 0x30, 0x39, 0x1f, 0x90];

    /// A header with this command, family and variable part.
    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("it fits");
        let fixed = [&[command, family], &length.to_be_bytes()[..]].concat();
        [SIGNATURE, &fixed, rest].concat()
    }

    /// What a connection is read as, and what is left of it.
    async fn parse(bytes: &[u8]) -> (Result<Option<String>, BadHeader>, Vec<u8>) {
        let mut unread = bytes;
        let client = read(&mut unread).await;
        let client = client.map(|client| client.map(|address| address.to_string()));
        (client, unread.to_vec())
    }

    async fn client(bytes: &[u8]) -> Option<String> {
        let (client, rest) = parse(&[bytes, b"GET /"].concat()).await;
        assert_eq!(rest, b"GET /", "{bytes:?}");
        client.expect("a valid header")
    }

    #[tokio::test]
    async fn the_header_names_the_client_and_nothing_after_it_is_read() {
        let found = client(&header(0x21, 0x11, IPV4)).await;
        assert_eq!(found.as_deref(), Some("198.51.100.7"));
        let long = [IPV4, &[0x04, 0x03, 0xe8], &[0; 1000]].concat();
        let found = client(&header(0x21, 0x11, &long)).await;
        assert_eq!(found.as_deref(), Some("198.51.100.7"));
        let mut ipv6 = [0; 36];
        ipv6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        let found = client(&header(0x21, 0x21, &ipv6)).await;
        assert_eq!(found.as_deref(), Some("2001:db8::"));
        let mut mapped = [0; 36];
        mapped[10..16].copy_from_slice(&[0xff, 0xff, 198, 51, 100, 7]);
        let found = client(&header(0x21, 0x21, &mapped)).await;
        assert_eq!(found.as_deref(), Some("198.51.100.7"));
    }

    #[tokio::test]
    async fn a_proxy_may_connect_for_itself_or_for_a_client_without_an_ip_address() {
        assert_eq!(client(&header(0x20, 0, &[])).await, None);
        assert_eq!(client(&header(0x20, 0x11, IPV4)).await, None);
        assert_eq!(client(&header(0x21, 0, &[])).await, None);
        assert_eq!(client(&header(0x21, 0x31, &[0; 216])).await, None);
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        let other_signature = [b"\r\n\r\n\0\r\nQUIT ", &[0x21, 0x11, 0, 0][..]].concat();
        for bytes in [
            b"GET /v1/server HTTP/1.1\r\n" as &[u8],
            b"PROXY TCP4 198.51.100.7 127.0.0.1 12345 8080\r\n",
            &other_signature,
            &header(0x11, 0x11, IPV4),
            &header(0x22, 0x11, IPV4),
            &header(0x21, 0x41, IPV4),
            // UDP.
            &header(0x21, 0x12, IPV4),
            // No room for the addresses.
            &header(0x21, 0x11, &IPV4[1..]),
            &header(0x21, 0x21, IPV4),
            &header(0x21, 0x31, &[0; 215]),
        ] {
            let (refused, _) = parse(bytes).await;
            assert!(matches!(refused, Err(BadHeader::Invalid)), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn a_header_that_ends_early_is_incomplete() {
        let whole = header(0x21, 0x11, IPV4);
        for end in 0..whole.len() {
            let (refused, _) = parse(&whole[..end]).await;
            assert!(matches!(refused, Err(BadHeader::Incomplete(_))), "{end}");
        }
    }

    #[tokio::test]
    async fn a_header_that_is_too_large_is_refused_before_it_is_read() {
        assert_eq!(client(&header(0x20, 0, &[0; MOST - FIXED])).await, None);
        let (refused, unread) = parse(&header(0x20, 0, &[0; MOST - FIXED + 1])).await;
        assert!(matches!(refused, Err(BadHeader::TooLarge(2049))));
        assert_eq!(unread.len(), MOST - FIXED + 1);
    }
}
