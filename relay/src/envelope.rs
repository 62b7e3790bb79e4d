//! The envelopes that a binary gets and sends: pure functions over bytes.
//!
//! Towards the binary: `{"conn_id":"…","frame":…}` with what the phone sent spliced in verbatim, and
//! `{"conn_id":"…","close_code":N}` once the phone has gone. From the binary: the same fields, each as it
//! needs them. Fields that are not known are passed over.

use std::borrow::Cow;
use std::num::NonZeroU16;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// What a binary asks for: a frame for a phone, the end of the phone's connection, or both in this order.
#[derive(Debug)]
pub struct Directive<'a> {
    /// The phone.
    pub conn_id: Cow<'a, str>,
    /// The code with which the phone is to be closed.
    pub close_code: Option<NonZeroU16>,
    frame: Option<&'a RawValue>,
    message: &'a Bytes,
}

/// Why a binary's message is not a directive.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// Not a JSON object, or a field of the wrong type.
    #[error("the envelope is malformed")]
    Malformed,
    /// A wish that a push service wake a phone: the relay knows none.
    #[error("the envelope is a push_wake, and no push service is configured")]
    PushWake,
    /// Addressed to no phone.
    #[error("the envelope names no conn_id")]
    NoConnId,
    /// Neither a frame nor a close code.
    #[error("the envelope has neither frame nor close_code")]
    Empty,
}

#[derive(Deserialize)]
struct Fields<'a> {
    // Not an `Option`: inside one, a `Cow` is never borrowed.
    #[serde(borrow, default)]
    conn_id: Cow<'a, str>,
    #[serde(borrow, default)]
    frame: Option<&'a RawValue>,
    #[serde(default)]
    close_code: Option<u16>,
    #[serde(default)]
    push_wake: Option<IgnoredAny>,
}

/// Reads what a binary sent. An absent `frame` and `null` both mean none, and so does a `close_code` of 0.
///
/// # Errors
///
/// [`EnvelopeError`], which says nothing of the content.
pub fn parse(message: &Bytes) -> Result<Directive<'_>, EnvelopeError> {
    // All of it: serde would let fields pass that are not UTF-8 and not known.
    let text = str::from_utf8(message).map_err(|_| EnvelopeError::Malformed)?;
    // serde would take an array for the fields in order.
    if !text.trim_ascii_start().starts_with('{') {
        return Err(EnvelopeError::Malformed);
    }
    let fields: Fields<'_> = serde_json::from_str(text).map_err(|_| EnvelopeError::Malformed)?;
    let close_code = fields.close_code.and_then(NonZeroU16::new);
    if fields.conn_id.is_empty() {
        return Err(match fields.push_wake {
            Some(_) => EnvelopeError::PushWake,
            None => EnvelopeError::NoConnId,
        });
    }
    if fields.frame.is_none() && close_code.is_none() {
        return Err(EnvelopeError::Empty);
    }
    Ok(Directive {
        conn_id: fields.conn_id,
        close_code,
        frame: fields.frame,
        message,
    })
}

/// A frame shorter than this is copied: a slice would keep a whole read buffer alive.
const MIN_SLICE: usize = 8 * 1024;

impl Directive<'_> {
    /// The bytes of the frame, verbatim.
    ///
    /// A large frame is a slice of the message. A small one, and one that is less than half of its message, is a
    /// copy, so that what a queue counts is what it keeps alive.
    #[must_use]
    pub fn frame(&self) -> Option<Bytes> {
        let frame = self.frame?.get().as_bytes();
        if frame.len() >= MIN_SLICE && frame.len() >= self.message.len() / 2 {
            Some(self.message.slice_ref(frame))
        } else {
            Some(Bytes::copy_from_slice(frame))
        }
    }
}

/// What a phone sent is not JSON.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the frame is not valid JSON")]
pub struct NotJson;

/// Makes the envelopes in which a binary hears of one phone.
#[derive(Debug)]
pub struct Wrapper {
    /// `{"conn_id":"…",`
    prefix: Vec<u8>,
}

const FRAME: &[u8] = b"\"frame\":";
const END: &[u8] = b"}";

impl Wrapper {
    /// For the phone with this conn-id.
    #[must_use]
    pub fn new(conn_id: &str) -> Self {
        // It contains a server-id, which may contain quotes.
        let quoted = serde_json::Value::from(conn_id);
        Self {
            prefix: format!("{{\"conn_id\":{quoted},").into_bytes(),
        }
    }

    /// The envelope of a frame: what the phone sent, byte for byte. One copy.
    ///
    /// # Errors
    ///
    /// [`NotJson`]: spliced in, it could say anything in the phone's own words.
    pub fn frame(&self, frame: &[u8]) -> Result<Bytes, NotJson> {
        // `RawValue` and not `IgnoredAny`, which lets strings pass that are not UTF-8.
        serde_json::from_slice::<&RawValue>(frame).map_err(|_| NotJson)?;
        Ok([&self.prefix, FRAME, frame, END].concat().into())
    }

    /// The notice that the phone has gone.
    #[must_use]
    pub fn closed(&self, code: u16) -> Bytes {
        let code = format!("\"close_code\":{code}");
        [&self.prefix, code.as_bytes(), END].concat().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: impl Into<String>) -> Bytes {
        Bytes::from(text.into())
    }

    #[test]
    fn a_frame_goes_to_the_binary_byte_for_byte() {
        let wrapper = Wrapper::new("client-a-00000000");
        let frame = b" {\"a\" : [1, 2.50, \"\\u00e9\xc3\xa9\"]}\n";
        let envelope = wrapper.frame(frame).expect("valid JSON");
        let expected = [
            b"{\"conn_id\":\"client-a-00000000\",\"frame\":".as_slice(),
            frame,
            b"}",
        ];
        assert_eq!(envelope, expected.concat());
    }

