//! The envelopes that a binary receives and sends: pure functions over text.
//!
//! To the binary: `{"conn_id":"…","frame":…}` with the phone's frame spliced in verbatim, and
//! `{"conn_id":"…","close_code":N}` when the phone has disconnected. From the binary: `conn_id`, and at least one
//! of `frame` and `close_code`. Unknown fields are ignored.

use std::borrow::Cow;
use std::num::NonZeroU16;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// A request from a binary: send a frame to a phone, close the phone, or both in this order.
#[derive(Debug)]
pub struct Directive<'a> {
    /// The conn-id of the phone.
    pub conn_id: Cow<'a, str>,
    /// The code with which to close the phone.
    pub close_code: Option<NonZeroU16>,
    frame: Option<&'a RawValue>,
}

/// Why a binary's message is not a directive.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// It is not a JSON object, or a field has the wrong type.
    #[error("the envelope is malformed")]
    Malformed,
    /// It asks for a push notification that wakes a phone: see [`push_wake`].
    #[error("the envelope is a push_wake")]
    PushWake,
    /// It names no phone.
    #[error("the envelope names no conn_id")]
    NoConnId,
    /// It has neither a frame nor a close code.
    #[error("the envelope has neither frame nor close_code")]
    Empty,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    conn_id: Option<ConnId<'a>>,
    #[serde(borrow, default)]
    frame: Option<&'a RawValue>,
    #[serde(default)]
    close_code: Option<u16>,
    #[serde(default)]
    push_wake: Option<IgnoredAny>,
}

// serde never borrows a `Cow` inside an `Option`, unless it is wrapped.
#[derive(Deserialize)]
struct ConnId<'a>(#[serde(borrow)] Cow<'a, str>);

/// A request from a binary to wake a phone that is not connected.
#[derive(Deserialize)]
pub struct PushWake<'a> {
    /// The push service of the phone, such as `fcm` or `apns`.
    #[serde(borrow)]
    pub platform: Cow<'a, str>,
    /// What names the phone there. A secret.
    #[serde(borrow)]
    pub token: Cow<'a, str>,
}

/// The longest platform, in bytes.
const MAX_PLATFORM: usize = 64;

/// The longest token, in bytes. Those of FCM and APNs are much shorter; a subscription of Web Push fits.
const MAX_TOKEN: usize = 4096;

/// Parses an envelope that [`parse`] refused as [`EnvelopeError::PushWake`]. The platform must have 1 to 64 bytes, and
/// the token 1 to 4,096.
///
/// # Errors
///
/// [`EnvelopeError::Malformed`].
pub fn push_wake(message: &str) -> Result<PushWake<'_>, EnvelopeError> {
    #[derive(Deserialize)]
    struct Fields<'a> {
        #[serde(borrow)]
        push_wake: &'a RawValue,
    }
    let malformed = |_| EnvelopeError::Malformed;
    let fields: Fields<'_> = serde_json::from_str(message).map_err(malformed)?;
    let wake = fields.push_wake.get();
    if !wake.starts_with('{') {
        return Err(EnvelopeError::Malformed);
    }
    let wake: PushWake<'_> = serde_json::from_str(wake).map_err(malformed)?;
    let fits = |text: &str, limit| (1..=limit).contains(&text.len());
    if fits(&wake.platform, MAX_PLATFORM) && fits(&wake.token, MAX_TOKEN) {
        Ok(wake)
    } else {
        Err(EnvelopeError::Malformed)
    }
}

/// Parses an envelope from a binary. An absent or `null` `frame` means none, as does a `close_code` of 0.
///
/// # Errors
///
/// [`EnvelopeError`], which reveals nothing of the content.
pub fn parse(message: &str) -> Result<Directive<'_>, EnvelopeError> {
    // serde would accept an array as the fields in order.
    if !message.trim_ascii_start().starts_with('{') {
        return Err(EnvelopeError::Malformed);
    }
    let fields: Fields<'_> = serde_json::from_str(message).map_err(|_| EnvelopeError::Malformed)?;
    let close_code = fields.close_code.and_then(NonZeroU16::new);
    let conn_id = fields
        .conn_id
        .map(|ConnId(conn_id)| conn_id)
        .unwrap_or_default();
    if conn_id.is_empty() {
        return Err(match fields.push_wake {
            Some(_) => EnvelopeError::PushWake,
            None => EnvelopeError::NoConnId,
        });
    }
    if fields.frame.is_none() && close_code.is_none() {
        return Err(EnvelopeError::Empty);
    }
    Ok(Directive {
        conn_id,
        close_code,
        frame: fields.frame,
    })
}

