//! The WebSocket to the central system.

use super::{
    tls::Tls,
    transport::{Line, Transport},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::StreamExt;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::{
    io,
    sync::LazyLock,
    task::{Context, Poll},
    time::Duration,
};
use switchboard_deflate::{Kind, Pool, offer};
use switchboard_rpc::Version;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        self, Message, Utf8Bytes,
        client::IntoClientRequest,
        http::{HeaderValue, Response, StatusCode, header},
        protocol::{
            WebSocketConfig,
            frame::{
                Frame,
                coding::{Data, OpCode},
            },
        },
    },
};

/// How long connecting may take, upgrade included.
const CONNECT_MAX: Duration = Duration::from_secs(15);
/// What stays as it is in the identity's segment of the URL.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Shorter texts are not worth the work.
const COMPRESSED_BYTES_MIN: usize = 128;
/// The longest message that a compressed one may turn out to be.
const INFLATED_BYTES_MAX: usize = 4 << 20;
/// What the work needs is lent for a moment, so that all stations of a process can share it.
static POOL: LazyLock<Pool> = LazyLock::new(|| Pool::new(4));

/// A WebSocket to the central system.
pub(crate) struct Socket {
    pub(super) web: WebSocketStream<Transport>,
    /// Of what is compressed, where that is agreed.
    window_bits: Option<u8>,
}

impl Socket {
    /// A text as it is to be sent.
    pub(super) fn text(&self, text: Utf8Bytes) -> Message {
        let compressed = self
            .window_bits
            .filter(|_| text.len() >= COMPRESSED_BYTES_MIN)
            .and_then(|bits| POOL.deflate(text.as_bytes(), bits));
        let Some(payload) = compressed else { return Message::Text(text) };
        let mut frame = Frame::message(payload, OpCode::Data(Data::Text), true);
        // RFC 7692, 6: the mark of a compressed message.
        frame.header_mut().rsv1 = true;
        Message::Frame(frame)
    }

    /// The next message.
    pub(super) fn poll_next(
        &mut self,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Message, tungstenite::Error>>> {
        self.web.poll_next_unpin(task).map_ok(|message| self.inflated(message)).map(|next| match next {
            Some(Ok(Err(why))) => Some(Err(tungstenite::Error::Io(io::Error::other(why)))),
            Some(Ok(Ok(message))) => Some(Ok(message)),
            Some(Err(error)) => Some(Err(error)),
            None => None,
        })
    }

    fn inflated(&mut self, message: Message) -> Result<Message, &'static str> {
        let (Message::Text(_) | Message::Binary(_)) = &message else { return Ok(message) };
        let kind = self.web.get_mut().next_message();
        let (kind, Message::Binary(payload)) = (kind, &message) else { return Ok(message) };
        match kind {
            Kind::Plain => Ok(message),
            _ if self.window_bits.is_none() => Err("a compressed message, which was not agreed"),
            kind => {
                let bytes = POOL
                    .inflate(payload, INFLATED_BYTES_MAX)
                    .map_err(|_| "a compressed message cannot be decompressed")?;
                if kind == Kind::CompressedBinary {
                    return Ok(Message::Binary(bytes));
                }
                Utf8Bytes::try_from(bytes).map(Message::Text).map_err(|_| "a text is not UTF-8")
            }
        }
    }
}

/// Why no connection could be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The URL cannot be used.
    #[error("{0} is no ws:// or wss:// URL")]
    Url(String),
    /// Nobody said who is to be believed.
    #[error("{0} needs TLS: set it in the configuration")]
    NoTls(String),
    /// Whoever is there is not believed, or speaks no TLS.
    #[error("no encrypted connection")]
    Tls(#[source] std::io::Error),
    /// It chose an extension that was not offered.
    #[error("the central system wants an extension that was not offered")]
    Extension,
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
    pub(crate) tls: Option<Tls>,
    /// Whether compression is offered.
    pub(crate) compression: bool,
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
    let tls = match request.uri().scheme_str() {
        Some("ws") => None,
        Some("wss") => Some(endpoint.tls.as_ref().ok_or_else(|| ConnectError::NoTls(endpoint.url.clone()))?),
        _ => return Err(no_url()),
    };
    let host = request.uri().host().ok_or_else(no_url)?.trim_matches(['[', ']']).to_owned();
    let usual = if tls.is_some() { 443 } else { 80 };
    let port = request.uri().port_u16().unwrap_or(usual);
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
    if endpoint.compression {
        let offered = HeaderValue::from_static(offer::OFFER);
        request.headers_mut().insert(header::SEC_WEBSOCKET_EXTENSIONS, offered);
    }
    let stream = TcpStream::connect((host.as_str(), port)).await?;
    stream.set_nodelay(true)?;
    let line = match tls {
        None => Line::Plain(stream),
        Some(tls) => Line::Encrypted(Box::new(tls.connect(&host, stream).await.map_err(ConnectError::Tls)?)),
    };
    let stream = Transport::new(line, endpoint.compression);
    // Small buffers: a load generator has thousands of stations in one process.
    let limits = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
    match client_async_with_config(request, stream, Some(limits)).await {
        Ok((socket, response))
            if response.headers().get(header::SEC_WEBSOCKET_PROTOCOL) == Some(&protocol) =>
        {
            let window_bits = agreed(endpoint, &response)?;
            Ok(Socket { web: socket, window_bits })
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

/// What the central system made of our offer to compress.
fn agreed<T>(endpoint: &Endpoint, response: &Response<T>) -> Result<Option<u8>, ConnectError> {
    let answered = response.headers().get_all(header::SEC_WEBSOCKET_EXTENSIONS);
    let values = answered.iter().map(|value| value.to_str().unwrap_or("?"));
    let agreed = offer::accepted(values).map_err(|_| ConnectError::Extension)?;
    if agreed.is_some() && !endpoint.compression {
        return Err(ConnectError::Extension);
    }
    Ok(agreed.map(offer::Agreed::window_bits))
}

fn refused<T>(response: &Response<T>) -> ConnectError {
    // A date would be possible as well, and is of no use to a station whose clock is not set.
    let seconds =
        response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    ConnectError::Refused { status: response.status(), retry_after: seconds.map(Duration::from_secs) }
}
