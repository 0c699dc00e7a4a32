//! The WebSocket to the central system.

use base64::{Engine, prelude::BASE64_STANDARD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::time::Duration;
use switchboard_rpc::Version;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        self,
        client::IntoClientRequest,
        http::{HeaderValue, Response, StatusCode, header},
        protocol::WebSocketConfig,
    },
};

/// How long connecting may take, upgrade included.
const CONNECT_MAX: Duration = Duration::from_secs(15);
/// What stays as it is in the identity's segment of the URL.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

pub(crate) type Socket = WebSocketStream<TcpStream>;

/// Why no connection could be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The URL cannot be used.
    #[error("{0} is no ws:// URL")]
    Url(String),
    /// Nobody there.
    #[error("no connection")]
    Network(#[from] std::io::Error),
    /// The central system did not upgrade.
    #[error("the central system answered {status}{}", hint(*.status))]
    Refused {
        /// What it answered with.
        status: StatusCode,
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// It upgraded, and to something else.
    #[error("the central system does not speak {0}")]
    Subprotocol(&'static str),
    /// It took too long.
    #[error("no answer within {} s", CONNECT_MAX.as_secs())]
    TimedOut,
    /// Anything else.
    #[error("the handshake failed")]
    Handshake(#[source] Box<tungstenite::Error>),
}

impl ConnectError {
    /// How long the central system wants to be left alone.
    pub(crate) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// What usually helps.
fn hint(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => ": check the password",
        StatusCode::NOT_FOUND => ": check the path, and whether the identity is known there",
        _ => "",
    }
}

/// Who connects where.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// Without the identity.
    pub(crate) url: String,
    pub(crate) id: String,
    pub(crate) version: Version,
}

/// Connects, with this password.
pub(crate) async fn connect(endpoint: &Endpoint, password: Option<&[u8]>) -> Result<Socket, ConnectError> {
    tokio::time::timeout(CONNECT_MAX, upgrade(endpoint, password))
        .await
        .unwrap_or(Err(ConnectError::TimedOut))
}

async fn upgrade(endpoint: &Endpoint, password: Option<&[u8]>) -> Result<Socket, ConnectError> {
    let no_url = || ConnectError::Url(endpoint.url.clone());
    let url =
        format!("{}/{}", endpoint.url.trim_end_matches('/'), utf8_percent_encode(&endpoint.id, SEGMENT));
    let mut request = url.into_client_request().map_err(|_| no_url())?;
    if request.uri().scheme_str() != Some("ws") {
        return Err(no_url());
    }
    let host = request.uri().host().ok_or_else(no_url)?.trim_matches(['[', ']']).to_owned();
    let port = request.uri().port_u16().unwrap_or(80);
    let protocol = HeaderValue::from_static(endpoint.version.subprotocol());
    request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol.clone());
    if let Some(password) = password {
        let mut credentials = format!("{}:", endpoint.id).into_bytes();
        credentials.extend_from_slice(password);
        let basic = format!("Basic {}", BASE64_STANDARD.encode(credentials));
        let mut value = HeaderValue::try_from(basic).map_err(|_| no_url())?;
        value.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    let stream = TcpStream::connect((host.as_str(), port)).await?;
    stream.set_nodelay(true)?;
    // Small buffers: a load generator has thousands of stations in one process.
    let limits = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
    match client_async_with_config(request, stream, Some(limits)).await {
        Ok((socket, response))
            if response.headers().get(header::SEC_WEBSOCKET_PROTOCOL) == Some(&protocol) =>
        {
            Ok(socket)
        }
        Ok(_) => Err(ConnectError::Subprotocol(endpoint.version.subprotocol())),
        Err(tungstenite::Error::Http(response)) => Err(refused(&response)),
        Err(tungstenite::Error::Protocol(
            tungstenite::error::ProtocolError::SecWebSocketSubProtocolError(_),
        )) => Err(ConnectError::Subprotocol(endpoint.version.subprotocol())),
        Err(tungstenite::Error::Io(error)) => Err(ConnectError::Network(error)),
        Err(error) => Err(ConnectError::Handshake(Box::new(error))),
    }
}

fn refused<T>(response: &Response<T>) -> ConnectError {
    // A date would be possible as well, and is of no use to a station whose clock is not set.
    let seconds =
        response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    ConnectError::Refused { status: response.status(), retry_after: seconds.map(Duration::from_secs) }
}
