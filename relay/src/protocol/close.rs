//! Every close code and reason that the relay sends.

use std::borrow::Cow;

use tungstenite::Message;
use tungstenite::protocol::CloseFrame;

/// A close code and a reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Close {
    pub(crate) code: u16,
    pub(crate) reason: Cow<'static, str>,
    /// Why, in words for the log. Many reasons on the wire are empty.
    pub(crate) why: &'static str,
}

impl Close {
    pub(crate) const NORMAL: Self = Self::silent(1000, "closed");
    pub(crate) const NOT_JSON: Self = Self::silent(1000, "frame is not JSON");
    pub(crate) const UNDELIVERED: Self = Self::silent(1000, "frame undelivered");
    pub(crate) const EXPIRED: Self = Self::silent(1000, "binary did not come back");
    pub(crate) const SHUTTING_DOWN: Self = Self::of(1001, "shutting down");
    pub(crate) const PROTOCOL_ERROR: Self = Self::silent(1002, "protocol error");
    pub(crate) const NOT_UTF8: Self = Self::silent(1007, "message is not UTF-8");
    pub(crate) const TOO_SLOW: Self = Self::of(1008, "message too slow");
    pub(crate) const NOTHING_SAID: Self = Self::of(1008, "nothing said");
    pub(crate) const TOO_LARGE: Self = Self::of(1009, "message too big");
    pub(crate) const PHONE_BACKLOG_FULL: Self = Self::of(1011, "phone backlog full");
    pub(crate) const PHONE_WRITE_FAILED: Self = Self::of(1011, "phone write failed");
    pub(crate) const BINARY_WRITE_FAILED: Self = Self::of(1011, "binary write failed");
    pub(crate) const HEARTBEAT_TIMEOUT: Self = Self::of(1011, "heartbeat timeout");
    pub(crate) const TAKEN_OVER: Self =
        Self::because(1011, "heartbeat timeout", "taken over by another binary");
    pub(crate) const MADE_ROOM: Self = Self::because(
        1011,
        "heartbeat timeout",
        "silent when another phone needed its place",
    );
    pub(crate) const TRY_AGAIN: Self = Self::of(1013, "try again");
    pub(crate) const ACCESS_EXPIRED: Self = Self::of(4401, "access expired");
    pub(crate) const NO_SERVER: Self = Self::of(4404, "no server with that id");
    pub(crate) const RECLAIMED: Self = Self::of(4404, "binary reclaimed server-id");
    pub(crate) const ALREADY_CLAIMED: Self = Self::of(4409, "server-id already claimed");
    pub(crate) const TOO_MANY_CLAIMS: Self = Self::because(
        4409,
        "server-id already claimed",
        "too many other binaries wait for an answer of the incumbent",
    );
    pub(crate) const WRONG_CLAIM_SECRET: Self = Self::because(
        4409,
        "server-id already claimed",
        "its claim secret is not that of the incumbent",
    );
    pub(crate) const TOO_MANY_PHONES: Self = Self::of(4429, "too many phones for server-id");

    const fn of(code: u16, reason: &'static str) -> Self {
        Self::because(code, reason, reason)
    }

    /// A close with an empty reason.
    const fn silent(code: u16, why: &'static str) -> Self {
        Self::because(code, "", why)
    }

    const fn because(code: u16, reason: &'static str, why: &'static str) -> Self {
        Self {
            code,
            reason: Cow::Borrowed(reason),
            why,
        }
    }

    /// A close that a binary requested: its code, and an empty reason.
    pub(crate) const fn with_code(code: u16) -> Self {
        Self::silent(code, "closed by its binary")
    }

    /// A close that an operator requested.
    pub(crate) const fn evicted(code: u16) -> Self {
        Self::of(code, "evicted by operator")
    }

    /// The close frame. A code that must not be sent is left out.
    pub(crate) fn message(&self) -> Message {
        Message::Close(may_be_sent(self.code).then(|| CloseFrame {
            code: self.code.into(),
            reason: self.reason.as_ref().into(),
        }))
    }
}

impl From<CloseFrame> for Close {
    fn from(frame: CloseFrame) -> Self {
        Self {
            code: frame.code.into(),
            reason: frame.reason.to_string().into(),
            why: "closed by the peer",
        }
    }
}

/// Whether a code may appear in a close frame. RFC 6455, section 7.4, excludes 1004 to 1006, 1015 and undefined codes.
pub(crate) fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_that_must_not_be_sent_is_left_out_of_the_frame() {
        for code in [1, 999, 1004, 1005, 1006, 1015, 2999, 5000, u16::MAX] {
            assert_eq!(Close::with_code(code).message(), Message::Close(None));
        }
        for code in [1000, 1001, 1011, 3000, 4000, 4999] {
            let Message::Close(Some(frame)) = Close::with_code(code).message() else {
                panic!("{code} may be sent");
            };
            assert_eq!((u16::from(frame.code), frame.reason.as_str()), (code, ""));
        }
    }
}
