//! The rules of the access file: which server-ids may be claimed, and with which tokens.

use std::fmt::{self, Formatter};

use axum::http::{HeaderMap, HeaderValue, StatusCode};
use data_encoding::HEXLOWER_PERMISSIVE;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

use super::names::Names;
use crate::protocol::bearer::{self, Sum};
use crate::protocol::endpoint::Endpoint;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rules {
    /// Without it, all server-ids are allowed.
    allow: Option<Names>,
    deny: Option<Names>,
    /// Without it, a binary needs no token.
    tokens: Option<Vec<Token>>,
}

#[derive(Debug, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a table with sha256 and perhaps name"
)]
struct Token {
    /// For the log.
    name: Option<String>,
    #[serde(deserialize_with = "sum")]
    sha256: Sum,
}

/// Why the rules do not admit a client. The message is for the log.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub(in crate::admission) enum Rejection {
    #[error("the access file denies the server-id")]
    Denied,
    #[error("the access file does not allow the server-id")]
    NotAllowed,
    #[error("no bearer token, and the access file demands one")]
    NoToken,
    #[error("the access file does not have the bearer token")]
    UnknownToken,
}

impl Rejection {
    /// What the client is told.
    pub(in crate::admission) fn advice(self) -> &'static str {
        match self {
            Self::Denied | Self::NotAllowed => {
                "The relay does not serve this server-id. Ask its operator for access."
            }
            Self::NoToken | Self::UnknownToken => {
                "A binary needs a bearer token of the relay's operator. Send a valid one."
            }
        }
    }

    pub(in crate::admission) fn status(self) -> StatusCode {
        match self {
            Self::Denied | Self::NotAllowed => StatusCode::FORBIDDEN,
            Self::NoToken | Self::UnknownToken => StatusCode::UNAUTHORIZED,
        }
    }

    /// The `WWW-Authenticate` of a 401.
    pub(in crate::admission) fn challenge(self) -> Option<HeaderValue> {
        let needs_one = self.status() == StatusCode::UNAUTHORIZED;
        needs_one.then(|| HeaderValue::from_static("Bearer"))
    }
}

impl Rules {
    /// Parses a file.
    ///
    /// # Errors
    ///
    /// With line and column, and without the text of the file: a token might stand where its sum belongs.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let rules: Self = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let (line, column) = place(text, at);
            let problem = without_values(error.message());
            format!("line {line}, column {column}: {problem}")
        })?;
        if rules.allow.is_none() && rules.deny.is_none() && rules.tokens.is_none() {
            // Not "all may connect": a file that is being written is empty for a moment.
            return Err("it has neither allow, deny nor tokens".into());
        }
        Ok(rules)
    }

    /// Admits a client. Returns the name of its token, if it needed one that has a name.
    pub(super) fn check(
        &self,
        endpoint: Endpoint,
        server_id: &str,
        headers: &HeaderMap,
    ) -> Result<Option<&str>, Rejection> {
        let is_in = |names: &Names| names.contain(server_id);
        if self.deny.as_ref().is_some_and(is_in) {
            return Err(Rejection::Denied);
        }
        if !self.allow.as_ref().is_none_or(is_in) {
            return Err(Rejection::NotAllowed);
        }
        match (&self.tokens, endpoint) {
            (Some(tokens), Endpoint::Server) => {
                let token = bearer::token(headers).ok_or(Rejection::NoToken)?;
                let token = find(tokens, &Sum::of(token)).ok_or(Rejection::UnknownToken)?;
                Ok(token.name.as_deref())
            }
            _ => Ok(None),
        }
    }

    /// How many names are allowed and denied, and how many tokens there are.
    pub(super) fn counts(&self) -> [Option<usize>; 3] {
        let tokens = self.tokens.as_ref().map(Vec::len);
        let [allow, deny] = [&self.allow, &self.deny].map(|names| names.as_ref().map(Names::len));
        [allow, deny, tokens]
    }
}

