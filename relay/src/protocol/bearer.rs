//! Bearer tokens, and the sums by which they are compared.

use std::fmt::{self, Debug, Formatter};

use axum::http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The SHA-256 sum of a token. The token itself is not kept.
#[derive(Clone, Copy)]
pub(crate) struct Sum([u8; 32]);

impl Sum {
    pub(crate) fn new(sum: [u8; 32]) -> Self {
        Self(sum)
    }

    pub(crate) fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Takes the same time for all sums.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Debug for Sum {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("Sum")
    }
}

/// The token of a request that has exactly one `Authorization`, with the scheme `Bearer`.
pub(crate) fn token(headers: &HeaderMap) -> Option<&[u8]> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(one), None) = (all.next(), all.next()) else {
        return None;
    };
    let (scheme, token) = one.as_bytes().split_at_checked("Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then_some(token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn token_of(values: &[&'static str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, HeaderValue::from_static(value));
        }
        token(&headers).map(|token| String::from_utf8_lossy(token).into_owned())
    }

    #[test]
    fn a_request_has_a_token_if_it_has_one_header_with_the_scheme_bearer() {
        assert_eq!(token_of(&["Bearer abc"]).as_deref(), Some("abc"));
        assert_eq!(token_of(&["bearer  abc"]).as_deref(), Some("abc"));
        assert_eq!(token_of(&["Bearer "]).as_deref(), Some(""));
        for none in [
            &[][..],
            &[""],
            &["Bearer"],
            &["abc"],
            &["Basic abc"],
            &["Bearer abc", "Bearer abc"],
        ] {
            assert_eq!(token_of(none), None, "{none:?}");
        }
    }

    #[test]
    fn only_the_sum_of_the_same_token_is_the_same_and_none_is_shown() {
        let sum = Sum::of(b"swordfish");
        assert!(sum.is(&Sum::of(b"swordfish")));
        assert!(!sum.is(&Sum::of(b"swordfisH")));
        assert!(!sum.is(&Sum::of(b"")));
        // They differ in one byte, which may be any.
        let zeros = Sum::new([0; 32]);
        for byte in 0..32 {
            let mut other = [0; 32];
            other[byte] = 1;
            assert!(!zeros.is(&Sum::new(other)), "{byte}");
        }
        assert_eq!(format!("{sum:?}"), "Sum");
    }
}
