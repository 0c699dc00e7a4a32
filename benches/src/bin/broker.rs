//! A broker on a port of its own, until this program is told to end.

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use switchboard_benches::announce;
use switchboard_testkit::servers::{Mosquitto, Nats, RabbitMq};
use tokio::signal::unix::{SignalKind, signal};

/// Starts a broker.
#[derive(Debug, Parser)]
struct Arguments {
    which: Which,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Which {
    Nats,
    Rabbitmq,
    Mosquitto,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut ended = signal(SignalKind::terminate())?;
    let missing = "it is not installed";
    match Arguments::parse().which {
        Which::Nats => {
            let broker = Nats::start("the benchmark").await?.context(missing)?;
            told(&broker.url(), broker.pid())?;
            ended.recv().await;
        }
        Which::Rabbitmq => {
            let broker = RabbitMq::start("the benchmark").await?.context(missing)?;
            told(&broker.url(), broker.pid())?;
            ended.recv().await;
        }
        Which::Mosquitto => {
            let broker = Mosquitto::start("the benchmark").await?.context(missing)?;
            told(&broker.url(), broker.pid())?;
            ended.recv().await;
        }
    }
    Ok(())
}

fn told(url: &str, pid: Option<u32>) -> Result<()> {
    Ok(announce(format_args!("{url} {}", pid.context("it has ended")?))?)
}