impl Directive<'_> {
    /// Returns a copy of the frame, verbatim.
    ///
    /// A slice would keep alive the whole buffer that the message was read into, and perhaps earlier messages in it.
    /// The outbox would count fewer bytes than it holds.
    #[must_use]
    pub fn frame(&self) -> Option<String> {
        Some(self.frame?.get().to_owned())
    }
}

/// Why a phone's frame cannot be put into an envelope.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// It is not exactly one JSON value.
    #[error("the frame is not valid JSON")]
    NotJson,
    /// It is nested so deep that many parsers reject it.
    #[error("the frame is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

/// How deep arrays and objects may be nested. Many JSON parsers have a limit; those without one may overflow their
/// stack.
const MAX_DEPTH: usize = 128;

/// Whether valid JSON is nested deeper than [`MAX_DEPTH`].
fn is_too_deep(json: &str) -> bool {
    // Nearly all frames have at most `MAX_DEPTH` opening brackets in total, and counting those is cheap.
    let opening = memchr::memchr2_iter(b'[', b'{', json.as_bytes());
    if opening.take(MAX_DEPTH + 1).count() <= MAX_DEPTH {
        return false;
    }
    let mut depth = 0;
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
}

/// Skips the rest of a string after its opening quote.
fn skip_string(bytes: &mut impl Iterator<Item = u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'"' => return,
            _ => {}
        }
    }
}

/// Builds the envelopes of one phone for its binary.
#[derive(Debug)]
pub struct Wrapper {
    /// `{"conn_id":"…",`
    prefix: String,
}

impl Wrapper {
    /// A wrapper for the phone with this conn-id.
    #[must_use]
    pub fn new(conn_id: &str) -> Self {
        // A conn-id contains the server-id, which may contain quotes.
        let quoted = serde_json::Value::from(conn_id);
        Self {
            prefix: format!("{{\"conn_id\":{quoted},"),
        }
    }

    /// Returns the envelope of a frame, with the frame verbatim. Copies the frame once.
    ///
    /// # Errors
    ///
    /// [`FrameError`]. A frame that is not JSON could forge any field of the envelope once it is spliced in.
    pub fn frame(&self, frame: &str) -> Result<String, FrameError> {
        serde_json::from_str::<&RawValue>(frame).map_err(|_| FrameError::NotJson)?;
        if is_too_deep(frame) {
            return Err(FrameError::TooDeep);
        }
        Ok([&self.prefix, "\"frame\":", frame, "}"].concat())
    }

