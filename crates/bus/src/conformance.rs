//! The contract's promises as tests, for every implementation of [`Bus`].
//!
//! An implementation's tests are one line: [`bus_conformance!`](crate::bus_conformance) with a function that makes a
//! [`Harness`]. What a transport cannot promise it says in its [`Capabilities`](crate::Capabilities), which the tests
//! read. Each test uses names of its own, so that they may share a broker.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "these are tests; they fail by panicking"
)]

mod broker;
mod delivery;
mod recorder;
mod sharing;
mod whereabouts;

pub use broker::{
    Broker, Servant, a_broker_absent_at_the_start_is_waited_for, a_broker_that_does_not_move_counts_as_away,
    a_broker_that_is_stopped_is_away_until_it_is_back, closing_does_not_wait_for_a_broker_that_is_away,
    nothing_said_to_nobody_is_said_later, what_was_subscribed_is_restored,
    what_was_unsubscribed_meanwhile_is_not_restored,
};
pub use delivery::{
    a_body_larger_than_the_limit_is_refused,
    a_consumer_may_publish_and_subscribe_while_it_is_given_something, a_megabyte_arrives_as_it_was,
    every_header_arrives_as_it_was, order_is_kept_to_one_inbox, what_is_published_to_an_inbox_arrives_there,
};
pub use recorder::Recorder;
pub use sharing::{
    a_call_goes_to_one_of_those_who_compete, a_command_to_wherever_its_station_is_goes_to_one_gateway,
    a_consumer_that_panics_loses_only_what_it_was_given, a_dropped_done_makes_room,
    a_dropped_subscription_gets_nothing_more, after_closing_nothing_goes,
    an_inbox_has_one_owner_until_it_lets_go, events_are_told_to_all, full_hands_are_busy,
    nobody_listening_is_told, presence_is_told_to_all,
};
pub use whereabouts::Whereabouts;

use crate::{Address, Bus, ConnectionKey, Envelope, Kind, Metadata, OutcomeKind, PublishError, State, Topic};
use bytes::Bytes;
use bytestring::ByteString;
use futures_util::future::BoxFuture;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use switchboard_rpc::StationId;

/// Makes connections to one bus: a broker of its own, or the one bus of this process.
pub trait Harness: fmt::Debug + Send + Sync {
    /// Another participant. Those of one harness reach each other.
    fn connect(&self) -> BoxFuture<'_, Arc<dyn Bus>>;
}

/// Any asynchronous function that makes participants is a harness.
pub struct Connecting<F>(pub F);

impl<F> fmt::Debug for Connecting<F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Connecting")
    }
}

impl<F, R> Harness for Connecting<F>
where
    F: Fn() -> R + Send + Sync,
    R: Future<Output = Arc<dyn Bus>> + Send + 'static,
{
    fn connect(&self) -> BoxFuture<'_, Arc<dyn Bus>> {
        Box::pin((self.0)())
    }
}

/// Yields one test per promise. The argument is an expression that makes a [`Harness`]; it may await.
#[macro_export]
macro_rules! bus_conformance {
    ($harness:expr) => {
        $crate::bus_conformance! { @tests $harness;
            what_is_published_to_an_inbox_arrives_there
            every_header_arrives_as_it_was
            a_megabyte_arrives_as_it_was
            a_body_larger_than_the_limit_is_refused
            order_is_kept_to_one_inbox
            a_consumer_may_publish_and_subscribe_while_it_is_given_something
            a_call_goes_to_one_of_those_who_compete
            a_command_to_wherever_its_station_is_goes_to_one_gateway
            nobody_listening_is_told
            full_hands_are_busy
            a_dropped_done_makes_room
            an_inbox_has_one_owner_until_it_lets_go
            presence_is_told_to_all
            events_are_told_to_all
            a_consumer_that_panics_loses_only_what_it_was_given
            a_dropped_subscription_gets_nothing_more
            after_closing_nothing_goes
        }
    };
    (@tests $harness:expr; $($name:ident)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                let harness = $harness;
                $crate::conformance::$name(&harness).await;
            }
        )*
    };
}

