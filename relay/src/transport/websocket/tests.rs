use std::collections::VecDeque;

use futures_util::FutureExt;
use proptest::collection::vec;
use proptest::prelude::*;
use std::future::poll_fn;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::*;

const MAX: usize = 100;

/// A stream from which bytes are read in given parts. It takes all that is written.
#[derive(Default)]
struct Parts(VecDeque<Vec<u8>>);

impl AsyncRead for Parts {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(part) = self.0.pop_front() {
            buffer.put_slice(&part);
        }
        Poll::Ready(Ok(()))
    }
}

impl Read for Parts {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(mut part) = self.0.pop_front() else {
            return Ok(0);
        };
        let rest = part.split_off(part.len().min(buffer.len()));
        buffer[..part.len()].copy_from_slice(&part);
        if !rest.is_empty() {
            self.0.push_front(rest);
        }
        Ok(part.len())
    }
}

impl AsyncWrite for Parts {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A frame from a client. The mask is the one given, if any.
fn frame(opcode: OpCode, is_final: bool, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader {
        is_final,
        opcode,
        mask,
        ..FrameHeader::default()
    };
    let mut bytes = Vec::new();
    header
        .format(payload.len() as u64, &mut bytes)
        .expect("a vector takes all bytes");
    let masked = payload
        .iter()
        .zip(mask.unwrap_or_default().into_iter().cycle());
    bytes.extend(masked.map(|(byte, mask)| byte ^ mask));
    bytes
}

fn mask() -> impl Strategy<Value = Option<[u8; 4]>> {
    any::<[u8; 4]>().prop_map(Some)
}

/// The frames of a message in fragments, perhaps with control frames between them.
fn fragments() -> impl Strategy<Value = Vec<u8>> {
    let data = prop_oneof![Just(Data::Text), Just(Data::Binary)];
    let parts = vec((mask(), 0..30_usize, option_of(control())), 1..6);
    (data, parts).prop_map(|(data, parts)| {
        let last = parts.len() - 1;
        let parts = parts.into_iter().enumerate();
        parts
            .flat_map(|(number, (mask, length, control))| {
                let data = if number == 0 { data } else { Data::Continue };
                let payload = "é1".repeat(length / 3 + 1);
                let part = frame(OpCode::Data(data), number == last, mask, payload.as_bytes());
                [
                    part,
                    if number == last { None } else { control }.unwrap_or_default(),
                ]
                .concat()
            })
            .collect()
    })
}

fn option_of<T: std::fmt::Debug + Clone>(
    strategy: impl Strategy<Value = T>,
) -> impl Strategy<Value = Option<T>> {
    proptest::option::of(strategy)
}

fn control() -> impl Strategy<Value = Vec<u8>> {
    let control = prop_oneof![Just(Control::Ping), Just(Control::Pong)];
    (control, mask(), vec(any::<u8>(), 0..20))
        .prop_map(|(control, mask, payload)| frame(OpCode::Control(control), true, mask, &payload))
}

/// Any frame at all, but with ASCII. In a fragment, the library rejects what is not UTF-8 at once, here only with the
/// whole message.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let payload = vec(0..0x80_u8, 0..160);
    (any::<u8>(), any::<Option<[u8; 4]>>(), payload).prop_map(|(first, mask, payload)| {
        let mut frame = frame(OpCode::Data(Data::Text), true, mask, &payload);
        frame[0] = first;
        frame
    })
}

/// A message that may not be UTF-8.
fn whole() -> impl Strategy<Value = Vec<u8>> {
    (mask(), vec(any::<u8>(), 0..4))
        .prop_map(|(mask, payload)| frame(OpCode::Data(Data::Text), true, mask, &payload))
}

/// The bytes of a client, cut into parts. They end with a valid close frame.
fn bytes() -> impl Strategy<Value = (Vec<u8>, Vec<Vec<u8>>)> {
    let frames = prop_oneof![
        8 => fragments(),
        4 => control(),
        1 => any_frame(),
        1 => whole(),
    ];
    (vec(frames, 0..8), vec(1..50_usize, 1..50)).prop_map(|(frames, sizes)| {
        let close = frame(
            OpCode::Control(Control::Close),
            true,
            Some([7; 4]),
            b"\x03\xe8",
        );
        let bytes = [frames.concat(), close].concat();
        let mut sizes = sizes.into_iter().cycle();
        let mut rest = &bytes[..];
        let mut parts = Vec::new();
        while !rest.is_empty() {
            let size = sizes.next().expect("it is a cycle").min(rest.len());
            let (part, more) = rest.split_at(size);
            parts.push(part.to_vec());
            rest = more;
        }
        (bytes, parts)
    })
}

