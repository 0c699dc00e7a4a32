//! From a place to a connection that may be used: TCP, TLS, and the protocol's own greeting.

use crate::config::{Config, Credentials, Place};
use crate::life::{PAUSE_MAX, REFUSED_PAUSE_MAX};
use crate::wire::{FRAME_MIN, Fault, Frame, Method, PROTOCOL_HEADER, Writer, take_frame};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Why a place could not be reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("it did not answer within {}s", DIAL_MAX.as_secs())]
    Silent,
    #[error("{0}; the ca_file names the authority to trust, the URL the host that the certificate is for")]
    Untrusted(io::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Fault(#[from] Fault),
    /// In the broker's own words.
    #[error(
        "it refused the connection with {code} {text}; look at user, password, permissions and virtual host"
    )]
    Refused { code: u16, text: String },
    #[error("it closed the connection while it was greeted")]
    Closed,
    #[error("it offers no way of proving who we are that we know: {0}")]
    Mechanisms(String),
}

/// A connection that is open.
#[derive(Debug)]
pub(crate) struct Dialled {
    pub(crate) stream: Stream,
    /// What was read beyond the greeting.
    pub(crate) input: Vec<u8>,
    pub(crate) frame_max: usize,
    pub(crate) channels_max: u16,
    pub(crate) heartbeat: Duration,
    /// Name and version.
    pub(crate) product: String,
}

/// The bytes' way, with TLS or without.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Connects to one place.
impl DialError {
    /// How long the next attempt may wait.
    pub(crate) const fn pause_max(&self) -> Duration {
        match self {
            Self::Io(_) | Self::Silent | Self::Closed => PAUSE_MAX,
            _ => REFUSED_PAUSE_MAX,
        }
    }
}

pub(crate) async fn dial(config: &Config, place: &Place) -> Result<Dialled, DialError> {
    tokio::time::timeout(DIAL_MAX, greet(config, place)).await.map_err(|_| DialError::Silent)?
}

async fn greet(config: &Config, place: &Place) -> Result<Dialled, DialError> {
    let mut greeting = Greeting { stream: open(config, place).await?, input: Vec::new(), taken: 0 };
    greeting.stream.write_all(PROTOCOL_HEADER).await?;
    let (response, mechanism, product) = greeting
        .until(|method| match method {
            Method::Start { mechanisms, product } => {
                let offers = |name: &[u8]| mechanisms.split(|byte| *byte == b' ').any(|one| one == name);
                Some(match &place.credentials {
                    Credentials::Password { user, password } if offers(b"PLAIN") => {
                        Ok((format!("\0{user}\0{}", password.reveal()), "PLAIN", product))
                    }
                    Credentials::Certificate if offers(b"EXTERNAL") => {
                        Ok((String::new(), "EXTERNAL", product))
                    }
                    _ => Err(DialError::Mechanisms(String::from_utf8_lossy(mechanisms).into_owned())),
                })
            }
            _ => None,
        })
        .await??;
    let name = format!("switchboard {}", config.participant);
    greeting.say(|writer| writer.start_ok(mechanism, response.as_bytes(), &name)).await?;
    let (channels_max, frame_max, heartbeat) = greeting
        .until(|method| match method {
            Method::Tune { channels_max, frame_max, heartbeat } => Some((channels_max, frame_max, heartbeat)),
            _ => None,
        })
        .await?;
    // 0 means that the other side sets no limit, or sends no signs of life.
    let channels_max = if channels_max == 0 { CHANNELS_MAX } else { channels_max.min(CHANNELS_MAX) };
    let frame_max = if frame_max == 0 { FRAME_MAX } else { frame_max.min(FRAME_MAX) };
    let heartbeat = if heartbeat == 0 { place.heartbeat } else { heartbeat.min(place.heartbeat) };
    greeting
        .say(|writer| {
            writer.tune_ok(channels_max, frame_max, heartbeat);
            writer.open(&place.vhost);
        })
        .await?;
    greeting.until(|method| matches!(method, Method::OpenOk).then_some(())).await?;
    greeting.input.drain(..greeting.taken);
    Ok(Dialled {
        stream: greeting.stream,
        input: greeting.input,
        frame_max: usize::try_from(frame_max).unwrap_or(FRAME_MIN).max(FRAME_MIN),
        channels_max,
        heartbeat: Duration::from_secs(heartbeat.into()),
        product,
    })
}

async fn open(config: &Config, place: &Place) -> Result<Stream, DialError> {
    let endpoint = &place.endpoint;
    let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = config.tls.as_ref().filter(|_| endpoint.scheme.tls) else {
        return Ok(Stream::Plain(stream));
    };
    let name = ServerName::try_from(endpoint.host.clone()).map_err(io::Error::other)?;
    let connecting = TlsConnector::from(Arc::clone(tls)).connect(name, stream);
    let stream = connecting.await.map_err(|error| match is_untrusted(&error) {
        true => DialError::Untrusted(error),
        false => error.into(),
    })?;
    Ok(Stream::Tls(Box::new(stream)))
}

/// Whether it is the broker's certificate that we do not accept.
fn is_untrusted(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|inner| inner.downcast_ref::<tokio_rustls::rustls::Error>());
    matches!(error, Some(tokio_rustls::rustls::Error::InvalidCertificate(_)))
}

/// A conversation of one question and one answer at a time.
struct Greeting {
    stream: Stream,
    input: Vec<u8>,
    taken: usize,
}

impl Greeting {
    async fn say(&mut self, write: impl FnOnce(&mut Writer<'_>)) -> Result<(), DialError> {
        let mut out = Vec::new();
        write(&mut Writer::new(&mut out, 0));
        self.stream.write_all(&out).await?;
        Ok(())
    }

    /// Reads until `is_it` finds what it looks for.
    async fn until<T>(&mut self, is_it: impl Fn(Method<'_>) -> Option<T>) -> Result<T, DialError> {
        loop {
            while let Some((frame, size)) = take_frame(&self.input[self.taken..], FRAME_MAX_GREETING)? {
                self.taken += size;
                match frame {
                    Frame::Method(0, Method::Close { code, text }) => {
                        return Err(DialError::Refused { code, text });
                    }
                    Frame::Method(0, method) => {
                        if let Some(found) = is_it(method) {
                            return Ok(found);
                        }
                    }
                    _ => {}
                }
            }
            self.input.drain(..std::mem::take(&mut self.taken));
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(DialError::Closed);
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// A place that takes longer counts as not there.
const DIAL_MAX: Duration = Duration::from_secs(5);
/// More than a process has subscriptions.
const CHANNELS_MAX: u16 = 2047;
/// What RabbitMQ proposes; larger ones would hold up everything else on the connection.
const FRAME_MAX: u32 = 128 * 1024;
/// A broker's first words may be longer than the least that is agreed on.
const FRAME_MAX_GREETING: usize = 128 * 1024;
