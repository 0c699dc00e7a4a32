//! Processing: the books of the central system, the worker that takes calls for it, and its ways to stations.

use super::{Ground, Served, line::Way, readiness};
use crate::{
    exit::{Exit, Failure},
    settings::{BusPlace, DatabasePlace, Settings, advice},
};
use anyhow::Context;
use bytestring::ByteString;
use prometheus_client::registry::Registry;
use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use switchboard_bus::{Bus, Commander, Consumer, Done, Envelope, Subscribed, Subscription, Topic, presence};
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
    /// Listens for other workers, where there may be none.
    _company: Option<Subscribed>,
}

/// Opens the books.
pub(super) async fn open_books(settings: &Settings) -> Result<Central, Failure> {
    let mut config = settings.central.clone();
    config.database = match settings.database_place() {
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
    };
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

/// Books in a file belong to one worker. Another one that takes calls of the same stations writes down a part of them
/// elsewhere: if one is there already we do not begin, and one that comes later is told of by log and `/readyz`.
async fn refuse_company(
    bus: &Arc<dyn Bus>,
    name: &ByteString,
    readiness: &readiness::Readiness,
) -> Result<Subscribed, Failure> {
    let others = Arc::new(Others { name: name.clone(), state: Mutex::default() });
    let subscription = Subscription { topic: Topic::Presence, in_hand_max: NonZeroU32::MAX };
    let consumer: Arc<dyn Consumer> = Arc::<Others>::clone(&others);
    let listening = bus.subscribe(subscription, consumer).await.context("the bus refuses")?;
    tokio::time::sleep(LISTEN_FOR).await;
    if let Some(trouble) = others.trouble() {
        return Err(Failure::new(
            Exit::Configuration,
            format!("{trouble}, or this one a --namespace of its own"),
        ));
    }
    others.state().is_begun = true;
    readiness.ask(move || others.trouble());
    Ok(listening)
}

/// Hears the last sign of life of another worker.
#[derive(Debug)]
struct Others {
    name: ByteString,
    state: Mutex<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    last: Option<(ByteString, tokio::time::Instant)>,
    /// We take calls too, and it came after us.
    is_begun: bool,
}

impl Others {
    fn state(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trouble(&self) -> Option<String> {
        let state = self.state();
        let (other, when) = state.last.as_ref()?;
        (when.elapsed() < GONE_AFTER).then(|| {
            format!(
                "another worker, {other}, takes calls of this namespace, and books in SQLite belong to one worker: give \
                 all workers the same --database postgres://…"
            )
        })
    }
}

impl Consumer for Others {
    fn deliver(&self, envelope: Envelope, done: Done) {
        if let Some(worker) = envelope.metadata.worker.filter(|worker| *worker != self.name) {
            let mut state = self.state();
            let is_new = state.last.as_ref().is_none_or(|(known, _)| *known != worker);
            let is_end = presence::is_end(&envelope.body);
            state.last = (!is_end).then(|| (worker, tokio::time::Instant::now()));
            let is_told = is_new && !is_end && state.is_begun;
            drop(state);
            if is_told && let Some(trouble) = self.trouble() {
                tracing::error!("{trouble}; what it takes is missing in the books here");
            }
        }
        drop(done);
    }
}

/// A little more than a beat.
const LISTEN_FOR: Duration = Duration::from_millis(700);
/// A worker that has not been heard for so long has gone.
const GONE_AFTER: Duration = Duration::from_secs(3);

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
        let is_in_file = matches!(settings.database_place(), DatabasePlace::Sqlite(_));
        let company = match settings.bus {
            BusPlace::Broker(..) if is_in_file => Some(refuse_company(bus, &name, readiness).await?),
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
