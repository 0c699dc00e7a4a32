//! What Switchboard's split is measured against: a forwarder of WebSocket messages and a worker that answers a fixed
//! string, over the same broker with the same headers and quality of service, written with the library that everybody
//! takes for each broker. Nothing is looked into, handed over again, timed, limited or counted.
//!
//! `roundtrip` is the broker alone: calls at random times, without a socket in front.
#![expect(clippy::print_stdout, reason = "the result goes to standard output as JSON")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod amqp;
mod board;
mod mqtt;
mod nats;

use anyhow::{Context, Result, bail};
use board::{Board, Call, meter_values};
use bytes::Bytes;
use clap::{Parser, Subcommand};
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use switchboard_benches::{Times, accept, announce};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The least that forwards calls over a broker.
#[derive(Debug, Parser)]
struct Arguments {
    /// The broker: nats://, amqp:// or mqtt://
    #[arg(long)]
    bus: String,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Takes stations' messages, and writes what comes back
    Gateway,
    /// Answers them
    Worker,
    /// How long calls take without stations, beside a worker
    Roundtrip {
        #[arg(long)]
        per_second: f64,
        /// Measured after a second of warming up
        #[arg(long)]
        seconds: u64,
    },
}

fn main() -> Result<()> {
    let Arguments { bus, what } = Arguments::parse();
    match what {
        What::Gateway => tokio::runtime::Runtime::new()?.block_on(serve(&bus)),
        What::Worker => tokio::runtime::Runtime::new()?.block_on(async {
            match scheme(&bus)? {
                Scheme::Nats => nats::work(&bus).await,
                Scheme::Amqp => amqp::work(&bus).await,
                Scheme::Mqtt => mqtt::work(&bus).await,
            }
        }),
        // As the stations of the benchmark: one thread that never sleeps.
        What::Roundtrip { per_second, seconds } => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .event_interval(16)
            .build()?
            .block_on(round_trip(&bus, per_second, Duration::from_secs(seconds))),
    }
}

enum Scheme {
    Nats,
    Amqp,
    Mqtt,
}

fn scheme(url: &str) -> Result<Scheme> {
    Ok(match url.split("://").next() {
        Some("nats") => Scheme::Nats,
        Some("amqp") => Scheme::Amqp,
        Some("mqtt") => Scheme::Mqtt,
        _ => bail!("nothing is known of {url}"),
    })
}

/// The gateway's connection to the broker.
enum Line {
    Nats(nats::Line),
    Amqp(amqp::Line),
    Mqtt(mqtt::Line),
}

impl Line {
    async fn open(url: &str, board: Arc<Board>) -> Result<Self> {
        Ok(match scheme(url)? {
            Scheme::Nats => Self::Nats(nats::Line::open(url, board).await?),
            Scheme::Amqp => Self::Amqp(amqp::Line::open(url, board).await?),
            Scheme::Mqtt => Self::Mqtt(mqtt::Line::open(url, board).await?),
        })
    }

    async fn publish(&self, call: &Call<'_>, body: Bytes) -> Result<()> {
        match self {
            Self::Nats(line) => line.publish(call, body).await,
            Self::Amqp(line) => line.publish(call, body).await,
            Self::Mqtt(line) => line.publish(call, body).await,
        }
    }
}

async fn serve(url: &str) -> Result<()> {
    let board = Arc::new(Board::default());
    let line = Arc::new(Line::open(url, Arc::clone(&board)).await?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    announce(listener.local_addr()?)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let (line, board) = (Arc::clone(&line), Arc::clone(&board));
        tokio::spawn(async move {
            // A station that goes away ends its task.
            drop(forward(stream, &line, &board).await);
        });
    }
}

async fn forward(stream: TcpStream, line: &Line, board: &Board) -> Result<()> {
    let (mut socket, path) = accept(stream).await?;
    let station = path.rsplit('/').next().context("no station")?;
    let mut seq = 0;
    while let Some(message) = socket.next().await {
        let Message::Text(text) = message? else { continue };
        seq += 1;
        // `[2,"id","Action",{…}]`
        let action = text.split('"').nth(3).context("no action")?;
        let answer = board.wait_for(station);
        line.publish(&Call { station, action, seq }, Bytes::from(text.clone())).await?;
        socket.send(Message::Text(Utf8Bytes::try_from(answer.await?)?)).await?;
    }
    Ok(())
}

async fn round_trip(url: &str, per_second: f64, measured: Duration) -> Result<()> {
    let board = Arc::new(Board::default());
    let line = Arc::new(Line::open(url, Arc::clone(&board)).await?);
    let mut tasks = JoinSet::new();
    let mut times = Times::new(per_second);
    let (begun, mut seq) = (Instant::now(), 0_u64);
    let mut latencies = Vec::new();
    let body = meter_values();
    let warm = Duration::from_secs(1);
    while begun.elapsed() < warm + measured || !tasks.is_empty() {
        while let Some(due) = times.next_until(begun.elapsed().min(warm + measured)) {
            seq += 1;
            let (line, board, due) = (Arc::clone(&line), Arc::clone(&board), begun + due);
            let body = body.clone();
            tasks.spawn(async move {
                let station = format!("BENCH-{seq:06}");
                let answer = board.wait_for(&station);
                let call = Call { station: &station, action: "MeterValues", seq };
                line.publish(&call, body).await?;
                answer.await?;
                anyhow::Ok((due, due.elapsed()))
            });
        }
        while let Some(ended) = tasks.try_join_next() {
            let (due, took) = ended??;
            if due >= begun + warm {
                latencies.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
            }
        }
        tokio::task::yield_now().await;
    }
    latencies.sort_unstable();
    let at = |share: f64| latencies.get((latencies.len().saturating_sub(1) as f64 * share) as usize);
    println!("{}", json!({ "calls": latencies.len(), "p50_us": at(0.5), "p99_us": at(0.99) }));
    Ok(())
}
