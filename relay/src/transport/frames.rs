//! The boundaries of frames and messages in a WebSocket byte stream.

use std::io::Cursor;

use tokio_tungstenite::tungstenite::error::Result;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, OpCode};

use super::seen::Seen;

/// The first byte of a close frame, which is never fragmented.
pub(super) const CLOSE: u8 = 0x88;

/// The first byte of a pong.
const PONG: u8 = 0x8a;

/// The longest header of a frame.
const MAX_HEADER: usize = 14;

/// Tracks the boundaries of frames and messages in the bytes from a peer.
#[derive(Default)]
pub(super) struct Frames {
    /// The bytes of an incomplete header.
    header: Vec<u8>,
    /// The bytes of the current payload that are still to come.
    left: u64,
    /// The current frame, or incomplete header, is a pong's.
    is_pong: bool,
    /// A fragmented message has begun, and its last fragment has not.
    is_fragmented: bool,
    /// The number of complete messages, counting control frames between them.
    pub(super) number: u64,
    /// The bytes are invalid. The WebSocket library rejects them and reads no further.
    is_broken: bool,
}

impl Frames {
    /// Processes bytes up to a close frame. Returns how many come before it: all, if there is none.
    pub(super) fn follow(&mut self, bytes: &[u8], seen: &Seen) -> usize {
        let mut at = 0;
        let mut received = 0;
        while at < bytes.len() && !self.is_broken {
            let rest = &bytes[at..];
            if self.left > 0 {
                let part = self.left.min(rest.len() as u64);
                self.left -= part;
                if !self.is_pong {
                    received += part;
                }
                at += usize::try_from(part).unwrap_or(rest.len());
                if self.left == 0 {
                    self.end_frame();
                }
            } else if self.header.is_empty() && rest[0] == CLOSE {
                break;
            } else {
                let part = self.begin_frame(rest);
                if !self.is_pong {
                    received += part as u64;
                }
                at += part;
            }
        }
        if self.is_broken {
            // The library reads no further than the invalid header, so it may have all bytes.
            at = bytes.len();
        }
        if received > 0 {
            seen.add_received(received);
        }
        at
    }

    /// Reads a header, and returns how many of the bytes belong to it.
    fn begin_frame(&mut self, bytes: &[u8]) -> usize {
        let before = self.header.len();
        let parsed = if before == 0 {
            parse(bytes)
        } else {
            let most = bytes.len().min(MAX_HEADER);
            self.header.extend_from_slice(&bytes[..most]);
            parse(&self.header)
        };
        match parsed {
            Ok(Some((header, length, size))) => {
                self.header.clear();
                self.left = length;
                self.is_pong = header.opcode == OpCode::Control(Control::Pong);
                if let OpCode::Data(_) = header.opcode {
                    self.is_fragmented = !header.is_final;
                }
                if length == 0 {
                    self.end_frame();
                }
                size - before
            }
            Ok(None) => {
                if before == 0 {
                    self.is_pong = bytes[0] == PONG;
                    self.header.extend_from_slice(bytes);
                }
                bytes.len()
            }
            Err(_) => {
                self.is_broken = true;
                bytes.len()
            }
        }
    }

    fn end_frame(&mut self) {
        if !self.is_fragmented {
            self.number += 1;
        }
    }

    /// The number of the incomplete message.
    pub(super) fn unfinished(&self) -> Option<u64> {
        let has_begun = !self.header.is_empty() || self.left > 0 || self.is_fragmented;
        has_begun.then_some(self.number + 1)
    }
}

/// Parses a header. Returns it with the length of the payload and the size of the header, or `None` if it is
/// incomplete.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(FrameHeader, u64, usize)>> {
    let mut cursor = Cursor::new(bytes);
    let parsed = FrameHeader::parse(&mut cursor)?;
    let size = usize::try_from(cursor.position()).unwrap_or(bytes.len());
    Ok(parsed.map(|(header, length)| (header, length, size)))
}
