//! The opening handshake of RFC 6455, section 4.2: which requests are upgrades, and how they are answered.

use axum::body::Body;
use axum::http::header::{self, HeaderName};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, Version};
use axum::response::Response;
use data_encoding::BASE64;
use tungstenite::handshake::derive_accept_key;

/// The only version of the WebSocket protocol.
const VERSION: &str = "13";

/// The length of a decoded key.
const KEY: usize = 16;

/// Why a request is not a valid WebSocket upgrade. The message is sent to the client.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum BadUpgrade {
    #[error("WebSocket requires HTTP/1.1.")]
    NotHttp11,
    #[error("This is not a WebSocket upgrade: header {0} must contain {1}.")]
    NotAsked(&'static str, &'static str),
    #[error(
        "The WebSocket version must be {VERSION}: send header Sec-WebSocket-Version once, with that value."
    )]
    Version,
    #[error("Send header Sec-WebSocket-Key once, with {KEY} bytes in base64.")]
    Key,
    #[error("Send header Host once, with a host and an optional port.")]
    Host,
    #[error(
        "An upgrade must not have a body: send neither Transfer-Encoding nor a Content-Length above 0."
    )]
    Body,
}

impl BadUpgrade {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NotHttp11 | Self::NotAsked(..) | Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Key | Self::Host | Self::Body => StatusCode::BAD_REQUEST,
        }
    }

    /// Adds headers to the response that say which upgrade and version are supported.
    pub(crate) fn advise(&self, headers: &mut HeaderMap) {
        if self.status() == StatusCode::UPGRADE_REQUIRED {
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        }
        if *self == Self::Version {
            let version = HeaderValue::from_static(VERSION);
            headers.insert(header::SEC_WEBSOCKET_VERSION, version);
        }
    }
}

/// Whether the request asks for WebSocket. The rest of the handshake may still be invalid.
pub(crate) fn is_asked<B>(request: &Request<B>) -> bool {
    asked(request).is_ok()
}

fn asked<B>(request: &Request<B>) -> Result<(), BadUpgrade> {
    if request.version() != Version::HTTP_11 {
        return Err(BadUpgrade::NotHttp11);
    }
    for (name, token) in [("Connection", "upgrade"), ("Upgrade", "websocket")] {
        if !has_token(request.headers(), name, token) {
            return Err(BadUpgrade::NotAsked(name, token));
        }
    }
    Ok(())
}

/// Returns the response to a valid upgrade.
pub(crate) fn answer<B>(request: &Request<B>) -> Result<Response, BadUpgrade> {
    asked(request)?;
    let headers = request.headers();
    if only(headers, &header::SEC_WEBSOCKET_VERSION) != Some(VERSION) {
        return Err(BadUpgrade::Version);
    }
    let key = only(headers, &header::SEC_WEBSOCKET_KEY).ok_or(BadUpgrade::Key)?;
    let decoded = BASE64.decode(key.as_bytes()).ok();
    if decoded.is_none_or(|key| key.len() != KEY) {
        return Err(BadUpgrade::Key);
    }
    let host = only(headers, &header::HOST).ok_or(BadUpgrade::Host)?;
    if !is_host(host) {
        return Err(BadUpgrade::Host);
    }
    if has_body(headers) {
        return Err(BadUpgrade::Body);
    }
    let accept = derive_accept_key(key.as_bytes());
    let accept = HeaderValue::try_from(accept).map_err(|_| BadUpgrade::Key)?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

/// Whether a header contains a token. The list of tokens may be spread over several lines.
fn has_token(headers: &HeaderMap, name: &str, token: &str) -> bool {
    let lines = headers.get_all(name).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// Returns the value of a header that is present exactly once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => str::from_utf8(line.as_bytes().trim_ascii()).ok(),
        _ => None,
    }
}

/// Whether the text is a host with an optional port. Unlike an authority, it must not name a user.
fn is_host(text: &str) -> bool {
    let Ok(authority) = text.parse::<Authority>() else {
        return false;
    };
    let host = authority.host();
    let port = text
        .strip_prefix(host)
        .map(|rest| rest.strip_prefix(':').unwrap_or(rest));
    let is_port = |port: &str| port.is_empty() || port.parse::<u16>().is_ok();
    !host.is_empty() && port.is_some_and(is_port)
}

