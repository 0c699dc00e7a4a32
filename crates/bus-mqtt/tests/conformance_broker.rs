//! The promises about a broker that comes and goes, over Mosquitto.

#![expect(clippy::unwrap_used, reason = "what makes participants is no test by itself, but fails like one")]

use futures_util::future::BoxFuture;
use std::sync::Arc;
use switchboard_bus::{
    Bus, Connect,
    conformance::{Broker, Harness, Servant},
};
use switchboard_bus_mqtt::Mqtt;
use switchboard_testkit::servers::Mosquitto;
use tokio::sync::Mutex;

#[derive(Debug)]
struct Private {
    url: String,
    server: Mutex<Mosquitto>,
}

impl Private {
    async fn start() -> Option<Self> {
        let server = Mosquitto::start("an MQTT broker that comes and goes").await.unwrap()?;
        Some(Self { url: server.url(), server: Mutex::new(server) })
    }
}

impl Harness for Private {
    fn connect(&self) -> BoxFuture<'_, Arc<dyn Bus>> {
        Box::pin(async {
            let bus: Arc<dyn Bus> = Arc::new(Mqtt::connect(Connect::to(self.url.as_str())).unwrap());
            bus
        })
    }
}

impl Broker for Private {
    fn order(&self, servant: Servant) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut server = self.server.lock().await;
            match servant {
                Servant::Start => server.start().await.unwrap(),
                Servant::Kill => server.kill().unwrap(),
                Servant::Stop => server.stop().unwrap(),
                Servant::Freeze => server.freeze().unwrap(),
                Servant::Thaw => server.thaw().unwrap(),
            }
        })
    }
}

switchboard_bus::bus_conformance_broker!({
    let Some(broker) = Private::start().await else { return };
    broker
});
