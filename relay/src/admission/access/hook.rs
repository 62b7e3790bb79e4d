//! Asking the hook over HTTP.

use std::path::Path;
use std::time::Duration;

use axum::http::{HeaderValue, header};
use reqwest::{Client, Response, Url};
use tokio::sync::Semaphore;

use super::answer::{self, Answer};
use super::problem::Problem;
use crate::operate::config::ServiceUrl;
use crate::operate::error::Error;
use crate::transport::http_client::{self, Authorities};

/// The most questions that are asked at once. More wait.
const AT_ONCE: usize = 256;

/// The most bytes of the body of an answer.
const MAX_BODY: usize = 64 * 1024;

/// The service at `--access-url`.
pub(super) struct Hook {
    client: Client,
    url: Url,
    turns: Semaphore,
}

impl Hook {
    pub(super) fn new(
        url: &ServiceUrl,
        timeout: Duration,
        ca: Option<&Path>,
    ) -> Result<Self, Error> {
        let url = url.get().clone();
        let authorities = ca.map(|file| Authorities {
            flag: "--access-ca",
            file,
        });
        Ok(Self {
            client: http_client::new(&url, timeout, authorities)?,
            url,
            turns: Semaphore::new(AT_ONCE),
        })
    }

    /// Asks a question. Returns the answer, and how long it may be remembered.
    pub(super) async fn ask(&self, question: Vec<u8>) -> Result<(Answer, Duration), Problem> {
        let _turn = self.turns.acquire().await.expect("never closed");
        let request = self.client.post(self.url.clone());
        let json = HeaderValue::from_static("application/json");
        let request = request.header(header::CONTENT_TYPE, json).body(question);
        let mut response = request.send().await?;
        // Also if it refuses: a response that is not read to its end costs the connection.
        let body = body(&mut response).await;
        let answer = Answer::read(response.status(), response.headers(), body)?;
        Ok((answer, answer::lifetime(response.headers())))
    }
}

async fn body(response: &mut Response) -> Result<Vec<u8>, Problem> {
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await? {
        if body.len() + part.len() > MAX_BODY {
            return Err(Problem::TooLong);
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}
