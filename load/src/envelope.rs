//! The envelopes between the relay and a binary.
//!
//! Frames are located without parsing their content, because this program has to be faster than the relay.
//! That suffices: the server-ids, and so the conn-ids, are this program's own and need no escapes.

use serde::Deserialize;

use crate::frame::{Frames, Stamp};

const BEFORE_CONN_ID: &str = "{\"conn_id\":\"";
const BEFORE_FRAME: &str = "\",\"frame\":";

/// A frame from a phone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Envelope<'a> {
    pub(crate) conn_id: &'a str,
    pub(crate) frame: &'a str,
}

/// The notice that a phone is gone.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) conn_id: String,
    pub(crate) close_code: u16,
}

/// Returns the frame in a message from the relay.
pub(crate) fn open(message: &str) -> Option<Envelope<'_>> {
    let after = message.strip_prefix(BEFORE_CONN_ID)?;
    let (conn_id, after) = after.split_at(after.find('"')?);
    let frame = after.strip_prefix(BEFORE_FRAME)?;
    let frame = frame.strip_suffix('}')?;
    Some(Envelope { conn_id, frame })
}

/// Returns the notice in a message from the relay that has no frame.
pub(crate) fn notice(message: &str) -> Option<Notice> {
    serde_json::from_str(message).ok()
}

/// Wraps a frame for a phone.
pub(crate) fn wrap(conn_id: &str, frames: &Frames, stamp: Stamp) -> String {
    let around = BEFORE_CONN_ID.len() + conn_id.len() + BEFORE_FRAME.len() + 1;
    let mut message = String::with_capacity(around + frames.size());
    message.extend([BEFORE_CONN_ID, conn_id, BEFORE_FRAME]);
    frames.append(stamp, &mut message);
    message.push('}');
    message
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn an_envelope_is_opened_and_wrapped_as_the_relay_does() {
        let stamp = Stamp { due: 7, phone: 3 };
        let frames = Frames::of(40);
        let message = wrap("client-a-1", &frames, stamp);
        let json: Value = serde_json::from_str(&message).expect("JSON");
        assert_eq!(json["conn_id"], "client-a-1");
        let envelope = open(&message).expect("an envelope");
        assert_eq!(envelope.conn_id, "client-a-1");
        assert_eq!(envelope.frame, frames.make(stamp));
    }

    #[test]
    fn a_notice_is_not_a_frame() {
        let message = r#"{"conn_id":"client-a-1","close_code":1001}"#;
        assert_eq!(open(message), None);
        let notice = notice(message).expect("a notice");
        assert_eq!(
            (notice.conn_id.as_str(), notice.close_code),
            ("client-a-1", 1001)
        );
    }

    #[test]
    fn anything_else_is_neither() {
        for message in [
            "",
            "{}",
            "[]",
            "{\"conn_id\":\"",
            "{\"conn_id\":\"a\",\"frame\":1",
        ] {
            assert_eq!(open(message), None, "{message}");
            assert_eq!(notice(message), None, "{message}");
        }
    }
}
