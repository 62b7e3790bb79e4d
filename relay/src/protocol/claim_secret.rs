//! The secret with which a binary protects its server-id.

use std::fmt::{self, Debug, Formatter};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The SHA-256 sum of a claim secret. The secret itself is not kept.
#[derive(Clone, Copy)]
pub(crate) struct ClaimSecret([u8; 32]);

impl ClaimSecret {
    /// The header in which a binary sends it.
    pub(crate) const HEADER: &'static str = "X-Switchboard-Claim-Secret";

    pub(crate) fn new(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// Whether a binary with the secret `other` may replace one with this secret. Takes the same time for all secrets.
    pub(crate) fn admits(&self, other: Option<&Self>) -> bool {
        other.is_some_and(|other| bool::from(self.0.ct_eq(&other.0)))
    }
}

impl Debug for ClaimSecret {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("ClaimSecret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_secret_is_admitted_and_none_is_shown() {
        let secret = ClaimSecret::new(b"swordfish");
        assert!(secret.admits(Some(&ClaimSecret::new(b"swordfish"))));
        assert!(!secret.admits(Some(&ClaimSecret::new(b"Swordfish"))));
        assert!(!secret.admits(None));
        assert_eq!(format!("{secret:?}"), "ClaimSecret");
    }
}
