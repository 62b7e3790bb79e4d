//! What the hook is asked.

use std::collections::BTreeMap;
use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName};
use serde::Serialize;

use crate::operate::config::HeaderNames;
use crate::protocol::endpoint::Endpoint;

/// Headers by name, in lower case. The values of a repeated header are joined with `", "` (RFC 9110, section 5.2).
pub(in crate::admission) type Headers = BTreeMap<String, String>;

/// A header that the hook is to see is not UTF-8. A replacement would be another value than the client's.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("Header {0} is not valid UTF-8.")]
pub(in crate::admission) struct NotUtf8(HeaderName);

/// Whether a client may connect.
#[derive(Serialize)]
pub(in crate::admission) struct Question<'a> {
    endpoint: &'static str,
    server_id: &'a str,
    address: IpAddr,
    headers: &'a Headers,
}

impl<'a> Question<'a> {
    pub(in crate::admission) fn new(
        endpoint: Endpoint,
        server_id: &'a str,
        address: IpAddr,
        headers: &'a Headers,
    ) -> Self {
        Self {
            endpoint: endpoint.name(),
            server_id,
            address,
            headers,
        }
    }

    /// The question in JSON. The same question always has the same text.
    pub(super) fn text(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings only")
    }
}

/// Takes the headers with these names. Absent ones are left out.
pub(super) fn headers(names: &HeaderNames, headers: &HeaderMap) -> Result<Headers, NotUtf8> {
    let mut taken = Headers::new();
    for name in names.iter() {
        let mut values = Vec::new();
        for value in headers.get_all(name) {
            let value = value.as_bytes().trim_ascii();
            values.push(str::from_utf8(value).map_err(|_| NotUtf8(name.clone()))?);
        }
        if !values.is_empty() {
            taken.insert(name.as_str().to_owned(), values.join(", "));
        }
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::http::HeaderValue;

    use super::*;

    fn sent(pairs: &[(&'static str, &[u8])]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            let value = HeaderValue::from_bytes(value).expect("a header value");
            (HeaderName::from_static(name), value)
        });
        pairs.collect()
    }

    #[test]
    fn a_question_has_the_named_headers_and_always_the_same_text() {
        let names: HeaderNames = "X-B, authorization, x-absent".parse().expect("names");
        let sent = sent(&[
            ("x-b", b" 1"),
            ("x-other", b"secret"),
            ("authorization", "Bearer é".as_bytes()),
            ("x-b", b"2 "),
        ]);
        let headers = headers(&names, &sent).expect("UTF-8");
        let address = Ipv4Addr::LOCALHOST.into();
        let question = Question::new(Endpoint::Client, "a\"b", address, &headers);
        let text = String::from_utf8(question.text()).expect("JSON is UTF-8");
        let wanted = concat!(
            r#"{"endpoint":"client","server_id":"a\"b","address":"127.0.0.1","#,
            r#""headers":{"authorization":"Bearer é","x-b":"1, 2"}}"#
        );
        assert_eq!(text, wanted);
    }

    #[test]
    fn a_header_that_is_not_utf_8_is_refused_if_the_hook_is_to_see_it() {
        let sent = sent(&[("x-a", b"\xff")]);
        let names: HeaderNames = "x-a".parse().expect("a name");
        let refused = headers(&names, &sent).expect_err("not UTF-8");
        assert_eq!(refused.to_string(), "Header x-a is not valid UTF-8.");
        let names: HeaderNames = "x-b".parse().expect("a name");
        assert_eq!(headers(&names, &sent), Ok(Headers::new()));
    }
}
