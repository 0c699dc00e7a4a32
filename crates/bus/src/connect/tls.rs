//! TLS from files: the same for all drivers.

use super::{ConnectError, Tls};
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, Error, RootCertStore, ServerConfig, crypto::ring};

impl Tls {
    /// What connections are made with: whom to trust, and who we are. With ring, since it builds everywhere; a process may
    /// have installed another provider for the rest of it. Only where an endpoint wants TLS: a system without authorities is
    /// no fault otherwise.
    ///
    /// # Errors
    /// When a file cannot be used, or nobody is trusted.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, ConnectError> {
        let roots = self.roots()?;
        if roots.is_empty() {
            return Err(ConnectError::Driver(
                "the system trusts no authority: name a file with the broker's (the ca_file of the bus)"
                    .into(),
            ));
        }
        self.client(roots)
    }

    /// The same for whoever may never need it: that nobody is trusted shows in the handshake.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn client_config_in_case(&self) -> Result<Arc<ClientConfig>, ConnectError> {
        self.client(self.roots()?)
    }

    /// What we show to those who come to us; none without a certificate.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn server_config(&self) -> Result<Option<Arc<ServerConfig>>, ConnectError> {
        let Some((chain, key)) = self.own()? else { return Ok(None) };
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(driver)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| self.unfit(error))?;
        Ok(Some(Arc::new(config)))
    }

    fn client(&self, roots: RootCertStore) -> Result<Arc<ClientConfig>, ConnectError> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(driver)?
            .with_root_certificates(roots);
        let config = match self.own()? {
            Some((chain, key)) => {
                builder.with_client_auth_cert(chain, key).map_err(|error| self.unfit(error))?
            }
            None => builder.with_no_client_auth(),
        };
        Ok(Arc::new(config))
    }

    /// The authorities of the system, and those of the file.
    fn roots(&self) -> Result<RootCertStore, ConnectError> {
        let mut roots = RootCertStore::empty();
        // The system may hold some that cannot be used; the one that is needed is missed at the handshake.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = &self.ca_file {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| unusable(path, error))?;
            }
        }
        Ok(roots)
    }

    /// Our own certificate, and its key.
    fn own(&self) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>, ConnectError> {
        let (Some(certificate), Some(key)) = (&self.certificate_file, &self.key_file) else {
            return Ok(None);
        };
        let chain = certificates(certificate)?;
        Ok(Some((chain, PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, error))?)))
    }

    /// A certificate that does not go with its key.
    fn unfit(&self, error: Error) -> ConnectError {
        match &self.certificate_file {
            Some(path) => unusable(path, error),
            None => driver(error),
        }
    }
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

fn driver(error: Error) -> ConnectError {
    ConnectError::Driver(error.into())
}
