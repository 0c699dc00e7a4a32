//! Whether the process can do what it is there for: what `/readyz` says, and the looks at a disk that was full.

use super::Served;
use crate::logging::Limit;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use switchboard_api::admin;
use switchboard_central::Central;
use switchboard_directory::Embedded;
use tokio_util::sync::CancellationToken;

/// How often a database that could not be written is tried again, if nobody else does.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// How often what the log left out is told.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// Tells now and then what the log left out.
pub(super) async fn report_log(log: Arc<Limit>) {
    loop {
        tokio::time::sleep(REPORT_EVERY).await;
        log.report();
    }
}

/// What `/readyz` says.
pub(super) fn readiness(
    ready: &Arc<AtomicBool>,
    directory: &Arc<Embedded>,
    central: &Central,
) -> Arc<admin::Ready> {
    let (ready, directory, central) = (Arc::clone(ready), Arc::clone(directory), central.clone());
    Arc::new(move || {
        if !ready.load(Ordering::Acquire) {
            return Err("starting or stopping".to_owned());
        }
        let troubles: Vec<String> = [directory.health(), central.health()]
            .into_iter()
            .filter_map(|health| health.trouble())
            .collect();
        if troubles.is_empty() { Ok(()) } else { Err(troubles.join("; ")) }
    })
}

/// Tries databases that could not be written, so that it is noticed when they can be again although no station says
/// anything: whoever asks `/readyz` may have sent all of them elsewhere.
pub(super) fn disks(directory: Arc<Embedded>, central: Central) -> Served {
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let watching = async move {
        loop {
            tokio::time::sleep(PROBE_EVERY).await;
            if directory.health().trouble().is_some() {
                directory.probe().await;
            }
            if central.health().trouble().is_some() {
                central.probe().await;
            }
        }
    };
    let task = tokio::spawn(async move {
        tokio::select! {
            () = stopped.cancelled() => {}
            () = watching => {}
        }
    });
    Served { stop, task }
}
