//! What a call over RabbitMQ costs with this driver, and with a forwarder and a worker that lapin was asked to be: the same
//! headers, the same mandatory flag, expiration, prefetch and acknowledgements, and nothing else.
//!
//! `cargo run --release -p switchboard-bus-amqp --features reference --example amqp_cost -- 200000 64`: so many calls, of so
//! many stations that have one in hand each, in three interleaved rounds. Gateway, worker and broker are processes of
//! their own; what is told is the CPU time of each for a call.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "it prints what it measured"
)]

use bytes::Bytes;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use switchboard_bus::{
    Address, Bus, Connect, ConnectionKey, Consumer, Done, Envelope, Kind, Metadata, State, Subscription,
    Topic,
};
use switchboard_bus_amqp::Amqp;
use switchboard_rpc::{StationId, Version};
use switchboard_testkit::servers::RabbitMq;
use tokio::sync::Notify;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const IN_HAND_MAX: u16 = 1024;
const ANSWER: &[u8] = br#"[3,"1",{}]"#;

#[tokio::main(worker_threads = 2)]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["worker", "ours", url] => our_worker(url).await,
        ["worker", _, url] => their_worker(url).await,
        ["gateway", kind, url, calls, stations] => {
            let (calls, stations) = (calls.parse()?, stations.parse()?);
            let board = Board::new(stations);
            let begun = Instant::now();
            if *kind == "ours" {
                our_gateway(url, &board, calls).await?;
            } else {
                their_gateway(url, &board, calls).await?;
            }
            println!("{}", begun.elapsed().as_secs_f64());
            // Read by the parent before we end.
            std::io::stdin().read_line(&mut String::new())?;
            Ok(())
        }
        rest => {
            let number = |place: usize, usual: u64| rest.get(place).map_or(Ok(usual), |text| text.parse());
            compare(number(0, 200_000)?, number(1, 64)?).await
        }
    }
}

async fn compare(calls: u64, stations: u64) -> Outcome<()> {
    let broker = RabbitMq::start("amqp_cost").await?.ok_or("rabbitmq-server is missing")?;
    let pid = broker.pid().ok_or("it runs")?;
    println!("µs of CPU per call; {calls} calls of {stations} stations\n");
    println!("| client | gateway | worker | broker | together | calls/s |\n|---|---|---|---|---|---|");
    let mut sums: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for round in 0..4 {
        for kind in ["ours", "lapin"] {
            let program = std::env::current_exe()?;
            let spawn = |arguments: &[&str]| {
                Command::new(&program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
            };
            let mut worker = spawn(&["worker", kind, &broker.url()])?;
            tokio::time::sleep(Duration::from_secs(2)).await;
            let (worker_before, broker_before) = (cpu(worker.id())?, cpu(pid)?);
            let count = if round == 0 { calls / 10 } else { calls };
            let mut gateway =
                spawn(&["gateway", kind, &broker.url(), &count.to_string(), &stations.to_string()])?;
            let mut told = String::new();
            std::io::BufRead::read_line(
                &mut std::io::BufReader::new(gateway.stdout.take().unwrap()),
                &mut told,
            )?;
            let took: f64 = told.trim().parse()?;
            let each = |seconds: f64| seconds * 1e6 / count as f64;
            let parts = [
                each(cpu(gateway.id())?),
                each(cpu(worker.id())? - worker_before),
                each(cpu(pid)? - broker_before),
            ];
            gateway.kill()?;
            worker.kill()?;
            (gateway.wait()?, worker.wait()?);
            // The first round is for the caches, and for the broker's own compiler.
            if round > 0 {
                let together: f64 = parts.iter().sum();
                let rate = count as f64 / took;
                println!(
                    "| {kind} | {:.1} | {:.1} | {:.1} | {together:.1} | {rate:.0} |",
                    parts[0], parts[1], parts[2]
                );
                sums.entry(kind).or_default().push(together);
            }
        }
    }
    let mean = |kind: &str| sums[kind].iter().sum::<f64>() / sums[kind].len() as f64;
    println!("\nours / lapin: {:.2}", mean("ours") / mean("lapin"));
    Ok(())
}

/// Seconds of CPU that a process has used, by the clock of its scheduler; its threads are added up by the kernel.
fn cpu(pid: u32) -> Outcome<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}

