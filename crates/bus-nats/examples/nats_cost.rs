//! What a call costs over NATS, beside a minimal forwarder: `cargo run --release -p switchboard-bus-nats --example nats_cost`.
//!
//! Both carry the same frame with the same headers from a gateway's side to a worker's, and an answer back, over one
//! connection each to the same server; a fixed number of calls is under way at any time. The forwarder is what one writes
//! with the client library `async-nats`: a subscription and a task on either side. Told is processor time per call, of this process and
//! of the server, the best of several rounds.

#![expect(clippy::disallowed_methods, reason = "it measures time")]

use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use futures_util::StreamExt as _;
use std::{
    error::Error,
    io::Write as _,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use switchboard_bus::{
    Address, Bus, Connect, ConnectionKey, Consumer, Done, Envelope, Kind, Metadata, State, Subscription,
    Topic, percent,
};
use switchboard_bus_nats::Nats;
use switchboard_rpc::{StationId, Version};
use switchboard_testkit::servers::Nats as Server;
use tokio::sync::Notify;

/// Calls of one round.
const CALLS: u64 = 60_000;
/// Calls under way at once.
const UNDER_WAY: [u64; 2] = [1, 64];
const ROUNDS: usize = 5;
const BODY: &[u8] = br#"[2,"8f0d1c7e","MeterValues",{"connectorId":1,"transactionId":77,"meterValue":[{"timestamp":"2026-11-23T08:00:00Z","sampledValue":[{"value":"1234.5","measurand":"Energy.Active.Import.Register","unit":"Wh"},{"value":"16.1","measurand":"Current.Import","phase":"L1","unit":"A"},{"value":"229.8","measurand":"Voltage","phase":"L1-N","unit":"V"}]}]}]"#;
const ANSWER: &[u8] = br#"[3,"8f0d1c7e",{}]"#;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn station(seq: u64) -> Result<StationId> {
    Ok(StationId::new(format!("CP{:05}", seq % 1_000), 48)?)
}

fn call(seq: u64) -> Result<Metadata> {
    let mut metadata = Metadata::new(Kind::Call);
    metadata.station = Some(station(seq)?);
    metadata.version = Some(Version::V16);
    metadata.action = Some("MeterValues".into());
    metadata.connection =
        Some(ConnectionKey { gateway: "gateway-4f2a".into(), generation: 1_795_341_600_000 });
    metadata.seq = Some(seq);
    metadata.received_at_ms = Some(1_795_341_600_123);
    metadata.remaining = Some(Duration::from_secs(25));
    metadata.reply_to = Some("gateway-4f2a".into());
    metadata.attempt = 1;
    Ok(metadata)
}

fn answer(call: Metadata) -> Metadata {
    Metadata {
        tenant: call.tenant,
        station: call.station,
        version: call.version,
        action: call.action,
        connection: call.connection,
        seq: call.seq,
        attempt: call.attempt,
        worker: Some("worker-91c0".into()),
        ..Metadata::new(Kind::Answer)
    }
}

/// How far a round is.
#[derive(Default)]
struct Round {
    begun: AtomicU64,
    answered: AtomicU64,
    end: Notify,
}

impl Round {
    /// The number of the next call, if there is one.
    fn next(&self) -> Option<u64> {
        let seq = self.begun.fetch_add(1, Ordering::Relaxed);
        (seq < CALLS).then_some(seq)
    }

    fn answered(&self) {
        if self.answered.fetch_add(1, Ordering::Relaxed) + 1 == CALLS {
            self.end.notify_one();
        }
    }
}

/// The gateway's side of ours: each answer begins another call.
struct Gateway {
    bus: Arc<Nats>,
    round: Arc<Round>,
}

impl Gateway {
    fn begin(&self) {
        if let Some(seq) = self.round.next()
            && let (Ok(metadata), Ok(station)) = (call(seq), station(seq))
        {
            let to = Address::Call { tenant: metadata.tenant.clone(), station };
            drop(self.bus.publish(to, Envelope::new(metadata, Bytes::from_static(BODY))));
        }
    }
}

impl Consumer for Gateway {
    fn deliver(&self, envelope: Envelope, done: Done) {
        if envelope.metadata.kind == Kind::Answer && &*envelope.body == ANSWER {
            self.round.answered();
            self.begin();
        }
        drop(done);
    }
}

struct Worker(Arc<Nats>);

impl Consumer for Worker {
    fn deliver(&self, envelope: Envelope, done: Done) {
        let mut metadata = *envelope.metadata;
        if let Some(inbox) = metadata.reply_to.take() {
            let answer = Envelope::new(answer(metadata), Bytes::from_static(ANSWER));
            drop(self.0.publish(Address::Inbox(inbox), answer));
        }
        drop(done);
    }
}

