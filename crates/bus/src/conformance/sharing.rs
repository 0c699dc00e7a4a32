//! Who gets what, how much of it, and until when.

use super::{DEADLINE, Harness, Recorder, call, publish, refused, returnable, to_call, to_command, to_inbox};
use crate::{
    Address, Consumer, Done, Envelope, Kind, Metadata, OutcomeKind, PublishError, State, SubscribeError,
    Subscription, Tells, Topic,
};
use bytes::Bytes;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// Each to one only, and all of them get some.
pub async fn a_call_goes_to_one_of_those_who_compete(harness: &dyn Harness) {
    compete(harness, &Topic::Calls, &to_call("CP001")).await;
}

/// The gateways share the commands whose senders do not know where the station is.
pub async fn a_command_to_wherever_its_station_is_goes_to_one_gateway(harness: &dyn Harness) {
    compete(harness, &Topic::Commands, &to_command("CP001")).await;
}

async fn compete(harness: &dyn Harness, topic: &Topic, to: &Address) {
    let gateway = harness.connect().await;
    let (first_bus, second_bus) = if *topic == Topic::Calls || gateway.capabilities().tells_all {
        (harness.connect().await, harness.connect().await)
    } else {
        (Arc::clone(&gateway), Arc::clone(&gateway))
    };
    let (first, second) = (Recorder::new(), Recorder::new());
    let _first = first.listen(&first_bus, topic.clone(), 1000).await;
    let _second = second.listen(&second_bus, topic.clone(), 1000).await;
    // Some brokers need many before they share fairly; none may leave one out for long.
    for seq in 0..400 {
        publish(&gateway, to.clone(), call("CP001", seq)).await;
    }
    let wait = async {
        while first.count() + second.count() < 400 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.expect("all calls arrive");
    let mut seqs: Vec<u64> =
        first.all().iter().chain(&second.all()).filter_map(|envelope| envelope.metadata.seq).collect();
    seqs.sort_unstable();
    assert!(seqs.iter().copied().eq(0..400), "each once: {seqs:?}");
    assert!(first.count() > 0 && second.count() > 0, "{} and {}", first.count(), second.count());
}

/// Of calls and commands, as the bus says that it tells.
pub async fn nobody_listening_is_told(harness: &dyn Harness) {
    let bus = harness.connect().await;
    let returns = Recorder::new();
    let _returns = returns.listen(&bus, Topic::Inbox("returns".into()), 64).await;
    let tells = bus.capabilities().tells_nobody_listens;
    let mut journalled = returnable("CP 1|\u{e9}.*", "returns", 7);
    journalled.metadata.journal = Some(9);
    let mut command = call("CP001", 1);
    command.metadata.kind = Kind::Command;
    (command.metadata.seq, command.metadata.attempt) = (None, 0);
    command.metadata.command_id = Some("command 1.>".into());
    command.metadata.reply_to = Some("returns".into());
    let cases = [
        (to_call("CP001"), returnable("CP001", "returns", 1)),
        (to_call("CP 1|\u{e9}.*"), journalled),
        (to_command("CP 1|\u{e9}.*"), command.clone()),
        (to_inbox("nobody"), command),
    ];
    for (to, envelope) in cases {
        let outcome = bus.publish(to.clone(), envelope.clone()).await;
        match tells {
            Tells::AtOnce => {
                assert!(matches!(outcome, Err(PublishError::NobodyListens)), "{to:?}: {outcome:?}");
            }
            Tells::Later => {
                outcome.unwrap();
                let sent = &envelope.metadata;
                let returned = &returns.wait_for(1).await[0];
                let got = &returned.metadata;
                assert_eq!((got.kind, got.outcome), (Kind::Returned, Some(OutcomeKind::Offline)), "{to:?}");
                assert_eq!((&got.tenant, &got.station), (&sent.tenant, &sent.station), "{to:?}");
                assert_eq!((&got.connection, got.seq), (&sent.connection, sent.seq), "{to:?}");
                assert_eq!((got.attempt, got.journal), (sent.attempt, sent.journal), "{to:?}");
                assert_eq!(got.command_id, sent.command_id, "{to:?}");
                assert!(returned.body.is_empty(), "{to:?}");
                returns.forget();
            }
            Tells::Never => {}
        }
    }
    assert!(PublishError::NobodyListens.is_retryable());
    for to in [Address::Presence, event_address()] {
        let outcome = bus.publish(to.clone(), returnable("CP001", "returns", 1)).await;
        assert!(outcome.is_ok(), "{to:?}: telling all is no error when there is nobody: {outcome:?}");
    }
    if tells == Tells::Later {
        // What has no use for it does not come back: a hint to look into the outbox, a cancellation, an outcome. This
        // one does, and all that came back before it has come.
        let mut hint = call("CP001", 1);
        hint.metadata.kind = Kind::Command;
        hint.metadata.command_id = Some("command".into());
        hint.metadata.reply_to = Some("returns".into());
        hint.metadata.outbox = true;
        let mut cancellation = hint.clone();
        cancellation.metadata.outbox = false;
        cancellation.body = Bytes::new();
        let mut outcome = hint.clone();
        outcome.metadata.kind = Kind::Outcome;
        outcome.metadata.outbox = false;
        for envelope in [hint, cancellation, outcome] {
            bus.publish(to_inbox("nobody"), envelope).await.unwrap();
        }
        bus.publish(to_call("CP001"), returnable("CP001", "returns", 2)).await.unwrap();
        let got = returns.wait_for(1).await;
        assert_eq!(got.iter().map(|envelope| envelope.metadata.seq).collect::<Vec<_>>(), [Some(2)]);
    }
}

/// Nobody is given more than it asked for, and another one with room is given it instead.
pub async fn full_hands_are_busy(harness: &dyn Harness) {
    let (gateway, worker) = (harness.connect().await, harness.connect().await);
    let (full, free) = (Recorder::holding(), Recorder::holding());
    let _full = full.listen(&worker, Topic::Calls, 2).await;
    for seq in 0..2 {
        publish(&gateway, to_call("CP001"), call("CP001", seq)).await;
    }
    full.wait_for(2).await;
    let returns = Recorder::new();
    let _returns = returns.listen(&gateway, Topic::Inbox("busy-returns".into()), 64).await;
    let third = returnable("CP001", "busy-returns", 2);
    let outcome = gateway.publish(to_call("CP001"), third.clone()).await;
    let tells = gateway.capabilities().tells_busy;
    match tells {
        Tells::AtOnce => assert!(matches!(outcome, Err(PublishError::Busy)), "{outcome:?}"),
        Tells::Later => {
            outcome.unwrap();
            let got = &returns.wait_for(1).await[0].metadata;
            assert_eq!((got.kind, got.outcome), (Kind::Returned, Some(OutcomeKind::Busy)));
            assert_eq!((got.seq, &got.connection), (Some(2), &third.metadata.connection));
        }
        // The broker keeps it; it must not be delivered.
        Tells::Never => outcome.unwrap(),
    }
    assert_eq!(full.count(), 2);
    let _free = free.listen(&worker, Topic::Calls, 2).await;
    match tells {
        Tells::AtOnce => {
            // Where the answer comes as the response, publishing ends with it, and this one is never answered.
            let (gateway, third) = (Arc::clone(&gateway), third.clone());
            drop(tokio::spawn(async move { publish(&gateway, to_call("CP001"), third).await }));
        }
        Tells::Later => {
            // It may come to the full one again first.
            while free.count() == 0 {
                let before = returns.count();
                gateway.publish(to_call("CP001"), third.clone()).await.unwrap();
                let wait = async {
                    while free.count() == 0 && returns.count() == before {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                };
                tokio::time::timeout(DEADLINE, wait).await.expect("it is taken or comes back");
            }
        }
        Tells::Never => {}
    }
    assert_eq!(free.wait_for(1).await[0], third);
    assert_eq!(full.count(), 2);
}

/// For calls and inboxes alike.
pub async fn a_dropped_done_makes_room(harness: &dyn Harness) {
    let (gateway, worker) = (harness.connect().await, harness.connect().await);
    for (topic, to) in [(Topic::Calls, to_call("CP001")), (Topic::Inbox("room".into()), to_inbox("room"))] {
        let recorder = Recorder::holding();
        let subscribed = recorder.listen(&worker, topic.clone(), 1).await;
        for seq in 0..5_u64 {
            publish(&gateway, to.clone(), call("CP001", seq)).await;
            let got = recorder.wait_for(usize::try_from(seq).unwrap() + 1).await;
            assert_eq!(got.last(), Some(&call("CP001", seq)), "{topic:?}");
            recorder.let_go();
        }
        drop(subscribed);
    }
}

/// And is then free for another.
pub async fn an_inbox_has_one_owner_until_it_lets_go(harness: &dyn Harness) {
    let (bus, other) = (harness.connect().await, harness.connect().await);
    if !bus.capabilities().exclusive_inboxes {
        return;
    }
    let (first, second) = (Recorder::new(), Recorder::new());
    let owner = first.listen(&bus, Topic::Inbox("owned".into()), 8).await;
    let again = |consumer: Arc<Recorder>| {
        let in_hand_max = NonZeroU32::new(8).unwrap();
        other.subscribe(Subscription { topic: Topic::Inbox("owned".into()), in_hand_max }, consumer)
    };
    let refused = again(Arc::clone(&second)).await;
    assert!(
        matches!(&refused, Err(SubscribeError::InboxTaken(name)) if name == "owned"),
        "{:?}",
        refused.map(|_| "accepted")
    );
    publish(&bus, to_inbox("owned"), call("CP001", 1)).await;
    first.wait_for(1).await;
    drop(owner);
    let wait = async {
        loop {
            match again(Arc::clone(&second)).await {
                Ok(subscribed) => return subscribed,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let _owner = tokio::time::timeout(DEADLINE, wait).await.expect("the name becomes free");
    publish(&bus, to_inbox("owned"), call("CP001", 2)).await;
    assert_eq!(second.wait_for(1).await[0], call("CP001", 2));
    assert_eq!(first.count(), 1);
}

/// Workers' signs of life reach every gateway.
pub async fn presence_is_told_to_all(harness: &dyn Harness) {
    let mut metadata = Metadata::new(Kind::Presence);
    metadata.worker = Some("worker-1".into());
    let envelope = Envelope::new(metadata, Bytes::from_static(b"{}"));
    told_to_all(harness, &Topic::Presence, &Address::Presence, &envelope).await;
}

/// Events of connections reach everybody who is interested.
pub async fn events_are_told_to_all(harness: &dyn Harness) {
    let mut envelope = call("CP001", 1);
    envelope.metadata.kind = Kind::Event;
    told_to_all(harness, &Topic::Events, &event_address(), &envelope).await;
}

async fn told_to_all(harness: &dyn Harness, topic: &Topic, to: &Address, envelope: &Envelope) {
    let sender = harness.connect().await;
    let listener =
        if sender.capabilities().tells_all { harness.connect().await } else { Arc::clone(&sender) };
    let (first, second, full) = (Recorder::new(), Recorder::new(), Recorder::holding());
    let _first = first.listen(&listener, topic.clone(), 8).await;
    let _second = second.listen(&listener, topic.clone(), 8).await;
    // One whose hands are full misses the second and keeps nobody else from it.
    let _full = full.listen(&listener, topic.clone(), 1).await;
    // Otherwise publishers would not even put them together.
    assert!(!matches!(topic, Topic::Events) || sender.hears_events());
    for count in 1..=2 {
        publish(&sender, to.clone(), envelope.clone()).await;
        assert_eq!(first.wait_for(count).await[count - 1], *envelope);
        assert_eq!(second.wait_for(count).await[count - 1], *envelope);
    }
    assert_eq!(full.wait_for(1).await, std::slice::from_ref(envelope));
}

/// The publisher, the other subscribers and the subscriber itself go on.
pub async fn a_consumer_that_panics_loses_only_what_it_was_given(harness: &dyn Harness) {
    let (gateway, worker) = (harness.connect().await, harness.connect().await);
    let recorder = Recorder::new();
    let consumer = Arc::new(Fragile(Arc::clone(&recorder)));
    let in_hand_max = NonZeroU32::MIN;
    let _subscribed =
        worker.subscribe(Subscription { topic: Topic::Calls, in_hand_max }, consumer).await.unwrap();
    for seq in 0..3 {
        publish(&gateway, to_call("CP001"), call("CP001", seq)).await;
    }
    let wait = async {
        // Where the bus gives it again to somebody, that is the same one, and it panics again.
        while !recorder.all().contains(&call("CP001", 2)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.expect("the next ones arrive");
    assert!(recorder.all().contains(&call("CP001", 0)));
    assert!(!recorder.all().contains(&call("CP001", 1)));
}

/// Panics at the call whose number is 1.
#[derive(Debug)]
struct Fragile(Arc<Recorder>);

impl Consumer for Fragile {
    fn deliver(&self, envelope: Envelope, done: Done) {
        assert!(envelope.metadata.seq != Some(1), "this panic is part of the test");
        self.0.deliver(envelope, done);
    }
}

/// What is in hand stays, and may still be let go of.
pub async fn a_dropped_subscription_gets_nothing_more(harness: &dyn Harness) {
    let (gateway, worker) = (harness.connect().await, harness.connect().await);
    let (leaving, staying) = (Recorder::holding(), Recorder::new());
    let left = leaving.listen(&worker, Topic::Calls, 8).await;
    publish(&gateway, to_call("CP001"), call("CP001", 1)).await;
    leaving.wait_for(1).await;
    drop(left);
    if gateway.capabilities().tells_nobody_listens != Tells::Never {
        refused(&gateway, &to_call("CP001"), &returnable("CP001", "left-returns", 2), OutcomeKind::Offline)
            .await;
    }
    let before = leaving.count();
    let _staying = staying.listen(&worker, Topic::Calls, 8).await;
    publish(&gateway, to_call("CP001"), call("CP001", 3)).await;
    staying.wait_for(1).await;
    assert_eq!(leaving.count(), before);
    leaving.let_go();
}

/// State, publishing, subscribing, and what was subscribed.
pub async fn after_closing_nothing_goes(harness: &dyn Harness) {
    let bus = harness.connect().await;
    let recorder = Recorder::new();
    let _subscribed = recorder.listen(&bus, Topic::Inbox("closing".into()), 8).await;
    let mut state = bus.state();
    let connected = tokio::time::timeout(DEADLINE, state.wait_for(|state| *state == State::Connected));
    drop(connected.await.expect("it connects").unwrap());
    bus.close().await;
    assert_eq!(*bus.state().borrow(), State::Closed);
    assert!(state.has_changed().unwrap(), "who watches is told");
    let published = bus.publish(to_inbox("closing"), call("CP001", 1)).await;
    assert!(matches!(published, Err(PublishError::Closed)), "{published:?}");
    let in_hand_max = NonZeroU32::MIN;
    let consumer: Arc<dyn Consumer> = Arc::<Recorder>::clone(&recorder);
    let subscription = Subscription { topic: Topic::Calls, in_hand_max };
    let again = bus.subscribe(subscription, consumer).await;
    assert!(matches!(again, Err(SubscribeError::Closed)));
    assert_eq!(recorder.count(), 0);
    // Closing what is closed is no fault.
    bus.close().await;
}

fn event_address() -> Address {
    Address::Event { tenant: "default".into(), station: super::station("CP001") }
}
