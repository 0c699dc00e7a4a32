//! The bus: within the process, or at the broker that the settings name.

use crate::{
    exit::{Exit, Failure},
    settings::{BusPlace, Engine, Role, Settings},
};
use anyhow::Context;
use bytestring::ByteString;
use std::{net::SocketAddr, sync::Arc};
use switchboard_bus::{Bus, Commander, Connect, ConnectError, InProcess};
use switchboard_bus_amqp::Amqp;
use switchboard_bus_http::{Http, name_at};
use switchboard_bus_nats::Nats;
use switchboard_directory::{Directory, Locations};
use tokio::net::TcpListener;

/// A bus that was opened.
pub(super) struct Opened {
    /// It.
    pub(super) bus: Arc<dyn Bus>,
    /// The same, if commands can be posted to it.
    http: Option<Arc<Http>>,
}

impl Opened {
    /// Has the commands sent that are posted by those who have no inbox on the bus.
    pub(super) async fn obey(
        &self,
        name: &ByteString,
        directory: &Arc<dyn Directory>,
    ) -> Result<(), Failure> {
        let Some(http) = &self.http else { return Ok(()) };
        let locations = Arc::new(Locations::new(Arc::clone(directory)));
        let commander = Commander::new(Arc::clone(&self.bus), format!("posted-of-{name}"), locations).await;
        http.obey(commander.context("the bus refuses")?.judging(switchboard_worker::unfit_answer));
        Ok(())
    }
}

/// The bus, which need not be there yet. `participant` is the name of this process on it; others post to it at `listener`,
/// where they do.
pub(super) fn open(
    settings: &Settings,
    participant: &ByteString,
    listener: Option<TcpListener>,
) -> Result<Opened, Failure> {
    let BusPlace::Broker(engine, urls) = &settings.bus else {
        return Ok(Opened { bus: Arc::new(InProcess::new()), http: None });
    };
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
    driver(*engine, connect, listener).map_err(|error| {
        let error = anyhow::Error::from(error).context(format!("--bus {} cannot be used", settings.bus));
        Failure { exit: Exit::Configuration, error }
    })
}

fn driver(engine: Engine, connect: Connect, listener: Option<TcpListener>) -> Result<Opened, ConnectError> {
    let bus: Arc<dyn Bus> = match engine {
        Engine::Nats => Arc::new(Nats::connect(connect)?),
        Engine::Mqtt => switchboard_bus_mqtt::connect(connect)?,
        Engine::Amqp => Arc::new(Amqp::connect(connect)?),
        Engine::Http => {
            let listener = listener.map(TcpListener::into_std).transpose();
            let http = match listener.map_err(|error| ConnectError::Driver(error.into()))? {
                Some(listener) => Http::listen(connect, listener)?,
                None => Http::connect(connect)?,
            };
            let http = Arc::new(http);
            return Ok(Opened { bus: Arc::clone(&http) as _, http: Some(http) });
        }
    };
    Ok(Opened { bus, http: None })
}

/// The name of this process on the bus: of its gateway, if it has one. Over HTTP it says where others reach it, at
/// `listens_at` unless the settings know better.
pub(super) fn participant(role: Role, settings: &Settings, listens_at: Option<SocketAddr>) -> ByteString {
    let name = if role.has_stations() && !settings.gateway.name.is_empty() {
        settings.gateway.name.clone()
    } else {
        let kind = if role.has_stations() { "gateway" } else { "worker" };
        format!("{kind}-{}", uuid::Uuid::new_v4().simple())
    };
    let Some(listens_at) = listens_at else { return name.into() };
    match &settings.bus_advertise {
        Some(url) => name_at(&name, url),
        // A worker that cannot be reached by itself gets what it waits for as responses.
        None if listens_at.ip().is_unspecified() => name.into(),
        None => {
            let scheme = if settings.bus_serves_tls() { "https" } else { "http" };
            name_at(&name, &format!("{scheme}://{listens_at}"))
        }
    }
}
