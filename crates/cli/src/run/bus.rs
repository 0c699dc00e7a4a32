//! The bus: within the process, or at the broker that the settings name.

use crate::{
    exit::{Exit, Failure},
    settings::{BusPlace, Engine, Role, Settings},
};
use bytestring::ByteString;
use std::sync::Arc;
use switchboard_bus::{Bus, Connect, ConnectError, InProcess};
use switchboard_bus_amqp::Amqp;
use switchboard_bus_nats::Nats;

/// The bus, which need not be there yet. `participant` is the name of this process on it.
pub(super) fn open(settings: &Settings, participant: &ByteString) -> Result<Arc<dyn Bus>, Failure> {
    let BusPlace::Broker(engine, urls) = &settings.bus else { return Ok(Arc::new(InProcess::new())) };
    let access = &settings.bus_access;
    let connect = Connect {
        urls: urls.clone(),
        namespace: settings.namespace.as_str().into(),
        participant: participant.clone(),
        partitions: settings.partitions,
        tls: access.tls(),
        user: access.user.clone(),
        password: access.secret(),
    };
    driver(*engine, connect).map_err(|error| {
        let error = anyhow::Error::from(error).context(format!("--bus {} cannot be used", settings.bus));
        Failure { exit: Exit::Configuration, error }
    })
}

fn driver(engine: Engine, connect: Connect) -> Result<Arc<dyn Bus>, ConnectError> {
    let scheme = match engine {
        Engine::Nats => return Ok(Arc::new(Nats::connect(connect)?)),
        Engine::Mqtt => return switchboard_bus_mqtt::connect(connect),
        Engine::Amqp => return Ok(Arc::new(Amqp::connect(connect)?)),
        Engine::Http => "http",
    };
    Err(ConnectError::Driver(format!("this version of switchboard has no driver for {scheme}://").into()))
}

/// The name of this process on the bus: of its gateway, if it has one.
pub(super) fn participant(role: Role, settings: &Settings) -> ByteString {
    if role.has_stations() && !settings.gateway.name.is_empty() {
        return settings.gateway.name.as_str().into();
    }
    let kind = if role.has_stations() { "gateway" } else { "worker" };
    format!("{kind}-{}", uuid::Uuid::new_v4().simple()).into()
}
