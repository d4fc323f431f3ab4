//! Encrypted connections: rustls with ring, so that the project has one provider and no OpenSSL.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::SetupError;

/// A connector that checks the server's certificate and name against these roots, the system's where there is no file.
pub(crate) fn connector(root_certificates: Option<&Path>) -> Result<MakeRustlsConnect, SetupError> {
    let mut roots = RootCertStore::empty();
    match root_certificates {
        Some(path) => {
            let unreadable = |error: &dyn std::error::Error| {
                SetupError(format!(
                    "cannot read root certificates from {}: {error}",
                    path.display()
                ))
            };
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))? {
                let certificate = certificate.map_err(|error| unreadable(&error))?;
                roots.add(certificate).map_err(|error| unreadable(&error))?;
            }
        }
        None => {
            // A system may hold certificates that cannot be read or parsed beside those that can.
            let system = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(system.certs);
        }
    }
    if roots.is_empty() {
        return Err(SetupError(
            "the database's URL asks for TLS, but no root certificate was found: name a PEM file in `root_certificates`"
                .to_owned(),
        ));
    }
    // The provider is named, because a process in which two are compiled in has no default.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| SetupError(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}
