//! `--check-health`: asks a relay whether it is up, for containers without a shell.

use std::time::Duration;

use super::http_client;
use crate::operate::config::ServiceUrl;
use crate::operate::error::Error;

/// How long the relay may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Requests a URL.
///
/// # Errors
///
/// [`Error::Unhealthy`] if the answer is not a success, or does not come within three seconds, or an error of the HTTP
/// client.
pub async fn check_health(url: &ServiceUrl) -> Result<(), Error> {
    let url = url.get();
    let client = http_client::new(url, PATIENCE, None)?;
    let answer = client.get(url.clone()).send().await;
    let problem = match answer {
        Ok(answer) if answer.status().is_success() => return Ok(()),
        Ok(answer) => format!("it answers {}", answer.status()),
        Err(error) => http_client::describe(error),
    };
    Err(Error::Unhealthy(problem))
}