/// What the library makes of bytes. Errors in the text of a message are alike, wherever in the text they are.
fn seen_by(mut next: impl FnMut() -> Result<Message>) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        match next() {
            Ok(message) => seen.push(format!("{message:?}")),
            Err(Error::Utf8(_)) => {
                seen.push("UTF-8".to_owned());
                return seen;
            }
            Err(error) => {
                seen.push(error.to_string());
                return seen;
            }
        }
    }
}

proptest! {
    #[test]
    fn messages_and_errors_are_those_of_the_library_alone(
        (bytes, parts) in bytes(),
        is_writing in any::<bool>(),
    ) {
        // Close codes that the library does not know are withheld from it. That is no error, but a difference.
        let config = WebSocketConfig::default().max_frame_size(Some(MAX)).max_message_size(Some(MAX));
        let mut alone = WebSocketContext::new(Role::Server, Some(config));
        let mut stream = Parts(VecDeque::from([bytes]));
        let expected = seen_by(|| alone.read(&mut stream));

        let mut socket = WebSocket::new(Parts(parts.into()), MAX, Arc::default());
        if is_writing {
            socket.write(Message::text("it is kept until it is flushed")).expect("room");
        }
        let seen = seen_by(|| {
            let next = poll_fn(|context| socket.poll_message(context)).now_or_never();
            next.unwrap_or(Err(Error::ConnectionClosed))
        });
        if socket.withheld_close().is_none() {
            prop_assert_eq!(seen, expected);
        }
    }
}

fn text(payload: &str) -> Vec<u8> {
    frame(
        OpCode::Data(Data::Text),
        true,
        Some([1, 2, 3, 4]),
        payload.as_bytes(),
    )
}

#[tokio::test]
async fn nothing_of_the_library_is_left_when_all_is_read_and_written() {
    let (mut peer, io) = duplex(1 << 16);
    let mut socket = WebSocket::new(io, 1 << 16, Arc::default());
    let large = "x".repeat(1 << 15);
    for _ in 0..2 {
        peer.write_all(&text(&large)).await.expect("room");
        let message = poll_fn(|context| socket.poll_message(context)).await;
        assert!(message.expect("valid") == Message::text(&large));
        assert!(socket.library.is_some());
        let next = poll_fn(|context| socket.poll_message(context)).now_or_never();
        assert!(next.is_none() && socket.library.is_none());
        assert_eq!(socket.incoming.get_ref().capacity(), 0);
        socket.write(Message::text("answer")).expect("room");
        assert!(socket.library.is_some());
        poll_fn(|context| socket.poll_flush(context))
            .await
            .expect("room");
        assert!(socket.library.is_none());
        let mut answer = [0; 8];
        peer.read_exact(&mut answer).await.expect("it was written");
        assert_eq!(&answer[2..], b"answer");
    }
}

#[tokio::test]
async fn messages_are_read_and_pings_are_answered_while_a_write_is_blocked() {
    let (mut peer, io) = duplex(1 << 10);
    let mut socket = WebSocket::new(io, 1 << 16, Arc::default());
    let large = "x".repeat(WRITE_BUFFER + 1);
    socket.write(Message::text(&large)).expect("it is kept");
    let ready = poll_fn(|context| socket.poll_ready(context)).now_or_never();
    assert!(ready.is_none() && socket.library.is_some());
    for payload in ["one", "two"] {
        peer.write_all(&text(payload)).await.expect("room");
        let ping = frame(
            OpCode::Control(Control::Ping),
            true,
            Some([0; 4]),
            payload.as_bytes(),
        );
        peer.write_all(&ping).await.expect("room");
        for expected in [Message::text(payload), Message::Ping(payload.into())] {
            let message = poll_fn(|context| socket.poll_message(context)).await;
            assert_eq!(message.expect("valid"), expected);
        }
        assert!(
            poll_fn(|context| socket.poll_message(context))
                .now_or_never()
                .is_none()
        );
    }
    // The library answers each ping that it has read, behind the message.
    let mut written = vec![0; 4 + large.len() + 10];
    let (flushed, read) = tokio::join!(
        poll_fn(|context| socket.poll_flush(context)),
        peer.read_exact(&mut written),
    );
    flushed.expect("the peer has taken all");
    read.expect("all was written");
    assert_eq!(&written[4..4 + large.len()], large.as_bytes());
    assert_eq!(&written[4 + large.len()..], b"\x8a\x03one\x8a\x03two");
    let next = poll_fn(|context| socket.poll_message(context)).now_or_never();
    assert!(next.is_none() && socket.library.is_none());
}
