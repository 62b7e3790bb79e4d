//! Certificate and key: read at the start, and again on SIGHUP.

use std::path::Path;

use axum_server::tls_rustls::RustlsConfig;
use tracing::{error, info};

use crate::config::Config;
use crate::error::Error;

/// What a listener speaks TLS with.
#[derive(Clone)]
pub(crate) struct Tls {
    config: RustlsConfig,
}

/// The files of the settings, if there are any.
fn files(config: &Config) -> Option<(&Path, &Path)> {
    Some((config.tls_cert.as_deref()?, config.tls_key.as_deref()?))
}

impl Tls {
    /// Reads the files of the settings; `None` where there are none.
    pub(crate) async fn load(config: &Config) -> Result<Option<Self>, Error> {
        let Some((cert, key)) = files(config) else {
            return Ok(None);
        };
        match RustlsConfig::from_pem_file(cert, key).await {
            Ok(config) => Ok(Some(Self { config })),
            Err(source) => Err(Error::Tls { source }),
        }
    }

    pub(crate) fn rustls(&self) -> RustlsConfig {
        self.config.clone()
    }

    /// Reads the files again, for connections to come. Files that are no good change nothing.
    pub(crate) async fn reload(&self, config: &Config) {
        let Some((cert, key)) = files(config) else {
            return;
        };
        match self.config.reload_from_pem_file(cert, key).await {
            Ok(()) => info!("certificate and key read again"),
            Err(error) => error!(%error, "certificate and key stay as they were"),
        }
    }
}
