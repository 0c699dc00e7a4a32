//! TLS towards a broker, from files: the same for all drivers.

use super::{ConnectError, Tls};
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

impl Tls {
    /// What connections are made with: whom to trust, and who we are. With ring, since it builds everywhere; a process may
    /// have installed another provider for the rest of it. Only where an endpoint wants TLS: a system without authorities is
    /// no fault otherwise.
    ///
    /// # Errors
    /// When a file cannot be used, or nobody is trusted.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, ConnectError> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| ConnectError::Driver(error.into()))?
            .with_root_certificates(roots(self.ca_file.as_deref())?);
        let config = match (&self.certificate_file, &self.key_file) {
            (Some(certificate), Some(key)) => {
                let chain = certificates(certificate)?;
                let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, error))?;
                builder.with_client_auth_cert(chain, key).map_err(|error| unusable(certificate, error))?
            }
            _ => builder.with_no_client_auth(),
        };
        Ok(Arc::new(config))
    }
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, ConnectError> {
    let mut roots = RootCertStore::empty();
    // The system may hold some that cannot be used; the one that is needed is missed at the handshake.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|error| unusable(path, error))?;
        }
    }
    if roots.is_empty() {
        return Err(ConnectError::Driver(
            "the system trusts no authority: name a file with the broker's (the ca_file of the bus)".into(),
        ));
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(read) if read.is_empty() => Err(unusable(path, "it holds no certificate")),
        Ok(read) => Ok(read),
        Err(error) => Err(unusable(path, error)),
    }
}

fn unusable(path: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ConnectError {
    ConnectError::File { path: path.to_owned(), source: source.into() }
}
