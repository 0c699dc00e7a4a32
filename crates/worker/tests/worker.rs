//! A worker on the in-process bus.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use bytes::Bytes;
use bytestring::ByteString;
use futures_util::future::BoxFuture;
use std::{
    num::NonZeroU32,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use switchboard_bus::{
    Address, Bus, Capabilities, ConnectionKey, Consumer, Done, Envelope, InProcess, Kind, Metadata,
    OutcomeKind, PublishError, Registration, State, SubscribeError, Subscribed, Subscription, Topic,
    presence::{self, CallKey},
};
use switchboard_messages::{Mode, Timestamp, v16};
use switchboard_router::{Ended, Outcome, Raw, Router, Unhandled};
use switchboard_rpc::{StationId, Version};
use switchboard_worker::{Config, ServeError, Worker, serve};
use tokio::sync::{Notify, Semaphore, mpsc, watch};

/// Far longer than anything takes, even on a machine that does something else.
const PATIENCE: Duration = Duration::from_secs(30);

/// A gateway as a worker sees it: an inbox for answers, and an ear for presence.
struct Gateway {
    bus: Arc<dyn Bus>,
    answers: mpsc::Receiver<Envelope>,
    presence: mpsc::Receiver<Envelope>,
    _subscribed: [Subscribed; 2],
}

struct Into(mpsc::Sender<Envelope>);

impl Consumer for Into {
    fn deliver(&self, envelope: Envelope, done: Done) {
        // Presence beats on when no test listens any more; what does not fit is not wanted.
        drop(self.0.try_send(envelope));
        drop(done);
    }
}

impl Gateway {
    async fn new() -> Self {
        let bus: Arc<dyn Bus> = Arc::new(InProcess::new());
        let (answers, presence) = (mpsc::channel(256), mpsc::channel(256));
        let subscribe = async |topic, sender| {
            let subscription = Subscription { topic, in_hand_max: NonZeroU32::MAX };
            bus.subscribe(subscription, Arc::new(Into(sender))).await.unwrap()
        };
        let subscribed = [
            subscribe(Topic::Inbox("gw".into()), answers.0).await,
            subscribe(Topic::Presence, presence.0).await,
        ];
        Self { bus, answers: answers.1, presence: presence.1, _subscribed: subscribed }
    }

    async fn hand_over(&self, call: Envelope) -> Result<(), PublishError> {
        let tenant = call.metadata.tenant.clone();
        let station = call.metadata.station.clone().unwrap();
        self.bus.publish(Address::Call { tenant, station }, call).await
    }

    async fn answer(&mut self) -> Envelope {
        tokio::time::timeout(PATIENCE, self.answers.recv()).await.unwrap().unwrap()
    }

    async fn beat(&mut self) -> Envelope {
        tokio::time::timeout(PATIENCE, self.presence.recv()).await.unwrap().unwrap()
    }
}

fn call(station: &str, seq: u64, action: &str) -> Envelope {
    let mut metadata = Metadata::new(Kind::Call);
    metadata.station = Some(StationId::new(station, 48).unwrap());
    metadata.version = Some(Version::V16);
    metadata.action = Some(action.into());
    metadata.connection = Some(ConnectionKey { gateway: "gw".into(), generation: 7 });
    metadata.seq = Some(seq);
    metadata.received_at_ms = Some(1_700_000_000_000);
    metadata.remaining = Some(Duration::from_secs(25));
    metadata.reply_to = Some("gw".into());
    metadata.attempt = 1;
    Envelope::new(metadata, Bytes::from(format!("[2,\"{seq}\",\"{action}\",{{}}]")))
}

fn again(call: &Envelope, attempt: u32) -> Envelope {
    let mut call = call.clone();
    call.metadata.attempt = attempt;
    call
}

fn router() -> Router {
    Router::new().on_any(async |_: Raw| {})
}

fn config() -> Config {
    let mut config = Config::default();
    config.id = "w1".into();
    config
}

async fn start(router: Router, gateway: &Gateway) -> Worker {
    serve(router, gateway.bus.clone(), config()).await.unwrap()
}

#[tokio::test]
async fn an_answer_carries_what_its_call_carried() {
    let mut gateway = Gateway::new().await;
    let boot =
        Router::new().on_raw("BootNotification", async |_: Raw| serde_json_object(r#"{"status":"Pending"}"#));
    let worker = start(boot, &gateway).await;
    let mut sent = call("CP1", 3, "BootNotification");
    sent.metadata.tenant = "acme".into();
    sent.metadata.attempt = 2;
    sent.metadata.journal = Some(9);
    gateway.hand_over(sent.clone()).await.unwrap();
    let answer = gateway.answer().await;
    let expected = Metadata {
        tenant: "acme".into(),
        station: sent.metadata.station.clone(),
        version: Some(Version::V16),
        action: Some("BootNotification".into()),
        connection: sent.metadata.connection.clone(),
        seq: Some(3),
        attempt: 2,
        journal: Some(9),
        registration: Some(Registration::Pending),
        worker: Some("w1".into()),
        ..Metadata::new(Kind::Answer)
    };
    assert_eq!(*answer.metadata, expected);
    assert_eq!(answer.body, r#"[3,"3",{"status":"Pending"}]"#);
    assert_eq!(worker.metrics().results.get(), 1);
}

fn serde_json_object(text: &'static str) -> switchboard_router::Payload {
    switchboard_router::Payload::json(text)
}

#[tokio::test]
async fn what_a_handler_needs_to_know_is_in_its_context() {
    let mut gateway = Gateway::new().await;
    let seen = Arc::new(Mutex::new(None));
    let kept = seen.clone();
    let router = Router::new().on_raw("X", move |context: switchboard_router::Context, _: Raw| {
        *kept.lock().unwrap() = Some(context);
        async {}
    });
    let mut config = config();
    config.mode_of = Some(Arc::new(|tenant, station| {
        assert_eq!(tenant, "default");
        if station.as_str() == "CP1" { Mode::Strict } else { Mode::Lenient }
    }));
    let _worker = serve(router, gateway.bus.clone(), config).await.unwrap();
    for (station, mode) in [("CP1", Mode::Strict), ("CP2", Mode::Lenient)] {
        gateway.hand_over(call(station, 3, "X")).await.unwrap();
        gateway.answer().await;
        let context = seen.lock().unwrap().take().unwrap();
        assert_eq!((context.station.as_str(), context.mode), (station, mode));
        assert_eq!((context.generation, context.seq, context.attempt), (7, 3, 1));
        assert_eq!((&*context.gateway, context.received_at_ms), ("gw", 1_700_000_000_000));
        assert_eq!(context.remaining, Some(Duration::from_secs(25)));
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_handler_that_need_not_wait_answers_before_the_hand_over_returns() {
    let mut gateway = Gateway::new().await;
    let worker = start(router(), &gateway).await;
    for seq in 0..3 {
        gateway.hand_over(call("CP1", seq, "X")).await.unwrap();
        // No await in between: nothing else has run on this thread since.
        let answer = gateway.answers.try_recv().expect("the answer is there already");
        assert_eq!(answer.metadata.seq, Some(seq));
    }
    assert_eq!(worker.metrics().waited.get(), 0);
    assert_eq!(worker.metrics().in_hand.get(), 0);
}

#[tokio::test]
async fn a_handler_that_waits_answers_later_and_holds_up_nobody() {
    let mut gateway = Gateway::new().await;
    let gate = Arc::new(Notify::new());
    let opened = gate.clone();
    let router = router().on_raw("Slow", move |_: Raw| {
        let gate = gate.clone();
        async move { gate.notified().await }
    });
    let worker = start(router, &gateway).await;
    gateway.hand_over(call("CP1", 0, "Slow")).await.unwrap();
    gateway.hand_over(call("CP2", 0, "Quick")).await.unwrap();
    assert_eq!(gateway.answer().await.metadata.station.unwrap().as_str(), "CP2");
    assert_eq!(worker.metrics().in_hand.get(), 1);
    opened.notify_one();
    assert_eq!(gateway.answer().await.metadata.station.unwrap().as_str(), "CP1");
    assert_eq!(worker.metrics().waited.get(), 1);
    assert_eq!(worker.metrics().in_hand.get(), 0);
}

#[tokio::test]
async fn a_wake_up_during_the_first_poll_is_not_lost() {
    let mut gateway = Gateway::new().await;
    let router = Router::new().on_raw("Yield", async |_: Raw| {
        // Wakes itself while it is polled, and is then pending.
        tokio::task::yield_now().await;
    });
    let _worker = start(router, &gateway).await;
    gateway.hand_over(call("CP1", 0, "Yield")).await.unwrap();
    assert_eq!(gateway.answer().await.body, r#"[3,"0",{}]"#);
}

#[tokio::test]
async fn a_handler_that_panics_is_answered_and_the_worker_goes_on() {
    let mut gateway = Gateway::new().await;
    let router = router().on_raw("Panic", async |_: Raw| -> () { panic!("now") }).on_raw(
        "PanicLater",
        async |_: Raw| -> () {
            tokio::task::yield_now().await;
            panic!("later");
        },
    );
    let worker = start(router, &gateway).await;
    for action in ["Panic", "PanicLater"] {
        gateway.hand_over(call("CP1", 0, action)).await.unwrap();
        let answer = gateway.answer().await;
        assert!(answer.body.starts_with(b"[4,\"0\",\"InternalError\""), "{action}: {:?}", answer.body);
    }
    gateway.hand_over(call("CP1", 1, "Fine")).await.unwrap();
    assert_eq!(gateway.answer().await.body, r#"[3,"1",{}]"#);
    assert_eq!((worker.metrics().errors.get(), worker.metrics().results.get()), (2, 1));
}

/// A router whose `Slow` waits for a permit, and the count of its runs.
fn slow() -> (Router, Arc<Semaphore>, Arc<AtomicU32>) {
    let (gate, runs) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU32::new(0)));
    let (opened, counted) = (gate.clone(), runs.clone());
    let router = router().on_raw("Slow", move |_: Raw| {
        let gate = gate.clone();
        runs.fetch_add(1, Ordering::Relaxed);
        async move { gate.acquire().await.unwrap().forget() }
    });
    (router, opened, counted)
}

#[tokio::test]
async fn repeats_of_a_call_in_hand_wait_for_its_answer_and_run_nothing() {
    let mut gateway = Gateway::new().await;
    let (router, gate, runs) = slow();
    let worker = start(router, &gateway).await;
    let first = call("CP1", 0, "Slow");
    let mut from_journal = again(&first, 3);
    from_journal.metadata.journal = Some(1);
    for call in [first.clone(), again(&first, 2), from_journal] {
        gateway.hand_over(call).await.unwrap();
    }
    // Not repeats: another call of it, another station, another connection.
    gateway.hand_over(call("CP1", 1, "Slow")).await.unwrap();
    gateway.hand_over(call("CP2", 0, "Slow")).await.unwrap();
    let mut reconnected = call("CP1", 0, "Slow");
    reconnected.metadata.connection = Some(ConnectionKey { gateway: "gw".into(), generation: 8 });
    gateway.hand_over(reconnected).await.unwrap();
    assert_eq!(runs.load(Ordering::Relaxed), 4);
    assert_eq!(worker.metrics().joined.get(), 2);
    gate.add_permits(4);
    let mut attempts = Vec::new();
    for _ in 0..6 {
        let metadata = gateway.answer().await.metadata;
        let connection = metadata.connection.unwrap();
        if (metadata.station.unwrap().as_str(), metadata.seq, connection.generation) == ("CP1", Some(0), 7) {
            attempts.push((metadata.attempt, metadata.journal));
        }
    }
    assert_eq!(attempts, [(1, None), (2, None), (3, Some(1))]);
    // Answered: from now on it is the handler's own affair.
    gate.add_permits(1);
    gateway.hand_over(again(&first, 4)).await.unwrap();
    assert_eq!(gateway.answer().await.metadata.attempt, 4);
    assert_eq!(runs.load(Ordering::Relaxed), 5);
}

#[tokio::test]
async fn the_calls_in_hand_are_bounded_and_the_repeats_with_them() {
    let mut gateway = Gateway::new().await;
    let (router, gate, _) = slow();
    let mut config = config();
    config.in_hand_max = NonZeroU32::new(3).unwrap();
    let _worker = serve(router, gateway.bus.clone(), config).await.unwrap();
    let first = call("CP1", 0, "Slow");
    for call in [first.clone(), again(&first, 2), call("CP2", 0, "Slow")] {
        gateway.hand_over(call).await.unwrap();
    }
    let refused = gateway.hand_over(call("CP3", 0, "Slow")).await;
    assert!(matches!(refused, Err(PublishError::Busy)), "{refused:?}");
    gate.add_permits(3);
    for _ in 0..3 {
        gateway.answer().await;
    }
    // The hands are free as soon as the answers are out.
    tokio::time::timeout(PATIENCE, async {
        while gateway.hand_over(call("CP3", 0, "Slow")).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn s01_a_worker_takes_calls_that_are_for_it_alone_within_the_same_bound() {
    let mut gateway = Gateway::new().await;
    let (router, gate, runs) = slow();
    let mut config = config();
    config.in_hand_max = NonZeroU32::new(2).unwrap();
    let worker = serve(router, gateway.bus.clone(), config).await.unwrap();
    let inbox = presence::Facts::read(&gateway.beat().await.body).inbox.unwrap();
    let hand_to_it = async |call| gateway.bus.publish(Address::Inbox(inbox.clone()), call).await;
    let first = call("CP1", 0, "Slow");
    gateway.hand_over(first.clone()).await.unwrap();
    hand_to_it(again(&first, 2)).await.unwrap();
    hand_to_it(call("CP2", 0, "Slow")).await.unwrap();
    // There is room at the door, but none in its hands.
    gateway.hand_over(call("CP3", 0, "Slow")).await.unwrap();
    let returned = gateway.answers.recv().await.unwrap().metadata;
    assert_eq!((returned.kind, returned.outcome), (Kind::Returned, Some(OutcomeKind::Busy)));
    assert_eq!((returned.station.unwrap().as_str(), returned.seq), ("CP3", Some(0)));
    gate.add_permits(2);
    let mut attempts = Vec::new();
    for _ in 0..3 {
        let answer = gateway.answer().await.metadata;
        attempts.push((answer.station.unwrap().as_str().to_owned(), answer.attempt));
    }
    attempts.sort();
    assert_eq!(attempts, [("CP1".to_owned(), 1), ("CP1".to_owned(), 2), ("CP2".to_owned(), 1)]);
    assert_eq!(runs.load(Ordering::Relaxed), 2, "each call once, whichever way it came");
    assert_eq!(worker.stop().await, 0);
    let gone = gateway.bus.publish(Address::Inbox(inbox), call("CP3", 0, "Slow")).await;
    assert!(matches!(gone, Err(PublishError::NobodyListens)), "{gone:?}");
}

#[tokio::test]
async fn a_stale_call_is_met_with_silence() {
    let mut gateway = Gateway::new().await;
    let router =
        Router::new().on_raw("Stale", async |_: Raw| Err::<(), _>(switchboard_router::CallError::stale()));
    let worker = start(router, &gateway).await;
    gateway.hand_over(call("CP1", 0, "Stale")).await.unwrap();
    assert!(gateway.answers.try_recv().is_err());
    assert_eq!(worker.metrics().silences.get(), 1);
}

#[tokio::test]
async fn s01_a_call_that_cannot_be_dealt_with_now_goes_back_to_its_gateway() {
    let mut gateway = Gateway::new().await;
    let away = Arc::new(AtomicU32::new(2));
    let handler = {
        let away = away.clone();
        move || {
            let left = away.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            async move { left.map_or(Ok(()), |_| Err(switchboard_router::CallError::later())) }
        }
    };
    let again_and_again = handler.clone();
    let router = Router::new()
        .on_raw("Books", move |_: Raw| handler())
        .fallback(move |_: Unhandled| again_and_again());
    let worker = start(router, &gateway).await;
    let mut sent = call("CP1", 3, "Books");
    sent.metadata.journal = Some(9);
    gateway.hand_over(sent.clone()).await.unwrap();
    let returned = gateway.answer().await;
    let expected = Metadata { worker: Some("w1".into()), ..sent.metadata.returned(OutcomeKind::Busy) };
    assert_eq!((*returned.metadata, returned.body), (expected, Bytes::new()));
    assert_eq!(worker.metrics().given_back.get(), 1);
    // A SEND is not acknowledged, and that is enough.
    gateway.hand_over(send(Some(4))).await.unwrap();
    assert!(gateway.answers.try_recv().is_err());
    assert_eq!(away.load(Ordering::Relaxed), 0);
    gateway.hand_over(again(&sent, 2)).await.unwrap();
    assert_eq!(gateway.answer().await.metadata.kind, Kind::Answer);
}

/// A bus that is away while it is told to be, as one is whose broker was restarted.
#[derive(Debug)]
struct Broken {
    inner: InProcess,
    state: watch::Sender<State>,
}

impl Bus for Broken {
    fn publish(&self, to: Address, envelope: Envelope) -> BoxFuture<'_, Result<(), PublishError>> {
        if *self.state.borrow() == State::Away {
            return Box::pin(std::future::ready(Err(PublishError::Away)));
        }
        self.inner.publish(to, envelope)
    }
    fn subscribe(
        &self,
        subscription: Subscription,
        consumer: Arc<dyn Consumer>,
    ) -> BoxFuture<'_, Result<Subscribed, SubscribeError>> {
        self.inner.subscribe(subscription, consumer)
    }
    fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.close()
    }
}

#[tokio::test]
async fn s04_an_answer_waits_for_the_bus_to_come_back() {
    let mut gateway = Gateway::new().await;
    let inner = InProcess::new();
    let (answers, received) = mpsc::channel(4);
    let subscription = Subscription { topic: Topic::Inbox("gw".into()), in_hand_max: NonZeroU32::MAX };
    let _inbox = inner.subscribe(subscription, Arc::new(Into(answers))).await.unwrap();
    gateway.answers = received;
    let broken = Arc::new(Broken { inner: inner.clone(), state: watch::Sender::new(State::Away) });
    let worker = serve(router(), broken.clone(), config()).await.unwrap();
    let sent = call("CP1", 3, "Heartbeat");
    let to = Address::Call {
        tenant: sent.metadata.tenant.clone(),
        station: sent.metadata.station.clone().unwrap(),
    };
    inner.publish(to, sent).await.unwrap();
    assert!(gateway.answers.try_recv().is_err());
    assert_eq!(worker.metrics().answers_lost.get(), 0);
    broken.state.send_replace(State::Connected);
    assert_eq!(gateway.answer().await.metadata.seq, Some(3));
}

fn send(seq: Option<u64>) -> Envelope {
    let mut send = call("CP1", 0, "NotifyPeriodicEventStream");
    send.metadata.kind = Kind::Send;
    send.metadata.version = Some(Version::V21);
    send.metadata.seq = seq;
    send.body = Bytes::from_static(br#"[6,"1","NotifyPeriodicEventStream",{}]"#);
    send
}

#[tokio::test]
async fn a_send_is_acknowledged_without_a_frame_if_its_gateway_counts_it() {
    let mut gateway = Gateway::new().await;
    let worker = start(Router::new().fallback(async |_: Unhandled| {}), &gateway).await;
    gateway.hand_over(send(None)).await.unwrap();
    assert!(gateway.answers.try_recv().is_err());
    gateway.hand_over(send(Some(1))).await.unwrap();
    let answer = gateway.answer().await;
    assert_eq!((answer.metadata.seq, answer.body), (Some(1), Bytes::new()));
    assert_eq!(worker.metrics().silences.get(), 2);
}

#[tokio::test]
async fn sends_without_a_number_are_never_taken_for_repeats_and_have_no_key() {
    let gateway = Gateway::new().await;
    let gate = Arc::new(Semaphore::new(0));
    let (sender, mut handled) = mpsc::channel(8);
    let opened = gate.clone();
    let router = Router::new().on_any(move |key: Option<switchboard_router::Key>, _: Raw| {
        let (gate, sender) = (gate.clone(), sender.clone());
        async move {
            gate.acquire().await.unwrap().forget();
            sender.send(key).await.unwrap();
        }
    });
    let _worker = start(router, &gateway).await;
    for _ in 0..3 {
        gateway.hand_over(send(None)).await.unwrap();
    }
    opened.add_permits(3);
    for _ in 0..3 {
        let key = tokio::time::timeout(PATIENCE, handled.recv()).await.unwrap().unwrap();
        assert_eq!(key, None);
    }
}

#[tokio::test]
async fn broken_envelopes_are_counted_and_cost_nobody_else() {
    let mut gateway = Gateway::new().await;
    let worker = start(router(), &gateway).await;
    let broken: [fn(&mut Envelope); 5] = [
        |call| call.metadata.version = None,
        |call| call.metadata.connection = None,
        |call| call.metadata.seq = None,
        |call| call.metadata.kind = Kind::Answer,
        |call| call.body = Bytes::from_static(b"\xff"),
    ];
    for break_it in broken {
        let mut call = call("CP1", 0, "X");
        break_it(&mut call);
        // The bus itself may refuse what cannot be written as headers.
        drop(gateway.hand_over(call).await);
    }
    gateway.hand_over(call("CP1", 1, "X")).await.unwrap();
    assert_eq!(gateway.answer().await.metadata.seq, Some(1));
    assert!(gateway.answers.try_recv().is_err());
    assert_eq!(worker.metrics().unreadable.get(), 5);
    assert_eq!(worker.metrics().in_hand.get(), 0);
}

#[tokio::test]
async fn an_answer_that_nobody_takes_is_counted() {
    let gateway = Gateway::new().await;
    let worker = start(router(), &gateway).await;
    let mut lost = call("CP1", 0, "X");
    lost.metadata.reply_to = Some("gone".into());
    gateway.hand_over(lost).await.unwrap();
    assert_eq!(worker.metrics().answers_lost.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_worker_beats_and_names_what_it_has_in_hand() {
    let mut gateway = Gateway::new().await;
    let (router, gate, _) = slow();
    let _worker = start(router, &gateway).await;
    let first = gateway.beat().await;
    assert_eq!((first.metadata.kind, first.metadata.worker.as_deref()), (Kind::Presence, Some("w1")));
    assert_eq!(presence::calls(&first.body).count(), 0);
    let began = tokio::time::Instant::now();
    gateway.hand_over(call("CP1", 3, "Slow")).await.unwrap();
    let named = CallKey { tenant: "default", station: "CP1", generation: 7, seq: 3 };
    for _ in 0..4 {
        let beat = gateway.beat().await;
        assert_eq!(presence::calls(&beat.body).collect::<Vec<_>>(), [named]);
        assert_eq!(
            presence::Facts::read(&beat.body).generation,
            7,
            "no later connection may have a lower one"
        );
    }
    assert_eq!(began.elapsed(), Duration::from_secs(2), "a beat is half a second");
    gate.add_permits(1);
    gateway.answer().await;
    assert_eq!(presence::calls(&gateway.beat().await.body).count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_stops_finishes_what_it_has_and_takes_nothing_more() {
    let mut gateway = Gateway::new().await;
    let (router, gate, _) = slow();
    let worker = start(router, &gateway).await;
    gateway.hand_over(call("CP1", 0, "Slow")).await.unwrap();
    let stopping = tokio::spawn(worker.stop());
    tokio::time::timeout(PATIENCE, async {
        while gateway.hand_over(call("CP2", 0, "X")).await.is_ok() {
            gateway.answer().await;
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let refused = gateway.hand_over(call("CP2", 1, "X")).await;
    assert!(matches!(refused, Err(PublishError::NobodyListens)), "{refused:?}");
    assert!(!stopping.is_finished());
    gate.add_permits(1);
    assert_eq!(gateway.answer().await.metadata.station.unwrap().as_str(), "CP1");
    assert_eq!(stopping.await.unwrap(), 0);
    let mut last = gateway.beat().await;
    while let Ok(beat) = gateway.presence.try_recv() {
        last = beat;
    }
    assert!(presence::is_end(&last.body));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(gateway.presence.try_recv().is_err(), "it is silent afterwards");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_stops_does_not_wait_for_ever() {
    let gateway = Gateway::new().await;
    let (router, _gate, _) = slow();
    let worker = start(router, &gateway).await;
    gateway.hand_over(call("CP1", 0, "Slow")).await.unwrap();
    let began = tokio::time::Instant::now();
    assert_eq!(worker.stop().await, 1);
    assert_eq!(began.elapsed(), Config::default().drain);
}

#[tokio::test]
async fn a_worker_that_is_dropped_takes_no_more_calls() {
    let gateway = Gateway::new().await;
    drop(start(router(), &gateway).await);
    let refused = gateway.hand_over(call("CP1", 0, "X")).await;
    assert!(matches!(refused, Err(PublishError::NobodyListens)), "{refused:?}");
}

#[tokio::test]
async fn a_router_that_contradicts_itself_is_not_served() {
    let gateway = Gateway::new().await;
    let router = router().on_any(async |_: Raw| {});
    let refused = serve(router, gateway.bus.clone(), config()).await;
    assert!(matches!(refused, Err(ServeError::Router(_))), "{refused:?}");
}

#[tokio::test]
async fn outcomes_in_the_workers_inbox_reach_their_handler() {
    let gateway = Gateway::new().await;
    let (sender, mut ended) = mpsc::channel(8);
    let router = router().on_outcome(move |ended: Ended| {
        let sender = sender.clone();
        async move { sender.send(ended).await.unwrap() }
    });
    let worker = start(router, &gateway).await;
    let outcome = |kind, body: &'static str| {
        let mut metadata = Metadata::new(Kind::Outcome);
        metadata.station = Some(StationId::new("CP1", 48).unwrap());
        metadata.command_id = Some("c1".into());
        metadata.action = Some("Reset".into());
        metadata.context = Some("mine".into());
        metadata.outcome = Some(kind);
        Envelope::new(metadata, Bytes::from_static(body.as_bytes()))
    };
    let refused = Outcome::Refused { code: "C".into(), description: "d".into(), details: "{}".into() };
    for (kind, body, expected) in [
        (OutcomeKind::Answered, r#"[3,"1",{"a":1}]"#, Outcome::Answered(r#"{"a":1}"#.into())),
        (OutcomeKind::Refused, r#"[4,"1","C","d",{}]"#, refused),
        (OutcomeKind::Offline, "", Outcome::Offline),
        (OutcomeKind::Unknown, "", Outcome::Unknown),
    ] {
        gateway.bus.publish(Address::Inbox("w1".into()), outcome(kind, body)).await.unwrap();
        let ended = tokio::time::timeout(PATIENCE, ended.recv()).await.unwrap().unwrap();
        assert_eq!(ended, Ended::new("c1".into(), "Reset".into(), "mine".into(), expected));
    }
    for (kind, body) in [(OutcomeKind::Answered, "nonsense"), (OutcomeKind::Refused, r#"[3,"1",{}]"#)] {
        gateway.bus.publish(Address::Inbox("w1".into()), outcome(kind, body)).await.unwrap();
    }
    assert_eq!(worker.metrics().unreadable.get(), 2);
    assert_eq!(worker.metrics().outcomes.get(), 4);
}

#[tokio::test]
async fn typed_handlers_are_served_as_well() {
    let mut gateway = Gateway::new().await;
    let router = Router::new().on(async |_: v16::HeartbeatRequest| v16::HeartbeatResponse {
        current_time: Timestamp::from_unix_millis(1_700_000_000_000),
    });
    let _worker = start(router, &gateway).await;
    gateway.hand_over(call("CP1", 0, "Heartbeat")).await.unwrap();
    let body = ByteString::try_from(gateway.answer().await.body).unwrap();
    assert_eq!(body, r#"[3,"0",{"currentTime":"2023-11-14T22:13:20Z"}]"#);
}
