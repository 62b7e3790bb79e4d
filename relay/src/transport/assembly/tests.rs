use super::*;

const MASK: [u8; 4] = [1, 2, 3, 4];
const MAX: usize = 256 * 1024;

/// A frame as a client sends it, from the first byte of its header and its payload.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader {
        mask: Some(MASK),
        ..FrameHeader::default()
    };
    let mut frame = format(&header, payload.len() as u64);
    frame[0] = first;
    let masked = payload.iter().zip(MASK.iter().cycle());
    frame.extend(masked.map(|(byte, mask)| byte ^ mask));
    frame
}

fn close_frame(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(0x88, &[&code.to_be_bytes(), reason].concat())
}

struct Peer {
    assembly: Assembly,
    seen: Seen,
}

impl Peer {
    fn new() -> Self {
        Self {
            assembly: Assembly::new(MAX),
            seen: Seen::default(),
        }
    }

    /// Returns what the library may read when the peer sends these bytes.
    fn sends(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut output = Vec::new();
        self.assembly.process(bytes, &mut output, &self.seen);
        output
    }

    /// The bytes that are kept for it.
    fn held(&self) -> usize {
        let Assembly {
            header,
            message,
            control,
            ..
        } = &self.assembly;
        let message = message.as_ref();
        header.capacity()
            + control.capacity()
            + message.map_or(0, |message| message.bytes.capacity())
    }
}

#[test]
fn a_message_is_unfinished_from_its_first_byte_to_its_last() {
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
    let mut peer = Peer::new();
    let mut passed = Vec::new();
    for (frame, number) in bytes.iter().zip(numbers) {
        for (at, byte) in frame.iter().enumerate() {
            passed.extend(peer.sends(&[*byte]));
            let is_last = at + 1 == frame.len() && !matches!(frame[0], 0x01 | 0x89 | 0x00);
            let expected = (!is_last).then_some(number);
            assert_eq!(peer.seen.unfinished(), expected, "{frame:x?} at {at}");
        }
    }
    let expected = [
        frame(0x81, b"whole"),
        frame(0x89, b"ping"),
        frame(0x81, b"in fragments"),
        frame(0x8a, b""),
        frame(0x82, b""),
    ];
    assert_eq!(passed, expected.concat());
    assert_eq!(peer.sends(&bytes.concat()), expected.concat());
    assert_eq!(peer.seen.unfinished(), None);
}

#[test]
fn bytes_of_messages_and_pings_are_progress_and_those_of_pongs_are_not() {
    let mut peer = Peer::new();
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
        // The message that is begun here ends with the next frame.
        for split in 0..if first == 0x02 { 1 } else { frame.len() } {
            if first == 0x80 && split > 0 {
                continue;
            }
            let (one, two) = frame.split_at(split);
            peer.sends(one);
            peer.sends(two);
            progress += if first == 0x8a { 0 } else { frame.len() as u64 };
            assert_eq!(peer.seen.progress(), progress, "{frame:x?} at {split}");
        }
    }
}

#[test]
fn a_close_frame_that_the_library_would_alter_is_withheld() {
    for split in 0..20 {
        let mut peer = Peer::new();
        let before = frame(0x81, b"before");
        let bytes = [before.clone(), close_frame(1014, b"bad gateway")].concat();
        let (one, two) = bytes.split_at(before.len() + split);
        let passed = [peer.sends(one), peer.sends(two)].concat();
        assert_eq!(passed, before);
        let close = peer.assembly.close().expect("it is complete");
        assert_eq!(u16::from(close.code), 1014);
        assert_eq!(close.reason.as_str(), "bad gateway");
        assert!(peer.sends(b"more").is_empty());
    }
}

#[test]
fn any_other_close_frame_passes_unchanged() {
    let mut unmasked = close_frame(1014, b"");
    unmasked[1] &= 0x7f;
    let long = close_frame(1014, &[b'x'; 124]);
    let invalid = [unmasked.clone(), long.clone()];
    for close in [
        close_frame(1000, b"bye"),
        close_frame(4999, b""),
        close_frame(1005, b""),
        close_frame(1014, b"\xff"),
        frame(0x88, b""),
        frame(0x88, b"\x03"),
        long,
        unmasked,
    ] {
        let mut peer = Peer::new();
        let mut passed = Vec::new();
        for byte in &close {
            passed.extend(peer.sends(&[*byte]));
        }
        passed.extend(peer.sends(&[1, 2, 3]));
        assert_eq!(passed, [&close[..], &[1, 2, 3]].concat());
        // The library may wait for the rest of an invalid one.
        let waits = peer.seen.unfinished().is_some();
        assert_eq!(waits, invalid.contains(&close), "{close:x?}");
        assert!(peer.assembly.close().is_none());
    }
}

#[test]
fn however_a_message_is_cut_no_more_is_held_than_the_largest_message() {
    let whole = vec![b'x'; MAX];
    for fragment in [3, 1000, 8191, MAX / 2 + 1, MAX - 1, MAX] {
        for read in [7000, 32 * 1024] {
            let fragments = whole.chunks(fragment);
            let last = fragments.len() - 1;
            let fragments = fragments.enumerate().map(|(number, payload)| {
                let opcode = u8::from(number == 0);
                let last = if number == last { 0x80 } else { 0x00 };
                frame(opcode | last, payload)
            });
            let bytes: Vec<u8> = fragments.flatten().collect();
            let mut peer = Peer::new();
            let mut passed = Vec::new();
            for read in bytes.chunks(read) {
                assert!(passed.is_empty());
                passed = peer.sends(read);
                let held = peer.held();
                assert!(
                    held <= MAX + 3 * MAX_HEADER,
                    "{held} with fragments of {fragment}"
                );
            }
            assert!(passed == frame(0x81, &whole));
            assert_eq!(peer.held(), 0);
        }
    }
}

#[test]
fn a_message_that_gets_too_large_is_rejected_at_the_header_that_makes_it_so() {
    for (first, second) in [(MAX, 1), (1, MAX), (0, MAX + 1)] {
        let mut peer = Peer::new();
        assert!(peer.sends(&frame(0x01, &vec![0; first])).is_empty());
        let next = frame(0x00, &vec![0; second]);
        let header = next.len() - second;
        let passed = peer.sends(&next[..header]);
        let (_, length, size) = parse(&passed).expect("valid").expect("whole");
        assert_eq!((length, size), (MAX as u64 + 1, passed.len()));
        assert_eq!(peer.held(), 0);
    }
}

#[test]
fn little_is_held_for_a_message_that_is_only_promised() {
    let mut peer = Peer::new();
    let promised = frame(0x81, &vec![0; MAX]);
    peer.sends(&promised[..1000]);
    assert!(peer.held() < 2 * FIRST, "{}", peer.held());
}
