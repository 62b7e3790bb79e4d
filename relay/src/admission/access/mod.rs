//! Who may connect, as the operator says: in a file, and by a service that is asked before an upgrade is answered, the
//! access hook.

mod answer;
pub(crate) mod file;
mod hook;
mod memory;
mod names;
mod problem;
mod question;
mod rules;

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::time::timeout;
use tracing::warn;

pub(super) use self::answer::{Answer, Terms};
use self::hook::Hook;
use self::memory::Memory;
pub(super) use self::problem::Problem;
pub(super) use self::question::{NotUtf8, Question};
pub(super) use self::rules::Rejection;
use crate::operate::config::{Config, HeaderNames};
use crate::operate::error::Error;
use crate::operate::metrics::{AccessRequests, Metrics};

/// Asks the hook, and remembers what it may.
pub(crate) struct Access {
    hook: Hook,
    memory: Memory,
    names: HeaderNames,
    timeout: Duration,
    metrics: Arc<Metrics>,
    /// When the next failure may be logged as a warning.
    seldom: DefaultDirectRateLimiter,
}

impl Access {
    /// Prepares for the hook of `--access-url`. Returns `None` if there is none.
    ///
    /// # Errors
    ///
    /// If the file of `--access-ca` cannot be used, or the system has no certificates.
    pub(crate) fn new(config: &Config, metrics: &Arc<Metrics>) -> Result<Option<Self>, Error> {
        let Some(url) = &config.access_url else {
            return Ok(None);
        };
        let seldom = Quota::with_period(Duration::from_secs(10)).expect("not zero");
        Ok(Some(Self {
            hook: Hook::new(url, config.access_timeout, config.access_ca.as_deref())?,
            memory: Memory::new(),
            names: config.access_headers.clone(),
            timeout: config.access_timeout,
            metrics: Arc::clone(metrics),
            seldom: RateLimiter::direct(seldom),
        }))
    }

    /// Takes the headers of `--access-headers` from a request.
    ///
    /// # Errors
    ///
    /// If one of them is not UTF-8.
    pub(super) fn headers(&self, headers: &HeaderMap) -> Result<question::Headers, NotUtf8> {
        question::headers(&self.names, headers)
    }

    /// Answers a question from memory, or asks the hook.
    ///
    /// # Errors
    ///
    /// If there is no valid answer in time.
    pub(super) async fn ask(&self, question: &Question<'_>) -> Result<Answer, Problem> {
        let AccessRequests {
            admitted,
            refused,
            failed,
            remembered,
        } = &self.metrics.access_requests;
        let text = question.text();
        let key = memory::key(&text);
        if let Some(answer) = self.memory.recall(&key) {
            remembered.inc();
            return Ok(answer);
        }
        let answer = timeout(self.timeout, self.hook.ask(text)).await;
        match answer.unwrap_or(Err(Problem::TooLate)) {
            Ok((answer, lifetime)) => {
                let count = match answer {
                    Answer::Admitted(_) => admitted,
                    Answer::Unauthorized(_) | Answer::Forbidden => refused,
                };
                count.inc();
                self.memory.keep(key, &answer, lifetime);
                Ok(answer)
            }
            Err(problem) => {
                failed.inc();
                if self.seldom.check().is_ok() {
                    warn!(%problem, "access hook failed: nobody is admitted without its answer");
                }
                Err(problem)
            }
        }
    }
}
