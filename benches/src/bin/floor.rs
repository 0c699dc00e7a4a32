//! The floor: a bare WebSocket server that answers a fixed string to each message.
//!
//! tokio-tungstenite on the plain socket, 4 KiB buffers, the allocator and the runtime of our own server.

use anyhow::Result;
use futures_util::{SinkExt, StreamExt};
use switchboard_benches::{FIXED_ANSWER, accept, announce};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    let (mut socket, _path) = accept(stream).await?;
    while let Some(message) = socket.next().await {
        if message?.is_text() {
            socket.send(Message::Text(Utf8Bytes::from_static(FIXED_ANSWER))).await?;
        }
    }
    Ok(())
}
