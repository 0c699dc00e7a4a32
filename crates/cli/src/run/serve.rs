//! HTTP for the API and the admin port: bounded connections, and none that does nothing holds its place for ever.

mod patient;

use super::Served;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use patient::Patient;
use std::{sync::Arc, time::Duration};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

/// How long requests in hand may take once it was told to stop.
const GRACE: Duration = Duration::from_secs(2);
/// How many of those that are told may be waited for at once.
const REFUSALS_MAX: usize = 64;

/// What one connection may take, and how many there may be.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// How long the head of a request may take, and how long a connection may stay without one.
    head: Duration,
    /// How long the other side may read nothing of what it asked for.
    write: Duration,
    /// Connections to one port; those beyond it are told so. Each watcher of the traffic has one.
    connections: usize,
}

const LIMITS: Limits =
    Limits { head: Duration::from_secs(15), write: Duration::from_secs(30), connections: 512 };

/// Serves until it is told to stop.
pub(super) fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> Served {
    let task = tokio::spawn(accept(listener, router, stop.clone(), LIMITS));
    Served { stop, task }
}

async fn accept(listener: TcpListener, router: Router, stop: CancellationToken, limits: Limits) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Usually: no file descriptors left. Those that end give theirs back.
                warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            let (router, stop) = (router.clone(), stop.clone());
            connections.spawn(async move {
                converse(stream, router, stop, limits).await;
                drop(place);
            });
        } else if let Ok(place) = Arc::clone(&refusals).try_acquire_owned() {
            connections.spawn(async move {
                drop(timeout(Duration::from_secs(1), refuse(stream)).await);
                drop(place);
            });
        }
    }
    connections.close();
    // Who keeps a connection open without a request is not waited for.
    drop(timeout(GRACE, connections.wait()).await);
}

/// Serves one connection.
async fn converse(stream: TcpStream, router: Router, stop: CancellationToken, limits: Limits) {
    // Answers are small and waited for. If the socket is gone, serving it says so.
    drop(stream.set_nodelay(true));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(64 * 1024);
    let stream = TokioIo::new(Patient::new(stream, limits.write));
    let mut connection = std::pin::pin!(builder.serve_connection(stream, TowerToHyperService::new(router)));
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match timeout(GRACE, connection).await {
                Ok(served) => served,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = served {
        debug!(%error, "an HTTP connection did not end well");
    }
}

/// Tells one more than there is room for.
async fn refuse(mut stream: TcpStream) -> std::io::Result<()> {
    const BODY: &str =
        "{\"error\":\"busy\",\"detail\":\"too many connections; close some, or come back later\"}\n";
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        BODY.len()
    );
    stream.write_all(&[head.as_bytes(), BODY.as_bytes()].concat()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests;