/// Compares with all tokens, also after one was found, so that the time tells nothing.
fn find<'a>(tokens: &'a [Token], sum: &Sum) -> Option<&'a Token> {
    let mut found = None;
    for token in tokens {
        if token.sha256.is(sum) {
            found = Some(token);
        }
    }
    found
}

fn sum<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Sum, D::Error> {
    struct Hex;

    impl Visitor<'_> for Hex {
        type Value = Sum;

        fn expecting(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
            formatter.write_str("a SHA-256 sum: 64 hexadecimal digits")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Sum, E> {
            let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
            let sum = bytes.and_then(|bytes| bytes.try_into().ok());
            sum.map(Sum::new)
                .ok_or_else(|| E::custom("not a SHA-256 sum: 64 hexadecimal digits"))
        }
    }

    deserializer.deserialize_str(Hex)
}

/// Line and column of a byte, both from 1.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}

/// Leaves out the value that serde quotes if its type is wrong. The rest fits in one line.
fn without_values(message: &str) -> String {
    let message = match message.rsplit_once(", expected ") {
        Some((found, expected)) if found.starts_with("invalid ") => {
            format!("invalid type: expected {expected}")
        }
        _ => message.to_owned(),
    };
    message.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use axum::http::header;

    use super::*;

    /// Of "swordfish".
    const SUM: &str = "b9f195c5cc7ef6afadbfbc42892ad47d3b24c6bc94bb510c4564a90a14e8b799";

    fn rules(text: &str) -> Rules {
        Rules::parse(text).expect("a valid file")
    }

    fn problem(text: &str) -> String {
        Rules::parse(text).expect_err("an invalid file")
    }

    /// Checks a binary without a token, and a phone. The outcome must be the same.
    fn both(rules: &Rules, server_id: &str) -> Result<(), Rejection> {
        let [binary, phone] = [Endpoint::Server, Endpoint::Client].map(|endpoint| {
            let admitted = rules.check(endpoint, server_id, &HeaderMap::new());
            admitted.map(|name| assert_eq!(name, None))
        });
        assert_eq!(binary, phone);
        binary
    }

    fn with_token(rules: &Rules, token: &str) -> Result<Option<String>, Rejection> {
        let mut headers = HeaderMap::new();
        let value = HeaderValue::from_str(&format!("Bearer {token}")).expect("a header value");
        headers.insert(header::AUTHORIZATION, value);
        let admitted = rules.check(Endpoint::Server, "a", &headers);
        admitted.map(|name| name.map(str::to_owned))
    }

    #[test]
    fn only_allowed_server_ids_are_admitted_if_there_is_a_list() {
        let rules = rules(r#"allow = ["a", "lab-*", "x?z"]"#);
        for allowed in ["a", "lab-", "lab-7", "lab-7/8.9", "xyz", "xéz"] {
            assert_eq!(both(&rules, allowed), Ok(()), "{allowed}");
        }
        for other in [
            "b", "A", "aa", "ba", "lab", "Lab-7", "my-lab-7", "xz", "xyyz", "a\n",
        ] {
            assert_eq!(both(&rules, other), Err(Rejection::NotAllowed), "{other}");
        }
    }

    #[test]
    fn an_empty_list_allows_nothing_and_denies_nothing() {
        assert_eq!(both(&rules("allow = []"), "a"), Err(Rejection::NotAllowed));
        assert_eq!(both(&rules("deny = []"), "a"), Ok(()));
    }

    #[test]
    fn denied_server_ids_are_refused_even_if_they_are_allowed() {
        let rules = rules("allow = ['lab-*']\ndeny = ['lab-7', 'lab-?x']");
        assert_eq!(both(&rules, "lab-8"), Ok(()));
        for denied in ["lab-7", "lab-8x"] {
            assert_eq!(both(&rules, denied), Err(Rejection::Denied), "{denied}");
        }
        assert_eq!(both(&rules, "b"), Err(Rejection::NotAllowed));
    }

    #[test]
    fn a_pattern_is_nothing_but_stars_and_question_marks() {
        let rules = rules(r#"allow = ["[ab]*", "{a,b}*", "a.*", '\*']"#);
        for allowed in ["[ab]1", "{a,b}", "a.b", "\\x"] {
            assert_eq!(both(&rules, allowed), Ok(()), "{allowed}");
        }
        for other in ["a1", "b", "ab", "*"] {
            assert_eq!(both(&rules, other), Err(Rejection::NotAllowed), "{other}");
        }
    }

    #[test]
    fn a_binary_needs_one_of_the_tokens_and_a_phone_none() {
        let unnamed = "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa";
        let text = format!(
            "[[tokens]]\nname = 'ada'\nsha256 = '{}'\n[[tokens]]\nsha256 = '{unnamed}'",
            SUM.to_uppercase()
        );
        let rules = rules(&text);
        assert_eq!(with_token(&rules, "swordfish"), Ok(Some("ada".into())));
        assert_eq!(with_token(&rules, "other"), Ok(None));
        for wrong in ["", "swordfis", "swordfish1", "Swordfish", SUM] {
            assert_eq!(
                with_token(&rules, wrong),
                Err(Rejection::UnknownToken),
                "{wrong}"
            );
        }
        let none = HeaderMap::new();
        assert_eq!(
            rules.check(Endpoint::Server, "a", &none),
            Err(Rejection::NoToken)
        );
        assert_eq!(rules.check(Endpoint::Client, "a", &none), Ok(None));
    }

    #[test]
    fn an_empty_list_of_tokens_admits_no_binary() {
        let rules = rules("tokens = []");
        assert_eq!(
            with_token(&rules, "swordfish"),
            Err(Rejection::UnknownToken)
        );
    }

    #[test]
    fn the_lists_come_before_the_tokens() {
        let rules = rules(&format!("deny = ['a']\n[[tokens]]\nsha256 = '{SUM}'"));
        assert_eq!(with_token(&rules, "swordfish"), Err(Rejection::Denied));
    }

    #[test]
    fn a_file_without_rules_is_invalid() {
        for text in ["", "\n# nothing\n"] {
            assert!(
                problem(text).contains("neither allow, deny nor tokens"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_problem_names_line_and_column_and_not_the_text() {
        let short = format!("[[tokens]]\nsha256 = '{}'", &SUM[1..]);
        let long = format!("[[tokens]]\nsha256 = '{SUM}0'");
        for (text, place, words) in [
            ("allow = [", "line 1, ", ""),
            (
                "allow = ['a']\nalow = ['secret']",
                "line 2, column 1: ",
                "unknown field",
            ),
            ("deny = 'secret'", "line 1, column 8: ", "a sequence"),
            ("deny = ['a',\n  '']", "line 2, column 3: ", "not empty"),
            (
                "deny = ['é', ' secret']",
                "line 1, column 14: ",
                "white space",
            ),
            (
                "tokens = ['secret']",
                "line 1, column 11: ",
                "a table with sha256",
            ),
            (
                "tokens = 'secret, expected x'",
                "line 1, column 10: ",
                "a sequence",
            ),
            (
                "[[tokens]]\nname = 'ada'",
                "line 1, column 1: ",
                "missing field `sha256`",
            ),
            (
                "[[tokens]]\nsha256 = 'secret'",
                "line 2, column 10: ",
                "64 hexadecimal",
            ),
            (
                "[[tokens]]\nsha256 = 5",
                "line 2, column 10: ",
                "64 hexadecimal",
            ),
            (&short, "line 2, column 10: ", "64 hexadecimal"),
            (&long, "line 2, column 10: ", "64 hexadecimal"),
            (
                "allow = ['a']\nallow = ['b']",
                "line 2, column 1: ",
                "duplicate",
            ),
            ("secret", "line 1, ", ""),
        ] {
            let problem = problem(text);
            assert!(problem.starts_with(place), "{text}: {problem}");
            assert!(problem.contains(words), "{text}: {problem}");
            assert!(
                !problem.contains("secret") && !problem.contains("b9f1"),
                "{problem}"
            );
            assert_eq!(problem.lines().count(), 1, "{problem}");
        }
    }
}
