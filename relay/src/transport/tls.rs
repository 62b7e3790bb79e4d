//! Certificate and key: read at the start, and again on SIGHUP.

use std::io;
use std::path::Path;
use std::sync::Arc;

use axum_server::tls_rustls::RustlsConfig;
use rustls::ServerConfig;
use tracing::{error, info};

use crate::operate::config::Config;
use crate::operate::error::Error;

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
        match read(cert, key).await {
            Ok(config) => Ok(Some(Self {
                config: RustlsConfig::from_config(config),
            })),
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
        match read(cert, key).await {
            Ok(config) => {
                self.config.reload_from_config(config);
                info!("certificate and key read again");
            }
            Err(error) => error!(%error, "certificate and key stay as they were"),
        }
    }
}

/// Certificate and key, for HTTP/1.1 only: WebSocket over HTTP/2 is another protocol.
async fn read(cert: &Path, key: &Path) -> io::Result<Arc<ServerConfig>> {
    let config = RustlsConfig::from_pem_file(cert, key).await?.get_inner();
    let mut config = Arc::unwrap_or_clone(config);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