fn has_body(headers: &HeaderMap) -> bool {
    let lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    headers.contains_key(header::TRANSFER_ENCODING)
        || lengths
            .into_iter()
            .any(|length| length.as_bytes().trim_ascii() != b"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    /// A valid upgrade, except for these lines. They replace those of the same name; without values, they remove them.
    fn request(lines: &[(&'static str, &[&str])]) -> Request<()> {
        let valid: [(&str, &[&str]); 5] = [
            ("host", &["relay"]),
            ("connection", &["Upgrade"]),
            ("upgrade", &["websocket"]),
            ("sec-websocket-version", &["13"]),
            ("sec-websocket-key", &[KEY]),
        ];
        let replaced = |name: &str| lines.iter().any(|(other, _)| *other == name);
        let kept = valid.iter().filter(|(name, _)| !replaced(name));
        let mut request = Request::new(());
        for (name, values) in kept.chain(lines) {
            for value in *values {
                let value = HeaderValue::from_bytes(value.as_bytes()).expect("a header value");
                request.headers_mut().append(*name, value);
            }
        }
        request
    }

    fn refusal(lines: &[(&'static str, &[&str])]) -> Option<BadUpgrade> {
        answer(&request(lines)).err()
    }

    #[test]
    fn the_example_of_the_rfc_gets_the_answer_of_the_rfc() {
        let response = answer(&request(&[])).expect("an upgrade");
        assert_eq!(response.status(), 101);
        let accept = &response.headers()["sec-websocket-accept"];
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn tokens_may_be_spread_over_lines_and_accompanied_by_others() {
        for (name, values) in [
            ("connection", &["keep-alive", "Upgrade"] as &[&str]),
            ("connection", &["keep-alive, upgrade"]),
            ("connection", &["keep-alive,\tUPGRADE\t,x"]),
            ("upgrade", &["websocket", "websocket"]),
            ("upgrade", &["websocket, h2c"]),
            ("upgrade", &["h2c,WebSocket"]),
            ("upgrade", &["\twebsocket"]),
            ("sec-websocket-version", &[" 13\t"]),
            ("host", &["relay:8080"]),
            ("host", &["[::1]:8080"]),
            ("host", &["127.0.0.1"]),
            ("content-length", &["0"]),
        ] {
            assert_eq!(refusal(&[(name, values)]), None, "{name} {values:?}");
        }
    }

    #[test]
    fn a_request_that_is_not_for_websocket_gets_426() {
        for (name, values) in [
            ("connection", &[] as &[&str]),
            ("connection", &["keep-alive"]),
            ("connection", &["upgrades"]),
            ("upgrade", &[]),
            ("upgrade", &["h2c"]),
            ("upgrade", &["web socket"]),
        ] {
            let request = request(&[(name, values)]);
            assert!(!is_asked(&request), "{name} {values:?}");
            let refusal = answer(&request).expect_err("no upgrade");
            assert_eq!(refusal.status(), 426, "{name} {values:?}");
            let mut advice = HeaderMap::new();
            refusal.advise(&mut advice);
            assert_eq!(advice["upgrade"], "websocket");
            assert!(!advice.contains_key("sec-websocket-version"));
        }
        let mut old = request(&[]);
        *old.version_mut() = Version::HTTP_10;
        assert!(!is_asked(&old));
        assert_eq!(answer(&old).err(), Some(BadUpgrade::NotHttp11));
    }

    #[test]
    fn another_version_gets_426_and_the_supported_version() {
        for values in [
            &["7"] as &[&str],
            &["8", "13"],
            &["13", "13"],
            &["13, 8"],
            &[""],
            &["013"],
            &[],
        ] {
            let refusal = refusal(&[("sec-websocket-version", values)]);
            let refusal = refusal.expect("the wrong version");
            assert_eq!(refusal, BadUpgrade::Version, "{values:?}");
            assert_eq!(refusal.status(), 426);
            let mut advice = HeaderMap::new();
            refusal.advise(&mut advice);
            assert_eq!(advice["upgrade"], "websocket");
            assert_eq!(advice["sec-websocket-version"], "13");
        }
    }

    #[test]
    fn an_invalid_upgrade_gets_400() {
        use BadUpgrade::{Body, Host, Key as BadKey};
        for (name, values, error) in [
            ("sec-websocket-key", &[] as &[&str], BadKey),
            ("sec-websocket-key", &[""], BadKey),
            ("sec-websocket-key", &["c2hvcnQ="], BadKey),
            ("sec-websocket-key", &["dGhlIHNhbXBsZSBub25jZQ"], BadKey),
            ("sec-websocket-key", &["dGhlIHNhbXBsZSBub25jZSE="], BadKey),
            ("sec-websocket-key", &["dGhlIHNhbXBsZSBub25jZ==="], BadKey),
            ("sec-websocket-key", &["????????????????????????"], BadKey),
            ("sec-websocket-key", &[KEY, KEY], BadKey),
            ("host", &[], Host),
            ("host", &[""], Host),
            ("host", &["relay", "relay"], Host),
            ("host", &["a b@/"], Host),
            ("host", &["user@relay"], Host),
            ("host", &["relay/path"], Host),
            ("host", &[":8080"], Host),
            ("host", &["relay:abc"], Host),
            ("host", &["relay:99999"], Host),
            ("content-length", &["5"], Body),
            ("content-length", &["00"], Body),
            ("transfer-encoding", &["chunked"], Body),
        ] {
            let refusal = refusal(&[(name, values)]).expect("a bad request");
            assert_eq!(refusal, error, "{name} {values:?}");
            assert_eq!(refusal.status(), 400);
        }
    }
}
