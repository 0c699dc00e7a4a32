//! Processing: the books of the central system, the worker that takes calls for it, and its ways to stations.

use super::{Ground, Served, company, line::Way, readiness};
use crate::{
    exit::Failure,
    settings::{BusPlace, DatabasePlace, Settings, advice},
};
use anyhow::Context;
use bytestring::ByteString;
use prometheus_client::registry::Registry;
use std::{num::NonZeroU32, sync::Arc, time::Duration};
use switchboard_bus::{Commander, Subscribed, presence::Facts};
use switchboard_central::{Address, Attendance, Central, Database};
use switchboard_directory::{Directory, Locations};
use switchboard_messages::Mode;
use switchboard_worker::Worker;
use tokio_util::sync::CancellationToken;

/// What takes calls, and what is owed to stations.
pub(super) struct Processing {
    central: Central,
    worker: Worker,
    /// For commands of operators.
    commander: Commander,
    /// For commands of the central system's own.
    duties: Commander,
    attendance: Option<Attendance>,
    watched: Served,
    /// Listens for workers that this one does not go with.
    _company: Option<Subscribed>,
}

/// Where the books are, and as whom they are reached.
pub(super) fn books(settings: &Settings) -> Database {
    match settings.database_place() {
        DatabasePlace::Sqlite(path) => Database::Sqlite { path },
        DatabasePlace::Postgres(urls) => {
            let access = &settings.database_access;
            let address = |url| {
                let mut address = Address::to(url);
                address.user.clone_from(&access.user);
                address.password = access.password.as_ref().map(|password| password.0.clone());
                address.ca_file.clone_from(&access.ca_file);
                address.certificate_file.clone_from(&access.certificate_file);
                address.key_file.clone_from(&access.key_file);
                address
            };
            Database::Postgres(urls.into_iter().map(address).collect())
        }
    }
}

/// Opens the books.
pub(super) async fn open_books(settings: &Settings) -> Result<Central, Failure> {
    let mut config = settings.central.clone();
    config.database = books(settings);
    let opened = tokio::task::spawn_blocking(move || Central::open(config)).await;
    let opened = opened.context("the books cannot be opened")?;
    opened.map_err(|error| {
        let advice = advice("database", &error);
        let failure = super::store::books_failure(error);
        match advice {
            Some(advice) => Failure::new(failure.exit, format!("{:#}; {advice}", failure.error)),
            None => failure,
        }
    })
}

/// Waits until the books can be read: those at a server may be away; false if told to stop before.
pub(super) async fn books_are_there(
    central: &Central,
    place: &DatabasePlace,
    readiness: &readiness::Readiness,
    stop: &CancellationToken,
) -> bool {
    let mut told = false;
    while let Err(error) = central.generation_max().await {
        if !told {
            let advice = advice("database", &error);
            tracing::warn!(error = &error as &dyn std::error::Error, advice, "waiting for the books {place}");
            readiness.waits_for(Some(format!("waiting for the books {place}")));
            told = true;
        }
        tokio::select! {
            () = stop.cancelled() => return false,
            () = tokio::time::sleep(BOOKS_AGAIN_AFTER) => {}
        }
    }
    if told {
        tracing::info!("the books {place} are there");
        readiness.waits_for(None);
    }
    true
}

/// How often books that are away are asked again.
const BOOKS_AGAIN_AFTER: Duration = Duration::from_millis(500);

impl Processing {
    /// Begins to take calls.
    pub(super) async fn start(
        ground: &Ground,
        central: Central,
        registry: &mut Registry,
    ) -> Result<Self, Failure> {
        let Ground { role, settings, bus, directory, readiness, .. } = ground;
        // Beside a gateway it has a name of its own, as each has an inbox.
        let name: ByteString = if role.has_stations() {
            format!("worker-of-{}", ground.name).into()
        } else {
            ground.name.clone()
        };
        central.register_metrics(registry);
        let mut facts = Facts { directory: Some(ground.directory_id.clone()), ..Facts::default() };
        facts.generation = central.generation_max().await.context("the books cannot be read")?;
        facts.books = central.identity().await.context("the books cannot be read")?.map(Into::into);
        let company = match settings.bus {
            BusPlace::Broker(..) => Some(company::watch(bus, &name, facts.books.clone(), readiness).await?),
            _ => None,
        };
        let locations = Arc::new(Locations::new(Arc::clone(directory)));
        let commander = async |purpose: &str| {
            // The name comes last: over HTTP it says where the inbox is.
            let inbox = format!("{purpose}-of-{name}");
            let commander = Commander::new(Arc::clone(bus), inbox, Arc::clone(&locations) as _).await;
            // C12, also for commands that no handler sent.
            commander.map(|commander| commander.judging(switchboard_worker::unfit_answer))
        };
        let duties = commander("central").await.context("the bus refuses")?;
        let commander = commander("api").await.context("the bus refuses")?;

        let mut config = switchboard_worker::Config::default();
        config.id = name.clone();
        config.in_hand_max = NonZeroU32::new(settings.worker_in_hand_max).unwrap_or(config.in_hand_max);
        config.mode = if settings.strict { Mode::Strict } else { Mode::Lenient };
        config.commander = Some(commander.clone());
        config.facts = facts;
        let worker = switchboard_worker::serve(central.router(), Arc::clone(bus), config)
            .await
            .context("the worker cannot start")?;
        worker.metrics().register(registry);
        let watched = readiness::probe_books(central.clone(), readiness);
        Ok(Self { central, worker, commander, duties, attendance: None, watched, _company: company })
    }

    /// Begins to send what is owed to stations.
    pub(super) async fn attend(&mut self, directory: &Arc<dyn Directory>) -> Result<(), Failure> {
        let way = Way { commander: self.duties.clone(), directory: Arc::clone(directory) };
        self.attendance = Some(self.central.attend(Arc::new(way)).await.context("what is owed to stations")?);
        Ok(())
    }

    /// Sends commands of operators.
    pub(super) fn commander(&self) -> Commander {
        self.commander.clone()
    }

    /// Its books.
    pub(super) fn central(&self) -> Arc<Central> {
        Arc::new(self.central.clone())
    }

    /// Finishes what is in hand, writes it down and ends.
    pub(super) async fn stop(self) {
        if let Some(attendance) = self.attendance {
            // Every call to a station has its outcome by now, and finds the books open to write it down.
            attendance.stop().await;
        }
        self.worker.stop().await;
        self.watched.stop().await;
        self.central.close().await;
    }
}
