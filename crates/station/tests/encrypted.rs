//! The line to a central system behind TLS, with an authority made for the test.
#![expect(clippy::unwrap_used, reason = "what a test needs and does not get fails it")]

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::time::Duration;
use switchboard_router::Router;
use switchboard_rpc::Version;
use switchboard_station::client::{Config, Event, MemoryQueue, Station, Tls, TlsError};
use switchboard_testkit::TlsFront;
use tokio::net::TcpListener;
use tokio_tungstenite::{
    accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
        http::header,
    },
};

const LIMIT: Duration = Duration::from_secs(30);

/// A central system behind TLS that accepts boots.
async fn central_system() -> TlsFront {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let front = TlsFront::to(listener.local_addr().unwrap()).await.unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            #[expect(clippy::result_large_err, reason = "the library's own signature")]
            let chosen = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
                let protocol = request.headers()[header::SEC_WEBSOCKET_PROTOCOL].clone();
                response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
                Ok(response)
            };
            let mut socket = accept_hdr_async(stream, chosen).await.unwrap();
            while let Some(Ok(message)) = socket.next().await {
                let Message::Text(text) = message else { continue };
                let frame: Value = serde_json::from_str(&text).unwrap();
                let answer =
                    json!({ "status": "Accepted", "interval": 300, "currentTime": "2026-01-01T00:00:00Z" });
                if socket.send(Message::text(json!([3, frame[1], answer]).to_string())).await.is_err() {
                    break;
                }
            }
        }
    });
    front
}

fn station(host: &str, port: u16, tls: Option<Tls>) -> Station {
    let mut config = Config::raw(format!("wss://{host}:{port}/ocpp"), "CP1", Version::V16, "{}");
    config.tls = tls;
    Station::connect(config, MemoryQueue, |_| Router::new()).unwrap()
}

/// Why the first connection could not be made.
async fn failure(station: &Station) -> String {
    let mut events = station.events();
    loop {
        if let Some(Event::NotConnected { error, .. }) = events.next().await {
            return error;
        }
    }
}

#[tokio::test]
async fn a_station_believes_its_authority_and_nobody_else() {
    tokio::time::timeout(LIMIT, async {
        let front = central_system().await;
        let (port, tls) = (front.port(), Tls::trusting(front.authority().as_bytes()).unwrap());
        let one = station("localhost", port, Some(tls.clone()));
        assert!(one.accepted().await, "it boots through TLS");
        one.close().await;

        let other = central_system().await;
        for (host, port, tls, says) in [
            ("localhost", other.port(), Some(tls.clone()), "invalid peer certificate"),
            ("127.0.0.1", port, Some(tls), "not valid for name"),
            ("localhost", port, None, "needs TLS"),
        ] {
            let one = station(host, port, tls);
            let error = failure(&one).await;
            assert!(error.contains(says), "{host}: {error}");
            one.close().await;
        }
    })
    .await
    .unwrap();
}

#[test]
fn certificates_that_are_none_are_said_to_be() {
    for pem in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert!(matches!(Tls::trusting(pem.as_bytes()), Err(TlsError::Certificates(_))), "{pem:?}");
    }
}
