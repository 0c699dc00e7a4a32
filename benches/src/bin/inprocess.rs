//! Ours: gateway, in-process bus, worker and router in one process, with trivial typed and validated handlers.

use anyhow::Result;
use std::sync::Arc;
use switchboard_benches::{announce, handlers};
use switchboard_bus::InProcess;
use switchboard_directory::Embedded;
use switchboard_gateway::{Config, Gateway, UnknownStations};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> Result<()> {
    let bus = Arc::new(InProcess::new());
    let worker =
        switchboard_worker::serve(handlers::router(), bus.clone(), switchboard_worker::Config::default())
            .await?;
    let mut config = Config::default();
    config.listen = "127.0.0.1:0".parse()?;
    config.unknown_stations = UnknownStations::Accept;
    // Ten thousand stations at once are the measurement, not an attack.
    config.accept_rate = 0;
    let mut metrics = prometheus_client::registry::Registry::default();
    let gateway = Gateway::new(config, bus, Arc::new(Embedded::in_memory()?), &mut metrics)?;
    let listener = gateway.bind()?;
    announce(listener.local_addr()?)?;
    gateway.serve(listener, CancellationToken::new()).await?;
    drop(worker);
    Ok(())
}
