//! Who is at the other end of a connection, and how the connection ended: what the log says of it.

use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;

use tungstenite::error::Error;

use crate::protocol::claim_secret::ClaimSecret;
use crate::protocol::close::Close;
use crate::protocol::endpoint::Endpoint;

/// The identity of a connection.
#[derive(Debug)]
pub(crate) struct Who {
    pub(crate) endpoint: Endpoint,
    pub(crate) server_id: String,
    pub(crate) conn_id: String,
    /// The address of the client, also behind a trusted proxy.
    pub(crate) address: IpAddr,
    /// The version of a binary, or the device name of a phone.
    pub(crate) label: Option<String>,
    /// The secret of a binary, if it has sent one.
    pub(crate) claim_secret: Option<ClaimSecret>,
}

impl Who {
    /// Whether a binary with the secret `other` may replace this one.
    pub(crate) fn may_be_replaced(&self, other: Option<&ClaimSecret>) -> bool {
        let secret = self.claim_secret.as_ref();
        secret.is_none_or(|secret| secret.admits(other))
    }

    pub(crate) fn version(&self) -> Option<&str> {
        self.label_at(Endpoint::Server)
    }

    pub(crate) fn device(&self) -> Option<&str> {
        self.label_at(Endpoint::Client)
    }

    fn label_at(&self, endpoint: Endpoint) -> Option<&str> {
        self.label.as_deref().filter(|_| self.endpoint == endpoint)
    }
}

/// A phone of the server-id "a".
#[cfg(test)]
impl From<&str> for Who {
    fn from(conn_id: &str) -> Self {
        Self {
            endpoint: Endpoint::Client,
            server_id: "a".into(),
            conn_id: conn_id.into(),
            address: std::net::Ipv4Addr::LOCALHOST.into(),
            label: None,
            claim_secret: None,
        }
    }
}

/// Logs an event about a connection: `about!(info, peer, "binary connected")`. Fields may precede the message.
///
/// Explicit fields, not a span: a span would be entered and left whenever the connection's task runs, so for every
/// frame. The formatter escapes strings.
macro_rules! about {
    ($level:ident, $peer:expr, $($event:tt)+) => {{
        let who = $peer.who();
        tracing::$level!(
            server_id = who.server_id,
            conn_id = who.conn_id,
            address = %who.address,
            version = who.version(),
            device = who.device(),
            $($event)+
        )
    }};
}

pub(crate) use about;

/// Why a connection is over.
#[derive(Debug)]
pub(crate) enum Gone {
    /// The peer sent a close frame, perhaps without a code.
    ClosedByPeer(Option<Close>),
    /// The relay closes it. The ending of the peer says why.
    ClosedByRelay,
    /// It broke, or ended without a close frame.
    Broken(Error),
}

impl Gone {
    /// The code that a binary is told when its phone is gone: the phone's, or 1001.
    pub(crate) fn code(&self) -> u16 {
        match self {
            Self::ClosedByPeer(Some(close)) => close.code,
            _ => 1001,
        }
    }
}

/// Who ended a connection: the field `by` in the log.
impl Display for Gone {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::ClosedByPeer(_) => "peer",
            Self::ClosedByRelay => "relay",
            Self::Broken(_) => "network",
        })
    }
}
