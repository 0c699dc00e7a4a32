//! Every promise of the contract, over a RabbitMQ of the tests' own.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which fail by panicking")]

mod support;

use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use switchboard_bus::conformance::{self, Broker, Connecting, Harness, Servant};
use switchboard_bus::{Bus, Connect, bus_conformance};
use switchboard_bus_amqp::Amqp;
use switchboard_testkit::servers::RabbitMq;
use tokio::sync::Mutex;

bus_conformance! {{
    let Some(connect) = support::namespace().await else { return };
    Connecting(move || {
        let mut connect = connect.clone();
        connect.participant = switchboard_bus::Connect::to("").participant;
        async move {
            let bus: Arc<dyn Bus> = Arc::new(support::connected(connect).await);
            bus
        }
    })
}}

/// A broker that takes ten seconds to start: one for all of these, one after the other.
#[tokio::test]
async fn a_broker_may_come_and_go() {
    let name = "a_broker_may_come_and_go";
    let Some(broker) = RabbitMq::start(name).await.unwrap() else { return };
    let url = format!("{}?heartbeat=1", broker.url());
    let broker = Mortal { broker: Mutex::new(broker), url, namespace: AtomicU32::new(0) };
    let tests: [fn(&Mortal) -> BoxFuture<'_, ()>; 6] = [
        |broker| Box::pin(conformance::what_was_subscribed_is_restored(broker)),
        |broker| Box::pin(conformance::what_was_unsubscribed_meanwhile_is_not_restored(broker)),
        |broker| Box::pin(conformance::nothing_said_to_nobody_is_said_later(broker)),
        |broker| Box::pin(conformance::a_broker_that_is_stopped_is_away_until_it_is_back(broker)),
        |broker| Box::pin(conformance::a_broker_that_does_not_move_counts_as_away(broker)),
        |broker| Box::pin(conformance::closing_does_not_wait_for_a_broker_that_is_away(broker)),
    ];
    for test in tests {
        broker.namespace.fetch_add(1, Ordering::Relaxed);
        test(&broker).await;
    }
    broker.namespace.fetch_add(1, Ordering::Relaxed);
    conformance::a_broker_absent_at_the_start_is_waited_for(&broker).await;
}

#[derive(Debug)]
struct Mortal {
    broker: Mutex<RabbitMq>,
    url: String,
    namespace: AtomicU32,
}

impl Harness for Mortal {
    fn connect(&self) -> BoxFuture<'_, Arc<dyn Bus>> {
        let namespace = format!("mortal-{}", self.namespace.load(Ordering::Relaxed));
        let connect = Connect { namespace: namespace.into(), ..Connect::to(self.url.clone()) };
        let bus: Arc<dyn Bus> = Arc::new(Amqp::connect(connect).unwrap());
        Box::pin(std::future::ready(bus))
    }
}

impl Broker for Mortal {
    fn order(&self, servant: Servant) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut broker = self.broker.lock().await;
            match servant {
                Servant::Start => broker.start().await,
                Servant::Kill => broker.kill(),
                Servant::Stop => broker.stop(),
                Servant::Freeze => broker.freeze(),
                Servant::Thaw => broker.thaw(),
            }
            .unwrap();
        })
    }
}