async fn ours(url: &str, under_way: u64) -> Result<()> {
    let connect = || Nats::connect(Connect { namespace: "ours".into(), ..Connect::to(url) }).map(Arc::new);
    let (gateway, worker) = (connect()?, connect()?);
    for bus in [&gateway, &worker] {
        drop(bus.state().wait_for(|state| *state == State::Connected).await?);
    }
    let round = Arc::new(Round::default());
    let begins = Arc::new(Gateway { bus: Arc::clone(&gateway), round: Arc::clone(&round) });
    let in_hand_max = NonZeroU32::MAX;
    let topic = Topic::Inbox("gateway-4f2a".into());
    let _inbox =
        gateway.subscribe(Subscription { topic, in_hand_max }, Arc::<Gateway>::clone(&begins)).await?;
    let calls = Subscription { topic: Topic::Calls, in_hand_max };
    let _calls = worker.subscribe(calls, Arc::new(Worker(Arc::clone(&worker)))).await?;
    (0..under_way).for_each(|_| begins.begin());
    round.end.notified().await;
    Ok(())
}

fn headers(metadata: &Metadata) -> HeaderMap {
    let mut headers = HeaderMap::new();
    metadata.encode_headers(&mut |name, value| headers.insert(name, &*percent::encode_value(value)));
    headers
}

async fn forward(client: &Client, round: &Round) -> Result<()> {
    if let Some(seq) = round.next() {
        let (metadata, station) = (call(seq)?, station(seq)?);
        let partition = switchboard_bus::partition(&metadata.tenant, station.as_str(), 256);
        let subject = format!("ocpp.v1.minimal.call.{partition}.{}.{station}", metadata.tenant);
        let reply = "ocpp.v1.minimal.inbox.gateway-4f2a";
        client
            .publish_with_reply_and_headers(subject, reply, headers(&metadata), Bytes::from_static(BODY))
            .await?;
    }
    Ok(())
}

async fn minimal(url: &str, under_way: u64) -> Result<()> {
    let (gateway, worker) = (async_nats::connect(url).await?, async_nats::connect(url).await?);
    let round = Arc::new(Round::default());
    let mut answers = gateway.subscribe("ocpp.v1.minimal.inbox.gateway-4f2a").await?;
    let mut calls = worker.queue_subscribe("ocpp.v1.minimal.call.>", "workers".to_owned()).await?;
    gateway.flush().await?;
    worker.flush().await?;
    let working = tokio::spawn(async move {
        while let Some(message) = calls.next().await {
            let (Some(reply), Some(mut headers)) = (message.reply, message.headers) else { continue };
            headers.insert("ocpp-kind", "answer");
            headers.insert("ocpp-worker", "worker-91c0");
            if worker.publish_with_headers(reply, headers, Bytes::from_static(ANSWER)).await.is_err() {
                return;
            }
        }
    });
    let (client, counts) = (gateway.clone(), Arc::clone(&round));
    let listening = tokio::spawn(async move {
        while let Some(message) = answers.next().await {
            if &*message.payload == ANSWER {
                counts.answered();
                if forward(&client, &counts).await.is_err() {
                    return;
                }
            }
        }
    });
    for _ in 0..under_way {
        forward(&gateway, &round).await?;
    }
    round.end.notified().await;
    working.abort();
    listening.abort();
    Ok(())
}

/// Processor time of a process so far.
fn used(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 =
        fields.get(11..13).ok_or("no times")?.iter().filter_map(|text| text.parse::<u64>().ok()).sum();
    // The kernel counts hundredths of a second.
    Ok(Duration::from_millis(ticks * 10))
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let Some(server) = Server::start("what a call costs over NATS").await? else { return Ok(()) };
    let (url, pid) = (server.url(), server.pid().ok_or("it does not run")?);
    let mut out = std::io::stdout();
    writeln!(out, "µs of processor per call: this process + server = both; calls per second")?;
    for under_way in UNDER_WAY {
        let mut best = [f64::MAX; 2];
        for round in 0..ROUNDS * 2 {
            let is_ours = round % 2 == 0;
            let (mine, theirs, begin) = (used(std::process::id())?, used(pid)?, Instant::now());
            if is_ours {
                ours(&url, under_way).await?;
            } else {
                minimal(&url, under_way).await?;
            }
            let per_call = |time: Duration| time.as_secs_f64() * 1e6 / CALLS as f64;
            let (mine, theirs) = (per_call(used(std::process::id())? - mine), per_call(used(pid)? - theirs));
            let name = if is_ours { "switchboard-bus-nats" } else { "minimal forwarder" };
            let rate = CALLS as f64 / begin.elapsed().as_secs_f64();
            writeln!(
                out,
                "{under_way:>3} under way  {name:<20} {mine:>5.1} + {theirs:>4.1} = {:>5.1}  {rate:>8.0}/s",
                mine + theirs
            )?;
            let best = &mut best[usize::from(!is_ours)];
            *best = best.min(mine + theirs);
        }
        writeln!(out, "{under_way:>3} under way  ratio of the best: {:.2}", best[0] / best[1])?;
    }
    Ok(())
}
