//! From an endpoint to a connection that is greeted: address, TLS, credentials, what the server can.

use crate::protocol::{self, Hello, Info, Op};
use bytes::BytesMut;
use futures_util::future::BoxFuture;
use std::{fmt, io, pin::Pin, time::Duration};
use switchboard_bus::{Connect, ConnectError, Endpoint};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

/// What it takes to reach the server.
pub(crate) struct Dialling {
    endpoints: Vec<Endpoint>,
    /// Which is next: each failure is another one's turn.
    turn: usize,
    participant: String,
    tls: Option<TlsConnector>,
}

/// A connection on which both sides have said who they are.
pub(crate) struct Greeted {
    pub(crate) stream: Pin<Box<dyn Stream>>,
    pub(crate) info: Info,
    pub(crate) endpoint: String,
    /// What the server has said beyond that.
    pub(crate) read: BytesMut,
    /// Whether there is another server to go to.
    pub(crate) has_others: bool,
}

/// A socket, with or without TLS.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send {}

impl<S: AsyncRead + AsyncWrite + Send> Stream for S {}

/// Why an endpoint could not be used this time. No text holds a credential.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("cannot reach {endpoint}")]
    Reach { endpoint: String, source: io::Error },
    #[error(
        "{endpoint} shows a certificate that cannot be trusted; the ca_file names its authority, the URL its host"
    )]
    Untrusted { endpoint: String, source: io::Error },
    #[error("{endpoint} does not answer within {} s", DIAL_MAX.as_secs())]
    Slow { endpoint: String },
    #[error("{endpoint} does not speak as a NATS server does: {reason}")]
    Speech { endpoint: String, reason: String },
    #[error("{endpoint} refuses us: {reason}; look at user, password and certificate")]
    Refused { endpoint: String, reason: String },
    #[error("{endpoint} has version {version}, which carries no headers: version 2.9 or later is needed")]
    Old { endpoint: String, version: String },
    #[error("{endpoint} wants TLS: give its URL as tls://")]
    WantsTls { endpoint: String },
}

impl Dialling {
    pub(crate) fn new(connect: &Connect) -> Result<Self, ConnectError> {
        let endpoints = connect.endpoints(crate::SCHEMES)?;
        let tls = match endpoints.iter().any(|endpoint| endpoint.scheme.tls) {
            true => Some(TlsConnector::from(connect.tls.client_config()?)),
            false => None,
        };
        for endpoint in endpoints.iter().filter(|endpoint| endpoint.scheme.tls) {
            ServerName::try_from(endpoint.host.clone()).map_err(|_| ConnectError::Url {
                url: endpoint.to_string(),
                reason: "its host is no name that a certificate could have".to_owned(),
            })?;
        }
        Ok(Self { endpoints, turn: 0, participant: connect.participant.to_string(), tls })
    }

    /// Tries the endpoint whose turn it is.
    pub(crate) async fn dial(&mut self) -> Result<Greeted, DialError> {
        let index = self.turn % self.endpoints.len().max(1);
        self.turn = index + 1;
        let endpoint = &self.endpoints[index];
        let name = endpoint.to_string();
        let dialled = tokio::time::timeout(DIAL_MAX, self.greet(endpoint, name.clone())).await;
        let greeted = dialled.unwrap_or(Err(DialError::Slow { endpoint: name }))?;
        // After it is lost it is tried first: its subscribers are there.
        self.turn = index;
        Ok(greeted)
    }

    /// The one that we have is about to go.
    pub(crate) fn leave(&mut self) {
        self.turn += 1;
    }

