//! Handlers that call stations, over a bus and a gateway that is played here.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use bytes::Bytes;
use bytestring::ByteString;
use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};
use switchboard_bus::{
    Address, Bus, Commander, ConnectionKey, Consumer, Done, Envelope, InProcess, Kind, Lane, Metadata,
    OutcomeKind, Subscription, Topic, conformance::Whereabouts,
};
use switchboard_messages::{Timestamp, v16};
use switchboard_router::{CommandError, Ended, Options, Outcome, Router, Station};
use switchboard_rpc::{StationId, Version};
use switchboard_worker::{Config, serve};
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(30);

/// Every station but `CP-OFF` is at the gateway `gw`.
fn at_the_gateway(station: &StationId) -> Option<ByteString> {
    (station.as_str() != "CP-OFF").then(|| "gw".into())
}

struct Inbox(mpsc::Sender<Envelope>);

impl Consumer for Inbox {
    fn deliver(&self, envelope: Envelope, done: Done) {
        self.0.try_send(envelope).unwrap();
        drop(done);
    }
}

async fn receive(inbox: &mut mpsc::Receiver<Envelope>) -> Envelope {
    tokio::time::timeout(PATIENCE, inbox.recv()).await.unwrap().unwrap()
}

/// A bus with the inbox of a gateway, and a configuration whose handlers can call stations.
async fn start() -> (Arc<dyn Bus>, mpsc::Receiver<Envelope>, Config, switchboard_bus::Subscribed) {
    let bus: Arc<dyn Bus> = Arc::new(InProcess::new());
    let (sender, inbox) = mpsc::channel(16);
    let subscription = Subscription { topic: Topic::Inbox("gw".into()), in_hand_max: NonZeroU32::MAX };
    let subscribed = bus.subscribe(subscription, Arc::new(Inbox(sender))).await.unwrap();
    let mut config = Config::default();
    config.commander = Some(
        Commander::new(bus.clone(), "commands-of-w1", Arc::new(Whereabouts(at_the_gateway))).await.unwrap(),
    );
    (bus, inbox, config, subscribed)
}

