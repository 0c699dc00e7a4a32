//! What arrives, and how.

use super::{DEADLINE, Harness, Recorder, call, publish, station, to_call, to_inbox};
use crate::{
    Bus, ConnectionKey, Consumer, Done, Envelope, Kind, Lane, Metadata, OutcomeKind, PublishError,
    Registration, Subscribed, Subscription, Topic,
};
use bytes::Bytes;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use switchboard_rpc::Version;

/// From one participant to another, once.
pub async fn what_is_published_to_an_inbox_arrives_there(harness: &dyn Harness) {
    let (sender, receiver) = (harness.connect().await, harness.connect().await);
    let (mine, other) = (Recorder::new(), Recorder::new());
    let _mine = mine.listen(&receiver, Topic::Inbox("arrives-1".into()), 8).await;
    let _other = other.listen(&receiver, Topic::Inbox("arrives-2".into()), 8).await;
    publish(&sender, to_inbox("arrives-1"), call("CP001", 1)).await;
    publish(&sender, to_inbox("arrives-2"), call("CP001", 2)).await;
    assert_eq!(mine.wait_for(1).await[0], call("CP001", 1));
    assert_eq!(other.wait_for(1).await[0], call("CP001", 2));
}

/// Metadata and body are equal, whatever they hold.
pub async fn every_header_arrives_as_it_was(harness: &dyn Harness) {
    let (sender, receiver) = (harness.connect().await, harness.connect().await);
    let recorder = Recorder::new();
    let _subscribed = recorder.listen(&receiver, Topic::Inbox("headers".into()), 64).await;
    let all = every_header();
    for envelope in &all {
        publish(&sender, to_inbox("headers"), envelope.clone()).await;
        let got = recorder.wait_for(1).await;
        assert!(got.contains(envelope), "published: {envelope:#?}\ngot: {got:#?}");
        recorder.forget();
    }
}

/// A large body arrives, byte by byte.
pub async fn a_megabyte_arrives_as_it_was(harness: &dyn Harness) {
    let (sender, receiver) = (harness.connect().await, harness.connect().await);
    let recorder = Recorder::new();
    let _subscribed = recorder.listen(&receiver, Topic::Inbox("megabyte".into()), 8).await;
    let size = sender.capabilities().body_bytes_max.min(1024 * 1024);
    let mut envelope = call("CP001", 1);
    envelope.body = (0..size).map(|place| u8::try_from(place % 251).unwrap()).collect();
    publish(&sender, to_inbox("megabyte"), envelope.clone()).await;
    let got = recorder.wait_for(1).await;
    assert!(got[0].body == envelope.body, "{} bytes came, and {size} were sent", got[0].body.len());
}

/// The limit is told before anything is sent.
pub async fn a_body_larger_than_the_limit_is_refused(harness: &dyn Harness) {
    let (sender, receiver) = (harness.connect().await, harness.connect().await);
    let recorder = Recorder::new();
    let _subscribed = recorder.listen(&receiver, Topic::Inbox("too-large".into()), 8).await;
    let limit = sender.capabilities().body_bytes_max;
    let mut envelope = call("CP001", 1);
    envelope.body = Bytes::from(vec![b' '; limit + 1]);
    let outcome = sender.publish(to_inbox("too-large"), envelope).await;
    let is_limit = |error: &PublishError| matches!(error, PublishError::TooLarge { bytes, limit: told } if *bytes == limit + 1 && *told == limit);
    assert!(outcome.as_ref().is_err_and(is_limit), "{outcome:?}");
    assert!(!PublishError::TooLarge { bytes: 2, limit: 1 }.is_retryable());
    assert_eq!(recorder.count(), 0);
}

/// Where the bus says that it keeps order; else everything arrives in some order.
pub async fn order_is_kept_to_one_inbox(harness: &dyn Harness) {
    let (sender, receiver) = (harness.connect().await, harness.connect().await);
    let recorder = Recorder::new();
    let _subscribed = recorder.listen(&receiver, Topic::Inbox("order".into()), 1024).await;
    for seq in 0..200 {
        publish(&sender, to_inbox("order"), call("CP001", seq)).await;
    }
    let got = recorder.wait_for(200).await;
    let mut seqs: Vec<u64> = got.iter().filter_map(|envelope| envelope.metadata.seq).collect();
    if !sender.capabilities().keeps_order {
        seqs.sort_unstable();
    }
    assert!(seqs.iter().copied().eq(0..200), "{seqs:?}");
}

