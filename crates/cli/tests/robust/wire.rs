//! WebSocket by hand, for what no library would send.

use anyhow::{Context, Result, ensure};
use std::net::SocketAddr;
use switchboard_testkit::wait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Connects a station and gives the bare socket, of which nothing more is read.
pub(crate) async fn connect(address: SocketAddr, station: &str) -> Result<TcpStream> {
    let (stream, head) = knock(address, station).await?;
    ensure!(head.starts_with("HTTP/1.1 101"), "{head}");
    Ok(stream)
}

/// Asks for an upgrade; the socket and the head of the answer.
pub(crate) async fn knock(address: SocketAddr, station: &str) -> Result<(TcpStream, String)> {
    let knocking = knock_patiently(address, station);
    tokio::time::timeout(wait::DEADLINE, knocking).await.context("no answer to the upgrade")?
}

/// The same, however long the answer takes.
pub(crate) async fn knock_patiently(address: SocketAddr, station: &str) -> Result<(TcpStream, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "GET /ocpp/{station} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: ocpp1.6\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let (mut head, mut there) = (Vec::new(), [0; 1024]);
    while !head.ends_with(END) {
        let count = stream.peek(&mut there).await?;
        ensure!(count > 0, "closed within the head");
        // Not a byte of what follows, and not byte by byte: thousands come at once.
        let before = head.len();
        head.extend(&there[..count]);
        let end = head.windows(END.len()).position(|bytes| bytes == END);
        head.truncate(end.map_or(head.len(), |end| end + END.len()));
        stream.read_exact(&mut there[..head.len() - before]).await?;
    }
    Ok((stream, String::from_utf8(head)?))
}

const END: &[u8] = b"\r\n\r\n";

/// A frame of a client, masked with zeros. `first`: 0x81 is a whole text, 0x89 a ping, 0x01 the first part of a text.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ ..126 => frame.push(0x80 | u8::try_from(length).unwrap()),
        length @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}
