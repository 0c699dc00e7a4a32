//! TLS, with ring and no OpenSSL.

use std::sync::Arc;
use switchboard_bus::{ConnectError, Tls};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring},
};

/// What connections are made with; `used` if any will be. Else it is one that trusts nobody.
pub(crate) fn connector(tls: &Tls, used: bool) -> Result<TlsConnector, ConnectError> {
    if used {
        return Ok(tls.client_config()?.into());
    }
    let unused = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| ConnectError::Driver(error.into()))?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    Ok(Arc::new(unused).into())
}
