//! The file of `--access-file`: loaded at the start, reloaded on SIGHUP.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use axum::http::HeaderMap;
use tokio::task::spawn_blocking;
use tracing::{error, info};

use super::rules::{Rejection, Rules};
use crate::operate::error::Error;
use crate::protocol::endpoint::Endpoint;

/// The most bytes of the file: tens of thousands of names.
const MOST: usize = 1 << 20;

/// The rules in use.
pub(crate) struct AccessFile {
    file: PathBuf,
    rules: RwLock<Rules>,
}

impl AccessFile {
    /// Reads the rules, if there is a file.
    pub(crate) async fn load(file: Option<&Path>) -> Result<Option<Arc<Self>>, Error> {
        let Some(file) = file else {
            return Ok(None);
        };
        let rules = RwLock::new(read(file.to_owned()).await?);
        let file = file.to_owned();
        Ok(Some(Arc::new(Self { file, rules })))
    }

    /// Reads the file again. If it is invalid, the old rules stay in use.
    pub(crate) async fn reload(&self) {
        match read(self.file.clone()).await {
            Ok(rules) => *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules,
            Err(error) => error!(%error, "the old access rules stay in use"),
        }
    }

    /// Admits a client. Returns the name of its token, if it needed one that has a name.
    pub(in crate::admission) fn check(
        &self,
        endpoint: Endpoint,
        server_id: &str,
        headers: &HeaderMap,
    ) -> Result<Option<String>, Rejection> {
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        let name = rules.check(endpoint, server_id, headers)?;
        Ok(name.map(str::to_owned))
    }
}

async fn read(file: PathBuf) -> Result<Rules, Error> {
    let name = file.clone();
    let read = spawn_blocking(move || rules_in(&file)).await;
    let read = read.map_err(|error| Error::Serve(error.into()))?;
    let rules = read.map_err(|problem| Error::AccessFile {
        file: name,
        problem,
    })?;
    let [allow, deny, tokens] = rules.counts();
    info!(allow, deny, tokens, "access file loaded");
    Ok(rules)
}

fn rules_in(file: &Path) -> Result<Rules, String> {
    let mut bytes = Vec::new();
    let limit = MOST as u64 + 1;
    File::open(file)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(|error| error.to_string())?;
    if bytes.len() > MOST {
        return Err("it is longer than 1 MiB".into());
    }
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8")?;
    Rules::parse(&text)
}
