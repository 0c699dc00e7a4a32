//! TLS, with ring and no OpenSSL.

use std::{path::Path, sync::Arc};
use switchboard_bus::{ConnectError, Tls};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

/// What connections are made with; `used` if any will be, so that the authorities of the system are read only then.
pub(crate) fn connector(tls: &Tls, used: bool) -> Result<TlsConnector, ConnectError> {
    let mut roots = RootCertStore::empty();
    if used {
        // What cannot be read there is as if it were not; without any, each connection says so.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if let Some(path) = &tls.ca_file {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|error| unusable(path, error))?;
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| ConnectError::Driver(Box::new(error)))?
        .with_root_certificates(roots);
    let config = match (&tls.certificate_file, &tls.key_file) {
        (Some(certificate_file), Some(key_file)) => {
            let chain = certificates(certificate_file)?;
            let key = PrivateKeyDer::from_pem_file(key_file).map_err(|error| unusable(key_file, error))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| unusable(certificate_file, error))?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| unusable(path, error))?;
    if certificates.is_empty() {
        return Err(ConnectError::File { path: path.to_owned(), source: "it holds no certificate".into() });
    }
    Ok(certificates)
}

fn unusable(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> ConnectError {
    ConnectError::File { path: path.to_owned(), source: Box::new(error) }
}
