//! The certificate and key: loaded at the start, reloaded on SIGHUP.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum_server::tls_rustls::RustlsConfig;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::task::spawn_blocking;
use tracing::{error, info, warn};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::operate::config::Config;
use crate::operate::error::Error;
use crate::operate::metrics::CertificateExpiry;

/// 9999-12-31T23:59:59Z: a certificate cannot expire later, and the log cannot write a later time.
const LAST_SECOND: u64 = 253_402_300_799;

/// The TLS configuration of a listener.
#[derive(Clone)]
pub(crate) struct Tls {
    config: RustlsConfig,
}

/// The configured files, if TLS is enabled.
fn files(config: &Config) -> Option<(PathBuf, PathBuf)> {
    Some((config.tls_cert.clone()?, config.tls_key.clone()?))
}

impl Tls {
    /// Loads the configured files. Returns `None` if TLS is disabled.
    pub(crate) async fn load(
        config: &Config,
        expiry: &CertificateExpiry,
    ) -> Result<Option<Self>, Error> {
        let Some((cert, key)) = files(config) else {
            return Ok(None);
        };
        let config = RustlsConfig::from_config(load(cert, key, expiry).await?);
        Ok(Some(Self { config }))
    }

    pub(crate) fn rustls(&self) -> RustlsConfig {
        self.config.clone()
    }

    /// Reloads the files, for new connections. If they are invalid, the old certificate stays in use.
    pub(crate) async fn reload(&self, config: &Config, expiry: &CertificateExpiry) {
        let Some((cert, key)) = files(config) else {
            return;
        };
        match load(cert, key, expiry).await {
            Ok(config) => self.config.reload_from_config(config),
            Err(error) => error!(%error, "the old certificate and key stay in use"),
        }
    }
}

/// Loads the files. Logs the certificate, and notes its expiry.
async fn load(
    cert: PathBuf,
    key: PathBuf,
    expiry: &CertificateExpiry,
) -> Result<Arc<ServerConfig>, Error> {
    let read = spawn_blocking(move || read(&cert, &key)).await;
    let (config, certificate) = read.map_err(|error| Error::Serve(error.into()))??;
    expiry.set(certificate.expires);
    let subject = certificate.subject;
    let expires = UNIX_EPOCH + Duration::from_secs(certificate.expires);
    let time = humantime::format_rfc3339_seconds(expires);
    if expires > SystemTime::now() {
        info!(subject, expires = %time, "certificate and key loaded");
    } else {
        warn!(subject, expires = %time, "certificate and key loaded: the certificate has expired");
    }
    Ok(config)
}

/// What the operator wants to know of a certificate.
struct Certificate {
    subject: String,
    /// In seconds since the Unix epoch.
    expires: u64,
}

/// Reads the files. ALPN offers HTTP/1.1 only: WebSocket over HTTP/2 is another protocol.
fn read(cert: &Path, key: &Path) -> Result<(Arc<ServerConfig>, Certificate), Error> {
    let bad_cert = |problem| Error::Tls {
        flag: "--tls-cert",
        file: cert.to_owned(),
        problem,
    };
    let bad_key = |problem| Error::Tls {
        flag: "--tls-key",
        file: key.to_owned(),
        problem,
    };
    let bytes = std::fs::read(cert).map_err(|error| bad_cert(error.to_string()))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = chain.map_err(|error| bad_cert(format!("it is not PEM: {error}")))?;
    let first = chain
        .first()
        .ok_or_else(|| bad_cert("it contains no certificate in PEM".into()))?;
    let certificate =
        describe(first).ok_or_else(|| bad_cert("its first certificate is invalid".into()))?;
    let bytes = std::fs::read(key).map_err(|error| bad_key(error.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|_| bad_key("it contains no private key in PEM".into()))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key));
    let mut config = config.map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            bad_key("it is not the key of the certificate in --tls-cert".into())
        }
        rustls::Error::InvalidCertificate(_) => bad_cert(error.to_string()),
        _ => bad_key(error.to_string()),
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((Arc::new(config), certificate))
}

/// Returns the subject and expiry of a certificate. If the subject is empty, its alternative names.
fn describe(der: &[u8]) -> Option<Certificate> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let mut subject = certificate.subject().to_string();
    if subject.is_empty() {
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.iter().flat_map(|names| &names.value.general_names);
        let names: Vec<String> = names.map(ToString::to_string).collect();
        subject = names.join(", ");
    }
    let expires = certificate.validity().not_after.timestamp();
    Some(Certificate {
        subject,
        expires: u64::try_from(expires).unwrap_or(0).min(LAST_SECOND),
    })
}
