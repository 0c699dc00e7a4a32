//! Who does nothing, does not read, or comes too much.

use super::*;
use axum::{body::Body, routing::get};
use futures_util::stream;
use tokio::io::AsyncReadExt as _;

async fn served(limits: Limits) -> (Served, std::net::SocketAddr) {
    served_until(limits, CancellationToken::new()).await
}

/// `left` is cancelled when an answer that never ends is given up.
async fn served_until(limits: Limits, left: CancellationToken) -> (Served, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let endless = async move || {
        let guard = left.drop_guard();
        Body::from_stream(stream::repeat_with(move || {
            // Held as long as the answer is.
            let _guard = &guard;
            Ok::<_, std::io::Error>(vec![b'x'; 1 << 16])
        }))
    };
    let router = Router::new().route("/", get(async || "here")).route("/endless", get(endless));
    let stop = CancellationToken::new();
    let task = tokio::spawn(accept(listener, router, stop.clone(), limits));
    (Served { stop, task }, address)
}

async fn ask(address: std::net::SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn who_never_ends_a_head_is_left_and_others_are_served_meanwhile() {
    let (served, address) = served(Limits { head: Duration::from_millis(300), ..LIMITS }).await;
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: ").await.unwrap();
    assert!(ask(address).await.ends_with("here"));
    let mut rest = Vec::new();
    // Closed, with a word or without.
    timeout(Duration::from_secs(30), slow.read_to_end(&mut rest)).await.expect("it is closed").ok();
    served.stop().await;
}

#[tokio::test]
async fn who_never_reads_what_it_asked_for_is_left() {
    let left = CancellationToken::new();
    let limits = Limits { write: Duration::from_millis(300), ..LIMITS };
    let (served, address) = served_until(limits, left.clone()).await;
    let mut deaf = TcpStream::connect(address).await.unwrap();
    deaf.write_all(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    timeout(Duration::from_secs(30), left.cancelled()).await.expect("it is given up");
    served.stop().await;
}

#[tokio::test]
async fn one_connection_too_many_is_told_so_and_the_next_one_after_an_end_is_served() {
    let (served, address) = served(Limits { connections: 8, ..LIMITS }).await;
    let mut idle = Vec::new();
    for _ in 0..8 {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    let refused = timeout(Duration::from_secs(30), async {
        loop {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let mut text = String::new();
            // Told without having asked.
            let told = timeout(Duration::from_millis(500), stream.read_to_string(&mut text)).await;
            if matches!(told, Ok(Ok(1..))) {
                return text;
            }
        }
    });
    let refused = refused.await.expect("a refusal");
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("Retry-After"), "{refused}");
    let (head, body) = refused.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head} {}", body.len());
    idle.clear();
    let served_again = timeout(Duration::from_secs(30), async {
        loop {
            let text = ask(address).await;
            if text.ends_with("here") {
                return;
            }
        }
    });
    served_again.await.expect("places come back");
    served.stop().await;
}
