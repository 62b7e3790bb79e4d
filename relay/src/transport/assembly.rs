//! Whole messages from the bytes of a WebSocket peer.
//!
//! The WebSocket library buffers what it has read of a message: up to three times the bytes of the message if it comes
//! in fragments. [`Assembly`] keeps those bytes once, and the library gets each message in one frame.

use std::array;
use std::io::Cursor;
use std::mem;

use tungstenite::error::Result;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use super::seen::Seen;
use crate::protocol::close;

/// The longest payload of a control frame.
const MAX_CONTROL: u64 = 125;

/// The longest header of a frame.
const MAX_HEADER: usize = 14;

/// The first byte of a pong.
const PONG: u8 = 0x8a;

const CLOSE: OpCode = OpCode::Control(Control::Close);

/// An incomplete message gets at least this capacity, if it may become that long. Then the capacity doubles: the peer
/// may have promised more than it sends.
const FIRST: usize = 32 * 1024;

/// Assembles messages from the bytes of a peer, and records what they [show](Seen).
///
/// The output is for the library. It has the frames of the peer, but in place of the fragments of a message one frame,
/// which comes after a control frame that was sent between the fragments. From an invalid frame on, and after a close
/// frame, the bytes are unchanged, so that the library rejects them.
pub(super) struct Assembly {
    /// The most bytes of a message.
    max: usize,
    mode: Mode,
    /// The bytes of an incomplete header.
    header: Vec<u8>,
    /// The frame whose payload is incomplete.
    frame: Option<Frame>,
    /// The incomplete message.
    message: Option<Message>,
    /// The incomplete control frame, with its header.
    control: Vec<u8>,
    /// The number of complete messages, counting control frames between them.
    number: u64,
    /// The peer's close frame, if the library would have altered it.
    close: Option<CloseFrame>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Assemble,
    /// A frame was invalid. Bytes pass unchanged.
    Broken,
    /// A close frame has passed. Bytes pass unchanged.
    Closed,
    /// A close frame was withheld. Nothing passes any more.
    Withheld,
}

/// A frame whose header is known.
#[derive(Clone, Copy)]
struct Frame {
    opcode: OpCode,
    is_final: bool,
    mask: [u8; 4],
    length: usize,
    /// The bytes of the payload that are still to come.
    left: usize,
}

impl Frame {
    fn is_pong(&self) -> bool {
        self.opcode == OpCode::Control(Control::Pong)
    }
}

enum Check {
    Valid(Frame),
    Invalid,
    /// The message would have that many bytes.
    TooLarge(u64),
}

/// A message whose last byte has not come.
struct Message {
    opcode: OpCode,
    /// The mask of its first frame. Here, all of the payload is masked with it.
    mask: [u8; 4],
    is_fragmented: bool,
    /// The header of its first frame, and the payload so far.
    bytes: Vec<u8>,
    /// The size of that header.
    header: usize,
}

impl Message {
    fn len(&self) -> usize {
        self.bytes.len() - self.header
    }

    /// Appends the next part of the payload of a frame. The capacity stays below `most`.
    fn append(&mut self, part: &[u8], frame: Frame, most: usize) {
        let (from, at) = (self.bytes.len(), self.len());
        if self.bytes.capacity() - from < part.len() {
            let capacity = most.min(FIRST.max(2 * from)).max(from + part.len());
            self.bytes.reserve_exact(capacity - from);
        }
        self.bytes.extend_from_slice(part);
        let done = frame.length - frame.left;
        let change: [u8; 4] =
            array::from_fn(|byte| frame.mask[(done + byte) % 4] ^ self.mask[(at + byte) % 4]);
        if change != [0; 4] {
            for four in self.bytes[from..].chunks_mut(4) {
                four.iter_mut()
                    .zip(change)
                    .for_each(|(byte, change)| *byte ^= change);
            }
        }
    }

    /// Returns the message as one frame.
    fn into_frame(mut self) -> Vec<u8> {
        if self.is_fragmented {
            let header = FrameHeader {
                opcode: self.opcode,
                mask: Some(self.mask),
                ..FrameHeader::default()
            };
            let header = format(&header, self.len() as u64);
            self.bytes.reserve_exact(MAX_HEADER);
            self.bytes.splice(..self.header, header);
        }
        self.bytes
    }
}

