//! Processing: the books of the central system, the worker that takes calls for it, and its ways to stations.

use super::{Ground, Served, line::Way, readiness};
use crate::{
    exit::Failure,
    settings::{DatabasePlace, Settings},
};
use anyhow::Context;
use bytestring::ByteString;
use prometheus_client::registry::Registry;
use std::{num::NonZeroU32, sync::Arc};
use switchboard_bus::Commander;
use switchboard_central::{Attendance, Central, Database, Server};
use switchboard_directory::{Directory, Locations};
use switchboard_messages::Mode;
use switchboard_worker::Worker;

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
}

/// Opens the books.
pub(super) async fn open_books(settings: &Settings) -> Result<Central, Failure> {
    let mut config = settings.central.clone();
    config.database = match settings.database_place() {
        DatabasePlace::Sqlite(path) => Database::Sqlite { path },
        DatabasePlace::Postgres(urls) => {
            let access = &settings.database_access;
            if access.ca_file.is_some() || access.certificate_file.is_some() || access.key_file.is_some() {
                return Err(Failure::new(
                    crate::exit::Exit::Configuration,
                    "database_ca_file, database_certificate_file and database_key_file cannot be used: the books are \
                     reached without TLS; keep the way to PostgreSQL private, or put a tunnel in between"
                        .to_owned(),
                ));
            }
            let password = access.password.as_ref().map(|password| password.0.clone());
            Database::Postgres(Server { urls, user: access.user.clone(), password })
        }
    };
    let opened = tokio::task::spawn_blocking(move || Central::open(config)).await;
    let opened = opened.context("the books cannot be opened")?;
    opened.map_err(super::store::books_failure)
}

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
        let locations = Arc::new(Locations::new(Arc::clone(directory)));
        let commander = async |purpose: &str| {
            let inbox = format!("{name}-{purpose}");
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
        let worker = switchboard_worker::serve(central.router(), Arc::clone(bus), config)
            .await
            .context("the worker cannot start")?;
        worker.metrics().register(registry);
        let watched = readiness::probe_books(central.clone(), readiness);
        Ok(Self { central, worker, commander, duties, attendance: None, watched })
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