    #[test]
    fn a_conn_id_cannot_break_out_of_its_envelope() {
        let conn_id = "client-\",\"frame\":\"\\-00000000";
        let envelope = Wrapper::new(conn_id).frame(b"1").expect("valid JSON");
        let read: serde_json::Value = serde_json::from_slice(&envelope).expect("valid JSON");
        assert_eq!(read["conn_id"], conn_id);
        assert_eq!(read["frame"], 1);
        assert_eq!(
            parse(&envelope).expect("an envelope like any").conn_id,
            conn_id
        );
    }

    #[test]
    fn what_is_not_one_json_value_is_refused() {
        let wrapper = Wrapper::new("p");
        let refused: &[&[u8]] = &[
            b"",
            b" ",
            b"{",
            b"1 2",
            b"1},{\"conn_id\":\"q\"",
            b"nul",
            b"01",
            b"\"\xff\"",
            b"\"\n\"",
            b"\xef\xbb\xbf1",
            b"[1,]",
        ];
        for frame in refused {
            assert_eq!(wrapper.frame(frame), Err(NotJson), "{frame:?}");
        }
    }

    #[test]
    fn deep_nesting_is_valid_in_both_directions() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let envelope = Wrapper::new("p")
            .frame(deep.as_bytes())
            .expect("valid JSON");
        let directive = parse(&envelope).expect("an envelope");
        assert_eq!(directive.frame().expect("there is one"), deep);
    }

    #[test]
    fn the_notice_has_no_frame_key() {
        let notice = Wrapper::new("p").closed(1001);
        assert_eq!(notice, "{\"conn_id\":\"p\",\"close_code\":1001}");
    }

    #[test]
    fn fields_that_are_not_known_are_passed_over() {
        let message = message(r#"{"x":{"y":[]},"conn_id":"p","frame":{"a": 1},"z":null}"#);
        let directive = parse(&message).expect("an envelope");
        assert_eq!(directive.conn_id, "p");
        assert_eq!(directive.frame().expect("there is one"), r#"{"a": 1}"#);
        assert_eq!(directive.close_code, None);
    }

    #[test]
    fn a_push_wake_beside_a_conn_id_is_a_field_like_any() {
        let message = message(r#"{"push_wake":1,"conn_id":"p","frame":2}"#);
        let directive = parse(&message).expect("an envelope");
        assert_eq!(directive.frame().expect("there is one"), "2");
    }

    #[test]
    fn an_escaped_conn_id_is_read() {
        let message = message(r#"{"conn_id":"\u0070\"","frame":0}"#);
        assert_eq!(parse(&message).expect("an envelope").conn_id, "p\"");
    }

    #[test]
    fn absent_and_null_both_mean_no_frame() {
        for text in [
            r#"{"conn_id":"p","close_code":4000}"#,
            r#"{"conn_id":"p","frame":null,"close_code":4000}"#,
        ] {
            let message = message(text);
            let directive = parse(&message).expect("an envelope");
            assert_eq!(directive.frame(), None);
            assert_eq!(directive.close_code.map(NonZeroU16::get), Some(4000));
        }
    }

    #[test]
    fn what_asks_for_nothing_is_refused() {
        use EnvelopeError::{Empty, Malformed, NoConnId, PushWake};
        for (text, error) in [
            ("", Malformed),
            ("[]", Malformed),
            (r#"["p", 1]"#, Malformed),
            ("{", Malformed),
            ("\"p\"", Malformed),
            (r#"{"conn_id":null,"frame":1}"#, Malformed),
            (r#"{"conn_id":1,"frame":1}"#, Malformed),
            (r#"{"conn_id":"p","close_code":65536}"#, Malformed),
            (r#"{"conn_id":"p","close_code":-1}"#, Malformed),
            (r#"{"conn_id":"p","close_code":"1000"}"#, Malformed),
            (r#"{"conn_id":"p","frame":1} x"#, Malformed),
            (r#"{"push_wake":{"platform":"fcm","token":"t"}}"#, PushWake),
            (r#"{"push_wake":null}"#, NoConnId),
            (r#"{"conn_id":"","frame":1}"#, NoConnId),
            (r#"{"conn_id":"p"}"#, Empty),
            (r#"{"conn_id":"p","frame":null,"close_code":0}"#, Empty),
        ] {
            assert_eq!(parse(&message(text)).map(drop), Err(error), "{text}");
        }
    }

    #[test]
    fn an_unknown_field_that_is_not_utf8_is_refused_too() {
        for text in [
            b"{\"conn_id\":\"p\",\"frame\":1,\"\xb5\":0}".as_slice(),
            b"{\"conn_id\":\"p\",\"frame\":1,\"x\":\"\xb5\"}",
        ] {
            let message = Bytes::from_static(text);
            assert_eq!(parse(&message).map(drop), Err(EnvelopeError::Malformed));
        }
    }

    #[test]
    fn only_a_large_frame_shares_the_memory_of_its_message() {
        let shares = |message: &Bytes| {
            let frame = parse(message)
                .expect("an envelope")
                .frame()
                .expect("a frame");
            message.as_ptr_range().contains(&frame.as_ptr())
        };
        let large = "x".repeat(2 * MIN_SLICE);
        assert!(shares(&message(format!(
            r#"{{"conn_id":"p","frame":"{large}"}}"#
        ))));
        assert!(!shares(&message(r#"{"conn_id":"p","frame":"x"}"#)));
        let padding = "x".repeat(4 * MIN_SLICE);
        assert!(!shares(&message(format!(
            r#"{{"conn_id":"p","frame":"{large}","x":"{padding}"}}"#
        ))));
    }
}
