//! A server that does what no good one does: what becomes of us, and how fast we come back for more.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;
use switchboard_bus::{Connect, State};
use switchboard_nats::{Line, Message, PublishError, RequestError, SubscribeError, Taker, Writer};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(30);
const INFO: &[u8] = b"INFO {\"version\":\"2.9.10\",\"max_payload\":1048576,\"headers\":true}\r\n";

/// Nobody is interested.
struct Deaf;

impl Taker for Deaf {
    fn take(&self, _message: Message) {}
}

/// One connection as the server sees it.
struct Side(BufReader<TcpStream>);

impl Side {
    /// Accepts one, and greets it as servers do.
    async fn greeted(listener: &TcpListener) -> Self {
        let mut side = Self(BufReader::new(timeout(DEADLINE, listener.accept()).await.unwrap().unwrap().0));
        side.say(INFO).await;
        side.until("CONNECT").await;
        side.until("PING").await;
        side.say(b"PONG\r\n").await;
        side
    }

    async fn say(&mut self, text: &[u8]) {
        self.0.write_all(text).await.unwrap();
    }

    /// Reads lines until one begins like this, and gives all of them.
    async fn until(&mut self, word: &str) -> Vec<String> {
        let mut lines = Vec::new();
        while !lines.last().is_some_and(|line: &String| line.starts_with(word)) {
            let mut line = String::new();
            let count = timeout(DEADLINE, self.0.read_line(&mut line)).await.unwrap().unwrap();
            assert!(count > 0, "{word}: {lines:?}");
            lines.push(line);
        }
        lines
    }
}

async fn server() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address.to_string())
}

/// A line whose server has nothing against it yet.
async fn connected(listener: &TcpListener, address: &str) -> (Line, Side) {
    let line = Line::connect(&Connect::to(format!("nats://{address}"))).unwrap();
    let mut side = Side::greeted(listener).await;
    side.until("PING").await;
    side.say(b"PONG\r\n").await;
    let mut states = line.state();
    drop(timeout(DEADLINE, states.wait_for(|now| *now == State::Connected)).await.unwrap().unwrap());
    (line, side)
}

/// Whoever stands between us and the server could else put words into its mouth that we take for said under TLS.
#[tokio::test]
async fn what_is_said_in_the_clear_behind_the_greeting_of_a_server_with_tls_is_not_heard() {
    let (listener, address) = server().await;
    let _line = Line::connect(&Connect::to(format!("tls://{address}"))).unwrap();
    let (mut stream, _) = timeout(DEADLINE, listener.accept()).await.unwrap().unwrap();
    stream.write_all(&[INFO, b"PONG\r\nPONG\r\nMSG a 1 1\r\nA\r\n"].concat()).await.unwrap();
    let mut said = Vec::new();
    // It may also be reset.
    let ended = timeout(DEADLINE, stream.read_to_end(&mut said)).await.unwrap();
    assert!(said.is_empty(), "{ended:?} {said:?}");
}

/// It lets us in and hangs up, again and again.
#[tokio::test]
async fn a_server_that_throws_us_out_at_once_is_not_run_down() {
    let (listener, address) = server().await;
    let _line = Line::connect(&Connect::to(format!("nats://{address}"))).unwrap();
    let mut count = 0;
    let coming = async {
        loop {
            drop(Side::greeted(&listener).await);
            count += 1;
        }
    };
    drop(timeout(Duration::from_secs(1), coming).await);
    assert!((1..=12).contains(&count), "{count} connections within a second");
}

/// The server would go on giving its group's messages to us, who give them to nobody.
#[tokio::test]
async fn a_subscription_that_ends_while_a_connection_is_being_restored_ends_there_too() {
    let (listener, address) = server().await;
    let (line, mut first) = connected(&listener, &address).await;
    let (listening, ()) = tokio::join!(line.subscribe("calls", Some("workers"), Arc::new(Deaf)), async {
        first.until("PING").await;
        first.say(b"PONG\r\n").await;
    });
    drop(first);
    let mut second = Side::greeted(&listener).await;
    let restored = second.until("PING").await;
    assert_eq!(restored, ["SUB calls workers 1\r\n", "PING\r\n"]);
    // Now, as the server has it and has not confirmed it.
    drop(listening.unwrap());
    second.say(b"PONG\r\n").await;
    assert_eq!(second.until("UNSUB").await, ["UNSUB 1\r\n"]);
}

/// Who asks waits as long as it said, also where it is the first to ask.
#[tokio::test]
async fn a_server_that_confirms_nothing_is_not_waited_for_longer_than_was_said() {
    let (listener, address) = server().await;
    let (line, mut side) = connected(&listener, &address).await;
    // The server is alive all the time, so that nobody takes it for away.
    let chatting = tokio::spawn(async move {
        loop {
            side.say(b"PING\r\n").await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let asking = line.request(Writer::new(), "question", b"", Duration::from_millis(200));
    let asked = timeout(DEADLINE, asking).await.expect("it waits no longer");
    assert_eq!(asked, Err(RequestError::NoAnswer));
    chatting.abort();
}

/// Servers hang up on whoever says it, and what names an inbox may have been said by others.
#[tokio::test]
async fn a_subject_that_no_server_takes_is_refused_here() {
    let (listener, address) = server().await;
    let (line, mut side) = connected(&listener, &address).await;
    let long = "x".repeat(5000);
    let refused = line.publish(&mut Writer::new(), &long, None, b"");
    assert!(matches!(refused, Err(PublishError::Subject { bytes: 5000, .. })), "{refused:?}");
    let refused = line.publish(&mut Writer::new(), "short", Some(&long), b"");
    assert!(matches!(refused, Err(PublishError::Subject { bytes: 5005, .. })), "{refused:?}");
    let subscribed = line.subscribe(&long, None, Arc::new(Deaf)).await;
    assert!(matches!(subscribed, Err(SubscribeError::Refused(_))), "{subscribed:?}");
    line.publish(&mut Writer::new(), "short", None, b"").unwrap();
    assert_eq!(side.until("PUB").await, ["PUB short 0\r\n"]);
}
