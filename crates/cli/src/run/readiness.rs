//! Whether the process can do what it is there for: what `/readyz` says, and the looks at what was away or full.

use super::Served;
use crate::logging::Limit;
use bytestring::ByteString;
use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use switchboard_api::admin;
use switchboard_bus::{Bus, State};
use switchboard_central::Central;
use switchboard_directory::{Directory, Embedded, StationKey};
use switchboard_rpc::StationId;
use tokio_util::sync::CancellationToken;

/// How often a database that could not be written is tried again, if nobody else does; and whether one elsewhere is there.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// A directory that has not answered by then is away.
const PROBE_PATIENCE: Duration = Duration::from_secs(3);
/// How often the bus is looked at while it is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How often what the log left out is told.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// Tells now and then what the log left out.
pub(super) async fn report_log(log: Arc<Limit>) {
    loop {
        tokio::time::sleep(REPORT_EVERY).await;
        log.report();
    }
}

/// What keeps the process from its work, gathered from all who notice it. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Readiness(Arc<Inner>);

type Trouble = dyn Fn() -> Option<String> + Send + Sync;

#[derive(Default)]
struct Inner {
    begun: AtomicBool,
    /// What the start waits for.
    waiting: Mutex<Option<String>>,
    troubles: Mutex<Vec<Box<Trouble>>>,
}

impl Readiness {
    /// Asks `trouble` too, from now on.
    pub(super) fn ask(&self, trouble: impl Fn() -> Option<String> + Send + Sync + 'static) {
        self.0.troubles.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(trouble));
    }

    /// The start waits for this; or not any more.
    pub(super) fn waits_for(&self, what: Option<String>) {
        *self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }

    /// Everything is there, or about to go.
    pub(super) fn begun(&self, begun: bool) {
        self.0.begun.store(begun, Ordering::Release);
    }

    /// What `/readyz` says.
    pub(super) fn say(&self) -> Result<(), String> {
        if !self.0.begun.load(Ordering::Acquire) {
            let waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            return Err(waiting.clone().unwrap_or_else(|| "starting or stopping".to_owned()));
        }
        let troubles = self.0.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let found: Vec<String> = troubles.iter().filter_map(|trouble| trouble()).collect();
        if found.is_empty() { Ok(()) } else { Err(found.join("; ")) }
    }

    /// The same for the admin port.
    pub(super) fn for_admin(&self) -> Arc<admin::Ready> {
        let this = self.clone();
        Arc::new(move || this.say())
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Readiness").field("says", &self.say()).finish()
    }
}

/// Waits until the bus is there, which its driver tries all the time; false if told to stop before.
pub(super) async fn bus_is_there(
    bus: &dyn Bus,
    shown: &str,
    readiness: &Readiness,
    stop: &CancellationToken,
) -> bool {
    let state = bus.state();
    readiness.waits_for(Some(format!("waiting for the bus {shown}")));
    while *state.borrow() != State::Connected {
        tokio::select! {
            () = stop.cancelled() => return false,
            // Not `changed`: a driver need not tell a change that it made before we looked.
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
    readiness.waits_for(None);
    let shown = shown.to_owned();
    readiness.ask(move || (*state.borrow() != State::Connected).then(|| format!("the bus {shown} is away")));
    true
}

/// Tries a database of our own that could not be written, so that it is noticed when it can be again although no station
/// says anything: whoever asks `/readyz` may have sent all of them elsewhere.
pub(super) fn probe_directory_file(directory: Arc<Embedded>, readiness: &Readiness) -> Served {
    let health = directory.health().clone();
    readiness.ask(move || health.trouble());
    every_second(move || {
        let directory = Arc::clone(&directory);
        async move {
            if directory.health().trouble().is_some() {
                directory.probe().await;
            }
        }
    })
}

/// The same for the books.
pub(super) fn probe_books(central: Central, readiness: &Readiness) -> Served {
    let health = central.health().clone();
    readiness.ask(move || health.trouble());
    every_second(move || {
        let central = central.clone();
        async move {
            if central.health().trouble().is_some() {
                central.probe().await;
            }
        }
    })
}

/// Asks a directory that is elsewhere whether it is there.
pub(super) fn probe_directory(directory: Arc<dyn Directory>, shown: String, readiness: &Readiness) -> Served {
    let away = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&away);
    readiness.ask(move || told.load(Ordering::Acquire).then(|| format!("the directory {shown} is away")));
    every_second(move || {
        let (directory, away) = (Arc::clone(&directory), Arc::clone(&away));
        async move {
            let asked = tokio::time::timeout(PROBE_PATIENCE, ask_directory(&*directory)).await;
            away.store(!matches!(asked, Ok(Ok(()))), Ordering::Release);
        }
    })
}

/// Asks a directory something cheap.
pub(super) async fn ask_directory(
    directory: &dyn Directory,
) -> Result<(), switchboard_directory::DirectoryError> {
    let Ok(station) = StationId::new("readyz", 48) else { return Ok(()) };
    let key = StationKey { tenant: ByteString::from_static("default"), station };
    directory.locate(&key, super::store::now_ms()).await.map(|_| ())
}

/// Does something every second until it is told to stop.
fn every_second<F: Future<Output = ()> + Send>(look: impl Fn() -> F + Send + 'static) -> Served {
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let task = tokio::spawn(async move {
        loop {
            tokio::select! {
                () = stopped.cancelled() => return,
                () = tokio::time::sleep(PROBE_EVERY) => {}
            }
            look().await;
        }
    });
    Served { stop, task }
}
