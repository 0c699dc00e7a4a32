//! Ports: bound with errors that name the flag.

use crate::exit::{Exit, Failure};
use std::{io::ErrorKind, net::SocketAddr};
use tokio::net::TcpListener;

/// Binds an address.
pub(crate) async fn bind(flag: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        let why = match error.kind() {
            ErrorKind::AddrInUse => {
                format!(
                    "{address} is in use by another process; choose another with {flag}, or stop that process"
                )
            }
            ErrorKind::PermissionDenied => {
                format!("{address} may not be used by this user; choose a port above 1023 with {flag}")
            }
            ErrorKind::AddrNotAvailable => {
                format!("this machine has no address {}; choose another with {flag}", address.ip())
            }
            _ => format!("{flag} {address} cannot be used: {error}"),
        };
        Failure::new(Exit::Unreachable, why)
    })
}