/// Where the stations of the load wait for their answers.
struct Board {
    answered: Vec<Notify>,
    left: Mutex<u64>,
}

impl Board {
    fn new(stations: u64) -> Arc<Self> {
        Arc::new(Self { answered: (0..stations).map(|_| Notify::new()).collect(), left: Mutex::new(0) })
    }

    fn answer(&self, metadata: &Metadata) {
        let station =
            metadata.station.as_ref().and_then(|station| station.as_str().get(2..)?.parse::<usize>().ok());
        if let Some(notify) = station.and_then(|station| self.answered.get(station)) {
            notify.notify_one();
        }
    }

    fn take(&self) -> bool {
        let mut left = self.left.lock().unwrap();
        let any = *left > 0;
        *left = left.saturating_sub(1);
        any
    }
}

/// What a gateway says of a call.
fn metadata(station: usize, seq: u64) -> Metadata {
    let mut metadata = Metadata::new(Kind::Call);
    metadata.station = StationId::new(format!("CP{station:05}"), 48).ok();
    metadata.version = Some(Version::V16);
    metadata.action = Some("MeterValues".into());
    metadata.connection = Some(ConnectionKey { gateway: "gateway-1".into(), generation: 1_795_341_600_000 });
    metadata.seq = Some(seq);
    metadata.received_at_ms = Some(1_795_341_600_007);
    metadata.remaining = Some(Duration::from_secs(25));
    metadata.reply_to = Some("gateway-1".into());
    metadata.attempt = 1;
    metadata
}

/// What a worker says of its answer.
fn answered(call: &Metadata) -> Metadata {
    Metadata {
        kind: Kind::Answer,
        received_at_ms: None,
        remaining: None,
        reply_to: None,
        worker: Some("worker-1".into()),
        ..call.clone()
    }
}

