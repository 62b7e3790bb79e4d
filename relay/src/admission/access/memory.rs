//! The answers that are remembered.

use std::time::{Duration, Instant};

use moka::Expiry;
use moka::sync::Cache;
use sha2::{Digest, Sha256};
use tokio::time;

use super::answer::Answer;

/// About how many bytes all answers may take.
const BYTES: u64 = 4 * 1024 * 1024;

/// About how many bytes an answer takes, without its headers.
const ENTRY: u32 = 256;

/// The SHA-256 sum of a question: questions contain tokens.
pub(super) type Key = [u8; 32];

/// Remembers answers, up to a limit.
pub(super) struct Memory {
    answers: Cache<Key, Remembered>,
}

#[derive(Clone)]
struct Remembered {
    answer: Answer,
    lifetime: Duration,
}

/// How long each answer is remembered.
struct Lifetime;

impl Expiry<Key, Remembered> for Lifetime {
    fn expire_after_create(&self, _: &Key, new: &Remembered, _: Instant) -> Option<Duration> {
        Some(new.lifetime)
    }

    fn expire_after_update(
        &self,
        _: &Key,
        new: &Remembered,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(new.lifetime)
    }
}

impl Remembered {
    fn weight(&self) -> u32 {
        let Answer::Unauthorized(challenges) = &self.answer else {
            return ENTRY;
        };
        let sizes = challenges.iter().map(|challenge| challenge.len() + 64);
        let size = u32::try_from(sizes.sum::<usize>()).unwrap_or(u32::MAX);
        size.saturating_add(ENTRY)
    }
}

pub(super) fn key(question: &[u8]) -> Key {
    Sha256::digest(question).into()
}

impl Memory {
    pub(super) fn new() -> Self {
        let answers = Cache::builder()
            .max_capacity(BYTES)
            .weigher(|_, remembered: &Remembered| remembered.weight())
            .expire_after(Lifetime)
            .build();
        Self { answers }
    }

    /// Remembers an answer for this time.
    pub(super) fn keep(&self, key: Key, answer: &Answer, lifetime: Duration) {
        if lifetime.is_zero() {
            return;
        }
        let answer = answer.clone();
        self.answers.insert(key, Remembered { answer, lifetime });
    }

    /// Returns the answer to a question, unless it is forgotten, or the access that it granted has expired.
    pub(super) fn recall(&self, key: &Key) -> Option<Answer> {
        let answer = self.answers.get(key)?.answer;
        match &answer {
            Answer::Admitted(terms)
                if terms.expires.is_some_and(|at| at <= time::Instant::now()) =>
            {
                None
            }
            _ => Some(answer),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use axum::http::HeaderValue;

    use super::*;
    use crate::admission::access::answer::Terms;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn an_answer_is_remembered_for_its_time_and_for_its_question() {
        let memory = Memory::new();
        let (one, two) = (key(b"one"), key(b"two"));
        memory.keep(one, &Answer::Forbidden, MINUTE);
        assert_eq!(memory.recall(&one), Some(Answer::Forbidden));
        assert_eq!(memory.recall(&two), None);
        memory.keep(one, &Answer::Forbidden, Duration::from_millis(20));
        sleep(Duration::from_millis(40));
        assert_eq!(memory.recall(&one), None);
        memory.keep(two, &Answer::Forbidden, Duration::ZERO);
        assert_eq!(memory.recall(&two), None);
    }

    #[test]
    fn an_access_that_has_expired_is_not_granted_from_memory() {
        let memory = Memory::new();
        let admitted = |expires| {
            let max_phones = None;
            Answer::Admitted(Terms {
                max_phones,
                expires: Some(expires),
            })
        };
        let later = admitted(time::Instant::now() + MINUTE);
        memory.keep(key(b"later"), &later, MINUTE);
        assert_eq!(memory.recall(&key(b"later")), Some(later));
        let now = admitted(time::Instant::now());
        memory.keep(key(b"now"), &now, MINUTE);
        assert_eq!(memory.recall(&key(b"now")), None);
    }

    #[test]
    fn the_memory_is_bounded() {
        let memory = Memory::new();
        let challenge = HeaderValue::from_bytes(&[b'x'; 10_000]).expect("a header value");
        let large = Answer::Unauthorized(vec![challenge]);
        for number in 0..2000_u32 {
            memory.keep(key(&number.to_le_bytes()), &large, MINUTE);
        }
        memory.answers.run_pending_tasks();
        assert!(memory.answers.weighted_size() <= BYTES);
        assert!(memory.answers.entry_count() > 100);
    }
}
