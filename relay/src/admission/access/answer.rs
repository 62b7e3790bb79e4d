//! What the hook answers.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use headers::{CacheControl, Header};
use serde::Deserialize;
use tokio::time::Instant;

use super::problem::Problem;

/// The longest that an answer is remembered, so that an access can be withdrawn.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// A valid answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::admission) enum Answer {
    Admitted(Terms),
    /// With the values of `WWW-Authenticate`.
    Unauthorized(Vec<HeaderValue>),
    Forbidden,
}

/// The limits of an admitted connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::admission) struct Terms {
    /// The limit of phones for the server-id, for this phone.
    pub(in crate::admission) max_phones: Option<u32>,
    /// When the access expires.
    pub(in crate::admission) expires: Option<Instant>,
}

/// The body of an answer that admits. Unknown fields are ignored.
#[derive(Debug, Default, Deserialize)]
struct Body {
    max_phones: Option<u32>,
    /// In seconds.
    expires_in: Option<u64>,
}

impl Answer {
    /// Reads an answer that was received now. The body matters only if it admits.
    ///
    /// # Errors
    ///
    /// If it is no answer.
    pub(super) fn read(
        status: StatusCode,
        headers: &HeaderMap,
        body: Result<Vec<u8>, Problem>,
    ) -> Result<Self, Problem> {
        match status {
            status if status.is_success() => Ok(Self::Admitted(Terms::read(&body?)?)),
            StatusCode::UNAUTHORIZED => {
                let challenges = headers.get_all(header::WWW_AUTHENTICATE);
                Ok(Self::Unauthorized(challenges.iter().cloned().collect()))
            }
            StatusCode::FORBIDDEN => Ok(Self::Forbidden),
            status => Err(Problem::Status(status.as_u16())),
        }
    }
}

impl Terms {
    fn read(body: &[u8]) -> Result<Self, Problem> {
        if body.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        let Body {
            max_phones,
            expires_in,
        } = serde_json::from_slice(body).map_err(|error| Problem::malformed(&error))?;
        // A time that an `Instant` cannot express never comes.
        let expires = |seconds| Instant::now().checked_add(Duration::from_secs(seconds));
        Ok(Self {
            max_phones,
            expires: expires_in.and_then(expires),
        })
    }
}

/// How long the answer with these headers may be remembered: its `max-age`, if it has one and may be stored.
pub(super) fn lifetime(headers: &HeaderMap) -> Duration {
    let lines = headers.get_all(header::CACHE_CONTROL).iter();
    // The parser overlooks directives in upper case.
    let lower = |line: &HeaderValue| line.as_bytes().to_ascii_lowercase();
    let lines = lines.filter_map(|line| HeaderValue::from_bytes(&lower(line)).ok());
    let lines: Vec<HeaderValue> = lines.collect();
    let control = CacheControl::decode(&mut lines.iter()).ok();
    let control = control.filter(|control| !control.no_store() && !control.no_cache());
    let age = control.and_then(|control| control.max_age());
    age.unwrap_or_default().min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(body: &str) -> Result<Answer, Problem> {
        Answer::read(StatusCode::OK, &HeaderMap::new(), Ok(body.into()))
    }

    #[test]
    fn only_2xx_401_and_403_are_answers() {
        for status in [200, 201, 204, 299] {
            let status = StatusCode::from_u16(status).expect("a status");
            let answer = Answer::read(status, &HeaderMap::new(), Ok(Vec::new()));
            assert_eq!(answer, Ok(Answer::Admitted(Terms::default())), "{status}");
        }
        for status in [300, 301, 302, 307, 400, 402, 404, 429, 500, 503, 999] {
            let code = StatusCode::from_u16(status).expect("a status");
            let answer = Answer::read(code, &HeaderMap::new(), Ok(Vec::new()));
            assert_eq!(answer, Err(Problem::Status(status)));
        }
        let answer = Answer::read(StatusCode::FORBIDDEN, &HeaderMap::new(), Ok("?".into()));
        assert_eq!(answer, Ok(Answer::Forbidden));
    }

    #[test]
    fn a_refusal_stands_even_if_its_body_cannot_be_read() {
        let mut headers = HeaderMap::new();
        for challenge in ["Basic", "Bearer"] {
            let challenge = HeaderValue::from_static(challenge);
            headers.append(header::WWW_AUTHENTICATE, challenge);
        }
        let answer = Answer::read(StatusCode::UNAUTHORIZED, &headers, Err(Problem::TooLong));
        let challenges = vec![
            HeaderValue::from_static("Basic"),
            HeaderValue::from_static("Bearer"),
        ];
        assert_eq!(answer, Ok(Answer::Unauthorized(challenges)));
        let answer = Answer::read(StatusCode::OK, &headers, Err(Problem::TooLong));
        assert_eq!(answer, Err(Problem::TooLong));
    }

    #[test]
    fn an_answer_may_name_limits() {
        for body in ["", " \n", "{}", r#"{"max_phones":null}"#, r#"{"user":"é"}"#] {
            assert_eq!(
                terms(body),
                Ok(Answer::Admitted(Terms::default())),
                "{body}"
            );
        }
        let Ok(Answer::Admitted(both)) = terms(r#"{"max_phones":2,"expires_in":60}"#) else {
            panic!("it admits");
        };
        assert_eq!(both.max_phones, Some(2));
        let left = both.expires.expect("it expires") - Instant::now();
        assert!(left > Duration::from_secs(50) && left <= Duration::from_secs(60));
        let never = terms(r#"{"expires_in":18446744073709551615}"#);
        assert_eq!(never, Ok(Answer::Admitted(Terms::default())));
    }

    #[test]
    fn a_malformed_answer_admits_nobody_and_is_not_shown() {
        for body in [
            "ok",
            "{",
            "3",
            "null",
            r#""secret""#,
            r#"{"max_phones":"secret"}"#,
            r#"{"max_phones":-1}"#,
            r#"{"expires_in":1.5}"#,
            r#"{"expires_in":1,"expires_in":9}"#,
            "{} {}",
            "\u{feff}{}",
        ] {
            let problem = terms(body).expect_err(body);
            assert!(matches!(problem, Problem::Malformed { .. }), "{body}");
            assert!(!problem.to_string().contains("secret"), "{problem}");
        }
    }

    #[test]
    fn only_an_answer_with_max_age_is_remembered() {
        for (lines, seconds) in [
            (&[] as &[&'static str], 0),
            (&["max-age=60"], 60),
            (&["private, MAX-AGE=60"], 60),
            (&["private", "max-age=60"], 60),
            (&["max-age=60, no-store"], 0),
            (&["max-age=60, No-Store"], 0),
            (&["max-age=60", "NO-CACHE"], 0),
            (&["no-cache", "max-age=60"], 0),
            (&["max-age=-1"], 0),
            (&["max-age=soon"], 0),
            (&["max-age=0"], 0),
            (&["s-maxage=60"], 0),
            (&["public"], 0),
            (&["max-age=18446744073709551615"], 86_400),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::CACHE_CONTROL, HeaderValue::from_static(line));
            }
            assert_eq!(
                lifetime(&headers),
                Duration::from_secs(seconds),
                "{lines:?}"
            );
        }
    }
}
