//! The processes: `switchboard run`, everything in one; `switchboard gateway` and `switchboard worker`, each a part of it.
//!
//! All three are put together from the same parts, each made of those before it: ports, directory, books, bus,
//! processing, stations, API, simulated stations. They are closed in the reverse order. So whoever is asked something is
//! there before whoever asks, and what was taken is written before its keeper goes. The admin port is served first, so
//! that what is waited for can be asked.

mod banner;
mod bus;
mod company;
mod demo;
pub(crate) mod directory;
mod limits;
mod line;
mod listen;
mod ports;
mod process;
mod processing;
mod readiness;
mod rehearse;
mod serve;
pub(crate) mod signals;
mod stations;
pub(crate) mod store;
pub(crate) mod trace;

pub(crate) use rehearse::rehearse;

use crate::{
    exit::{Exit, Failure},
    logging,
    settings::{DatabasePlace, Role, Settings},
};
use anyhow::Context;
use bytestring::ByteString;
use ports::Ports;
use processing::Processing;
use prometheus_client::registry::Registry;
use readiness::Readiness;
use stations::Stations;
use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
};
use switchboard_api::{Api, Traffic, Watched, admin};
use switchboard_bus::Bus;
use switchboard_directory::Directory;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Runs in a role until it is told to stop.
pub(crate) fn run(role: Role, settings: Settings) -> Result<Exit, Failure> {
    let log = logging::install(&settings)
        .map_err(|faults| Failure { exit: Exit::Configuration, error: faults.into() })?;
    limits::raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let mut signals = signals::Signals::new()?;
        let reporting = tokio::spawn(readiness::report_log(Arc::clone(&log)));
        let (running, told) = match Running::start(role, settings, &mut signals).await? {
            Started::Running(running, told) => (running, told),
            Started::NotYet => {
                info!("stopped");
                return Ok(Exit::Done);
            }
            Started::ToldTwice => return Ok(Exit::Interrupted),
        };
        // Not within the macro: what is not logged is not evaluated.
        let signal = match told {
            Some(signal) => Some(signal),
            None => tokio::select! {
                signal = signals.next() => Some(signal),
                () = running.failed() => None,
            },
        };
        match signal {
            Some(signal) => info!(signal, "stopping; once more stops at once"),
            None => warn!("stopping, since a part of this process cannot go on"),
        }
        let ended = tokio::select! {
            () = running.stop() => if signal.is_some() { Exit::Done } else { Exit::Internal },
            signal = signals.next() => {
                warn!(signal, "stopped at once");
                Exit::Interrupted
            }
        };
        reporting.abort();
        log.report();
        Ok(ended)
    });
    // Whoever was told twice does not want to wait for anything.
    runtime.shutdown_background();
    ended
}

/// Everything that runs.
struct Running {
    readiness: Readiness,
    directory: Arc<dyn Directory>,
    bus: Arc<dyn Bus>,
    processing: Option<Processing>,
    stations: Option<Stations>,
    front_ends: Vec<Served>,
    demo: Option<demo::Demo>,
    ports: Option<PathBuf>,
}

/// How far a start came.
enum Started {
    /// Everything is there; and the signal that came meanwhile.
    Running(Box<Running>, Option<&'static str>),
    /// Told to stop while it waited for what it needs.
    NotYet,
    /// Told twice.
    ToldTwice,
}

/// What the parts of a process are put on.
struct Ground {
    role: Role,
    settings: Settings,
    /// The name of this process on the bus and, if it is a gateway, in the directory.
    name: ByteString,
    data_dir: PathBuf,
    bus: Arc<dyn Bus>,
    directory: Arc<dyn Directory>,
    /// Which one that is, as processes tell each other.
    directory_id: ByteString,
    readiness: Readiness,
}

/// Something that serves until it is told to stop.
struct Served {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Served {
    async fn stop(self) {
        self.stop.cancel();
        // A task that panicked has been reported by the hook.
        drop(self.task.await);
    }
}

impl Running {
    /// Starts everything. Told to stop in the middle of that, it ends if it waits for something that is away; else it
    /// begins to stop when all is there, as then everybody knows how to end.
    async fn start(
        role: Role,
        settings: Settings,
        signals: &mut signals::Signals,
    ) -> Result<Started, Failure> {
        let stop = CancellationToken::new();
        let mut starting = std::pin::pin!(Self::start_all(role, settings, stop.clone()));
        let all = |started: Option<Self>, told| {
            started.map_or(Started::NotYet, |running| Started::Running(Box::new(running), told))
        };
        let told = tokio::select! {
            started = &mut starting => return started.map(|started| all(started, None)),
            signal = signals.next() => signal,
        };
        stop.cancel();
        tokio::select! {
            started = starting => started.map(|started| all(started, Some(told))),
            _ = signals.next() => Ok(Started::ToldTwice),
        }
    }

