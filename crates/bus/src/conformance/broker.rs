//! A broker that comes and goes.

use super::{Harness, Recorder, becomes, call, publish, refused, returnable, station, to_call, to_inbox};
use crate::{
    Address, Bus, Envelope, Kind, Metadata, OutcomeKind, PublishError, State, SubscribeError, Subscription,
    Tells, Topic,
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What can be done to a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Servant {
    /// Starts it, with the address that it had.
    Start,
    /// Ends it without a word.
    Kill,
    /// Asks it to end.
    Stop,
    /// Stops it in the middle of what it does; its connections stay.
    Freeze,
    /// Lets it go on.
    Thaw,
}

/// A broker that a test may do such things to. It runs at the beginning, and
/// [`connect`](Harness::connect) returns whether or not it runs.
pub trait Broker: Harness {
    /// Does that, and returns when it is done.
    fn order(&self, servant: Servant) -> BoxFuture<'_, ()>;
}

async fn connected(broker: &dyn Broker) -> Arc<dyn Bus> {
    let bus = broker.connect().await;
    becomes(&bus, State::Connected).await;
    bus
}

fn presence() -> Envelope {
    let mut metadata = Metadata::new(Kind::Presence);
    metadata.worker = Some("worker-1".into());
    Envelope::new(metadata, Bytes::new())
}

/// All four sorts, twice, and calls still go to one only.
pub async fn what_was_subscribed_is_restored(broker: &dyn Broker) {
    let (gateway, worker) = (connected(broker).await, connected(broker).await);
    let event = Address::Event { tenant: "default".into(), station: station("CP001") };
    let recorders: Vec<_> = (0..5).map(|_| Recorder::new()).collect();
    let topics =
        [Topic::Calls, Topic::Calls, Topic::Inbox("restored".into()), Topic::Presence, Topic::Events];
    let mut subscribed = Vec::new();
    for (recorder, topic) in recorders.iter().zip(topics) {
        subscribed.push(recorder.listen(&worker, topic, 64).await);
    }
    for _ in 0..2 {
        broker.order(Servant::Kill).await;
        becomes(&gateway, State::Away).await;
        becomes(&worker, State::Away).await;
        broker.order(Servant::Start).await;
        becomes(&gateway, State::Connected).await;
        becomes(&worker, State::Connected).await;
        recorders.iter().for_each(|recorder| recorder.forget());
        for seq in 0..8 {
            publish(&gateway, to_call("CP001"), call("CP001", seq)).await;
        }
        publish(&gateway, to_inbox("restored"), call("CP001", 9)).await;
        publish(&gateway, Address::Presence, presence()).await;
        publish(&gateway, event.clone(), call("CP001", 9)).await;
        for recorder in &recorders[2..] {
            assert_eq!(recorder.wait_for(1).await.len(), 1);
        }
        let mut seqs = Vec::new();
        let wait = async {
            while seqs.len() < 8 {
                tokio::time::sleep(Duration::from_millis(1)).await;
                let calls = recorders[..2].iter().flat_map(|recorder| recorder.all());
                seqs = calls.filter_map(|call| call.metadata.seq).collect();
            }
        };
        tokio::time::timeout(super::DEADLINE, wait).await.expect("all calls arrive");
        seqs.sort_unstable();
        assert_eq!(seqs, (0..8).collect::<Vec<_>>(), "each goes to one only");
    }
}

/// Nobody listens then, where the bus tells; in any case nothing is delivered.
pub async fn what_was_unsubscribed_meanwhile_is_not_restored(broker: &dyn Broker) {
    let (gateway, worker) = (connected(broker).await, connected(broker).await);
    let (leaving, staying) = (Recorder::new(), Recorder::new());
    let left = leaving.listen(&worker, Topic::Calls, 8).await;
    let _stays = staying.listen(&worker, Topic::Inbox("stays".into()), 8).await;
    broker.order(Servant::Kill).await;
    becomes(&worker, State::Away).await;
    becomes(&gateway, State::Away).await;
    drop(left);
    broker.order(Servant::Start).await;
    becomes(&worker, State::Connected).await;
    becomes(&gateway, State::Connected).await;
    if gateway.capabilities().tells_nobody_listens == Tells::Never {
        gateway.publish(to_call("CP001"), call("CP001", 1)).await.unwrap();
    } else {
        let sent = returnable("CP001", "unsubscribed", 1);
        refused(&gateway, &to_call("CP001"), &sent, OutcomeKind::Offline).await;
    }
    publish(&gateway, to_inbox("stays"), call("CP001", 2)).await;
    staying.wait_for(1).await;
    assert_eq!(leaving.count(), 0);
}

/// What failed because the broker was away stays away when it is back, while somebody publishes all the time.
pub async fn nothing_said_to_nobody_is_said_later(broker: &dyn Broker) {
    let (gateway, worker) = (connected(broker).await, connected(broker).await);
    let recorder = Recorder::new();
    let _listens = recorder.listen(&worker, Topic::Inbox("stale".into()), 100_000).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (bus, until) = (Arc::clone(&gateway), Arc::clone(&stop));
    let publishing = tokio::spawn(async move {
        let mut refused = Vec::new();
        let mut seq = 0;
        while !until.load(Ordering::Relaxed) {
            if bus.publish(to_inbox("stale"), call("CP001", seq)).await.is_err() {
                refused.push(seq);
            }
            seq += 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        (refused, seq)
    });
    recorder.wait_for(20).await;
    broker.order(Servant::Kill).await;
    becomes(&gateway, State::Away).await;
    becomes(&worker, State::Away).await;
    let outcome = gateway.publish(to_inbox("stale"), call("CP001", 1_000_000)).await;
    assert!(matches!(outcome, Err(PublishError::Away)), "{outcome:?}");
    tokio::time::sleep(Duration::from_millis(50)).await;
    broker.order(Servant::Start).await;
    becomes(&gateway, State::Connected).await;
    becomes(&worker, State::Connected).await;
    recorder.forget();
    recorder.wait_for(20).await;
    stop.store(true, Ordering::Relaxed);
    let (refused, end) = publishing.await.unwrap();
    publish(&gateway, to_inbox("stale"), call("CP001", end)).await;
    let wait = async {
        while !recorder.all().iter().any(|envelope| envelope.metadata.seq == Some(end)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(super::DEADLINE, wait).await.expect("the last one arrives");
    assert!(!refused.is_empty());
    let came: Vec<u64> = recorder.all().iter().filter_map(|envelope| envelope.metadata.seq).collect();
    let stale: Vec<_> = came.iter().filter(|seq| refused.contains(*seq) || **seq == 1_000_000).collect();
    assert!(stale.is_empty(), "{stale:?} failed, and came all the same");
}

/// Stopped in good order, with a state that whoever watches sees change, and errors that say so.
pub async fn a_broker_that_is_stopped_is_away_until_it_is_back(broker: &dyn Broker) {
    let bus = connected(broker).await;
    let mut states = bus.state();
    assert_eq!(*states.borrow_and_update(), State::Connected);
    broker.order(Servant::Stop).await;
    tokio::time::timeout(super::DEADLINE, states.changed()).await.expect("it is noticed").unwrap();
    assert_eq!(*states.borrow_and_update(), State::Away);
    is_away(&bus).await;
    broker.order(Servant::Start).await;
    tokio::time::timeout(super::DEADLINE, states.changed()).await.expect("it is noticed").unwrap();
    assert_eq!(*states.borrow_and_update(), State::Connected);
    works(&bus).await;
}

/// Making the connection does not wait, nor fail.
pub async fn a_broker_absent_at_the_start_is_waited_for(broker: &dyn Broker) {
    broker.order(Servant::Kill).await;
    let connecting = tokio::time::timeout(super::DEADLINE, broker.connect()).await;
    let bus = connecting.expect("it returns at once");
    assert_eq!(*bus.state().borrow(), State::Away);
    is_away(&bus).await;
    broker.order(Servant::Start).await;
    becomes(&bus, State::Connected).await;
    works(&bus).await;
}

/// Nothing fails then, and yet nothing goes: only the silence tells.
pub async fn a_broker_that_does_not_move_counts_as_away(broker: &dyn Broker) {
    let bus = connected(broker).await;
    broker.order(Servant::Freeze).await;
    becomes(&bus, State::Away).await;
    is_away(&bus).await;
    broker.order(Servant::Thaw).await;
    becomes(&bus, State::Connected).await;
    works(&bus).await;
}

/// And what was closed does not come back with it.
pub async fn closing_does_not_wait_for_a_broker_that_is_away(broker: &dyn Broker) {
    let bus = connected(broker).await;
    let recorder = Recorder::new();
    let _listens = recorder.listen(&bus, Topic::Calls, 8).await;
    broker.order(Servant::Kill).await;
    becomes(&bus, State::Away).await;
    tokio::time::timeout(super::DEADLINE, bus.close()).await.expect("it returns");
    assert_eq!(*bus.state().borrow(), State::Closed);
    broker.order(Servant::Start).await;
    let other = connected(broker).await;
    if other.capabilities().tells_nobody_listens != Tells::Never {
        let sent = returnable("CP001", "closed", 1);
        refused(&other, &to_call("CP001"), &sent, OutcomeKind::Offline).await;
    }
    let outcome = bus.publish(to_call("CP001"), call("CP001", 1)).await;
    assert!(matches!(outcome, Err(PublishError::Closed)), "{outcome:?}");
    assert_eq!(recorder.count(), 0);
}

async fn is_away(bus: &Arc<dyn Bus>) {
    let outcome = bus.publish(to_call("CP001"), call("CP001", 1)).await;
    assert!(matches!(outcome, Err(PublishError::Away)), "{outcome:?}");
    assert!(PublishError::Away.is_retryable());
    let subscription = Subscription { topic: Topic::Presence, in_hand_max: NonZeroU32::MIN };
    let outcome = bus.subscribe(subscription, Recorder::new()).await;
    assert!(matches!(outcome, Err(SubscribeError::Away)), "{:?}", outcome.map(|_| "accepted"));
}

async fn works(bus: &Arc<dyn Bus>) {
    let recorder = Recorder::new();
    let _listens = recorder.listen(bus, Topic::Inbox("works".into()), 8).await;
    publish(bus, to_inbox("works"), call("CP001", 1)).await;
    assert_eq!(recorder.wait_for(1).await, [call("CP001", 1)]);
}

impl fmt::Display for Servant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}
