//! The byte stream below the WebSocket library.
//!
//! The library returns whole messages. It does not report that a message has begun, nor that a slow peer is sending,
//! and it rejects some close codes that may be sent. [`Wire`] reads all that from the bytes.

use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::frames::{Frames, parse};
use super::seen::Seen;
use crate::protocol::close;

/// The longest payload of a control frame.
const MAX_CONTROL: u64 = 125;

/// A byte stream to and from a WebSocket peer, which records what it [sees](Seen).
pub(crate) struct Wire<Io> {
    io: Io,
    seen: Arc<Seen>,
    frames: Frames,
    closing: Closing,
}

/// The state of the peer's close frame. It is withheld from the library until it is complete.
enum Closing {
    Not,
    /// These bytes of it were received.
    Begun(Vec<u8>),
    /// The library gets these bytes, and all that follow.
    Released(Vec<u8>),
    /// The library gets neither the close frame nor anything after it.
    Kept,
}

impl<Io> Wire<Io> {
    pub(crate) fn new(io: Io, seen: Arc<Seen>) -> Self {
        Self {
            io,
            seen,
            frames: Frames::default(),
            closing: Closing::Not,
        }
    }

    /// Inspects bytes that were read. Returns how many of them the library may see now.
    fn inspect(&mut self, bytes: &[u8]) -> usize {
        let visible = if let Closing::Begun(held) = &mut self.closing {
            held.extend_from_slice(bytes);
            0
        } else {
            let before_close = self.frames.follow(bytes, &self.seen);
            if before_close < bytes.len() {
                self.closing = Closing::Begun(bytes[before_close..].to_vec());
            }
            before_close
        };
        let mut unfinished = self.frames.unfinished();
        if let Closing::Begun(held) = &mut self.closing {
            match read_close(held) {
                Read::Incomplete => unfinished = Some(self.frames.number + 1),
                Read::Alike => self.closing = Closing::Released(mem::take(held)),
                Read::Invalid => {
                    // The library may still wait for the rest of it.
                    unfinished = Some(self.frames.number + 1);
                    self.closing = Closing::Released(mem::take(held));
                }
                Read::Altered(close) => {
                    self.seen.set_close(close);
                    self.closing = Closing::Kept;
                }
            }
        }
        self.seen.set_unfinished(unfinished);
        visible
    }

    /// The underlying stream.
    pub(crate) fn io(&mut self) -> &mut Io {
        &mut self.io
    }
}

enum Read {
    Incomplete,
    /// The library passes it on unchanged, or rightly rejects it.
    Alike,
    /// Not a valid close frame. The library rejects it once it is complete.
    Invalid,
    /// The library would alter it.
    Altered(CloseFrame),
}

