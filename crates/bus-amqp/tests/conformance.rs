//! Every promise of the contract, over a RabbitMQ of the tests' own.

mod support;

use std::sync::Arc;
use switchboard_bus::conformance::Connecting;
use switchboard_bus::{Bus, bus_conformance};

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
