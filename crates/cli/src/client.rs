//! Speaks to the API of the running process.

use crate::{
    exit::{Exit, Failure},
    settings::Settings,
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header,
};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use tokio::net::TcpStream;

/// What stays as it is in a path segment or a query value.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// An answer of the API is never larger; a process that sends more is not ours.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// How long the beginning of an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the API is, and what it wants to see.
#[derive(Debug)]
pub(crate) struct Client {
    address: SocketAddr,
    token: Option<String>,
    patience: Duration,
}

/// What the API answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Letter by letter, so that numbers keep their digits.
    pub(crate) text: String,
    /// Understood.
    pub(crate) value: Value,
}

/// Why a request failed.
#[derive(Debug)]
pub(crate) enum RequestError {
    /// Nobody listens there.
    Unreachable(SocketAddr, std::io::Error),
    /// The connection failed on the way, or what answers is not Switchboard.
    Broken(SocketAddr, String),
    /// The API said no.
    Said {
        /// The HTTP status.
        status: StatusCode,
        /// The whole answer.
        body: Value,
    },
}

impl Client {
    /// The client for the process that these settings describe.
    pub(crate) fn new(settings: &Settings) -> Self {
        let mut address = settings.api_listen;
        // A process that listens everywhere is reached here.
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() {
                IpAddr::V4(Ipv4Addr::LOCALHOST)
            } else {
                IpAddr::V6(Ipv6Addr::LOCALHOST)
            });
        }
        Self::at(address, settings)
    }

    /// The client for the process at this address.
    pub(crate) fn at(address: SocketAddr, settings: &Settings) -> Self {
        let token = settings.api_token.as_ref().map(|secret| secret.0.clone());
        Self { address, token, patience: PATIENCE }
    }

    /// The same for requests whose answer takes this much longer.
    pub(crate) fn patient(self, longer: Duration) -> Self {
        Self { patience: self.patience.saturating_add(longer), ..self }
    }

    /// Makes a request and reads its JSON answer.
    pub(crate) async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Answer, RequestError> {
        let response = self.open(method, path, body).await?;
        let status = response.status();
        let bytes = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| RequestError::Broken(self.address, error.to_string()))?
            .to_bytes();
        let not_json = || RequestError::Broken(self.address, format!("status {status} and no JSON"));
        let text = String::from_utf8(bytes.into()).map_err(|_| not_json())?;
        let value = if text.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text).map_err(|_| not_json())?
        };
        if status.is_success() {
            Ok(Answer { text, value })
        } else {
            Err(RequestError::Said { status, body: value })
        }
    }

    /// Makes a request and leaves the body to be read as it comes.
    pub(crate) async fn open(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Response<Incoming>, RequestError> {
        let broken = |error: hyper::Error| RequestError::Broken(self.address, error.to_string());
        let connected = tokio::time::timeout(Duration::from_secs(5), TcpStream::connect(self.address)).await;
        let stream = connected
            .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
            .map_err(|error| RequestError::Unreachable(self.address, error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Ends with the request; what goes wrong there is seen by the request as well.
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.address.to_string())
            .header(header::USER_AGENT, concat!("switchboard/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let bytes = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Bytes::from(body)
            }
            None => Bytes::new(),
        };
        let request = request
            .body(Full::new(bytes))
            .map_err(|error| RequestError::Broken(self.address, error.to_string()))?;
        let answered = tokio::time::timeout(self.patience, sender.send_request(request)).await;
        let late =
            |_| RequestError::Broken(self.address, format!("no answer within {} s", self.patience.as_secs()));
        answered.map_err(late)?.map_err(broken)
    }
}

/// A text as one segment of a path, or as a value in a query.
pub(crate) fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Unreachable(address, error) => Self::new(
                Exit::Unreachable,
                format!(
                    "no switchboard can be reached at {address}: {error}\n  start one: switchboard run --demo 5\n  \
                     or say where it is: --api ADDRESS, SWITCHBOARD_API_LISTEN, or api.listen in switchboard.toml"
                ),
            ),
            RequestError::Broken(address, detail) => Self::new(
                Exit::Unreachable,
                format!("the connection to {address} failed: {detail}; is it the API of a switchboard?"),
            ),
            RequestError::Said { status, body } => {
                let detail =
                    body["detail"].as_str().map_or_else(|| format!("status {status}"), str::to_owned);
                let exit = match status {
                    StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::Denied,
                    status if status.is_client_error() => Exit::Data,
                    _ => Exit::Internal,
                };
                let mut text = detail;
                if let Some(violations) = body["violations"].as_array() {
                    for violation in violations {
                        let pointer = violation["pointer"].as_str().unwrap_or_default();
                        let place = if pointer.is_empty() { "the payload" } else { pointer };
                        text.push_str(&format!(
                            "\n  {place}: {}",
                            violation["expected"].as_str().unwrap_or_default()
                        ));
                    }
                }
                if let Some(hint) = body["hint"].as_str() {
                    text.push_str(&format!("\n  {hint}"));
                }
                Self::new(exit, text)
            }
        }
    }
}
