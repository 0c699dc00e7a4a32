//! Our worker as a process of its own, with the handlers of `inprocess`: typed, validated, trivial.

use anyhow::{Result, bail};
use clap::Parser;
use std::sync::Arc;
use switchboard_benches::{announce, handlers};
use switchboard_bus::{Bus, Connect, State};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A worker with trivial handlers.
#[derive(Debug, Parser)]
struct Arguments {
    /// The broker: nats://, amqp:// or mqtt://
    #[arg(long)]
    bus: String,
    #[arg(long)]
    namespace: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Arguments { bus, namespace } = Arguments::parse();
    let connect = Connect { namespace: namespace.into(), ..Connect::to(&bus) };
    let bus: Arc<dyn Bus> = match bus.split("://").next() {
        Some("nats") => Arc::new(switchboard_bus_nats::Nats::connect(connect)?),
        Some("amqp") => Arc::new(switchboard_bus_amqp::Amqp::connect(connect)?),
        Some("mqtt") => switchboard_bus_mqtt::connect(connect)?,
        _ => bail!("nothing is known of {bus}"),
    };
    drop(bus.state().wait_for(|state| *state == State::Connected).await?);
    let config = switchboard_worker::Config::default();
    let _worker = switchboard_worker::serve(handlers::router(), bus, config).await?;
    announce("calls")?;
    std::future::pending().await
}