fn body() -> Bytes {
    let sample = r#"{"value":"1234.5","measurand":"Energy.Active.Import.Register","unit":"Wh"},"#.repeat(11);
    format!(r#"[2,"1","MeterValues",{{"connectorId":1,"meterValue":[{sample}]}}]"#).into()
}

async fn our_bus(url: &str) -> Outcome<Arc<Amqp>> {
    let bus = Amqp::connect(Connect { namespace: "ours".into(), ..Connect::to(url) })?;
    drop(bus.state().wait_for(|state| *state == State::Connected).await?);
    Ok(Arc::new(bus))
}

async fn our_gateway(url: &str, board: &Arc<Board>, calls: u64) -> Outcome<()> {
    struct Answers(Arc<Board>);
    impl Consumer for Answers {
        fn deliver(&self, envelope: Envelope, _done: Done) {
            self.0.answer(&envelope.metadata);
        }
    }
    let bus = our_bus(url).await?;
    let inbox = Subscription { topic: Topic::Inbox("gateway-1".into()), in_hand_max: NonZeroU32::MAX };
    let _inbox = bus.subscribe(inbox, Arc::new(Answers(Arc::clone(board)))).await?;
    load(board, calls, async |station, seq, body, notify| {
        let metadata = metadata(station, seq);
        let to = Address::Call { tenant: "default".into(), station: metadata.station.clone().unwrap() };
        let mut publishing = bus.publish(to, Envelope::new(metadata, body));
        tokio::select! {
            biased;
            () = notify.notified() => return,
            taken = &mut publishing => taken.unwrap(),
        }
        notify.notified().await;
    })
    .await
}

async fn our_worker(url: &str) -> Outcome<()> {
    struct Calls(Arc<Amqp>);
    impl Consumer for Calls {
        fn deliver(&self, envelope: Envelope, done: Done) {
            let answer = Envelope::new(answered(&envelope.metadata), ANSWER);
            let to = Address::Inbox(envelope.metadata.reply_to.unwrap());
            // Nothing of an answer waits.
            drop(self.0.publish(to, answer));
            drop(done);
        }
    }
    let bus = our_bus(url).await?;
    let in_hand_max = NonZeroU32::new(IN_HAND_MAX.into()).unwrap();
    let consumer = Arc::new(Calls(Arc::clone(&bus)));
    let _calls = bus.subscribe(Subscription { topic: Topic::Calls, in_hand_max }, consumer).await?;
    std::future::pending().await
}

/// Has each station make one call after the other until all are made.
async fn load(board: &Arc<Board>, calls: u64, one: impl AsyncFn(usize, u64, Bytes, &Notify)) -> Outcome<()> {
    *board.left.lock().unwrap() = calls;
    let (body, one) = (body(), &one);
    let stations = (0..board.answered.len()).map(|station| {
        let body = body.clone();
        async move {
            let mut seq = 0;
            while board.take() {
                seq += 1;
                one(station, seq, body.clone(), &board.answered[station]).await;
            }
        }
    });
    futures_util::future::join_all(stations).await;
    Ok(())
}

mod reference {
    //! As little as one can do with lapin, short of leaving the headers out.

    use super::*;
    use futures_util::StreamExt as _;
    use lapin::options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, QueueDeclareOptions,
    };
    use lapin::types::{AMQPValue, FieldTable};
    use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

    const CALLS: &str = "reference.calls";
    const INBOX: &str = "reference.gateway-1";

    async fn channel(url: &str) -> Outcome<(Connection, Channel)> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        Ok((connection, channel))
    }

    fn headers(metadata: &Metadata) -> FieldTable {
        let mut table = FieldTable::default();
        metadata.encode_headers(&mut |name, value| {
            table.insert(name.into(), AMQPValue::LongString(value.into()));
        });
        table
    }

    fn metadata_of(table: &FieldTable) -> Outcome<Metadata> {
        let texts = table.inner().iter().filter_map(|(name, value)| match value {
            AMQPValue::LongString(text) => {
                Some((name.as_str(), String::from_utf8_lossy(text.as_bytes()).into_owned()))
            }
            _ => None,
        });
        Ok(Metadata::decode_headers(texts)?)
    }

    pub(super) async fn their_gateway(url: &str, board: &Arc<Board>, calls: u64) -> Outcome<()> {
        let (_connection, channel) = channel(url).await?;
        let exclusive = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
        channel.queue_declare(INBOX.into(), exclusive, FieldTable::default()).await?;
        let no_ack = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let mut answers =
            channel.basic_consume(INBOX.into(), "a".into(), no_ack, FieldTable::default()).await?;
        let answered = Arc::clone(board);
        tokio::spawn(async move {
            while let Some(Ok(delivery)) = answers.next().await {
                if let Some(headers) = delivery.properties.headers() {
                    answered.answer(&metadata_of(headers).unwrap());
                }
            }
        });
        load(board, calls, async |station, seq, body, notify| {
            let properties = BasicProperties::default()
                .with_headers(headers(&metadata(station, seq)))
                .with_reply_to(INBOX.into())
                .with_expiration("25000".into());
            let mandatory = BasicPublishOptions { mandatory: true, ..Default::default() };
            let publishing = channel.basic_publish("".into(), CALLS.into(), mandatory, &body, properties);
            publishing.await.unwrap();
            notify.notified().await;
        })
        .await
    }

    pub(super) async fn their_worker(url: &str) -> Outcome<()> {
        let (_connection, channel) = channel(url).await?;
        let queue = QueueDeclareOptions { auto_delete: true, ..Default::default() };
        channel.queue_declare(CALLS.into(), queue, FieldTable::default()).await?;
        channel.basic_qos(IN_HAND_MAX, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let mut calls =
            channel.basic_consume(CALLS.into(), "c".into(), options, FieldTable::default()).await?;
        while let Some(delivery) = calls.next().await {
            let delivery = delivery?;
            let call = metadata_of(delivery.properties.headers().as_ref().ok_or("no headers")?)?;
            let properties = BasicProperties::default().with_headers(headers(&answered(&call)));
            let to = delivery.properties.reply_to().clone().ok_or("no reply-to")?;
            let options = BasicPublishOptions::default();
            channel.basic_publish("".into(), to, options, ANSWER, properties).await?;
            delivery.ack(BasicAckOptions::default()).await?;
        }
        Ok(())
    }
}

use reference::{their_gateway, their_worker};
