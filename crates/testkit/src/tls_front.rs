//! TLS in front of a server that speaks none, with a certificate of an authority that was made for the test.

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::sync::Arc;
use std::{fmt, net::SocketAddr};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// Decrypts what comes and passes it on. Its certificate is for `localhost`. Dropped, it takes nobody any more.
pub struct TlsFront {
    address: SocketAddr,
    authority: String,
    accepting: JoinHandle<()>,
}

impl TlsFront {
    /// Listens on a free port, and connects each comer who believes its authority to `server`.
    ///
    /// # Errors
    /// There is no free port, or no certificate can be made.
    pub async fn to(server: SocketAddr) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let certificate =
            CertificateParams::new(vec!["localhost".to_owned()])?.signed_by(&key, &authority)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(async move {
            while let Ok((station, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // Whoever does not believe us goes away here, and whoever ends at all ends both sides.
                    let Ok(mut station) = acceptor.accept(station).await else { return };
                    let Ok(mut server) = TcpStream::connect(server).await else { return };
                    drop(copy_bidirectional(&mut station, &mut server).await);
                });
            }
        });
        Ok(Self { address, authority: authority.pem(), accepting })
    }

    /// The port on which it listens, at `localhost`.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The certificate of its authority, in PEM.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }
}

impl fmt::Debug for TlsFront {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TlsFront({})", self.address)
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
