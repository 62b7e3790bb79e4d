//! The client for requests to the operator's own services.

use std::error::Error as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Url, redirect};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;

use crate::operate::error::Error;

/// A file of certificates that are trusted instead of the system's, and the flag that names it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Authorities<'a> {
    pub(crate) flag: &'static str,
    pub(crate) file: &'a Path,
}

/// Creates a client for the service at `url`. Each request fails after `timeout`. The client follows no redirects, uses
/// no proxy, and keeps connections open.
pub(crate) fn new(
    url: &Url,
    timeout: Duration,
    authorities: Option<Authorities<'_>>,
) -> Result<Client, Error> {
    Client::builder()
        .timeout(timeout)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .user_agent(concat!("switchboard-relay/", env!("CARGO_PKG_VERSION")))
        .tls_backend_preconfigured(tls(url, authorities)?)
        .build()
        .map_err(Error::HttpClient)
}

/// Says what went wrong, with all causes and without the URL, which may contain a password.
pub(crate) fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn tls(url: &Url, authorities: Option<Authorities<'_>>) -> Result<ClientConfig, Error> {
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(Error::SystemRoots)?;
    let Some(Authorities { flag, file }) = authorities else {
        // A system that has no certificates needs none for plain HTTP.
        let tls = if url.scheme() == "https" {
            tls.with_platform_verifier().map_err(Error::SystemRoots)?
        } else {
            tls.with_root_certificates(RootCertStore::empty())
        };
        return Ok(tls.with_no_client_auth());
    };
    let bad = |problem: String| Error::Tls {
        flag,
        file: file.to_owned(),
        problem,
    };
    let mut roots = RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(file).map_err(|error| bad(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| bad(format!("it is not PEM: {error}")))?;
        roots
            .add(certificate)
            .map_err(|error| bad(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(bad("it contains no certificate in PEM".into()));
    }
    Ok(tls.with_root_certificates(roots).with_no_client_auth())
}
