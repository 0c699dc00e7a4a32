//! `switchboard run`: everything in one process.
//!
//! Opened in this order, closed in the reverse one: directory, books, bus, worker, gateway, API, simulated stations. So
//! whoever is asked something is there before whoever asks, and what was taken is written before its keeper goes.

mod banner;
mod demo;
mod limits;
mod line;
mod listen;
mod ports;
mod serve;
pub(crate) mod signals;
pub(crate) mod store;
pub(crate) mod trace;
mod watch;

use crate::{
    exit::{Exit, Failure},
    logging,
    settings::Settings,
};
use anyhow::Context;
use prometheus_client::registry::Registry;
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use switchboard_api::{Api, admin};
use switchboard_bus::{Bus, Commander, InProcess};
use switchboard_central::{Attendance, Central};
use switchboard_directory::{Directory, Embedded, Locations};
use switchboard_gateway::{Gateway, UnknownStations};
use switchboard_messages::Mode;
use switchboard_trace::Trace;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Runs until it is told to stop.
pub(crate) fn run(settings: Settings) -> Result<Exit, Failure> {
    let log = logging::install(&settings)
        .map_err(|faults| Failure { exit: Exit::Configuration, error: faults.into() })?;
    limits::raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let mut signals = signals::Signals::new()?;
        let reporting = tokio::spawn(watch::report_log(Arc::clone(&log)));
        let running = Running::start(settings, &mut signals).await?;
        let Some((running, told)) = running else { return Ok(Exit::Interrupted) };
        // Not within the macro: what is not logged is not evaluated.
        let signal = match told {
            Some(signal) => signal,
            None => signals.next().await,
        };
        info!(signal, "stopping; once more stops at once");
        let ended = tokio::select! {
            () = running.stop() => Exit::Done,
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
    ready: Arc<AtomicBool>,
    directory: Arc<dyn Directory>,
    bus: Arc<dyn Bus>,
    central: Central,
    attendance: Attendance,
    worker: switchboard_worker::Worker,
    gateway: Served,
    trace: Trace,
    front_ends: Vec<Served>,
    demo: demo::Demo,
    ports: Option<PathBuf>,
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
    /// Starts everything. Told to stop in the middle of that, it begins to stop when all is there, as then everybody
    /// knows how to end: the signal. None if it was told twice.
    async fn start(
        settings: Settings,
        signals: &mut signals::Signals,
    ) -> Result<Option<(Self, Option<&'static str>)>, Failure> {
        let mut starting = std::pin::pin!(Self::start_all(settings));
        let told = tokio::select! {
            started = &mut starting => return started.map(|running| Some((running, None))),
            signal = signals.next() => signal,
        };
        tokio::select! {
            started = starting => started.map(|running| Some((running, Some(told)))),
            _ = signals.next() => Ok(None),
        }
    }

    async fn start_all(settings: Settings) -> Result<Self, Failure> {
        let embedded = store::open(&settings.data_dir).await?;
        let directory: Arc<dyn Directory> = Arc::<Embedded>::clone(&embedded);
        let data_dir = std::fs::canonicalize(&settings.data_dir)?;
        refuse_to_be_open(&settings, &*directory).await?;
        let stations = listen::bind("--listen", settings.listen).await?;
        let api = listen::bind("--api-listen", settings.api_listen).await?;
        let admin = listen::bind("--admin-listen", settings.admin_listen).await?;
        let addresses = ports::Addresses {
            stations: stations.local_addr()?,
            api: api.local_addr()?,
            admin: admin.local_addr()?,
        };

        let mut registry = Registry::default();
        let central = open_books(&settings, &data_dir).await?;
        central.register_metrics(&mut registry);
        // A directory that was lost, on a machine whose clock was set back, would give generations that the books take
        // for those of the past, and nothing that a station says would be heard any more.
        let seen = central.generation_max().await.context("the books cannot be read")?;
        embedded.raise_generations(seen);
        let bus: Arc<dyn Bus> = Arc::new(InProcess::new());
        let locations = Arc::new(Locations::new(Arc::clone(&directory)));
        let commander = Commander::new(Arc::clone(&bus), "api", Arc::clone(&locations) as _)
            .await
            .context("the bus refuses")?;
        let duties =
            Commander::new(Arc::clone(&bus), "central", locations).await.context("the bus refuses")?;
        // C12, also for commands that no handler sent.
        let commander = commander.judging(switchboard_worker::unfit_answer);
        let duties = duties.judging(switchboard_worker::unfit_answer);

        let mut worker = switchboard_worker::Config::default();
        worker.mode = if settings.strict { Mode::Strict } else { Mode::Lenient };
        worker.commander = Some(commander.clone());
        let worker = switchboard_worker::serve(central.router(), Arc::clone(&bus), worker)
            .await
            .context("the worker cannot start")?;
        worker.metrics().register(&mut registry);

        let mut config = settings.gateway.clone();
        if settings.accepts_unknown() {
            config.unknown_stations = UnknownStations::Accept;
            info!(
                listen = %addresses.stations,
                "stations that nobody registered are let in without credentials; accept_unknown = false forbids it"
            );
        }
        let gateway = Gateway::new(config, Arc::clone(&bus), Arc::clone(&directory), &mut registry)
            .context("the gateway cannot start")?;
        let trace = trace::start(&settings, &data_dir, &gateway, &mut registry)?;
        let gateway = serve_stations(gateway, stations);

        let way = line::Way { commander: duties, directory: Arc::clone(&directory) };
        let attendance = central.attend(Arc::new(way)).await.context("what is owed to stations")?;

        let ready = Arc::new(AtomicBool::new(false));
        let api_stop = CancellationToken::new();
        let api_router = switchboard_api::router(Api {
            directory: Arc::clone(&directory),
            commander,
            trace: trace.clone(),
            central: Some(Arc::new(central.clone())),
            token: settings.api_token.as_ref().map(|token| token.0.clone()),
            data_dir: data_dir.display().to_string(),
            stations_listen: addresses.stations.to_string(),
            shutdown: api_stop.clone(),
        });
        let admin_router = admin::router(Arc::new(registry), watch::readiness(&ready, &embedded, &central));
        let mut front_ends = vec![
            serve::serve(api, api_router, api_stop),
            serve::serve(admin, admin_router, CancellationToken::new()),
        ];
        front_ends.push(watch::disks(embedded, central.clone()));
        let demo = demo::Demo::start(&settings, addresses.stations, &*directory).await?;
        ready.store(true, Ordering::Release);
        info!(stations = %addresses.stations, api = %addresses.api, admin = %addresses.admin, data_dir = %data_dir.display(), "running");
        banner::show(&settings, &addresses)?;
        // The very last thing, so that nothing can fail that would leave the file behind.
        if let Some(path) = &settings.ports_file {
            addresses.write(path)?;
        }
        Ok(Self {
            ready,
            directory,
            bus,
            central,
            attendance,
            worker,
            gateway,
            trace,
            front_ends,
            demo,
            ports: settings.ports_file,
        })
    }

    /// Stops everything: nothing new is accepted, what is in hand is answered, connections are closed with 1001 over the
    /// drain time, and what was promised is written.
    async fn stop(self) {
        self.ready.store(false, Ordering::Release);
        self.demo.stop().await;
        self.gateway.stop().await;
        // Every call to a station has its outcome by now, and finds the books open to write it down.
        self.attendance.stop().await;
        self.worker.stop().await;
        self.central.close().await;
        for front_end in self.front_ends {
            front_end.stop().await;
        }
        self.trace.close().await;
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

/// A gateway that others can reach lets in whom the operator named. Nobody named yet: nobody could come, or everybody.
async fn refuse_to_be_open(settings: &Settings, directory: &dyn Directory) -> Result<(), Failure> {
    if settings.listen.ip().is_loopback() || settings.accepts_unknown() {
        return Ok(());
    }
    let accounts = directory.account_count().await.context("the directory cannot be read")?;
    if accounts > 0 {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Configuration,
        format!(
            "others can reach {}, and no station is registered\n  register stations first:  switchboard stations add CP001 --data-dir {}\n  \
             or let in whoever comes, without credentials:  --accept-unknown",
            settings.listen,
            settings.data_dir.display()
        ),
    ))
}

async fn open_books(settings: &Settings, data_dir: &std::path::Path) -> Result<Central, Failure> {
    let mut config = settings.central.clone();
    config.path = data_dir.join("central.db");
    let opened = tokio::task::spawn_blocking(move || Central::open(config)).await;
    let opened = opened.context("the books cannot be opened")?;
    opened.map_err(store::books_failure)
}

fn serve_stations(gateway: Gateway, listener: tokio::net::TcpListener) -> Served {
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let task = tokio::spawn(async move {
        if let Err(error) = gateway.serve(listener, stopped).await {
            tracing::error!(error = &error as &dyn std::error::Error, "the gateway has failed");
        }
    });
    Served { stop, task }
}