impl Assembly {
    /// Assembles messages of at most `max` bytes.
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            mode: Mode::Assemble,
            header: Vec::new(),
            frame: None,
            message: None,
            control: Vec::new(),
            number: 0,
            close: None,
        }
    }

    /// Processes bytes from the peer. Appends what the library may read now to `output`.
    pub(super) fn process(&mut self, mut bytes: &[u8], output: &mut Vec<u8>, seen: &Seen) {
        let mut progress = 0;
        while !bytes.is_empty() && self.mode == Mode::Assemble {
            let (part, is_pong) = match self.frame.take() {
                None => self.begin(bytes, output),
                Some(frame) => {
                    let part = frame.left.min(bytes.len());
                    self.go_on(frame, &bytes[..part], output);
                    (part, frame.is_pong())
                }
            };
            bytes = &bytes[part..];
            if !is_pong {
                progress += part as u64;
            }
        }
        if matches!(self.mode, Mode::Broken | Mode::Closed) {
            output.extend_from_slice(bytes);
        }
        if progress > 0 {
            seen.add_received(progress);
        }
        seen.set_unfinished(self.unfinished());
    }

    /// The number of the incomplete message.
    fn unfinished(&self) -> Option<u64> {
        let has_begun = match self.mode {
            Mode::Assemble => {
                !self.header.is_empty() || self.frame.is_some() || self.message.is_some()
            }
            // The library may wait for the rest of the invalid frame.
            Mode::Broken => true,
            Mode::Closed | Mode::Withheld => false,
        };
        has_begun.then_some(self.number + 1)
    }

    /// Whether all that has passed was whole messages.
    pub(super) fn passes_messages(&self) -> bool {
        self.mode == Mode::Assemble
    }

    /// The close frame that was withheld from the library, which would have replied with 1002.
    pub(super) fn close(&self) -> Option<&CloseFrame> {
        self.close.as_ref()
    }

    /// Begins a frame. Returns how many of the bytes were processed, and whether they are a pong's.
    fn begin(&mut self, bytes: &[u8], output: &mut Vec<u8>) -> (usize, bool) {
        let before = self.header.len();
        if before == 0
            && let Some(whole) = self.whole(bytes)
        {
            if output.capacity() == 0 {
                output.reserve_exact(bytes.len());
            }
            output.extend_from_slice(whole);
            self.number += 1;
            return (whole.len(), whole[0] == PONG);
        }
        let most = bytes.len().min(MAX_HEADER - before);
        self.header.extend_from_slice(&bytes[..most]);
        let is_pong = self.header[0] == PONG;
        let Ok(parsed) = parse(&self.header) else {
            self.reject(output);
            return (most, is_pong);
        };
        let Some((header, length, size)) = parsed else {
            return (most, is_pong);
        };
        self.header.truncate(size);
        match self.check(&header, length) {
            Check::Valid(frame) => self.open(frame, output),
            Check::Invalid => self.reject(output),
            Check::TooLarge(length) => {
                // The library rejects the message because of this length.
                self.message = None;
                self.header = format(&header, length);
                self.reject(output);
            }
        }
        (size - before, is_pong)
    }

    /// Returns the first frame if all of it is there, and it is all of a message.
    fn whole<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let (header, length, size) = parse(bytes).ok()??;
        match self.check(&header, length) {
            Check::Valid(frame)
                if frame.is_final && frame.opcode != CLOSE && self.message.is_none() =>
            {
                bytes.get(..size + frame.length)
            }
            _ => None,
        }
    }

    /// Checks a header (RFC 6455, sections 5.1 to 5.5).
    fn check(&self, header: &FrameHeader, length: u64) -> Check {
        let is_valid = match header.opcode {
            OpCode::Data(Data::Text | Data::Binary) => self.message.is_none(),
            OpCode::Data(Data::Continue) => self.message.is_some(),
            OpCode::Control(Control::Close | Control::Ping | Control::Pong) => {
                header.is_final && length <= MAX_CONTROL
            }
            _ => false,
        };
        let has_extension = header.rsv1 || header.rsv2 || header.rsv3;
        let (Some(mask), true, false) = (header.mask, is_valid, has_extension) else {
            return Check::Invalid;
        };
        let before = match header.opcode {
            OpCode::Data(_) => self.message.as_ref().map_or(0, Message::len),
            OpCode::Control(_) => 0,
        };
        let all = length.saturating_add(before as u64);
        match usize::try_from(length) {
            Ok(length) if all <= self.max as u64 => Check::Valid(Frame {
                opcode: header.opcode,
                is_final: header.is_final,
                mask,
                length,
                left: length,
            }),
            _ => Check::TooLarge(all),
        }
    }

    /// Begins the payload of a frame.
    fn open(&mut self, frame: Frame, output: &mut Vec<u8>) {
        let header = mem::take(&mut self.header);
        match frame.opcode {
            OpCode::Control(_) => self.control = header,
            OpCode::Data(Data::Continue) => {}
            OpCode::Data(_) => {
                self.message = Some(Message {
                    opcode: frame.opcode,
                    mask: frame.mask,
                    is_fragmented: !frame.is_final,
                    header: header.len(),
                    bytes: header,
                });
            }
        }
        self.go_on(frame, &[], output);
    }

    /// Adds a part of the payload of a frame, which may be the last.
    fn go_on(&mut self, mut frame: Frame, part: &[u8], output: &mut Vec<u8>) {
        match (frame.opcode, &mut self.message) {
            (OpCode::Control(_), _) => self.control.extend_from_slice(part),
            (OpCode::Data(_), Some(message)) => {
                let most = if message.is_fragmented {
                    self.max
                } else {
                    frame.length
                };
                message.append(part, frame, MAX_HEADER + most);
            }
            (OpCode::Data(_), None) => {}
        }
        frame.left -= part.len();
        if frame.left > 0 {
            self.frame = Some(frame);
        } else if let OpCode::Control(_) = frame.opcode {
            self.end_control(frame, output);
        } else if frame.is_final
            && let Some(message) = self.message.take()
        {
            self.number += 1;
            pass(message.into_frame(), output);
        }
    }

    fn end_control(&mut self, frame: Frame, output: &mut Vec<u8>) {
        let control = mem::take(&mut self.control);
        if self.message.is_none() {
            self.number += 1;
        }
        if frame.opcode == CLOSE {
            self.close = altered(&control[control.len() - frame.length..], frame.mask);
            if self.close.is_some() {
                self.mode = Mode::Withheld;
                return;
            }
            self.mode = Mode::Closed;
        }
        pass(control, output);
    }

    /// Passes an invalid header, and leaves the rest to the library.
    fn reject(&mut self, output: &mut Vec<u8>) {
        self.mode = Mode::Broken;
        if let Some(message) = self.message.take() {
            // The frame may be invalid only because this message has begun.
            let header = FrameHeader {
                is_final: false,
                opcode: message.opcode,
                mask: Some(message.mask),
                ..FrameHeader::default()
            };
            pass(format(&header, 0), output);
        }
        pass(mem::take(&mut self.header), output);
    }
}

