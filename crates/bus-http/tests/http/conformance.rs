//! The contract's promises. There is no broker that comes and goes; what an endpoint does to calls is in `calls`.
//!
//! Nobody keeps a list of inboxes over HTTP: the name of an inbox says where it is, and the directory gives out such names. The
//! suite's names are plain, so something stands here for the directory.

use crate::support::{listening, port};
use bytestring::ByteString;
use futures_util::future::BoxFuture;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use switchboard_bus::{
    Address, Bus, Capabilities, Consumer, Envelope, PublishError, State, SubscribeError, Subscribed,
    Subscription, Topic, conformance::Connecting,
};
use switchboard_bus_http::{Http, name_at};
use tokio::sync::watch;

/// Where the inboxes are.
type Directory = Arc<Mutex<HashMap<ByteString, ByteString>>>;

/// One participant: it listens, and posts calls to all of them.
#[derive(Debug)]
struct Placed {
    bus: Arc<Http>,
    url: String,
    directory: Directory,
}

impl Bus for Placed {
    fn publish(&self, to: Address, envelope: Envelope) -> BoxFuture<'_, Result<(), PublishError>> {
        let placed = match &to {
            Address::Inbox(name) => self.directory.lock().unwrap().get(name).cloned(),
            _ => None,
        };
        Box::pin(async move {
            match (self.bus.publish(to, envelope.clone()).await, placed) {
                // Nobody waits for it at a request.
                (Err(PublishError::NobodyListens), Some(placed)) => {
                    self.bus.publish(Address::Inbox(placed), envelope).await
                }
                (result, _) => result,
            }
        })
    }

    fn subscribe(
        &self,
        subscription: Subscription,
        consumer: Arc<dyn Consumer>,
    ) -> BoxFuture<'_, Result<Subscribed, SubscribeError>> {
        let Topic::Inbox(name) = &subscription.topic else {
            return self.bus.subscribe(subscription, consumer);
        };
        let placed = name_at(name, &self.url);
        self.directory.lock().unwrap().insert(name.clone(), placed.clone());
        let topic = Topic::Inbox(placed);
        let elsewhere = Subscription { topic, in_hand_max: subscription.in_hand_max };
        Box::pin(async move {
            // Others find it by the one name. The other one is what stands in `reply_to`, for what comes as a response.
            let here = self.bus.subscribe(subscription, Arc::clone(&consumer)).await?;
            let elsewhere = self.bus.subscribe(elsewhere, consumer).await?;
            Ok(Subscribed::new(move || drop((here, elsewhere))))
        })
    }

    fn state(&self) -> watch::Receiver<State> {
        self.bus.state()
    }

    fn capabilities(&self) -> Capabilities {
        self.bus.capabilities()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.bus.close()
    }
}

/// No test connects more.
const PARTICIPANTS: usize = 4;

switchboard_bus::bus_conformance!({
    let ports: Vec<_> = (0..PARTICIPANTS).map(|_| port()).collect();
    let urls: Vec<String> = ports.iter().map(|(_, address)| format!("http://{address}/ocpp")).collect();
    let directory = Directory::default();
    let all = ports.into_iter().map(|(listener, address)| Placed {
        bus: listening(urls.join(","), listener),
        url: format!("http://{address}"),
        directory: Arc::clone(&directory),
    });
    let all: Mutex<Vec<Placed>> = Mutex::new(all.collect());
    Connecting(move || {
        let next = all.lock().unwrap().pop().unwrap();
        async move { Arc::new(next) as Arc<dyn Bus> }
    })
});