    async fn greet(&self, endpoint: &Endpoint, name: String) -> Result<Greeted, DialError> {
        let reach = |source| DialError::Reach { endpoint: name.clone(), source };
        let tcp = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await.map_err(reach)?;
        tcp.set_nodelay(true).map_err(reach)?;
        let mut stream: Pin<Box<dyn Stream>> = Box::pin(tcp);
        let mut read = BytesMut::with_capacity(READ_BYTES);
        let info = match hear(&mut stream, &mut read, &name).await? {
            Op::Info(info) => *info,
            Op::Error(reason) => return Err(DialError::Refused { endpoint: name, reason }),
            _ => return Err(speech(&name, "it does not introduce itself")),
        };
        if info.tls_required && !endpoint.scheme.tls {
            return Err(DialError::WantsTls { endpoint: name });
        }
        if !info.headers {
            return Err(DialError::Old { endpoint: name, version: info.version });
        }
        if endpoint.scheme.tls && !read.is_empty() {
            // Said in the clear by who knows whom, and it would be taken for what the server says under TLS.
            return Err(speech(&name, "it says more than it may before TLS begins"));
        }
        if let (true, Some(tls)) = (endpoint.scheme.tls, &self.tls) {
            stream = secure(tls, endpoint, stream).await.map_err(|source| match is_untrusted(&source) {
                true => DialError::Untrusted { endpoint: name.clone(), source },
                false => reach(source),
            })?;
        }
        let hello = Hello {
            verbose: false,
            pedantic: false,
            headers: true,
            no_responders: true,
            // A participant may be both sides of a conversation.
            echo: true,
            lang: "rust",
            version: env!("CARGO_PKG_VERSION"),
            protocol: 1,
            name: &self.participant,
            tls_required: endpoint.scheme.tls,
            user: endpoint.user.as_deref(),
            pass: endpoint.user.as_ref().and(endpoint.password.as_ref()).map(|secret| secret.reveal()),
            auth_token: endpoint
                .password
                .as_ref()
                .filter(|_| endpoint.user.is_none())
                .map(|secret| secret.reveal()),
        };
        let hello = serde_json::to_string(&hello).map_err(|error| speech(&name, &error.to_string()))?;
        let text = format!("CONNECT {hello}\r\nPING\r\n");
        stream.write_all(text.as_bytes()).await.map_err(reach)?;
        stream.flush().await.map_err(reach)?;
        loop {
            match hear(&mut stream, &mut read, &name).await? {
                Op::Pong => break,
                Op::Error(reason) => return Err(DialError::Refused { endpoint: name, reason }),
                Op::Ping => stream.write_all(b"PONG\r\n").await.map_err(reach)?,
                Op::Info(_) | Op::Ok => {}
                Op::Message(_) | Op::Unreadable => {
                    return Err(speech(&name, "a message before anything was asked for"));
                }
            }
        }
        let has_others = self.endpoints.len() > 1;
        Ok(Greeted { stream, info, endpoint: name, read, has_others })
    }
}

/// Boxed: its state would make every future around it large.
fn secure<'a>(
    tls: &'a TlsConnector,
    endpoint: &Endpoint,
    stream: Pin<Box<dyn Stream>>,
) -> BoxFuture<'a, io::Result<Pin<Box<dyn Stream>>>> {
    let server = ServerName::try_from(endpoint.host.clone()).map_err(io::Error::other);
    Box::pin(async move {
        let stream = tls.connect(server?, stream).await?;
        let stream: Pin<Box<dyn Stream>> = Box::pin(stream);
        Ok(stream)
    })
}

/// Whether it is the server's certificate that we do not accept.
fn is_untrusted(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|inner| inner.downcast_ref::<tokio_rustls::rustls::Error>());
    matches!(error, Some(tokio_rustls::rustls::Error::InvalidCertificate(_)))
}

async fn hear(stream: &mut Pin<Box<dyn Stream>>, read: &mut BytesMut, name: &str) -> Result<Op, DialError> {
    loop {
        match protocol::next(read) {
            Ok(Some(op)) => return Ok(op),
            Ok(None) => {}
            Err(nonsense) => return Err(speech(name, &nonsense.to_string())),
        }
        let count = stream.read_buf(read).await;
        match count {
            Ok(0) => {
                let source = io::ErrorKind::UnexpectedEof.into();
                return Err(DialError::Reach { endpoint: name.to_owned(), source });
            }
            Ok(_) => {}
            Err(source) => return Err(DialError::Reach { endpoint: name.to_owned(), source }),
        }
    }
}

fn speech(endpoint: &str, reason: &str) -> DialError {
    DialError::Speech { endpoint: endpoint.to_owned(), reason: reason.to_owned() }
}

impl fmt::Debug for Dialling {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Dialling").field("turn", &self.turn).finish_non_exhaustive()
    }
}

/// How long one endpoint has to answer, from the connection to the greeting.
const DIAL_MAX: Duration = Duration::from_secs(5);
/// What is read at once.
const READ_BYTES: usize = 64 * 1024;
