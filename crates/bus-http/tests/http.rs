//! A gateway's bus and a function, as two processes have them.
#![expect(clippy::unwrap_used, reason = "helpers of tests, which fail by panicking")]

use anyhow::{Result, ensure};
use bytes::Bytes;
use bytestring::ByteString;
use futures_util::future::BoxFuture;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use switchboard_bus::command::{Commander, Keeping, LocateError, Locator, Options, Stored};
use switchboard_bus::conformance::Recorder;
use switchboard_bus::{
    Address, Bus, Connect, ConnectionKey, Consumer, Done, Envelope, Kind, Metadata, Outcome, OutcomeKind,
    PublishError, Registration, State, SubscribeError, Subscription, Topic,
};
use switchboard_bus_http::{Door, Function, Http};
use switchboard_messages::v16;
use switchboard_router::{Router, Station};
use switchboard_rpc::{StationId, Version};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(30);

fn call(seq: u64) -> Envelope {
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

fn station() -> StationId {
    StationId::new("CP 1|\u{e9}", 48).unwrap()
}

fn to_call() -> Address {
    Address::Call { tenant: "default".into(), station: station() }
}

fn gateway(url: impl Into<String>) -> Arc<dyn Bus> {
    Arc::new(Http::connect(Connect::to(url)).unwrap())
}

fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn function(parameters: &str) -> Function {
    Function::listen(&Connect::to(format!("http://{}/ocpp{parameters}", free()))).unwrap()
}

async fn heartbeat(
    _station: Station,
    _: v16::HeartbeatRequest,
) -> Result<v16::HeartbeatResponse, switchboard_router::CallError> {
    Ok(v16::HeartbeatResponse::new("2026-11-23T00:00:00Z".parse().unwrap()))
}

/// A server that does one thing to each request and counts them.
async fn server(answer: &'static str) -> Result<(SocketAddr, Arc<std::sync::atomic::AtomicU32>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let count = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            // What was not read when it is closed would take the answer along. All bodies here end so.
            while !request.ends_with(b"]") && stream.read_buf(&mut request).await.is_ok_and(|count| count > 0)
            {
            }
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            drop(stream.write_all(answer.as_bytes()).await);
        }
    });
    Ok((address, count))
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap()
}

