//! The frames: JSON strings of an exact size that carry their phone's number and the time at which they were
//! due.

use std::fmt::Write;

/// Two quotes, 16 digits for the time and 8 for the phone.
pub(crate) const SMALLEST: usize = 26;

/// The data that a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Nanoseconds on the run's own clock; 0 in the frame with which a phone introduces itself.
    pub(crate) due: u64,
    pub(crate) phone: u32,
}

/// Makes frames of one size.
pub(crate) struct Frames {
    size: usize,
    /// The constant tail of every frame.
    rest: String,
}

impl Frames {
    pub(crate) fn of(size: usize) -> Self {
        Self {
            size,
            rest: "x".repeat(size - SMALLEST) + "\"",
        }
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn append(&self, stamp: Stamp, text: &mut String) {
        let Stamp { due, phone } = stamp;
        // Writing to a string never fails.
        let _ = write!(text, "\"{due:016x}{phone:08x}");
        text.push_str(&self.rest);
    }

    pub(crate) fn make(&self, stamp: Stamp) -> String {
        let mut frame = String::with_capacity(self.size);
        self.append(stamp, &mut frame);
        frame
    }
}

/// Returns the data of a frame made by this program, or `None` for any other frame.
pub(crate) fn read(frame: &str) -> Option<Stamp> {
    let digits = frame.get(..SMALLEST - 1)?;
    let digits = digits.strip_prefix('"')?;
    Some(Stamp {
        due: u64::from_str_radix(digits.get(..16)?, 16).ok()?,
        phone: u32::from_str_radix(digits.get(16..)?, 16).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_its_size_to_the_byte_and_is_json() {
        for size in [SMALLEST, 27, 256, 16_384] {
            let stamp = Stamp {
                due: u64::MAX - 1,
                phone: 9_999,
            };
            let frame = Frames::of(size).make(stamp);
            assert_eq!(frame.len(), size);
            assert!(serde_json::from_str::<String>(&frame).is_ok());
            assert_eq!(read(&frame), Some(stamp));
        }
    }

    #[test]
    fn frames_of_other_programs_have_no_stamp() {
        for frame in [
            "",
            "\"",
            "{}",
            "\"hello\"",
            &"x".repeat(64),
            &"é".repeat(64),
        ] {
            assert_eq!(read(frame), None, "{frame}");
        }
    }
}
