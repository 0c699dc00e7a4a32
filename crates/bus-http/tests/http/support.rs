//! What the tests have in common.

use anyhow::Result;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::net::{SocketAddr, TcpListener as Bound};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use switchboard_bus::{Address, Bus, Connect, ConnectionKey, Consumer, Done, Envelope, Kind, Metadata};
use switchboard_bus_http::Http;
use switchboard_messages::v16;
use switchboard_router::Station;
use switchboard_rpc::{StationId, Version};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) fn call(seq: u64) -> Envelope {
    let mut metadata = Metadata::new(Kind::Call);
    metadata.station = Some(station());
    metadata.version = Some(Version::V16);
    metadata.action = Some("Heartbeat".into());
    metadata.connection = Some(ConnectionKey { gateway: "gateway".into(), generation: 5 });
    metadata.seq = Some(seq);
    metadata.attempt = 1;
    metadata.remaining = Some(Duration::from_secs(25));
    metadata.reply_to = Some("gateway".into());
    Envelope::new(metadata, r#"[2,"1","Heartbeat",{}]"#)
}

pub(crate) fn station() -> StationId {
    StationId::new("CP 1|\u{e9}", 48).unwrap()
}

pub(crate) fn to_call() -> Address {
    Address::Call { tenant: "default".into(), station: station() }
}

/// The bus of a process that posts only.
pub(crate) fn gateway(url: impl Into<String>) -> Arc<dyn Bus> {
    Arc::new(Http::connect(Connect::to(url)).unwrap())
}

/// The bus of a process that is posted to at this port.
pub(crate) fn listening(url: impl Into<String>, listener: Bound) -> Arc<Http> {
    Arc::new(Http::listen(Connect::to(url), listener).unwrap())
}

/// A port that is ours, and where it is.
pub(crate) fn port() -> (Bound, SocketAddr) {
    let listener = Bound::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A port at which nobody listens.
pub(crate) fn free() -> SocketAddr {
    port().1
}

/// The bus of a function of its own, and where it is.
pub(crate) fn function() -> (Arc<Http>, SocketAddr) {
    let (listener, address) = port();
    (listening(format!("http://{address}/ocpp"), listener), address)
}

pub(crate) async fn heartbeat(
    _station: Station,
    _: v16::HeartbeatRequest,
) -> Result<v16::HeartbeatResponse, switchboard_router::CallError> {
    Ok(v16::HeartbeatResponse::new("2026-11-23T00:00:00Z".parse().unwrap()))
}

/// A server that does one thing to each request and counts them.
pub(crate) async fn server(answer: impl Into<Vec<u8>>) -> Result<(SocketAddr, Arc<AtomicU32>)> {
    let answer = answer.into();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let count = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            // What was not read when it is closed would take the answer along. All bodies here end so.
            while !request.ends_with(b"]") && stream.read_buf(&mut request).await.is_ok_and(|count| count > 0)
            {
            }
            counted.fetch_add(1, Ordering::Relaxed);
            drop(stream.write_all(&answer).await);
        }
    });
    Ok((address, count))
}

/// A response that ends the connection.
pub(crate) fn response(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}connection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap()
}

pub(crate) async fn post(to: SocketAddr, path: &str, headers: &str, body: &str) -> Result<String> {
    let mut stream = TcpStream::connect(to).await?;
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    in_time(stream.read_to_string(&mut response)).await?;
    Ok(response)
}

/// A consumer made of a function, which has what it was given in hand until its work is done.
pub(crate) fn each(
    work: impl Fn(Envelope) -> Option<BoxFuture<'static, ()>> + Send + Sync + 'static,
) -> Arc<dyn Consumer> {
    Arc::new(Each(work))
}

struct Each<F>(F);

impl<F: Fn(Envelope) -> Option<BoxFuture<'static, ()>> + Send + Sync + 'static> Consumer for Each<F> {
    fn deliver(&self, envelope: Envelope, done: Done) {
        let work = (self.0)(envelope);
        tokio::spawn(async move {
            if let Some(work) = work {
                work.await;
            }
            drop(done);
        });
    }
}

/// What answers a call with this frame.
pub(crate) fn answer_to(call: &Envelope, frame: &'static str) -> (Address, Envelope) {
    let metadata = Metadata { kind: Kind::Answer, reply_to: None, ..(*call.metadata).clone() };
    let to = Address::Inbox(call.metadata.reply_to.clone().unwrap());
    (to, Envelope::new(metadata, Bytes::from_static(frame.as_bytes())))
}