fn pass(mut bytes: Vec<u8>, output: &mut Vec<u8>) {
    if output.is_empty() {
        *output = bytes;
    } else {
        output.append(&mut bytes);
    }
}

/// Parses a header. Returns it with the length of the payload and the size of the header, or `None` if it is
/// incomplete.
fn parse(bytes: &[u8]) -> Result<Option<(FrameHeader, u64, usize)>> {
    let mut cursor = Cursor::new(bytes);
    let parsed = FrameHeader::parse(&mut cursor)?;
    let size = usize::try_from(cursor.position()).unwrap_or(bytes.len());
    Ok(parsed.map(|(header, length)| (header, length, size)))
}

fn format(header: &FrameHeader, length: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(MAX_HEADER);
    let written = header.format(length, &mut bytes);
    debug_assert!(written.is_ok(), "a vector takes all bytes");
    bytes
}

/// Returns the content of a close frame if the library would alter it, and must not.
fn altered(masked: &[u8], mask: [u8; 4]) -> Option<CloseFrame> {
    let payload = masked.iter().zip(mask.iter().cycle());
    let payload: Vec<u8> = payload.map(|(byte, mask)| byte ^ mask).collect();
    let (code, reason) = payload.split_first_chunk()?;
    let code = u16::from_be_bytes(*code);
    let reason = str::from_utf8(reason).ok()?;
    let is_altered = close::may_be_sent(code) && !CloseCode::from(code).is_allowed();
    is_altered.then(|| CloseFrame {
        code: code.into(),
        reason: reason.into(),
    })
}

#[cfg(test)]
mod tests;