    /// None if told to stop while something was waited for.
    async fn start_all(
        role: Role,
        settings: Settings,
        stop: CancellationToken,
    ) -> Result<Option<Self>, Failure> {
        let readiness = Readiness::default();
        // What is in files of this machine comes first: who has them says more than whose ports they are.
        let file = directory::open_file(&settings).await?;
        store::make_folder(&settings.data_dir)?;
        let data_dir = std::fs::canonicalize(&settings.data_dir)?;
        let books = if role.has_processing() { Some(processing::open_books(&settings).await?) } else { None };
        let (mut bound, addresses) = Ports::bind(role, &settings).await?;
        let name = bus::participant(role, &settings, addresses.bus);
        let metrics = Arc::new(OnceLock::new());
        let watched = Watched::default();
        let mut front_ends =
            vec![serve_admin(&settings, addresses.admin, &metrics, &readiness, &watched, bound.admin)];

        // Before anything is waited for, as what can never work is said at once.
        let opened_bus = bus::open(&settings, &name, bound.bus.take())?;
        let bus = Arc::clone(&opened_bus.bus);
        let opened = match file {
            Some(opened) => opened,
            None => match directory::reach(&settings, &readiness, &stop).await? {
                Some(opened) => opened,
                None => return Ok(None),
            },
        };
        let directory = Arc::clone(&opened.directory);
        if role.has_stations() {
            stations::refuse_to_be_open(&settings, &*directory).await?;
        }
        if let Some(books) = &books
            && matches!(settings.database_place(), DatabasePlace::Postgres(_))
            && !processing::books_are_there(books, &settings.database_place(), &readiness, &stop).await
        {
            return Ok(None);
        }
        if let (Some(books), Some(file)) = (&books, &opened.file) {
            // A directory that was lost, on a machine whose clock was set back, would give generations that the books
            // take for those of the past, and nothing that a station says would be heard any more.
            file.raise_generations(books.generation_max().await.context("the books cannot be read")?);
        }
        front_ends.push(directory::watch(&opened, &readiness));
        if !readiness::bus_is_there(&*bus, &settings.bus.to_string(), &readiness, &stop).await {
            return Ok(None);
        }
        let agreed = directory::agree(role, &settings, &*directory, &readiness, &stop).await?;
        let Some(directory_id) = agreed else { return Ok(None) };

        if role.has_stations() {
            opened_bus.obey(&name, &directory).await?;
        }
        let ground = Ground { role, settings, name, data_dir, bus, directory, directory_id, readiness };
        let mut registry = Registry::default();
        process::register(&mut registry);
        let mut processing = match books {
            Some(books) => Some(Processing::start(&ground, books, &mut registry).await?),
            None => None,
        };
        let stations = match bound.stations {
            Some(listener) => Some(Stations::start(&ground, listener, &mut registry).await?),
            None => None,
        };
        let Ground { settings, name, data_dir, bus, directory, readiness, .. } = ground;
        if let Some(stations) = &stations {
            watched.begin(stations.trace());
        }
        if let Some(processing) = &mut processing {
            processing.attend(&directory).await?;
        }
        if let (Some(listener), Some(processing)) = (bound.api, &processing) {
            let stop = CancellationToken::new();
            let api = Api {
                directory: Arc::clone(&directory),
                commander: processing.commander(),
                traffic: match &stations {
                    Some(stations) => Traffic::Here(stations.trace()),
                    None => Traffic::Elsewhere(switchboard_trace::redactor_in(&trace::folder(&data_dir))),
                },
                central: Some(processing.central()),
                token: settings.api_token.as_ref().map(|token| token.0.clone()),
                data_dir: data_dir.display().to_string(),
                stations_listen: addresses.stations.map(|address| address.to_string()),
                shutdown: stop.clone(),
            };
            front_ends.push(serve::serve(listener, switchboard_api::router(api), stop));
        }
        // Nobody set it before.
        drop(metrics.set(registry));
        let demo = match addresses.stations {
            Some(address) => Some(demo::Demo::start(&settings, address, &*directory).await?),
            None => None,
        };
        readiness.begun(true);
        info!(
            role = role.word(), %name, stations = ?addresses.stations, api = ?addresses.api, admin = %addresses.admin,
            data_dir = %data_dir.display(), bus = %settings.bus, directory = %opened.place, "running"
        );
        banner::show(role, &settings, &addresses)?;
        // The very last thing, so that nothing can fail that would leave the file behind.
        if let Some(path) = &settings.ports_file {
            addresses.write(path)?;
        }
        let ports = settings.ports_file;
        Ok(Some(Self { readiness, directory, bus, processing, stations, front_ends, demo, ports }))
    }

    /// Waits until a part cannot go on.
    async fn failed(&self) {
        match &self.stations {
            Some(stations) => stations.failed().cancelled_owned().await,
            None => std::future::pending().await,
        }
    }

    /// Stops everything: nothing new is accepted, what is in hand is answered, connections are closed with 1001 over the
    /// drain time, and what was promised is written.
    async fn stop(self) {
        self.readiness.begun(false);
        if let Some(demo) = self.demo {
            demo.stop().await;
        }
        let trace = match self.stations {
            Some(stations) => Some(stations.stop().await),
            None => None,
        };
        if let Some(processing) = self.processing {
            processing.stop().await;
        }
        for front_end in self.front_ends {
            front_end.stop().await;
        }
        if let Some(trace) = trace {
            trace.close().await;
        }
        if let Err(error) = self.directory.close().await {
            warn!(error = &error as &dyn std::error::Error, "the directory could not be closed properly");
        }
        self.bus.close().await;
        if let Some(path) = self.ports {
            // Somebody may have removed it already.
            drop(std::fs::remove_file(path));
        }
        info!("stopped");
    }
}

/// Serves what machines ask about the process, and the traffic of its stations.
fn serve_admin(
    settings: &Settings,
    address: std::net::SocketAddr,
    metrics: &Arc<OnceLock<Registry>>,
    readiness: &Readiness,
    watched: &Watched,
    listener: tokio::net::TcpListener,
) -> Served {
    let stop = CancellationToken::new();
    let token = settings.api_token.as_ref().map(|token| token.0.as_str());
    let traffic = switchboard_api::traffic(watched.clone(), token, address.ip().is_loopback(), stop.clone());
    let router = admin::router(Arc::clone(metrics), readiness.for_admin()).merge(traffic);
    serve::serve(listener, router, stop)
}
