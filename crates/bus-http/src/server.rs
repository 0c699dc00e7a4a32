//! Requests to us.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use subtle::ConstantTimeEq as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) type Answer = Response<Full<Bytes>>;

/// Takes connections until told otherwise; then each finishes the request that it is at. `connections` has them all.
pub(crate) async fn serve<F>(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    closed: CancellationToken,
    connections: TaskTracker,
    answer: impl Fn(Request<Incoming>, SocketAddr) -> F + Send + Sync + 'static,
) where
    F: Future<Output = Answer> + Send + 'static,
{
    let answer = Arc::new(answer);
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Some(Ok(permit)) = closed.run_until_cancelled(Arc::clone(&room).acquire_owned()).await {
        let Some(accepted) = closed.run_until_cancelled(listener.accept()).await else { return };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Most of all: no more files. Somebody else has to close some first.
                tracing::warn!(%error, "no connection could be taken");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection was gone when it was taken");
            continue;
        }
        let (answer, closed, tls) = (Arc::clone(&answer), closed.clone(), tls.clone());
        connections.spawn(async move {
            match tls {
                None => converse(TokioIo::new(stream), peer, &closed, answer).await,
                Some(tls) => {
                    let shaking =
                        closed.run_until_cancelled(tokio::time::timeout(HANDSHAKE_MAX, tls.accept(stream)));
                    match shaking.await {
                        Some(Ok(Ok(stream))) => converse(TokioIo::new(stream), peer, &closed, answer).await,
                        Some(Ok(Err(error))) => tracing::debug!(%error, %peer, "a TLS handshake failed"),
                        Some(Err(_)) | None => {}
                    }
                }
            }
            drop(permit);
        });
    }
}

/// Answers the requests of one connection.
async fn converse<S, A, F>(stream: TokioIo<S>, peer: SocketAddr, closed: &CancellationToken, answer: Arc<A>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    A: Fn(Request<Incoming>, SocketAddr) -> F,
    F: Future<Output = Answer>,
{
    let service = service_fn(move |request| {
        let answered = answer(request, peer);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS_MAX)
            .serve_connection(stream, service)
    );
    let ended = match closed.run_until_cancelled(connection.as_mut()).await {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

/// A response without a body.
pub(crate) fn empty(status: StatusCode) -> Answer {
    said(status, "")
}

/// A response that says something to whoever reads it.
pub(crate) fn said(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response
}

/// Whether a request may be made: it carries what it must, or nothing is asked for and it comes from this host.
pub(crate) fn is_allowed(headers: &HeaderMap, peer: SocketAddr, wanted: Option<&HeaderValue>) -> bool {
    match (wanted, headers.get(header::AUTHORIZATION)) {
        (None, _) => peer.ip().is_loopback(),
        (Some(wanted), Some(got)) => wanted.as_bytes().ct_eq(got.as_bytes()).into(),
        (Some(_), None) => false,
    }
}

/// Connections at once; more wait to be taken.
const CONNECTIONS_MAX: usize = 4096;
/// A handshake takes less.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// A request's headers are there sooner.
const HEADERS_MAX: Duration = Duration::from_secs(30);
