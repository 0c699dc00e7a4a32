//! The station and its socket against a scripted central system: credentials, reconnection, nothing lost.
#![expect(clippy::unwrap_used, reason = "what a test needs and does not get fails it")]

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use switchboard_rpc::Version;
use switchboard_station::{Config, Simulated, client::BackOff};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
        http::{HeaderMap, StatusCode, header},
    },
};
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(60);

/// What the script has seen, over all connections.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<(String, String, Value)>>>);

impl Seen {
    fn all(&self) -> Vec<(String, String, Value)> {
        self.0.lock().unwrap().clone()
    }

    fn count(&self, action: &str) -> usize {
        self.all().iter().filter(|(_, one, _)| one == action).count()
    }
}

async fn accept(listener: &TcpListener) -> (WebSocketStream<TcpStream>, HeaderMap, String) {
    let (stream, _) = listener.accept().await.unwrap();
    let mut seen = (HeaderMap::new(), String::new());
    #[expect(clippy::result_large_err, reason = "the library's own signature")]
    let callback = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        seen = (request.headers().clone(), request.uri().path().to_owned());
        let chosen = request.headers()[header::SEC_WEBSOCKET_PROTOCOL].clone();
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, chosen);
        Ok(response)
    };
    let socket = accept_hdr_async(stream, callback).await.unwrap();
    (socket, seen.0, seen.1)
}

/// Answers calls on one connection until it has answered `calls` of them, then drops it without a word; the last one
/// is taken and not answered.
async fn serve(socket: &mut WebSocketStream<TcpStream>, seen: &Seen, calls: usize) {
    let mut taken = 0;
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        let frame: Value = serde_json::from_str(&text).unwrap();
        if frame[0] != 2 {
            continue;
        }
        let (id, action) = (frame[1].as_str().unwrap().to_owned(), frame[2].as_str().unwrap().to_owned());
        seen.0.lock().unwrap().push((id.clone(), action.clone(), frame[3].clone()));
        taken += 1;
        if taken == calls {
            return;
        }
        let answer = match action.as_str() {
            "BootNotification" => {
                json!({ "status": "Accepted", "interval": 300, "currentTime": "2026-01-01T00:00:00Z" })
            }
            "StartTransaction" => {
                // By its natural key, as a central system must: a repeat gets the number of the first.
                let payload = &frame[3];
                let key =
                    format!("{} {} {}", payload["connectorId"], payload["timestamp"], payload["meterStart"]);
                json!({ "transactionId": number(&key), "idTagInfo": { "status": "Accepted" } })
            }
            "Authorize" => json!({ "idTagInfo": { "status": "Accepted" } }),
            _ => json!({}),
        };
        if socket.send(Message::text(json!([3, id, answer]).to_string())).await.is_err() {
            return;
        }
    }
}

fn number(key: &str) -> u32 {
    key.bytes().fold(7_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(byte))) >> 1 | 1
}

fn config(listener: &TcpListener) -> Config {
    let mut config = Config::new(format!("ws://{}/ocpp", listener.local_addr().unwrap()), "CP 1|x");
    config.speed = 6000.0;
    let wait = Duration::from_millis(5);
    config.back_off = BackOff { wait_minimum: wait, random_range: wait, repeat_times: 2 };
    config
}

#[tokio::test]
async fn identity_subprotocol_and_password_are_as_the_specification_writes_them() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = config(&listener);
    config.version = Version::V201;
    config.password = Some(b"a:b\xff".to_vec());
    let stop = CancellationToken::new();
    let station = tokio::spawn(Simulated::new(config).run(stop.clone()));
    let (mut socket, headers, path) = tokio::time::timeout(LIMIT, accept(&listener)).await.unwrap();
    assert_eq!(path, "/ocpp/CP%201%7Cx");
    assert_eq!(headers[header::SEC_WEBSOCKET_PROTOCOL], "ocpp2.0.1");
    // "CP 1|x:a:b" and a byte that is no UTF-8, in base64.
    assert_eq!(headers[header::AUTHORIZATION], "Basic Q1AgMXx4OmE6Yv8=");
    stop.cancel();
    let served = async {
        serve(&mut socket, &Seen::default(), usize::MAX).await;
        drop(socket);
    };
    tokio::join!(served, async { tokio::time::timeout(LIMIT, station).await.unwrap().unwrap() });
}

#[tokio::test]
async fn a_line_that_breaks_again_and_again_loses_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = config(&listener);
    let stop = CancellationToken::new();
    let simulated = Simulated::new(config);
    let books = simulated.books();
    let station = tokio::spawn(simulated.run(stop.clone()));
    let seen = Seen::default();
    let script = async {
        // Breaks after 3, 4, 5 … calls, the last of them unanswered.
        for calls in 3..14 {
            let (mut socket, ..) = accept(&listener).await;
            serve(&mut socket, &seen, calls).await;
        }
        let (mut socket, ..) = accept(&listener).await;
        let before = seen.all().len();
        // Switched off once it is there, so that it can say the rest.
        let switch_off = async {
            while seen.all().len() == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            stop.cancel();
        };
        tokio::join!(serve(&mut socket, &seen, usize::MAX), switch_off);
    };
    tokio::time::timeout(LIMIT, async { tokio::join!(script, station) }).await.unwrap().1.unwrap();

    let books = books.snapshot();
    assert!(books.connections == 12 && books.boots >= 1, "{books:?}");
    assert!(books.all_settled() && books.given_up == 0, "{books:?}");
    assert!(books.transactions.len() >= 2, "{books:?}");
    // What arrived, by transaction and without repeats, is what the books say.
    let mut energy: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let mut ids = std::collections::HashSet::new();
    for (id, action, payload) in seen.all() {
        assert!(ids.insert(id), "an id was used twice");
        match action.as_str() {
            "StartTransaction" => {
                let key =
                    format!("{} {} {}", payload["connectorId"], payload["timestamp"], payload["meterStart"]);
                let start = payload["meterStart"].as_u64().unwrap();
                energy.entry(number(&key).into()).or_insert((start, start));
            }
            "StopTransaction" => {
                let entry = energy.get_mut(&payload["transactionId"].as_u64().unwrap()).unwrap();
                entry.1 = payload["meterStop"].as_u64().unwrap();
            }
            _ => {}
        }
    }
    let total: u64 = energy.values().map(|(start, stop)| stop - start).sum();
    assert_eq!(total, books.energy_wh());
    assert!(seen.count("BootNotification") < 12, "a reconnection is no boot (L07)");
}

#[tokio::test]
async fn a_refused_station_tries_again_with_growing_waits() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stop = CancellationToken::new();
    let station = tokio::spawn(Simulated::new(config(&listener)).run(stop.clone()));
    for _ in 0..3 {
        let (stream, _) = tokio::time::timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
        #[expect(clippy::result_large_err, reason = "the library's own signature")]
        let refuse = |_: &Request, _: Response| -> Result<Response, ErrorResponse> {
            let mut refusal = ErrorResponse::new(None);
            *refusal.status_mut() = StatusCode::UNAUTHORIZED;
            Err(refusal)
        };
        assert!(accept_hdr_async(stream, refuse).await.is_err());
    }
    stop.cancel();
    tokio::time::timeout(LIMIT, station).await.unwrap().unwrap();
}