    /// Returns the notice that the phone has disconnected.
    #[must_use]
    pub fn closed(&self, code: u16) -> String {
        format!("{}\"close_code\":{code}}}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_goes_to_the_binary_byte_for_byte() {
        let wrapper = Wrapper::new("client-a-00000000");
        let frame = " {\"a\" : [1, 2.50, \"\\u00e9é\"]}\n";
        let envelope = wrapper.frame(frame).expect("valid JSON");
        let expected = [r#"{"conn_id":"client-a-00000000","frame":"#, frame, "}"];
        assert_eq!(envelope, expected.concat());
    }

    #[test]
    fn a_conn_id_cannot_break_out_of_its_envelope() {
        let conn_id = "client-\",\"frame\":\"\\-00000000";
        let envelope = Wrapper::new(conn_id).frame("1").expect("valid JSON");
        let read: serde_json::Value = serde_json::from_str(&envelope).expect("valid JSON");
        assert_eq!(read["conn_id"], conn_id);
        assert_eq!(read["frame"], 1);
        assert_eq!(parse(&envelope).expect("a valid envelope").conn_id, conn_id);
    }

    #[test]
    fn a_frame_must_be_one_json_value() {
        let wrapper = Wrapper::new("p");
        for frame in [
            "",
            " ",
            "{",
            "1 2",
            "1},{\"conn_id\":\"q\"",
            "nul",
            "01",
            "\"\n\"",
            "\u{feff}1",
            "[1,]",
        ] {
            assert_eq!(wrapper.frame(frame), Err(FrameError::NotJson), "{frame:?}");
        }
    }

    #[test]
    fn a_frame_may_be_nested_128_levels_deep() {
        let wrapper = Wrapper::new("p");
        let nested = |depth, inner: &str| "[".repeat(depth) + inner + &"]".repeat(depth);
        let in_objects = |depth| "{\"a\":".repeat(depth) + "1" + &"}".repeat(depth);
        let brackets_in_strings = format!("[\"{}\\\"{}\"]", "[".repeat(500), "{".repeat(500));
        for passes in [
            nested(128, ""),
            in_objects(128),
            nested(127, &format!("[]{}", ",[]".repeat(500))),
            brackets_in_strings.clone(),
        ] {
            let envelope = wrapper.frame(&passes).expect("valid JSON");
            assert_eq!(parse(&envelope).expect("valid").frame(), Some(passes));
        }
        for refused in [
            nested(129, ""),
            in_objects(129),
            nested(128, &brackets_in_strings),
            nested(100_000, ""),
        ] {
            assert_eq!(wrapper.frame(&refused), Err(FrameError::TooDeep));
        }
    }

    #[test]
    fn a_binary_may_nest_as_deep_as_it_likes() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let message = format!(r#"{{"conn_id":"p","frame":{deep}}}"#);
        assert_eq!(parse(&message).expect("valid").frame(), Some(deep));
    }

    #[test]
    fn the_notice_has_no_frame_key() {
        let notice = Wrapper::new("p").closed(1001);
        assert_eq!(notice, "{\"conn_id\":\"p\",\"close_code\":1001}");
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let directive = parse(r#"{"x":{"y":[]},"conn_id":"p","frame":{"a": 1},"z":null}"#)
            .expect("an envelope");
        assert_eq!(directive.conn_id, "p");
        assert_eq!(directive.frame().expect("there is one"), r#"{"a": 1}"#);
        assert_eq!(directive.close_code, None);
    }

    #[test]
    fn a_push_wake_with_a_conn_id_is_ignored_like_any_unknown_field() {
        let directive = parse(r#"{"push_wake":1,"conn_id":"p","frame":2}"#).expect("an envelope");
        assert_eq!(directive.frame().expect("there is one"), "2");
    }

    #[test]
    fn an_escaped_conn_id_is_read() {
        let message = r#"{"conn_id":"\u0070\"","frame":0}"#;
        assert_eq!(parse(message).expect("an envelope").conn_id, "p\"");
    }

    #[test]
    fn absent_and_null_both_mean_no_frame() {
        for text in [
            r#"{"conn_id":"p","close_code":4000}"#,
            r#"{"conn_id":"p","frame":null,"close_code":4000}"#,
        ] {
            let directive = parse(text).expect("an envelope");
            assert_eq!(directive.frame(), None);
            assert_eq!(directive.close_code.map(NonZeroU16::get), Some(4000));
        }
    }

    #[test]
    fn an_envelope_without_a_request_is_refused() {
        use EnvelopeError::{Empty, Malformed, NoConnId, PushWake};
        for (text, error) in [
            ("", Malformed),
            ("[]", Malformed),
            (r#"["p", 1]"#, Malformed),
            ("{", Malformed),
            ("\"p\"", Malformed),
            (r#"{"conn_id":null,"frame":1}"#, NoConnId),
            (r#"{"conn_id":1,"frame":1}"#, Malformed),
            (r#"{"conn_id":"p","close_code":65536}"#, Malformed),
            (r#"{"conn_id":"p","close_code":-1}"#, Malformed),
            (r#"{"conn_id":"p","close_code":"1000"}"#, Malformed),
            (r#"{"conn_id":"p","frame":1} x"#, Malformed),
            (r#"{"push_wake":{"platform":"fcm","token":"t"}}"#, PushWake),
            (r#"{"conn_id":null,"push_wake":{}}"#, PushWake),
            (r#"{"push_wake":null}"#, NoConnId),
            (r#"{"conn_id":"","frame":1}"#, NoConnId),
            (r#"{"conn_id":"p"}"#, Empty),
            (r#"{"conn_id":"p","frame":null,"close_code":0}"#, Empty),
        ] {
            assert_eq!(parse(text).map(drop), Err(error), "{text}");
        }
    }

    #[test]
    fn a_push_wake_has_a_platform_and_a_token() {
        let wake =
            push_wake(r#"{"conn_id":null,"push_wake":{"token":"t\u0031","platform":"fcm"}}"#);
        let wake = wake.expect("a push_wake");
        assert_eq!((&*wake.platform, &*wake.token), ("fcm", "t1"));
        let long = "x".repeat(MAX_TOKEN + 1);
        for bad in [
            "1",
            "{}",
            r#"["fcm","t"]"#,
            r#"{"platform":"fcm"}"#,
            r#"{"platform":"fcm","token":""}"#,
            r#"{"platform":"","token":"t"}"#,
            r#"{"platform":"fcm","token":7}"#,
            &format!(r#"{{"platform":"fcm","token":"{long}"}}"#),
        ] {
            let message = format!(r#"{{"push_wake":{bad}}}"#);
            assert_eq!(
                push_wake(&message).map(drop),
                Err(EnvelopeError::Malformed),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_frame_keeps_nothing_of_its_message_alive() {
        let large = "x".repeat(100_000);
        let message = format!(r#"{{"conn_id":"p","frame":"{large}"}}"#);
        let frame = parse(&message).expect("an envelope").frame();
        let frame = frame.expect("there is one");
        assert!(!message.as_bytes().as_ptr_range().contains(&frame.as_ptr()));
    }
}