fn read_close(bytes: &[u8]) -> Read {
    let Ok(parsed) = parse(bytes) else {
        return Read::Alike;
    };
    let Some((header, length, size)) = parsed else {
        return Read::Incomplete;
    };
    let (Some(mask), 0..=MAX_CONTROL) = (header.mask, length) else {
        return Read::Invalid;
    };
    let payload = &bytes[size..];
    let Some(payload) = usize::try_from(length)
        .ok()
        .and_then(|length| payload.get(..length))
    else {
        return Read::Incomplete;
    };
    let masked = payload.iter().zip(mask.iter().cycle());
    let payload: Vec<u8> = masked.map(|(byte, mask)| byte ^ mask).collect();
    let Some((code, reason)) = payload.split_first_chunk() else {
        return Read::Alike;
    };
    let code = u16::from_be_bytes(*code);
    match str::from_utf8(reason) {
        Ok(reason) if close::may_be_sent(code) && !CloseCode::from(code).is_allowed() => {
            Read::Altered(CloseFrame {
                code: code.into(),
                reason: reason.into(),
            })
        }
        _ => Read::Alike,
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Wire<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match &mut self.closing {
                Closing::Kept => return Poll::Pending,
                Closing::Released(held) if !held.is_empty() => {
                    let part = held.len().min(buffer.remaining());
                    buffer.put_slice(&held[..part]);
                    held.drain(..part);
                    return Poll::Ready(Ok(()));
                }
                Closing::Released(_) => return Pin::new(&mut self.io).poll_read(context, buffer),
                Closing::Not | Closing::Begun(_) => {}
            }
            let before = buffer.filled().len();
            ready!(Pin::new(&mut self.io).poll_read(context, buffer))?;
            let read = &buffer.filled()[before..];
            if read.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let visible = before + self.inspect(read);
            buffer.set_filled(visible);
            if visible > before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Wire<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::transport::frames::CLOSE;

    const MASK: [u8; 4] = [1, 2, 3, 4];

    /// A frame as a client sends it, from the first byte of its header and its payload.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).expect("a short frame");
        let masked = payload.iter().zip(MASK.iter().cycle());
        let masked = masked.map(|(byte, mask)| byte ^ mask);
        let head = [first, 0x80 | length].into_iter().chain(MASK);
        head.chain(masked).collect()
    }

    fn close_frame(code: u16, reason: &[u8]) -> Vec<u8> {
        frame(CLOSE, &[&code.to_be_bytes(), reason].concat())
    }

    struct Pair {
        peer: DuplexStream,
        wire: Wire<DuplexStream>,
        seen: Arc<Seen>,
    }

    impl Pair {
        fn new() -> Self {
            let (peer, io) = duplex(1 << 16);
            let seen = Arc::<Seen>::default();
            Self {
                peer,
                wire: Wire::new(io, Arc::clone(&seen)),
                seen,
            }
        }

        /// Returns what the library reads when the peer sends these bytes.
        async fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
            self.peer.write_all(bytes).await.expect("room");
            let mut read = Vec::new();
            loop {
                let mut buffer = [0; 64];
                tokio::select! {
                    biased;
                    count = self.wire.read(&mut buffer) => match count.expect("no error") {
                        0 => return read,
                        count => read.extend_from_slice(&buffer[..count]),
                    },
                    () = std::future::ready(()) => return read,
                }
            }
        }
    }

    #[tokio::test]
    async fn a_message_is_unfinished_from_its_first_byte_to_its_last() {
        let bytes = [
            frame(0x81, b"whole"),
            frame(0x01, b"in "),
            frame(0x89, b"ping"),
            frame(0x00, b""),
            frame(0x80, b"fragments"),
            frame(0x8a, b""),
            frame(0x82, b""),
        ];
        let numbers = [1, 2, 2, 2, 2, 3, 4];
        let mut pair = Pair::new();
        for (frame, number) in bytes.iter().zip(numbers) {
            for (at, byte) in frame.iter().enumerate() {
                assert_eq!(pair.pass(&[*byte]).await, [*byte]);
                let is_last = at + 1 == frame.len() && !matches!(frame[0], 0x01 | 0x89 | 0x00);
                let expected = (!is_last).then_some(number);
                assert_eq!(pair.seen.unfinished(), expected, "{frame:x?} at {at}");
            }
        }
        let all = bytes.concat();
        assert_eq!(pair.pass(&all).await, all);
        assert_eq!(pair.seen.unfinished(), None);
    }

    #[tokio::test]
    async fn bytes_of_messages_and_pings_are_progress_and_those_of_pongs_are_not() {
        let mut pair = Pair::new();
        let mut progress = 0;
        for (first, payload) in [
            (0x81, b"bytes".as_slice()),
            (0x89, b"bytes"),
            (0x89, b""),
            (0x02, b"bytes"),
            (0x80, b""),
            (0x8a, b"bytes"),
        ] {
            let frame = frame(first, payload);
            for split in 0..frame.len() {
                let (one, two) = frame.split_at(split);
                pair.pass(one).await;
                pair.pass(two).await;
                progress += if first == 0x8a { 0 } else { frame.len() as u64 };
                assert_eq!(
                    pair.seen.progress(),
                    progress,
                    "{frame:x?} split at {split}"
                );
            }
        }
    }

    #[tokio::test]
    async fn a_close_frame_that_the_library_would_alter_is_withheld() {
        for split in 0..20 {
            let mut pair = Pair::new();
            let close = close_frame(1014, b"bad gateway");
            let mut bytes = frame(0x81, b"before");
            let before = bytes.len();
            bytes.extend(close);
            let (one, two) = bytes.split_at(before + split);
            let passed = [pair.pass(one).await, pair.pass(two).await].concat();
            assert_eq!(passed, bytes[..before]);
            let kept = pair.seen.close().expect("it is complete");
            assert_eq!(u16::from(kept.code), 1014);
            assert_eq!(kept.reason.as_str(), "bad gateway");
            assert!(pair.pass(b"more").await.is_empty());
        }
    }

    #[tokio::test]
    async fn any_other_close_frame_passes_unchanged() {
        let mut unmasked = close_frame(1014, b"");
        unmasked[1] &= 0x7f;
        let long = close_frame(1014, &[b'x'; 124]);
        let invalid = [unmasked.clone(), long.clone()];
        for close in [
            close_frame(1000, b"bye"),
            close_frame(4999, b""),
            close_frame(1005, b""),
            close_frame(1014, b"\xff"),
            frame(CLOSE, b""),
            frame(CLOSE, b"\x03"),
            long,
            unmasked,
        ] {
            let mut pair = Pair::new();
            let (last, begin) = close.split_last().expect("not empty");
            let mut passed = Vec::new();
            for byte in begin {
                passed.extend(pair.pass(&[*byte]).await);
            }
            passed.extend(pair.pass(&[*last, 1, 2, 3]).await);
            assert_eq!(passed, [&close[..], &[1, 2, 3]].concat());
            // The library may wait for the rest of an invalid one.
            let waits = pair.seen.unfinished().is_some();
            assert_eq!(waits, invalid.contains(&close), "{close:x?}");
            assert!(pair.seen.close().is_none());
        }
    }
}
