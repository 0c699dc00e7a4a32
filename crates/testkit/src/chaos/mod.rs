//! The kill matrix: everything behind and beside the gateway dies in every way, under load, and what it cost is counted.
//!
//! The processes are the real ones, the brokers and databases private ones, every two talk over a line of our own. The
//! [stations](fleet) and whoever sends [commands](orders) keep books of what they said and were told; what became of it is
//! read by SQL from a database that no killed part owns.

mod books;
mod cell;
mod findings;
mod fleet;
mod functions;
mod orders;
mod roads;
#[cfg(test)]
mod self_test;
mod site;

pub use cell::{Bus, CELLS, Cell, Fault, Pair};
pub use findings::Findings;
pub use site::Servers;

use anyhow::{Context, Result};
use fleet::Fleet;
use orders::Orders;
use rustix::process::Signal;
use site::Site;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

/// One cell to be run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which.
    pub cell: Cell,
    /// On which bus.
    pub bus: Bus,
    /// How many stations.
    pub stations: usize,
    /// Where their randomness begins.
    pub seed: u64,
    /// How long a station rests between two calls, on average.
    pub pause: Duration,
    /// Whether the longest gap is judged, too.
    pub measured: bool,
    /// The program.
    pub binary: PathBuf,
    /// How it was built, and of which commit, for the document.
    pub build: String,
    /// See `build`.
    pub commit: String,
    /// Where the logs of each cell are kept.
    pub logs: Option<PathBuf>,
}

/// How long all is well before and after.
const CALM: Duration = Duration::from_secs(3);
/// How long stations may take to end their transactions.
const FINISH: Duration = Duration::from_secs(150);
/// How long what was journalled may take to get into the books.
const WORKED_OFF: Duration = Duration::from_secs(60);

/// Runs a cell; none if something that it needs is not installed. Needs a runtime of several threads.
///
/// # Errors
/// It could not be run. What it found is no error.
pub async fn run(servers: &mut Servers, plan: &Plan) -> Result<Option<Findings>> {
    let Plan { cell, bus, stations, seed, binary, .. } = plan;
    if let Fault::Clock(_) = cell.fault
        && !site::clocks_can_be_wrong(cell.name)?
    {
        return Ok(None);
    }
    if !servers.prepare(*bus).await? {
        return Ok(None);
    }
    let gateways = if cell.fault == Fault::GatewayKill { 2 } else { 1 };
    let odd_clock = if let Fault::Clock(hours) = cell.fault { Some(hours) } else { None };
    let mut site = Site::start(servers, *bus, binary, gateways, odd_clock).await?;
    let mut fleet = Fleet::start(site.stations.clone(), plan);
    let all = crate::wait::until("every station is served", async || {
        (fleet.tally().begun == *stations).then_some(())
    });
    all.await.with_context(|| format!("{} of {stations}; {}", fleet.tally().begun, site.logs()))?;
    let mut orders = Orders::start(site.apis.clone(), *stations, *seed);
    // A gateway must not remember for long that the first calls of everybody were slow.
    sleep(CALM).await;
    let before = {
        let mut tally = fleet.tally();
        tally.longest = Default::default();
        (tally.answers, Instant::now())
    };
    befall(servers, &mut site, cell).await.with_context(|| format!("{}: {}", cell.name, site.logs()))?;
    let lasted = before.1.elapsed();
    sleep(CALM).await;
    let rate = {
        let took = before.1.elapsed().as_secs_f64();
        (fleet.tally().answers - before.0) as f64 / took
    };
    // Stations stay until the last command has its outcome: of one that goes meanwhile nobody can say what it did.
    orders.finish().await;
    let unfinished = fleet.finish(FINISH).await;
    // What was journalled is worked off when processing is back.
    let limit = Instant::now() + WORKED_OFF;
    let audit = loop {
        let rows = block_in_place(|| servers.rows(&site))?;
        let audit = books::audit(&rows, &fleet.tally())?;
        if audit.lost.is_empty() || Instant::now() > limit {
            break audit;
        }
        sleep(Duration::from_secs(1)).await;
    };
    let mut tally = fleet.tally();
    if let Some(limits) = &site.limits {
        tally.wrong.extend(limits.traffic().violations);
    }
    let judged = orders.judge(&tally);
    let findings = Findings::new(plan, &tally, &judged, &audit, unfinished, (lasted, rate));
    drop(tally);
    if let Some(folder) = &plan.logs {
        let folder = folder.join(format!("{}-{}", cell.name, bus.name()));
        site.keep_logs(&folder)?;
        std::fs::write(folder.join("findings.txt"), findings.details())?;
    }
    Ok(Some(findings))
}

/// Has it happen, and waits until it is over.
async fn befall(servers: &mut Servers, site: &mut Site, cell: &Cell) -> Result<()> {
    let bus = site.bus;
    match cell.fault {
        Fault::WorkerKill => {
            site.workers[0].kill()?;
            sleep(Duration::from_secs(3)).await;
            site.workers[0].start().await
        }
        Fault::WorkerFreeze => {
            let frozen = site.workers.first().unwrap_or(&site.gateways[0]);
            frozen.freeze()?;
            sleep(Duration::from_secs(10)).await;
            frozen.thaw()
        }
        Fault::WorkersRolling => {
            for worker in &mut site.workers {
                block_in_place(|| worker.stop())?;
                worker.start().await?;
            }
            site.wait_until_ready().await
        }
        Fault::WorkersAway(seconds) => {
            for worker in &mut site.workers {
                worker.kill()?;
            }
            sleep(Duration::from_secs(seconds)).await;
            for worker in &mut site.workers {
                worker.start().await?;
            }
            Ok(())
        }
        Fault::BrokerRestart => {
            let broker = servers.broker(bus)?;
            block_in_place(|| broker.stop())?;
            broker.start().await
        }
        Fault::BrokerKill => {
            let broker = servers.broker(bus)?;
            broker.kill()?;
            sleep(Duration::from_secs(2)).await;
            broker.start().await
        }
        Fault::GatewayKill => {
            site.gateways[0].kill()?;
            sleep(Duration::from_secs(3)).await;
            if site.gateways.len() == 1 {
                site.gateways[0].start().await?;
            }
            Ok(())
        }
        Fault::Cut(pair) => {
            site.lines(pair)?.iter().for_each(|line| line.refuse(true));
            sleep(cell::BROKEN).await;
            site.lines(pair)?.iter().for_each(|line| line.refuse(false));
            Ok(())
        }
        Fault::Hold(pair) => {
            site.lines(pair)?.iter().for_each(|line| line.hold(true));
            sleep(cell::BROKEN).await;
            site.lines(pair)?.iter().for_each(|line| line.hold(false));
            Ok(())
        }
        Fault::Delay(pair) => {
            site.lines(pair)?.iter().for_each(|line| line.delay(cell::DELAY));
            sleep(cell::SLOW).await;
            site.lines(pair)?.iter().for_each(|line| line.delay(Duration::ZERO));
            Ok(())
        }
        Fault::DirectoryRestart => {
            let directory = servers.directory()?;
            // With TERM it would wait until all its clients have gone.
            block_in_place(|| directory.end(Signal::INT))?;
            directory.start().await
        }
        // It is so from the beginning.
        Fault::Clock(_) => {
            sleep(cell::SLOW).await;
            Ok(())
        }
    }
}

/// Where `cargo xtask chaos` keeps what it has found so far.
#[must_use]
pub fn results(root: &Path) -> PathBuf {
    root.join("target/chaos/results.jsonl")
}
