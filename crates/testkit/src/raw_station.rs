//! A socket that sends what it is told, right or wrong.

use crate::wait;
use anyhow::{Context, Result, bail};
use base64::Engine;
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// One WebSocket connection, as a test writes it.
#[derive(Debug)]
pub struct RawStation {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    subprotocol: Option<String>,
}

impl RawStation {
    /// Connects offering these subprotocols; the status of the answer where it is refused.
    ///
    /// # Errors
    /// Nobody listens there. A refusal is `Ok(Err(status))`.
    pub async fn connect(url: &str, subprotocols: &[&str]) -> Result<Result<Self, u16>> {
        Self::connect_as(url, subprotocols, None).await
    }

    /// The same with a user and a password, which may hold any bytes.
    ///
    /// # Errors
    /// As for [`connect`](Self::connect).
    pub async fn connect_as(
        url: &str,
        subprotocols: &[&str],
        credentials: Option<(&str, &[u8])>,
    ) -> Result<Result<Self, u16>> {
        let mut request = url.into_client_request()?;
        if !subprotocols.is_empty() {
            let offered = HeaderValue::from_str(&subprotocols.join(", "))?;
            request.headers_mut().insert("sec-websocket-protocol", offered);
        }
        if let Some((user, password)) = credentials {
            let plain = [user.as_bytes(), b":", password].concat();
            let basic = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(plain));
            request.headers_mut().insert("authorization", HeaderValue::from_str(&basic)?);
        }
        match timeout(wait::DEADLINE, tokio_tungstenite::connect_async(request)).await? {
            Ok((socket, response)) => {
                let chosen = response.headers().get("sec-websocket-protocol");
                let subprotocol = chosen.map(|name| name.to_str().map(ToOwned::to_owned)).transpose()?;
                Ok(Ok(Self { socket, subprotocol }))
            }
            Err(Error::Http(response)) => Ok(Err(response.status().as_u16())),
            Err(error) => Err(error).context("cannot connect"),
        }
    }

    /// What the server chose.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// Sends a text message as it is.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send(&mut self, text: &str) -> Result<()> {
        self.socket.send(Message::text(text)).await.context("the connection is gone")
    }

    /// The next text message.
    ///
    /// # Errors
    /// The connection ended, or nothing comes.
    pub async fn receive(&mut self) -> Result<String> {
        match self.next(|message| message.is_text() || message.is_close()).await? {
            Message::Text(text) => Ok(text.to_string()),
            other => bail!("closed instead: {other:?}"),
        }
    }

    /// Sends a frame and gives back the next one, as JSON.
    ///
    /// # Errors
    /// The connection ended, or nothing comes, or it is not JSON.
    pub async fn ask(&mut self, text: &str) -> Result<Value> {
        self.send(text).await?;
        let answer = self.receive().await?;
        serde_json::from_str(&answer).with_context(|| format!("not JSON: {answer}"))
    }

    /// Waits for the server to close, and gives back its code; none if it closed without one.
    ///
    /// # Errors
    /// It does not.
    pub async fn closed(&mut self) -> Result<Option<u16>> {
        match self.next(Message::is_close).await? {
            Message::Close(frame) => Ok(frame.map(|CloseFrame { code, .. }| code.into())),
            other => bail!("not a close: {other:?}"),
        }
    }

    /// The next message that is wanted. Pings in between do not prolong the wait.
    async fn next(&mut self, is_wanted: impl Fn(&Message) -> bool) -> Result<Message> {
        let wanted = async {
            loop {
                let message = self.socket.next().await.context("the connection is gone")?;
                let message = message.context("the connection broke")?;
                if is_wanted(&message) {
                    return Ok(message);
                }
            }
        };
        timeout(wait::DEADLINE, wanted).await.context("the server does not say what is waited for")?
    }
}
