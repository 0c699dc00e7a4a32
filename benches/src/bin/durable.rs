//! Ours with `central` behind it and its directory in a file: what an answer says is on the disk before it is given.

use anyhow::Result;
use std::sync::Arc;
use switchboard_benches::announce;
use switchboard_bus::InProcess;
use switchboard_central::{Central, Config as CentralConfig};
use switchboard_directory::{Directory, Embedded, embedded};
use switchboard_gateway::{Config, Gateway, UnknownStations};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let central = Central::open(CentralConfig::at(folder.path().join("central.db")))?;
    let bus = Arc::new(InProcess::new());
    let worker =
        switchboard_worker::serve(central.router(), bus.clone(), switchboard_worker::Config::default())
            .await?;
    let mut config = Config::default();
    config.listen = "127.0.0.1:0".parse()?;
    config.unknown_stations = UnknownStations::Accept;
    config.accept_rate = 0;
    let mut metrics = prometheus_client::registry::Registry::default();
    let directory = Arc::new(Embedded::open(&embedded::Config::in_dir(folder.path().join("directory")))?);
    let gateway = Gateway::new(config, bus, directory.clone(), &mut metrics)?;
    let listener = gateway.bind()?;
    announce(listener.local_addr()?)?;
    // Until whoever measures it has had enough; then the folder is taken away.
    let enough = CancellationToken::new();
    let served = gateway.serve(listener, enough.clone());
    tokio::select! {
        ended = served => ended?,
        _ = terminated() => {}
    }
    drop(worker);
    central.close().await;
    directory.close().await?;
    Ok(())
}

async fn terminated() -> std::io::Result<()> {
    let mut signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    signal.recv().await;
    Ok(())
}
