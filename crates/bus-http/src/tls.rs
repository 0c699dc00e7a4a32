//! Whom to trust, and who we are, from files.

use std::path::Path;
use std::sync::Arc;
use switchboard_bus::{ConnectError, Tls};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, Error, RootCertStore, ServerConfig, crypto};

/// With ring, since it builds everywhere; a process may have installed another provider for the rest of it.
pub(crate) fn client_config(files: &Tls) -> Result<ClientConfig, ConnectError> {
    let driver = |error: Error| ConnectError::Driver(error.into());
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(driver)?.with_root_certificates(roots(files.ca_file.as_deref())?);
    match (&files.certificate_file, &files.key_file) {
        (Some(certificate), Some(key)) => {
            let chain = certificates(certificate)?;
            let fault = |source| ConnectError::File { path: key.clone(), source };
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| fault(error.into()))?;
            builder.with_client_auth_cert(chain, key).map_err(driver)
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

/// What we show to those who come to us; none if there is no certificate, and TLS ends elsewhere.
pub(crate) fn acceptor(files: &Tls) -> Result<Option<TlsAcceptor>, ConnectError> {
    let (Some(certificate), Some(key)) = (&files.certificate_file, &files.key_file) else { return Ok(None) };
    let driver = |error: Error| ConnectError::Driver(error.into());
    let fault = |source| ConnectError::File { path: key.clone(), source };
    let chain = certificates(certificate)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| fault(error.into()))?;
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config =
        builder.map_err(driver)?.with_no_client_auth().with_single_cert(chain, key).map_err(driver)?;
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

/// Those of the system, and those of the file. There may be none where nothing is reached with TLS.
fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, ConnectError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        for certificate in certificates(path)? {
            roots
                .add(certificate)
                .map_err(|error| ConnectError::File { path: path.to_owned(), source: error.into() })?;
        }
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let fault = |source| ConnectError::File { path: path.to_owned(), source };
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| fault(error.into()))?;
    certificates.collect::<Result<_, _>>().map_err(|error| fault(error.into()))
}
