//! TLS towards the central system, with rustls.

use std::{fmt, io, sync::Arc};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

/// Whom a station believes that it is its central system, for `wss` URLs. Clones share what they have.
#[derive(Clone)]
pub struct Tls(Arc<ClientConfig>);

/// Why TLS cannot be prepared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// Nobody would be believed.
    #[error("the system trusts no authority; name a file with certificates of those that are to be trusted")]
    NoAuthority,
    /// The certificates cannot be used.
    #[error("the certificates of authorities cannot be used: {0}")]
    Certificates(String),
}

impl Tls {
    /// Believes the authorities that the system believes.
    ///
    /// # Errors
    /// When there is none.
    pub fn system() -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        // Some of a system's certificates may be of no use; the others are.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Self::new(roots)
    }

    /// Believes these authorities and no others; their certificates in PEM.
    ///
    /// # Errors
    /// When there is none, or one that cannot be read.
    pub fn trusting(pem: &[u8]) -> Result<Self, TlsError> {
        let unusable = |error: &dyn fmt::Display| TlsError::Certificates(error.to_string());
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| unusable(&error))?;
            roots.add(certificate).map_err(|error| unusable(&error))?;
        }
        if roots.is_empty() {
            return Err(TlsError::Certificates("there is none in PEM".to_owned()));
        }
        Self::new(roots)
    }

    fn new(roots: RootCertStore) -> Result<Self, TlsError> {
        if roots.is_empty() {
            return Err(TlsError::NoAuthority);
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Certificates(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    /// Makes sure who is at the other end.
    pub(super) async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        TlsConnector::from(Arc::clone(&self.0)).connect(name, stream).await
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Tls")
    }
}