#[tokio::test]
async fn a_router_is_an_http_function() -> Result<()> {
    let function: Arc<Function> = Arc::new(function(""));
    let url = format!("http://{}/ocpp?health=/ocpp", function.address());
    let bus = gateway(url);
    let (answers, presence) = (Recorder::new(), Recorder::new());
    let _inbox = answers.listen(&bus, Topic::Inbox("gateway".into()), u32::MAX).await;
    let _presence = presence.listen(&bus, Topic::Presence, u32::MAX).await;
    // Nobody is there yet who would take it.
    let nobody = bus.publish(to_call(), call(1)).await;
    assert!(matches!(nobody, Err(PublishError::NobodyListens)), "{nobody:?}");
    let router = Router::new().on(heartbeat);
    let config = switchboard_worker::Config::default();
    let served: Arc<dyn Bus> = Arc::<Function>::clone(&function);
    let worker = switchboard_worker::serve(router, served, config).await?;
    in_time(bus.publish(to_call(), call(1))).await?;
    let answer = &answers.wait_for(1).await[0];
    assert_eq!(answer.body, r#"[3,"1",{"currentTime":"2026-11-23T00:00:00Z"}]"#);
    let got = &answer.metadata;
    assert_eq!((got.kind, got.seq, &got.station), (Kind::Answer, Some(1), &Some(station())));
    assert_eq!(got.connection, call(1).metadata.connection);
    assert_eq!(got.worker.as_ref(), Some(worker.id()));
    assert_eq!(presence.wait_for(1).await[0].metadata.worker.as_deref(), Some("function"));
    worker.stop().await;
    let nobody = bus.publish(to_call(), call(2)).await;
    assert!(matches!(nobody, Err(PublishError::NobodyListens)), "{nobody:?}");
    Ok(())
}

#[tokio::test]
async fn full_hands_are_told_and_a_silent_worker_is_given_up() -> Result<()> {
    let function = Arc::new(function(""));
    let address = function.address();
    let function: Arc<dyn Bus> = function;
    let bus = gateway(format!("http://{address}/ocpp?idempotent=true"));
    let taken = Recorder::holding();
    let _calls = taken.listen(&function, Topic::Calls, 1).await;
    let mut short = call(1);
    short.metadata.remaining = Some(Duration::from_millis(300));
    let (silent, busy) = tokio::join!(bus.publish(to_call(), short), async {
        taken.wait_for(1).await;
        bus.publish(to_call(), call(2)).await
    });
    assert!(matches!(busy, Err(PublishError::Busy)), "{busy:?}");
    assert!(matches!(silent, Err(PublishError::Refused(_))), "{silent:?}");
    Ok(())
}

/// Without `idempotent`, what was sent is in somebody's hands until the deadline.
#[tokio::test]
async fn a_call_that_may_have_been_processed_is_posted_again_only_if_that_is_harmless() -> Result<()> {
    // It closes the connection without a word.
    let (address, count) = server("").await?;
    let careful = gateway(format!("http://{address}/"));
    let outcome = tokio::time::timeout(Duration::from_millis(500), careful.publish(to_call(), call(1))).await;
    assert!(outcome.is_err(), "still nobody knows");
    assert_eq!(count.load(std::sync::atomic::Ordering::Relaxed), 1);
    let bold = gateway(format!("http://{address}/?idempotent=true"));
    let outcome = in_time(bold.publish(to_call(), call(1))).await;
    assert!(matches!(outcome, Err(PublishError::Refused(_))), "{outcome:?}");
    Ok(())
}

#[tokio::test]
async fn each_status_means_what_it_says() -> Result<()> {
    let cases = [
        ("502 Bad Gateway", "", "nobody"),
        ("503 Service Unavailable", "", "nobody"),
        ("429 Too Many Requests", "", "busy"),
        ("500 Internal Server Error", "", r#"[4,"1","InternalError","the function failed",{}]"#),
        ("404 Not Found", "", r#"[4,"1","InternalError","the function failed",{}]"#),
        ("200 OK", r#"[3,"1",{"a":1}]"#, r#"[3,"1",{"a":1}]"#),
        ("201 Created", r#"[4,"1","NotSupported","",{}]"#, r#"[4,"1","NotSupported","",{}]"#),
    ];
    for (status, body, meaning) in cases {
        let response = format!(
            "HTTP/1.1 {status}\r\nocpp-registration: pending\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let (address, _) = server(response.leak()).await?;
        let bus = gateway(format!("http://{address}/"));
        let answers = Recorder::new();
        let _inbox = answers.listen(&bus, Topic::Inbox("gateway".into()), 8).await;
        let outcome = in_time(bus.publish(to_call(), call(1))).await;
        match meaning {
            "nobody" => assert!(matches!(outcome, Err(PublishError::NobodyListens)), "{status}: {outcome:?}"),
            "busy" => assert!(matches!(outcome, Err(PublishError::Busy)), "{status}: {outcome:?}"),
            frame => {
                assert!(outcome.is_ok(), "{status}: {outcome:?}");
                let answer = &answers.wait_for(1).await[0];
                assert_eq!(answer.body, frame, "{status}");
                assert_eq!(answer.metadata.registration, Some(Registration::Pending));
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn nobody_at_the_port_is_told_and_a_second_function_is_tried() -> Result<()> {
    let nobody = gateway(format!("http://{}/", free()));
    let outcome = in_time(nobody.publish(to_call(), call(1))).await;
    assert!(matches!(outcome, Err(PublishError::NobodyListens)), "{outcome:?}");
    let (address, _) =
        server("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 10\r\n\r\n[3,\"1\",{}]").await?;
    let both = gateway(format!("http://{},http://{address}/", free()));
    for seq in 0..4 {
        in_time(both.publish(to_call(), call(seq))).await?;
    }
    Ok(())
}

/// A gateway that knows one station, at itself.
#[derive(Debug)]
struct Here(ByteString);

impl Locator for Here {
    fn locate<'a>(
        &'a self,
        _: &'a ByteString,
        station: &'a StationId,
    ) -> BoxFuture<'a, Result<Option<ByteString>, LocateError>> {
        let gateway = (*station == self::station()).then(|| self.0.clone());
        Box::pin(std::future::ready(Ok(gateway)))
    }

    fn keep(&self, _: Stored) -> BoxFuture<'_, Result<Keeping, LocateError>> {
        Box::pin(std::future::ready(Ok(Keeping::Fresh)))
    }

    fn kept<'a>(
        &'a self,
        _: &'a ByteString,
        _: &'a StationId,
        _: &'a ByteString,
    ) -> BoxFuture<'a, Result<Option<Keeping>, LocateError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn withdraw<'a>(
        &'a self,
        _: &'a ByteString,
        _: &'a StationId,
        _: &'a ByteString,
        _: OutcomeKind,
    ) -> BoxFuture<'a, Result<bool, LocateError>> {
        Box::pin(std::future::ready(Ok(false)))
    }
}

/// The inbox of a gateway whose stations accept everything.
struct Obedient(Arc<dyn Bus>);

impl Consumer for Obedient {
    fn deliver(&self, envelope: Envelope, done: Done) {
        let bus = Arc::clone(&self.0);
        tokio::spawn(async move {
            let command = *envelope.metadata;
            let to = Address::Inbox(command.reply_to.clone().unwrap());
            let metadata = Metadata {
                kind: Kind::Outcome,
                outcome: Some(OutcomeKind::Answered),
                reply_to: None,
                ..command
            };
            let frame = Bytes::from_static(br#"[3,"x",{"status":"Accepted"}]"#);
            bus.publish(to, Envelope::new(metadata, frame)).await.unwrap();
            drop(done);
        });
    }
}

/// A process with a gateway, its door open. Peers are known to each other by where their doors are.
async fn process(name: &str, door: TcpListener, parameters: &str, holder: &str) -> Arc<dyn Bus> {
    let url = format!("http://key@127.0.0.1:9/{parameters}");
    let bus = Arc::new(Http::connect(Connect::to(url)).unwrap());
    let shared: Arc<dyn Bus> = Arc::<Http>::clone(&bus);
    let locator = Arc::new(Here(holder.into()));
    let commander = Commander::new(Arc::clone(&shared), format!("{name}-commands"), locator).await.unwrap();
    tokio::spawn(Door::new(&bus, commander).serve(door, CancellationToken::new()));
    shared
}

async fn post(to: SocketAddr, path: &str, headers: &str, body: &str) -> Result<String> {
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

#[tokio::test]
async fn commands_are_posted_to_any_gateway_and_the_caller_waits_for_the_outcome() -> Result<()> {
    let (first_door, second_door) =
        (TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?);
    let (first_at, second_at) = (first_door.local_addr()?, second_door.local_addr()?);
    // The station is at the second one.
    let peers = format!("?peer=second@http://{second_at}");
    let _first = process("first", first_door, &peers, "second").await;
    let peers = format!("?peer=first@http://{first_at}");
    let second = process("second", second_door, &peers, "second").await;
    let subscription = Subscription { topic: Topic::Inbox("second".into()), in_hand_max: NonZeroU32::MAX };
    let _inbox = second.subscribe(subscription, Arc::new(Obedient(Arc::clone(&second)))).await?;

    let frame = r#"[2,"77","ClearCache",{}]"#;
    let authorized = "authorization: Bearer key\r\n";
    let here = format!("{authorized}ocpp-station: CP%201|%C3%A9\r\n");
    for door in [first_at, second_at] {
        let response = post(door, "/gateway/v1/commands", &here, frame).await?;
        ensure!(response.starts_with("HTTP/1.1 200"), "{response}");
        ensure!(response.contains("ocpp-outcome: answered\r\n"), "{response}");
        ensure!(response.ends_with(r#"[3,"77",{"status":"Accepted"}]"#), "{response}");
    }
    let elsewhere = format!("{authorized}ocpp-station: CP2\r\n");
    let response = post(first_at, "/gateway/v1/commands", &elsewhere, frame).await?;
    ensure!(response.contains("ocpp-outcome: offline\r\n"), "{response}");
    for (headers, body, status) in
        [("ocpp-station: CP2\r\n", frame, "401"), (&*elsewhere, "{}", "400"), (authorized, frame, "400")]
    {
        let response = post(first_at, "/gateway/v1/commands", headers, body).await?;
        ensure!(response.starts_with(&format!("HTTP/1.1 {status}")), "{response}");
    }
    let response = post(first_at, "/gateway/v1/inbox/nobody", &here, frame).await?;
    ensure!(response.starts_with("HTTP/1.1 400"), "it is no envelope: {response}");

    // A worker, too, and what it waits for comes to its own inbox.
    let url = format!("?gateway=http://{first_at}");
    let worker = Function::listen(&Connect::to(format!("http://key@{}/{url}", free())))?;
    let worker: Arc<dyn Bus> = Arc::new(worker);
    let commander = Commander::new(worker, "worker-commands", Arc::new(Here("second".into()))).await?;
    let tenant = ByteString::from_static("default");
    let outcome =
        in_time(commander.command(&tenant, &station(), "ClearCache", Bytes::new(), Options::default()))
            .await?;
    assert_eq!(outcome, Outcome::Answered(r#"{"status":"Accepted"}"#.into()));
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_had_over_http_is_said() -> Result<()> {
    let bus = gateway(format!("http://{}/", free()));
    let recorder = Recorder::new();
    let subscription = Subscription { topic: Topic::Calls, in_hand_max: NonZeroU32::MIN };
    let refused = bus.subscribe(subscription, recorder).await;
    assert!(matches!(refused, Err(SubscribeError::Refused(_))));
    assert_eq!(*bus.state().borrow(), State::Connected);
    let mut large = call(1);
    large.body = Bytes::from(vec![b' '; bus.capabilities().body_bytes_max + 1]);
    let refused = bus.publish(to_call(), large).await;
    assert!(matches!(refused, Err(PublishError::TooLarge { .. })));
    bus.close().await;
    let closed = bus.publish(to_call(), call(1)).await;
    assert!(matches!(closed, Err(PublishError::Closed)), "{closed:?}");
    Ok(())
}
