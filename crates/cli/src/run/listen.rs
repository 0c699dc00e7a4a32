//! Ports: bound with errors that name the flag, served until told to stop.

use super::Served;
use crate::exit::{Exit, Failure};
use std::{io::ErrorKind, net::SocketAddr, time::Duration};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How long requests in hand may take once it was told to stop.
const GRACE: Duration = Duration::from_secs(2);

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

/// Serves HTTP.
pub(super) fn serve(listener: TcpListener, router: axum::Router, stop: CancellationToken) -> Served {
    let stopped = stop.clone();
    let task = tokio::spawn(async move {
        let serving = axum::serve(listener, router).with_graceful_shutdown(stopped.clone().cancelled_owned());
        let bounded = async {
            stopped.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            served = serving.into_future() => {
                if let Err(error) = served {
                    warn!(%error, "a front end has failed");
                }
            }
            // Who keeps a connection open without a request is not waited for.
            () = bounded => {}
        }
    });
    Served { stop, task }
}
