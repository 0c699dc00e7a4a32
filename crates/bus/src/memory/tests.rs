//! What the in-process bus promises beside the conformance suite.

use super::*;
use crate::conformance::{Connecting, Recorder, call, to_call, to_inbox};
use std::num::NonZeroU32;

fn harness() -> impl crate::conformance::Harness {
    let bus: Arc<dyn Bus> = Arc::new(InProcess::new());
    Connecting(move || std::future::ready(Arc::clone(&bus)))
}

mod promises {
    use super::harness;

    crate::bus_conformance!(harness());
}

#[tokio::test]
async fn competing_consumers_take_turns() {
    let bus: Arc<dyn Bus> = Arc::new(InProcess::new());
    let recorders = [Recorder::new(), Recorder::new(), Recorder::new()];
    let mut subscribed = Vec::new();
    for recorder in &recorders {
        subscribed.push(recorder.listen(&bus, Topic::Calls, 4).await);
    }
    for seq in 0..300 {
        bus.publish(to_call("CP001"), call("CP001", seq)).await.unwrap();
    }
    assert_eq!(recorders.each_ref().map(|recorder| recorder.count()), [100, 100, 100]);
}

#[tokio::test]
async fn who_misses_an_event_is_counted() {
    let bus = InProcess::new();
    let shared: Arc<dyn Bus> = Arc::new(bus.clone());
    let full = Recorder::holding();
    let _subscribed = full.listen(&shared, Topic::Presence, 1).await;
    let mut envelope = call("CP001", 1);
    envelope.metadata.kind = crate::Kind::Presence;
    for _ in 0..3 {
        bus.publish(Address::Presence, envelope.clone()).await.unwrap();
    }
    assert_eq!((full.count(), bus.missed()), (1, 2));
}

#[tokio::test]
async fn it_says_whether_anybody_listens_for_events() {
    let bus: Arc<dyn Bus> = Arc::new(InProcess::new());
    assert!(!bus.hears_events());
    let listener = Recorder::new().listen(&bus, Topic::Events, 1).await;
    assert!(bus.hears_events());
    drop(listener);
    assert!(!bus.hears_events());
}

#[tokio::test]
async fn what_cannot_be_written_in_headers_is_refused_before_anybody_gets_it() {
    let bus: Arc<dyn Bus> = Arc::new(InProcess::new());
    let recorder = Recorder::new();
    let _subscribed = recorder.listen(&bus, Topic::Inbox("strict".into()), 4).await;
    let mut envelope = call("CP001", 1);
    envelope.metadata.station = None;
    let outcome = bus.publish(to_inbox("strict"), envelope).await;
    assert!(matches!(&outcome, Err(PublishError::Refused(_))), "{outcome:?}");
    assert_eq!(recorder.count(), 0);
    // The room that it would have taken is free again.
    for seq in 0..8 {
        bus.publish(to_inbox("strict"), call("CP001", seq)).await.unwrap();
    }
}

#[test]
fn publishing_needs_no_runtime_and_is_done_when_it_returns() {
    let bus = InProcess::new();
    let recorder = Recorder::new();
    let in_hand_max = NonZeroU32::MIN;
    let consumer: Arc<dyn Consumer> = Arc::<Recorder>::clone(&recorder);
    let subscribed = bus.0.subscribe(Subscription { topic: Topic::Calls, in_hand_max }, consumer).unwrap();
    drop(bus.publish(to_call("CP001"), call("CP001", 1)));
    assert_eq!(recorder.count(), 1);
    drop(bus);
    // The bus is gone; ending a subscription of it is no fault.
    drop(subscribed);
}

#[test]
fn many_threads_publish_and_subscribe_at_once_and_nothing_is_lost() {
    let bus = InProcess::new();
    let recorder = Recorder::new();
    let in_hand_max = NonZeroU32::MAX;
    let subscribe = |topic| {
        let consumer: Arc<dyn Consumer> = Arc::<Recorder>::clone(&recorder);
        bus.0.subscribe(Subscription { topic, in_hand_max }, consumer).unwrap()
    };
    let _staying = subscribe(Topic::Calls);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (bus, subscribe) = (&bus, &subscribe);
            scope.spawn(move || {
                for turn in 0..200 {
                    let passing = subscribe(Topic::Calls);
                    bus.0.publish(&to_call("CP001"), call("CP001", thread * 1000 + turn)).unwrap();
                    drop(passing);
                }
            });
        }
    });
    assert_eq!(recorder.count(), 800);
}
