//! Requests of ours, over connections that are kept.

use crate::config::Target;
use crate::headers;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pooled;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::sync::Arc;
use std::time::Duration;
use switchboard_bus::{ConnectError, Envelope, Tls};

/// Makes requests.
#[derive(Clone, Debug)]
pub(crate) struct Client(Pooled<HttpsConnector<HttpConnector>, Full<Bytes>>);

/// What came back.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Why nothing did.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostError {
    /// Nothing was sent.
    #[error("no connection could be made")]
    NotSent(#[source] hyper_util::client::legacy::Error),
    /// Somebody may have it.
    #[error("the connection was lost before the response had come")]
    Lost(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("there was no response within {}ms", .0.as_millis())]
    TimedOut(Duration),
    #[error("it gives no sign of life any more")]
    Silent,
}

impl Client {
    /// With TLS only `in_case` somebody is reached with it, or for certain.
    pub(crate) fn new(tls: &Tls, in_case: bool) -> Result<Self, ConnectError> {
        let tls = if in_case { tls.client_config_in_case()? } else { tls.client_config()? };
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_MAX));
        tcp.enforce_http(false);
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(Arc::unwrap_or_clone(tls))
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let mut builder = Pooled::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE_MAX).timer(TokioTimer::new());
        Ok(Self(builder.build(https)))
    }

    /// Posts an envelope and waits for what comes back.
    pub(crate) async fn post(
        &self,
        to: &Target,
        envelope: &Envelope,
        timeout: Duration,
    ) -> Result<Response, PostError> {
        let mut request = Request::new(Full::new(envelope.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = to.uri.clone();
        let fields = request.headers_mut();
        headers::write(&envelope.metadata, fields);
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(authorization) = &to.authorization {
            fields.insert(header::AUTHORIZATION, authorization.clone());
        }
        let exchange = async {
            let response = self.0.request(request).await.map_err(|error| {
                // A request that was given to a connection which had just gone is posted again by the pool.
                if error.is_connect() { PostError::NotSent(error) } else { PostError::Lost(error.into()) }
            })?;
            let (head, body) = response.into_parts();
            let body = headers::body(body).await.map_err(PostError::Lost)?;
            Ok(Response { status: head.status, headers: head.headers, body })
        };
        tokio::time::timeout(timeout, exchange).await.map_err(|_| PostError::TimedOut(timeout))?
    }

    /// Whether somebody there says that all is well.
    pub(crate) async fn is_well(&self, uri: &Uri, timeout: Duration) -> bool {
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.uri_mut() = uri.clone();
        let response = tokio::time::timeout(timeout, self.0.request(request)).await;
        response.is_ok_and(|response| response.is_ok_and(|response| response.status().is_success()))
    }
}

/// A host that takes longer counts as not there.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Shorter than most servers keep an idle connection.
const IDLE_MAX: Duration = Duration::from_secs(15);
