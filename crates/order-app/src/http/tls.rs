//! TLS of the public listener: a certificate that is read anew when its files change.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, anyhow};
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

/// The certificate in force, and the PEM files that it comes from.
pub(crate) struct ServerCertificate {
    certificate: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
    current: RwLock<Arc<CertifiedKey>>,
}

impl ServerCertificate {
    /// Reads a chain of certificates and the first one's key.
    ///
    /// # Errors
    ///
    /// A file is missing or not what it should be, or the two do not belong together; the setting is named.
    pub(crate) fn read(certificate: &Path, key: &Path) -> anyhow::Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let current = read_pair(certificate, key, &provider)?;
        Ok(ServerCertificate {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            provider,
            current: RwLock::new(Arc::new(current)),
        })
    }

    /// What does the handshakes: HTTP/2 where the caller can, else HTTP/1.1.
    pub(crate) fn acceptor(self: &Arc<Self>) -> anyhow::Result<TlsAcceptor> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Reads the files again and again, for ever. Where they cannot be used, the certificate stays as it is.
    pub(crate) async fn follow(self: Arc<Self>, every: Duration) {
        let mut last_fault = None;
        loop {
            sleep(every).await;
            let this = Arc::clone(&self);
            let read =
                tokio::task::spawn_blocking(move || read_pair(&this.certificate, &this.key, &this.provider));
            let fault = match read.await {
                Ok(Ok(read)) => {
                    if read.cert != self.current().cert {
                        tracing::info!("the certificate has changed");
                        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(read);
                    }
                    None
                }
                Ok(Err(fault)) => Some(format!("{fault:#}")),
                Err(fault) => Some(fault.to_string()),
            };
            if let Some(fault) = &fault
                && last_fault.as_ref() != Some(fault)
            {
                tracing::warn!(%fault, "failed to read the certificate again; it stays as it was");
            }
            last_fault = fault;
        }
    }

    fn current(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn read_pair(certificate: &Path, key: &Path, provider: &CryptoProvider) -> anyhow::Result<CertifiedKey> {
    let of_certificate = || format!("ORDERS__HTTP__TLS_CERTIFICATE: {}", certificate.display());
    let of_key = || format!("ORDERS__HTTP__TLS_KEY: {}", key.display());
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .with_context(of_certificate)?;
    if chain.is_empty() {
        return Err(anyhow!("there is no certificate in it")).with_context(of_certificate);
    }
    let key = PrivateKeyDer::from_pem_file(key).with_context(of_key)?;
    CertifiedKey::from_der(chain, key, provider).with_context(of_key)
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

/// The key is shown to nobody.
impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCertificate")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}
