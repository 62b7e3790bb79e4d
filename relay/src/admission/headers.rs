//! The headers that a client must send.

use axum::http::HeaderMap;

use crate::protocol::claim_secret::ClaimSecret;
use crate::protocol::endpoint::Endpoint;

const SERVER_ID: &str = "X-Pyrycode-Server";
const MAX_SERVER_ID: usize = 256;

/// The longest label, in characters.
const MAX_LABEL: usize = 64;

/// Why a header is refused. Never contains its value.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum BadHeader {
    #[error("Header {0} is missing or empty.")]
    Missing(&'static str),
    #[error("Header {0} is repeated.")]
    Repeated(&'static str),
    #[error("Header {0} is not valid UTF-8.")]
    NotUtf8(&'static str),
    #[error("Header {0} is longer than {MAX_SERVER_ID} bytes.")]
    TooLong(&'static str),
}

/// Returns the server-id if all required headers are valid.
pub(crate) fn server_id(headers: &HeaderMap, endpoint: Endpoint) -> Result<String, BadHeader> {
    let server_id = value(headers, SERVER_ID)?;
    // A proxy in front of the relay might use a different one than the relay.
    if headers.get_all(SERVER_ID).iter().count() > 1 {
        return Err(BadHeader::Repeated(SERVER_ID));
    }
    let server_id = str::from_utf8(server_id).map_err(|_| BadHeader::NotUtf8(SERVER_ID))?;
    if server_id.len() > MAX_SERVER_ID {
        return Err(BadHeader::TooLong(SERVER_ID));
    }
    for name in endpoint.required_headers() {
        value(headers, name)?;
    }
    Ok(server_id.to_owned())
}

/// Returns the version of a binary or the device name of a phone, if it sends one. Text for the log: cut at
/// [`MAX_LABEL`], and invalid UTF-8 is replaced.
pub(crate) fn label(headers: &HeaderMap, endpoint: Endpoint) -> Option<String> {
    let label = value(headers, endpoint.label_header()).ok()?;
    let label = String::from_utf8_lossy(label);
    Some(label.chars().take(MAX_LABEL).collect())
}

/// Returns the claim secret of a binary, if it sends one, or if it must.
pub(crate) fn claim_secret(
    headers: &HeaderMap,
    endpoint: Endpoint,
    is_required: bool,
) -> Result<Option<ClaimSecret>, BadHeader> {
    const NAME: &str = ClaimSecret::HEADER;
    if endpoint != Endpoint::Server || !(is_required || headers.contains_key(NAME)) {
        return Ok(None);
    }
    let secret = value(headers, NAME)?;
    if headers.get_all(NAME).iter().count() > 1 {
        return Err(BadHeader::Repeated(NAME));
    }
    Ok(Some(ClaimSecret::new(secret)))
}

fn value<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a [u8], BadHeader> {
    match headers.get(name).map(|value| value.as_bytes().trim_ascii()) {
        None | Some([]) => Err(BadHeader::Missing(name)),
        Some(value) => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&'static str, &[u8])]) -> HeaderMap {
        let pair = |&(name, value): &(&'static str, &[u8])| {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
            (
                name,
                HeaderValue::from_bytes(value).expect("a header value"),
            )
        };
        pairs.iter().map(pair).collect()
    }

    fn phone(server_id: &[u8]) -> HeaderMap {
        headers(&[
            (SERVER_ID, server_id),
            ("X-Pyrycode-Token", b"t"),
            ("User-Agent", b"test"),
        ])
    }

    #[test]
    fn the_server_id_is_taken_verbatim() {
        let longest = "é".repeat(MAX_SERVER_ID / 2);
        for server_id in ["a", "a b", "\"\\{}", "ünï", &longest] {
            let taken = super::server_id(&phone(server_id.as_bytes()), Endpoint::Client);
            assert_eq!(taken.as_deref(), Ok(server_id));
        }
    }

    #[test]
    fn a_bad_server_id_is_refused() {
        let too_long = [b'a'; MAX_SERVER_ID + 1];
        for (server_id, error) in [
            (b"".as_slice(), BadHeader::Missing(SERVER_ID)),
            (b" \t", BadHeader::Missing(SERVER_ID)),
            (b"\xff", BadHeader::NotUtf8(SERVER_ID)),
            (&too_long, BadHeader::TooLong(SERVER_ID)),
        ] {
            assert_eq!(
                super::server_id(&phone(server_id), Endpoint::Client),
                Err(error)
            );
        }
    }

    #[test]
    fn a_second_server_id_is_refused_even_if_it_is_the_same() {
        for second in ["a", "b", ""] {
            let mut headers = phone(b"a");
            headers.append(SERVER_ID, HeaderValue::from_static(second));
            let taken = server_id(&headers, Endpoint::Client);
            assert_eq!(taken, Err(BadHeader::Repeated(SERVER_ID)), "{second:?}");
        }
    }

    #[test]
    fn a_label_is_short_text_whatever_was_sent() {
        let name = "X-Pyrycode-Device-Name";
        let long = "é".repeat(1000);
        for (sent, label) in [
            (" Ada's phone\t".as_bytes(), Some("Ada's phone")),
            (b"\xff", Some("\u{fffd}")),
            (b" ", None),
            (long.as_bytes(), Some(&long[..2 * MAX_LABEL])),
        ] {
            let headers = headers(&[(name, sent)]);
            assert_eq!(super::label(&headers, Endpoint::Client).as_deref(), label);
            assert_eq!(super::label(&headers, Endpoint::Server), None);
        }
    }

    #[test]
    fn each_missing_or_empty_header_is_refused() {
        for name in [SERVER_ID, "X-Pyrycode-Token", "User-Agent"] {
            let mut without = phone(b"a");
            without.remove(name);
            assert_eq!(
                server_id(&without, Endpoint::Client),
                Err(BadHeader::Missing(name))
            );
            let mut empty = phone(b"a");
            empty.insert(name, HeaderValue::from_static(""));
            assert_eq!(
                server_id(&empty, Endpoint::Client),
                Err(BadHeader::Missing(name))
            );
        }
        let error = BadHeader::Missing("X-Pyrycode-Version");
        assert_eq!(server_id(&phone(b"a"), Endpoint::Server), Err(error));
    }
}
