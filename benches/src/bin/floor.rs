//! The floor: a bare WebSocket server that answers a fixed string to each message.
//!
//! tokio-tungstenite on the plain socket, 4 KiB buffers, the allocator and the runtime of our own server.

use anyhow::Result;
use futures_util::{SinkExt, StreamExt};
use switchboard_benches::{FIXED_ANSWER, announce};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BUFFER_BYTES: usize = 4096;

#[tokio::main]
async fn main() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    announce(listener.local_addr()?)?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            // A station that goes away ends its task; that is all there is to it here.
            drop(serve(stream).await);
        });
    }
}

async fn serve(stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(1 << 20);
    let mut socket =
        tokio_tungstenite::accept_hdr_async_with_config(stream, with_subprotocol, Some(config)).await?;
    while let Some(message) = socket.next().await {
        if message?.is_text() {
            socket.send(Message::Text(Utf8Bytes::from_static(FIXED_ANSWER))).await?;
        }
    }
    Ok(())
}

#[expect(
    clippy::result_large_err,
    clippy::unnecessary_wraps,
    reason = "the library's callback has this signature"
)]
fn with_subprotocol(
    _: &Request,
    mut response: Response,
) -> Result<Response, tokio_tungstenite::tungstenite::handshake::server::ErrorResponse> {
    response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("ocpp1.6"));
    Ok(response)
}