/// Yields one test per promise about a broker that comes and goes. The argument is an expression that makes a
/// [`Broker`] of which a test has the sole use; it may await. Where a broker takes long to start, a test of the driver's
/// own may call the functions one after the other on the same one.
#[macro_export]
macro_rules! bus_conformance_broker {
    ($broker:expr) => {
        $crate::bus_conformance! { @tests $broker;
            what_was_subscribed_is_restored
            what_was_unsubscribed_meanwhile_is_not_restored
            nothing_said_to_nobody_is_said_later
            a_broker_that_is_stopped_is_away_until_it_is_back
            a_broker_absent_at_the_start_is_waited_for
            a_broker_that_does_not_move_counts_as_away
            closing_does_not_wait_for_a_broker_that_is_away
        }
    };
}

/// How long a test waits for what must come. Long, since the machine may be slow; nothing waits for it to pass.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) fn station(id: &str) -> StationId {
    StationId::new(id.to_owned(), 48).unwrap()
}

/// A call whose number is in its metadata and in its body.
pub(crate) fn call(id: &str, seq: u64) -> Envelope {
    let mut metadata = Metadata::new(Kind::Call);
    metadata.station = Some(station(id));
    metadata.action = Some("Heartbeat".into());
    metadata.seq = Some(seq);
    metadata.attempt = 1;
    Envelope::new(metadata, Bytes::from(format!(r#"[2,"{seq}","Heartbeat",{{}}]"#)))
}

pub(crate) fn to_call(id: &str) -> Address {
    Address::Call { tenant: "default".into(), station: station(id) }
}

pub(crate) fn to_command(id: &str) -> Address {
    Address::Command { tenant: "default".into(), station: station(id) }
}

pub(crate) fn to_inbox(name: &str) -> Address {
    Address::Inbox(ByteString::from(name))
}

/// Publishes, again and again while the error is one that passes: a broker may still be making the queue.
pub(crate) async fn publish(bus: &Arc<dyn Bus>, to: Address, envelope: Envelope) {
    let attempts = async {
        loop {
            match bus.publish(to.clone(), envelope.clone()).await {
                Ok(()) => return,
                Err(error) if error.is_retryable() => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(error) => panic!("publishing to {to:?} failed: {error}"),
            }
        }
    };
    tokio::time::timeout(DEADLINE, attempts).await.expect("it is accepted in time");
}

/// A call that can come back to this inbox, which is its gateway's.
pub(crate) fn returnable(id: &str, inbox: &'static str, seq: u64) -> Envelope {
    let mut envelope = call(id, seq);
    envelope.metadata.reply_to = Some(inbox.into());
    envelope.metadata.connection =
        Some(ConnectionKey { gateway: inbox.into(), generation: 1_795_341_600_000 });
    envelope.metadata.attempt = 3;
    envelope
}

/// Publishes until it fails or comes back with that reason: a broker may need a moment to notice. `envelope` is
/// [`returnable`].
pub(crate) async fn refused(bus: &Arc<dyn Bus>, to: &Address, envelope: &Envelope, reason: OutcomeKind) {
    let inbox = envelope.metadata.reply_to.clone().unwrap();
    let returns = Recorder::new();
    let _returns = returns.listen(bus, Topic::Inbox(inbox), 1024).await;
    let told = |envelope: &Envelope| envelope.metadata.outcome == Some(reason);
    let attempts = async {
        loop {
            match (bus.publish(to.clone(), envelope.clone()).await, reason) {
                (Err(PublishError::NobodyListens), OutcomeKind::Offline) => return,
                (Err(PublishError::Busy), OutcomeKind::Busy) => return,
                _ if returns.all().iter().any(told) => return,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::time::timeout(DEADLINE, attempts).await.expect("it is refused in time");
}

/// Waits until the bus says that it is so.
pub(crate) async fn becomes(bus: &Arc<dyn Bus>, state: State) {
    let mut states = bus.state();
    let became = tokio::time::timeout(DEADLINE, states.wait_for(|present| *present == state)).await;
    drop(became.unwrap_or_else(|_| panic!("the bus should become {state:?} in time")).unwrap());
}
