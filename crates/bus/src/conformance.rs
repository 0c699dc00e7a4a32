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

mod delivery;
mod recorder;
mod sharing;

pub use delivery::{
    a_body_larger_than_the_limit_is_refused,
    a_consumer_may_publish_and_subscribe_while_it_is_given_something, a_megabyte_arrives_as_it_was,
    every_header_arrives_as_it_was, order_is_kept_to_one_inbox, what_is_published_to_an_inbox_arrives_there,
};
pub use recorder::Recorder;
pub use sharing::{
    a_call_goes_to_one_of_those_who_compete, a_consumer_that_panics_loses_only_what_it_was_given,
    a_dropped_done_makes_room, a_dropped_subscription_gets_nothing_more, after_closing_nothing_goes,
    an_inbox_has_one_owner_until_it_lets_go, events_are_told_to_all, full_hands_are_busy,
    nobody_listening_is_told, presence_is_told_to_all,
};

use crate::{Address, Bus, Envelope, Kind, Metadata, PublishError};
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

/// Publishes until it fails with the error that is looked for: a broker may need a moment to notice.
pub(crate) async fn publish_fails(
    bus: &Arc<dyn Bus>,
    to: &Address,
    envelope: &Envelope,
    is_it: impl Fn(&PublishError) -> bool,
) {
    let attempts = async {
        loop {
            match bus.publish(to.clone(), envelope.clone()).await {
                Err(error) if is_it(&error) => return,
                Ok(()) | Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::time::timeout(DEADLINE, attempts).await.expect("it fails as it should in time");
}
