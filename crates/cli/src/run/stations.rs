//! The side of the stations: the gateway, and the trace of what goes over its lines.

use super::{Ground, Served, trace};
use crate::{
    exit::{Exit, Failure},
    settings::Settings,
};
use anyhow::Context;
use prometheus_client::registry::Registry;
use std::{
    fs::{File, TryLockError},
    path::Path,
    sync::Arc,
};
use switchboard_bus::SubscribeError;
use switchboard_directory::Directory;
use switchboard_gateway::{Gateway, StartError, UnknownStations};
use switchboard_trace::Trace;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// The gateway that serves stations.
pub(super) struct Stations {
    served: Served,
    trace: Trace,
    failed: CancellationToken,
    _folder: File,
}

/// A gateway that others can reach lets in whom the operator named. Nobody named yet: nobody could come, or everybody.
pub(super) async fn refuse_to_be_open(settings: &Settings, directory: &dyn Directory) -> Result<(), Failure> {
    if settings.listen.ip().is_loopback() || settings.accepts_unknown() {
        return Ok(());
    }
    let accounts = directory.account_count().await.context("the directory cannot be read")?;
    if accounts > 0 {
        return Ok(());
    }
    let place = match &settings.directory {
        Some(place) => format!("--directory {place}"),
        None => format!("--data-dir {}", settings.data_dir.display()),
    };
    Err(Failure::new(
        Exit::Configuration,
        format!(
            "others can reach {}, and no station is registered\n  register stations first:  switchboard stations add CP001 {place}\n  \
             or let in whoever comes, without credentials:  --accept-unknown",
            settings.listen,
        ),
    ))
}

impl Stations {
    /// Begins to serve stations.
    pub(super) async fn start(
        ground: &Ground,
        listener: TcpListener,
        registry: &mut Registry,
    ) -> Result<Self, Failure> {
        let Ground { role, settings, name, data_dir, bus, directory, directory_id, readiness } = ground;
        let folder = own(data_dir)?;
        let mut config = settings.gateway.clone();
        config.name = name.to_string();
        config.directory = Some(directory_id.clone());
        config.refuse_upgrades_after = settings.refuse_upgrades_after(*role);
        if settings.accepts_unknown() {
            config.unknown_stations = UnknownStations::Accept;
            info!(
                listen = %listener.local_addr()?,
                "stations that nobody registered are let in without credentials; accept_unknown = false forbids it"
            );
        }
        let refuses_after = config.refuse_upgrades_after;
        let gateway = Gateway::new(config, Arc::clone(bus), Arc::clone(directory), registry)
            .context("the gateway cannot start")?;
        let trace = trace::start(settings, data_dir, &gateway, registry)?;
        let asked = gateway.clone();
        readiness.ask(move || {
            let away = asked.processing_away_for();
            refuses_after
                .is_some_and(|after| away >= after)
                .then(|| format!("nobody has taken calls of stations for {} s", away.as_secs()))
        });
        let (stop, failed) = (CancellationToken::new(), CancellationToken::new());
        let (stopped, failing) = (stop.clone(), failed.clone());
        let serving = gateway.clone();
        let mut serving = Box::pin(async move { serving.serve(listener, stopped).await });
        tokio::select! {
            ended = &mut serving => ended.map_err(|error| not_taken(name, error))?,
            () = gateway.begun() => {}
        }
        let task = tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(error = &error as &dyn std::error::Error, "the gateway has failed");
                failing.cancel();
            }
        });
        Ok(Self { served: Served { stop, task }, trace, failed, _folder: folder })
    }

    /// What goes over its lines.
    pub(super) fn trace(&self) -> Trace {
        self.trace.clone()
    }

    /// Cancelled when it cannot go on.
    pub(super) fn failed(&self) -> CancellationToken {
        self.failed.clone()
    }

    /// Lets calls be answered, closes the connections over the drain time, and ends. What it recorded is still to be
    /// closed.
    pub(super) async fn stop(self) -> Trace {
        self.served.stop().await;
        self.trace
    }
}

/// Why the gateway cannot begin, and what to do.
fn not_taken(name: &str, error: StartError) -> Failure {
    if matches!(error, StartError::Subscribe(SubscribeError::InboxTaken(_))) {
        return Failure::new(
            Exit::Unreachable,
            format!(
                "another gateway of the name {name} is on the bus: give this one another --gateway-id, or none, or stop \
                 that one"
            ),
        );
    }
    anyhow::Error::from(error).context("the gateway cannot start").into()
}

/// The folder into which one gateway writes.
fn own(data_dir: &Path) -> Result<File, Failure> {
    let path = data_dir.join("gateway.lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("{} cannot be used", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failure::new(
            Exit::Unreachable,
            format!(
                "the data directory {} belongs to another gateway, which records its traffic there; choose another with \
                 --data-dir",
                data_dir.display()
            ),
        )),
        Err(TryLockError::Error(error)) => {
            Err(anyhow::Error::from(error).context(format!("{} cannot be locked", path.display())).into())
        }
    }
}
