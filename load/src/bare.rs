//! Frames over bare TCP, with a forwarder in place of the relay. This measures the cost of forwarding bytes
//! and nothing else.
//!
//! A forwarder merges nothing. For each phone that connects to it, it opens a connection of its own to the
//! far end in this process, which sends all bytes back.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::BytesMut;
use tokio::io::{BufReader, copy_buf};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::error::Error as WsError;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_util::codec::{Decoder, Encoder, Framed};

use crate::error::Error;

/// The far end reads with the same buffer size as a binary.
const READ_BUFFER: usize = 64 * 1024;

/// A phone writes with the same buffer size as over a WebSocket.
const WRITE_BUFFER: usize = 128 * 1024;

/// A phone's connection. It carries messages, so that phones work the same over TCP and WebSocket.
pub(crate) type Connection = Framed<TcpStream, Frames>;

/// Frames of a fixed size, without separators.
pub(crate) struct Frames(usize);

pub(crate) fn connection(stream: TcpStream, frame_size: usize) -> Connection {
    let mut connection = Frames(frame_size).framed(stream);
    connection.set_backpressure_boundary(WRITE_BUFFER);
    connection
}

impl Decoder for Frames {
    type Item = Message;
    type Error = WsError;

    fn decode(&mut self, bytes: &mut BytesMut) -> Result<Option<Message>, WsError> {
        let missing = self.0.saturating_sub(bytes.len());
        if missing > 0 {
            bytes.reserve(missing);
            return Ok(None);
        }
        let frame = Utf8Bytes::try_from(bytes.split_to(self.0))?;
        Ok(Some(Message::Text(frame)))
    }
}

impl Encoder<Message> for Frames {
    type Error = WsError;

    fn encode(&mut self, message: Message, bytes: &mut BytesMut) -> Result<(), WsError> {
        bytes.extend_from_slice(&message.into_data());
        Ok(())
    }
}

/// Listens for the forwarder until the program ends.
pub(crate) async fn far_end() -> Result<SocketAddr, Error> {
    let failed =
        |error: io::Error| Error::Failed(format!("the far end cannot listen: {}", error.kind()));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    tokio::spawn(async move {
        // If no more connections can be accepted, the phone reports that it got no answer.
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(echo(stream));
        }
    });
    Ok(address)
}

async fn echo(mut stream: TcpStream) -> io::Result<u64> {
    stream.set_nodelay(true)?;
    let (reader, mut writer) = stream.split();
    copy_buf(
        &mut BufReader::with_capacity(READ_BUFFER, reader),
        &mut writer,
    )
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_cut_into_frames_of_one_size_wherever_they_were_split() {
        let mut bytes = BytesMut::new();
        let mut decode = |more: &str| {
            bytes.extend_from_slice(more.as_bytes());
            Frames(4).decode(&mut bytes).expect("UTF-8")
        };
        assert_eq!(decode("abc"), None);
        assert_eq!(decode("defghi"), Some(Message::text("abcd")));
        assert_eq!(decode(""), Some(Message::text("efgh")));
        assert_eq!(decode(""), None);
        let mut written = BytesMut::new();
        for frame in ["abcd", "efgh"] {
            let encoded = Frames(4).encode(Message::text(frame), &mut written);
            encoded.expect("it always fits");
        }
        assert_eq!(written, "abcdefgh");
    }
}