/// A worker answers while it is given the call, and makes a subscription of its own.
pub async fn a_consumer_may_publish_and_subscribe_while_it_is_given_something(harness: &dyn Harness) {
    let (gateway, worker) = (harness.connect().await, harness.connect().await);
    let answers = Recorder::new();
    let _answers = answers.listen(&gateway, Topic::Inbox("reentrant".into()), 8).await;
    let subscribed = Arc::default();
    let consumer = Arc::new(Answering { bus: Arc::clone(&worker), subscribed: Arc::clone(&subscribed) });
    let in_hand_max = NonZeroU32::new(8).unwrap();
    let _calls = worker.subscribe(Subscription { topic: Topic::Calls, in_hand_max }, consumer).await.unwrap();
    let mut envelope = call("CP001", 1);
    envelope.metadata.reply_to = Some("reentrant".into());
    publish(&gateway, to_call("CP001"), envelope).await;
    let got = answers.wait_for(1).await;
    assert_eq!((got[0].metadata.kind, got[0].metadata.seq), (Kind::Answer, Some(1)));
    let wait = async {
        while subscribed.lock().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.expect("the subscription is made");
}

#[derive(Debug)]
struct Answering {
    bus: Arc<dyn Bus>,
    subscribed: Arc<Mutex<Option<Subscribed>>>,
}

impl Consumer for Answering {
    fn deliver(&self, envelope: Envelope, done: Done) {
        let (bus, subscribed) = (Arc::clone(&self.bus), Arc::clone(&self.subscribed));
        let to = to_inbox(envelope.metadata.reply_to.as_deref().unwrap_or_default());
        let mut answer = envelope;
        answer.metadata.kind = Kind::Answer;
        let publishing = async move {
            publish(&bus, to, answer).await;
            let mine = Recorder::new().listen(&bus, Topic::Inbox("reentrant-2".into()), 1).await;
            *subscribed.lock().unwrap() = Some(mine);
            drop(done);
        };
        // At once if it can be done at once, which is what must not deadlock; else as a task.
        let mut publishing: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(publishing);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        if publishing.as_mut().poll(&mut context).is_pending() {
            drop(tokio::spawn(publishing));
        }
    }
}

/// Envelopes of every kind that together set every header to every form of value.
fn every_header() -> Vec<Envelope> {
    let full = || {
        let mut metadata = Metadata::new(Kind::Call);
        metadata.tenant = "tenant 1/\u{e9}%2F".into();
        metadata.station = Some(station("RDAM|123 \u{1f50c}.*>#+%"));
        metadata.version = Some(Version::V201);
        metadata.action = Some("TransactionEvent".into());
        metadata.connection =
            Some(ConnectionKey { gateway: "gateway-1".into(), generation: 1_795_341_600_000 });
        metadata.seq = Some(u64::MAX);
        metadata.received_at_ms = Some(1_795_341_600_007);
        metadata.remaining = Some(Duration::from_millis(24_999));
        metadata.reply_to = Some("gateway-1".into());
        metadata.attempt = u32::MAX;
        metadata.command_id = Some("5b3c1a52-59cf-4a4f-93f4-9b5ddc1c8d5e".into());
        metadata.context = Some("{\"job\": 7}\r\n\\ \u{4e16} : , = ; \"quoted\"".into());
        metadata.registration = Some(Registration::Accepted);
        metadata.outcome = Some(OutcomeKind::Answered);
        metadata.lane = Lane::Urgent;
        metadata.outbox = true;
        metadata.journal = Some(9);
        metadata.epoch = Some(3);
        metadata.worker = Some("worker-1".into());
        metadata.traceparent = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into());
        metadata.tracestate = Some("congo=t61rcWkgMzE,rojo=00f067aa0ba902b7".into());
        metadata
    };
    let kinds = [
        Kind::Call,
        Kind::Send,
        Kind::Answer,
        Kind::ResultError,
        Kind::Command,
        Kind::Outcome,
        Kind::Event,
        Kind::Presence,
        Kind::Returned,
    ];
    let mut all = Vec::new();
    for kind in kinds {
        let mut sparse = Metadata::new(kind);
        sparse.station = (kind != Kind::Presence).then(|| station("CP001"));
        let mut rich = full();
        rich.kind = kind;
        all.extend([sparse, rich]);
    }
    for version in Version::ALL {
        let mut metadata = full();
        metadata.version = Some(version);
        all.push(metadata);
    }
    for registration in [Registration::Pending, Registration::Rejected] {
        let mut metadata = full();
        metadata.registration = Some(registration);
        all.push(metadata);
    }
    for outcome in OutcomeKind::ALL {
        let mut metadata = full();
        metadata.outcome = Some(outcome);
        all.push(metadata);
    }
    let body = Bytes::from_static(b"[2,\"1\",\"A\",{\"a\":1.10}]");
    all.into_iter().map(|metadata| Envelope::new(metadata, body.clone())).collect()
}
