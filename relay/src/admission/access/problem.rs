//! Why there is no answer.

use crate::transport::http_client;

/// Why a question was not answered, for the log. Contains no part of the question, the answer or the URL.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(in crate::admission) enum Problem {
    #[error("it was not answered within --access-timeout")]
    TooLate,
    #[error("{0}")]
    Http(String),
    #[error("the hook answered with status {0}, not with 2xx, 401 or 403")]
    Status(u16),
    #[error("the body of the hook's answer is too long")]
    TooLong,
    #[error(
        "the hook's answer is not a JSON object with valid limits: line {line}, column {column}"
    )]
    Malformed { line: usize, column: usize },
}

impl Problem {
    /// Only the place: the message of the library may quote the answer.
    pub(super) fn malformed(error: &serde_json::Error) -> Self {
        Self::Malformed {
            line: error.line(),
            column: error.column(),
        }
    }
}

impl From<reqwest::Error> for Problem {
    fn from(error: reqwest::Error) -> Self {
        if error.is_timeout() {
            return Self::TooLate;
        }
        Self::Http(http_client::describe(error))
    }
}