async fn heartbeat_of(station: &str, bus: &Arc<dyn Bus>) {
    let mut metadata = Metadata::new(Kind::Call);
    let station = StationId::new(station, 48).unwrap();
    metadata.station = Some(station.clone());
    metadata.version = Some(Version::V16);
    metadata.action = Some("Heartbeat".into());
    metadata.connection = Some(ConnectionKey { gateway: "gw".into(), generation: 7 });
    metadata.seq = Some(0);
    metadata.reply_to = Some("gw".into());
    let body = Bytes::from_static(br#"[2,"1","Heartbeat",{}]"#);
    let to = Address::Call { tenant: metadata.tenant.clone(), station };
    bus.publish(to, Envelope::new(metadata, body)).await.unwrap();
}

async fn report(command: &Envelope, kind: OutcomeKind, body: &'static str, bus: &Arc<dyn Bus>) {
    let asked = &command.metadata;
    let metadata = Metadata {
        tenant: asked.tenant.clone(),
        station: asked.station.clone(),
        version: Some(Version::V16),
        action: asked.action.clone(),
        command_id: asked.command_id.clone(),
        context: asked.context.clone(),
        outcome: Some(kind),
        ..Metadata::new(Kind::Outcome)
    };
    let envelope = Envelope::new(metadata, Bytes::from_static(body.as_bytes()));
    bus.publish(Address::Inbox(asked.reply_to.clone().unwrap()), envelope).await.unwrap();
}

fn now() -> Timestamp {
    Timestamp::from_unix_millis(1_700_000_000_000)
}

type Got = Arc<Mutex<Vec<Result<v16::RemoteStartStopStatus, CommandError>>>>;

/// Starts a session at the station that sent a heartbeat, and answers the heartbeat afterwards.
fn asking(got: &Got) -> Router {
    let got = got.clone();
    Router::new().on(move |station: Station, _: v16::HeartbeatRequest| {
        let got = got.clone();
        async move {
            let answer = station.call(v16::RemoteStartTransactionRequest::new("A1")).await;
            got.lock().unwrap().push(answer.map(|response| response.status));
            v16::HeartbeatResponse { current_time: now() }
        }
    })
}

#[tokio::test]
async fn a_handler_calls_a_station_and_reads_its_response() {
    let (bus, mut inbox, config, _subscribed) = start().await;
    let got = Got::default();
    let _worker = serve(asking(&got), bus.clone(), config).await.unwrap();
    let refused = CommandError::Refused {
        code: "InternalError".into(),
        description: "no".into(),
        details: "{}".into(),
    };
    for (kind, body, expected) in [
        (OutcomeKind::Answered, r#"[3,"x",{"status":"Accepted"}]"#, Ok(v16::RemoteStartStopStatus::Accepted)),
        (OutcomeKind::Refused, r#"[4,"x","InternalError","no",{}]"#, Err(refused)),
        (OutcomeKind::Busy, "", Err(CommandError::Busy)),
        (OutcomeKind::Unknown, "", Err(CommandError::Unknown)),
    ] {
        heartbeat_of("CP1", &bus).await;
        let command = receive(&mut inbox).await;
        assert_eq!(command.metadata.kind, Kind::Command);
        assert_eq!(command.metadata.action.as_deref(), Some("RemoteStartTransaction"));
        assert!(command.body.ends_with(br#","RemoteStartTransaction",{"idTag":"A1"}]"#), "{command:?}");
        report(&command, kind, body, &bus).await;
        assert_eq!(receive(&mut inbox).await.metadata.kind, Kind::Answer);
        assert_eq!(got.lock().unwrap().pop(), Some(expected));
    }
}

#[tokio::test]
async fn a_station_that_is_offline_is_told_at_once() {
    let (bus, mut inbox, config, _subscribed) = start().await;
    let got = Got::default();
    let _worker = serve(asking(&got), bus.clone(), config).await.unwrap();
    heartbeat_of("CP-OFF", &bus).await;
    assert_eq!(receive(&mut inbox).await.metadata.kind, Kind::Answer);
    assert_eq!(got.lock().unwrap().pop(), Some(Err(CommandError::Offline)));
}

#[tokio::test]
async fn a_handler_sends_without_waiting_and_another_one_gets_the_outcome() {
    let (bus, mut inbox, config, _subscribed) = start().await;
    let (sender, mut outcomes) = mpsc::channel(4);
    let router = Router::new()
        .on(async |station: Station, _: v16::HeartbeatRequest| {
            let options = Options { urgent: true, ..Options::default() };
            station.send(v16::RemoteStopTransactionRequest::new(7), options, "session 7").await.unwrap();
            v16::HeartbeatResponse { current_time: now() }
        })
        .on_outcome(move |station: Station, ended: Ended| {
            let sender = sender.clone();
            async move { sender.send((station.id, ended)).await.unwrap() }
        });
    let worker = serve(router, bus.clone(), config).await.unwrap();
    heartbeat_of("CP1", &bus).await;
    let (mut command, mut answer) = (receive(&mut inbox).await, receive(&mut inbox).await);
    if command.metadata.kind == Kind::Answer {
        std::mem::swap(&mut command, &mut answer);
    }
    assert_eq!((command.metadata.kind, answer.metadata.kind), (Kind::Command, Kind::Answer));
    assert_eq!(command.metadata.lane, Lane::Urgent);
    report(&command, OutcomeKind::Answered, r#"[3,"x",{"status":"Rejected"}]"#, &bus).await;
    let (station, ended) = tokio::time::timeout(PATIENCE, outcomes.recv()).await.unwrap().unwrap();
    assert_eq!(station.as_str(), "CP1");
    assert_eq!(Some(ended.command_id), command.metadata.command_id);
    assert_eq!((&*ended.action, &*ended.context), ("RemoteStopTransaction", "session 7"));
    assert_eq!(ended.outcome, Outcome::Answered(r#"{"status":"Rejected"}"#.into()));
    assert_eq!(worker.metrics().outcomes.get(), 1);
}
