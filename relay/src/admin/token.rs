//! The token that admits to the admin API: loaded at the start, reloaded on SIGHUP.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use axum::http::HeaderMap;
use tokio::task::spawn_blocking;
use tracing::{error, info};

use crate::operate::error::Error;
use crate::protocol::bearer::{self, Sum};

/// The fewest bytes of a token. A shorter one could be guessed.
const LEAST: usize = 16;

/// The most bytes of the file. The headers of a request have room for that many.
const MOST: usize = 4096;

pub(crate) struct Token {
    file: PathBuf,
    sum: RwLock<Sum>,
}

impl Token {
    /// Reads the token, if there is a file.
    pub(crate) async fn load(file: Option<&Path>) -> Result<Option<Arc<Self>>, Error> {
        let Some(file) = file else {
            return Ok(None);
        };
        let sum = read(file.to_owned()).await?;
        info!("admin token loaded");
        Ok(Some(Arc::new(Self {
            file: file.to_owned(),
            sum: RwLock::new(sum),
        })))
    }

    /// Reads the file again. If it is invalid, the old token stays in use.
    pub(crate) async fn reload(&self) {
        match read(self.file.clone()).await {
            Ok(sum) => {
                *self.sum.write().unwrap_or_else(PoisonError::into_inner) = sum;
                info!("admin token loaded");
            }
            Err(error) => error!(%error, "the old admin token stays in use"),
        }
    }

    /// Whether a request has the token. Takes the same time for all tokens of one length.
    pub(super) fn admits(&self, headers: &HeaderMap) -> bool {
        let sum = *self.sum.read().unwrap_or_else(PoisonError::into_inner);
        bearer::token(headers).is_some_and(|token| Sum::of(token).is(&sum))
    }
}

async fn read(file: PathBuf) -> Result<Sum, Error> {
    let name = file.clone();
    let read = spawn_blocking(move || token_in(&file)).await;
    let read = read.map_err(|error| Error::Serve(error.into()))?;
    read.map_err(|problem| Error::AdminToken {
        file: name,
        problem,
    })
}

fn token_in(file: &Path) -> Result<Sum, String> {
    let mut text = Vec::new();
    let limit = MOST as u64 + 1;
    File::open(file)
        .and_then(|file| file.take(limit).read_to_end(&mut text))
        .map_err(|error| error.to_string())?;
    check(&text).map(Sum::of).map_err(str::to_owned)
}

/// Returns the token in the contents of a file.
fn check(text: &[u8]) -> Result<&[u8], &'static str> {
    let token = text.trim_ascii();
    if text.len() > MOST {
        Err("it is longer than 4096 bytes")
    } else if token.is_empty() {
        Err("it is empty")
    } else if token.len() < LEAST {
        Err("its token is shorter than 16 bytes")
    } else if !token.iter().all(u8::is_ascii_graphic) {
        Err("its token has other characters than letters, digits and punctuation of ASCII")
    } else {
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, header};

    use super::*;

    #[test]
    fn a_token_is_one_line_of_at_least_16_visible_characters() {
        assert_eq!(check(b"0123456789abcdef"), Ok(&b"0123456789abcdef"[..]));
        assert_eq!(
            check(b"\n 0123456789abcdef\r\n"),
            Ok(&b"0123456789abcdef"[..])
        );
        for bad in [
            &b""[..],
            b" \n",
            b"0123456789abcde\n",
            b"01234567\n89abcdef",
            b"0123456789abcde\xff",
            &[b'x'; MOST + 1],
        ] {
            check(bad).expect_err("it is invalid");
        }
    }

    #[test]
    fn only_the_token_with_the_scheme_bearer_is_admitted() {
        let token = Token {
            file: PathBuf::new(),
            sum: RwLock::new(Sum::of(b"0123456789abcdef")),
        };
        let admits = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, HeaderValue::from_static(value));
            }
            token.admits(&headers)
        };
        assert!(admits(&["Bearer 0123456789abcdef"]));
        assert!(admits(&["bearer  0123456789abcdef"]));
        for refused in [
            &[][..],
            &[""],
            &["Bearer"],
            &["Bearer "],
            &["0123456789abcdef"],
            &["Basic 0123456789abcdef"],
            &["Bearer 0123456789abcdeF"],
            &["Bearer 0123456789abcdef0"],
            &["Bearer 0123456789abcdef", "Bearer 0123456789abcdef"],
        ] {
            assert!(!admits(refused), "{refused:?}");
        }
    }
}
