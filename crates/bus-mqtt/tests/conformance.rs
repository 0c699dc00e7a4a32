//! The contract's promises, over Mosquitto.

#![expect(clippy::unwrap_used, reason = "what makes participants is no test by itself, but fails like one")]

use std::sync::{Arc, atomic::AtomicU32, atomic::Ordering};
use switchboard_bus::{Bus, Connect, State, conformance::Connecting};
use switchboard_bus_mqtt::Mqtt;
use switchboard_testkit::servers::Mosquitto;
use tokio::sync::OnceCell;

static SERVER: OnceCell<Option<Mosquitto>> = OnceCell::const_new();
static NAMESPACES: AtomicU32 = AtomicU32::new(0);

/// The broker of all tests here; each has a namespace of its own.
async fn url() -> Option<String> {
    let server =
        SERVER.get_or_init(|| async { Mosquitto::start("conformance of the bus over MQTT").await.unwrap() });
    server.await.as_ref().map(|server| server.url())
}

async fn participant(url: String, namespace: u32) -> Arc<dyn Bus> {
    let mut connect = Connect::to(url);
    connect.namespace = format!("test{namespace}").into();
    let bus = Mqtt::connect(connect).unwrap();
    let mut state = bus.state();
    let connected = state.wait_for(|state| *state == State::Connected);
    drop(tokio::time::timeout(std::time::Duration::from_secs(30), connected).await.unwrap().unwrap());
    Arc::new(bus)
}

switchboard_bus::bus_conformance!({
    let Some(url) = url().await else { return };
    let namespace = NAMESPACES.fetch_add(1, Ordering::Relaxed);
    Connecting(move || participant(url.clone(), namespace))
});
