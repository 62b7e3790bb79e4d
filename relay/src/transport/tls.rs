//! The certificate and key: loaded at the start, reloaded on SIGHUP.

use std::io;
use std::path::Path;
use std::sync::Arc;

use axum_server::tls_rustls::RustlsConfig;
use rustls::ServerConfig;
use tracing::{error, info};

use crate::operate::config::Config;
use crate::operate::error::Error;

/// The TLS configuration of a listener.
#[derive(Clone)]
pub(crate) struct Tls {
    config: RustlsConfig,
}

/// The configured files, if TLS is enabled.
fn files(config: &Config) -> Option<(&Path, &Path)> {
    Some((config.tls_cert.as_deref()?, config.tls_key.as_deref()?))
}

impl Tls {
    /// Loads the configured files. Returns `None` if TLS is disabled.
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

    /// Reloads the files, for new connections. If they are invalid, the old certificate stays in use.
    pub(crate) async fn reload(&self, config: &Config) {
        let Some((cert, key)) = files(config) else {
            return;
        };
        match read(cert, key).await {
            Ok(config) => {
                self.config.reload_from_config(config);
                info!("certificate and key reloaded");
            }
            Err(error) => {
                error!(%error, "cannot reload certificate and key: the old ones stay in use");
            }
        }
    }
}

/// Reads the files. ALPN offers HTTP/1.1 only: WebSocket over HTTP/2 is another protocol.
async fn read(cert: &Path, key: &Path) -> io::Result<Arc<ServerConfig>> {
    let config = RustlsConfig::from_pem_file(cert, key).await?.get_inner();
    let mut config = Arc::unwrap_or_clone(config);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
