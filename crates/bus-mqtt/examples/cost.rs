//! What a call costs over Mosquitto with this driver, and with a minimal forwarder and worker made of rumqttc that use the
//! same headers and quality of service: CPU of both sides and the broker.
//!
//! `cargo run --release -p switchboard-bus-mqtt --example cost -- [CALLS] [IN FLIGHT] [ROUNDS]`

#![expect(clippy::print_stdout, reason = "it prints a table")]
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a measurement, not a product")]

use anyhow::{Context as _, Result, bail};
use rumqttc::v5::mqttbytes::{QoS, v5::PublishProperties};
use rumqttc::v5::{AsyncClient, Event, Incoming, MqttOptions};
use std::{
    num::NonZeroU32,
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use switchboard_bus::{
    Address, Bus, Connect, ConnectionKey, Consumer, Done, Envelope, Kind, Metadata, State, Subscription,
    Topic,
};
use switchboard_bus_mqtt::Mqtt;
use switchboard_rpc::{StationId, Version};
use switchboard_testkit::servers::Mosquitto;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    sync::{Notify, Semaphore},
};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let number = |place: usize, default: u64| {
        arguments.get(place).and_then(|argument| argument.parse().ok()).unwrap_or(default)
    };
    match arguments.first().map(String::as_str) {
        Some("worker") => runtime.block_on(work(arguments[1] == "ours", &arguments[2])),
        Some("gateway") => {
            runtime.block_on(forward(arguments[1] == "ours", &arguments[2], number(3, 0), number(4, 64)))
        }
        _ => runtime.block_on(measure(number(0, 20_000), number(1, 64), number(2, 3))),
    }
}

async fn measure(calls: u64, in_flight: u64, rounds: u64) -> Result<()> {
    println!(
        "{:8} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "µs/call", "gateway", "worker", "broker", "sum", "calls/s"
    );
    for _ in 0..rounds {
        for side in ["ours", "minimal"] {
            let broker =
                Mosquitto::start("the cost of a call").await?.context("Mosquitto is not installed")?;
            let (worker, _) = start(&["worker", side, &broker.url()]).await?;
            let numbers = [calls.to_string(), in_flight.to_string()];
            let arguments = ["gateway", side, &broker.url(), &numbers[0], &numbers[1]];
            let before = [cpu(worker.id())?, cpu(broker.pid())?];
            let begun = Instant::now();
            let (_gateway, told) = start(&arguments).await?;
            let took = begun.elapsed();
            let gateway: f64 = told.parse()?;
            let [worker_cpu, broker_cpu] = [cpu(worker.id())? - before[0], cpu(broker.pid())? - before[1]];
            let each = |seconds: f64| seconds * 1e6 / calls as f64;
            println!(
                "{side:8} {:9.1} {:9.1} {:9.1} {:9.1} {:9.0}",
                each(gateway),
                each(worker_cpu),
                each(broker_cpu),
                each(gateway + worker_cpu + broker_cpu),
                calls as f64 / took.as_secs_f64()
            );
        }
    }
    Ok(())
}

/// A process of this program, and the first line that it prints.
async fn start(arguments: &[&str]) -> Result<(Child, String)> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(arguments)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    let line = lines.next_line().await?.context("it ended without a word")?;
    Ok((child, line))
}

/// Seconds of CPU that a process has taken.
fn cpu(process: Option<u32>) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.context("it has ended")?))?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("a name")?.1.split_whitespace().collect();
    // The clock ticks a hundred times a second on every Linux there is.
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}

fn call(seq: u64) -> Envelope {
    let mut metadata = Metadata::new(Kind::Call);
    metadata.station = Some(station());
    metadata.version = Some(Version::V16);
    metadata.action = Some("MeterValues".into());
    metadata.connection = Some(ConnectionKey { gateway: "gateway-1".into(), generation: 1_795_341_600_000 });
    metadata.seq = Some(seq);
    metadata.received_at_ms = Some(1_795_341_600_000);
    metadata.remaining = Some(Duration::from_secs(25));
    metadata.reply_to = Some("gateway-1".into());
    metadata.attempt = 1;
    Envelope::new(metadata, format!(r#"[2,"{seq}","MeterValues",{{"values":"{}"}}]"#, "0".repeat(360)))
}

fn answer(call: &Metadata, seq: u64) -> Envelope {
    let mut metadata = call.clone();
    metadata.kind = Kind::Answer;
    metadata.received_at_ms = None;
    metadata.remaining = None;
    metadata.reply_to = None;
    metadata.worker = Some("worker-1".into());
    Envelope::new(metadata, format!(r#"[3,"{seq}",{{}}]"#))
}

fn station() -> StationId {
    StationId::new("CP00001", 48).unwrap()
}

async fn ours(url: &str, name: &'static str) -> Result<Arc<dyn Bus>> {
    let mut connect = Connect::to(url);
    connect.participant = name.into();
    let bus: Arc<dyn Bus> = Arc::new(Mqtt::connect(connect)?);
    drop(bus.state().wait_for(|state| *state == State::Connected).await?);
    Ok(bus)
}

struct Working(Arc<dyn Bus>);

impl Consumer for Working {
    fn deliver(&self, envelope: Envelope, done: Done) {
        let bus = Arc::clone(&self.0);
        let answer = answer(&envelope.metadata, envelope.metadata.seq.unwrap_or(0));
        tokio::spawn(async move {
            bus.publish(Address::Inbox("gateway-1".into()), answer).await.unwrap();
            drop(done);
        });
    }
}

struct Answered {
    count: AtomicU64,
    all: u64,
    room: Semaphore,
    finished: Notify,
}

impl Answered {
    fn new(all: u64, in_flight: u64) -> Arc<Self> {
        let room = Semaphore::new(usize::try_from(in_flight).unwrap());
        Arc::new(Self { count: AtomicU64::new(0), all, room, finished: Notify::new() })
    }

    fn one(&self) {
        self.room.add_permits(1);
        if self.count.fetch_add(1, Ordering::Relaxed) + 1 == self.all {
            self.finished.notify_one();
        }
    }
}

struct Counting(Arc<Answered>);

impl Consumer for Counting {
    fn deliver(&self, _envelope: Envelope, done: Done) {
        self.0.one();
        drop(done);
    }
}

async fn work(is_ours: bool, url: &str) -> Result<()> {
    if is_ours {
        let bus = ours(url, "worker-1").await?;
        let subscription = Subscription { topic: Topic::Calls, in_hand_max: NonZeroU32::new(1024).unwrap() };
        let _subscribed = bus.subscribe(subscription, Arc::new(Working(Arc::clone(&bus)))).await?;
        println!("ready");
        std::future::pending().await
    } else {
        let (client, mut events) = minimal(url, "worker-1");
        client.subscribe("$share/workers/ocpp/v1/default/call/+/+/+", QoS::AtLeastOnce).await?;
        loop {
            match events.poll().await? {
                Event::Incoming(Incoming::SubAck(_)) => println!("ready"),
                Event::Incoming(Incoming::Publish(publish)) => {
                    let properties = publish.properties.context("no headers")?;
                    let headers = properties.user_properties;
                    let of = |name: &str| {
                        headers.iter().find(|(header, _)| header == name).map(|(_, value)| value)
                    };
                    let seq = of("ocpp-seq").context("no number")?;
                    let body = format!(r#"[3,"{seq}",{{}}]"#);
                    let mut back = Vec::with_capacity(headers.len());
                    for (name, value) in &headers {
                        match name.as_str() {
                            "ocpp-received-at" | "ocpp-remaining-ms" | "ocpp-reply-to" => {}
                            "ocpp-kind" => back.push((name.clone(), "answer".to_owned())),
                            _ => back.push((name.clone(), value.clone())),
                        }
                    }
                    back.push(("ocpp-worker".to_owned(), "worker-1".to_owned()));
                    let properties =
                        PublishProperties { user_properties: back, ..PublishProperties::default() };
                    let to = properties_to(&headers)?;
                    client.try_publish_with_properties(to, QoS::AtLeastOnce, false, body, properties)?;
                }
                _ => {}
            }
        }
    }
}

fn properties_to(headers: &[(String, String)]) -> Result<String> {
    let inbox = headers.iter().find(|(name, _)| name == "ocpp-reply-to").context("no address")?;
    Ok(format!("ocpp/v1/default/inbox/{}", inbox.1))
}

async fn forward(is_ours: bool, url: &str, calls: u64, in_flight: u64) -> Result<()> {
    let answered = Answered::new(calls, in_flight);
    if is_ours {
        let bus = ours(url, "gateway-1").await?;
        let subscription =
            Subscription { topic: Topic::Inbox("gateway-1".into()), in_hand_max: NonZeroU32::MAX };
        let _subscribed = bus.subscribe(subscription, Arc::new(Counting(Arc::clone(&answered)))).await?;
        for seq in 0..calls {
            answered.room.acquire().await?.forget();
            let bus = Arc::clone(&bus);
            tokio::spawn(async move {
                let to = Address::Call { tenant: "default".into(), station: station() };
                bus.publish(to, call(seq)).await.unwrap();
            });
        }
        answered.finished.notified().await;
    } else {
        let (client, mut events) = minimal(url, "gateway-1");
        client.subscribe("ocpp/v1/default/inbox/gateway-1", QoS::AtLeastOnce).await?;
        let counted = Arc::clone(&answered);
        let subscribed = Arc::new(Notify::new());
        let told = Arc::clone(&subscribed);
        let failed: Arc<Mutex<Option<String>>> = Arc::default();
        let fault = Arc::clone(&failed);
        tokio::spawn(async move {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Incoming::SubAck(_))) => told.notify_one(),
                    Ok(Event::Incoming(Incoming::Publish(_))) => counted.one(),
                    Ok(_) => {}
                    Err(error) => {
                        *fault.lock().unwrap() = Some(error.to_string());
                        counted.finished.notify_one();
                        return;
                    }
                }
            }
        });
        subscribed.notified().await;
        let part = switchboard_bus::partition("default", station().as_str(), 256);
        for seq in 0..calls {
            answered.room.acquire().await?.forget();
            let envelope = call(seq);
            let mut headers = Vec::with_capacity(12);
            envelope
                .metadata
                .encode_headers(&mut |name, value| headers.push((name.to_owned(), value.to_owned())));
            let properties = PublishProperties {
                user_properties: headers,
                message_expiry_interval: Some(25),
                response_topic: Some("ocpp/v1/default/inbox/gateway-1".to_owned()),
                ..PublishProperties::default()
            };
            let to = format!("ocpp/v1/default/call/{part}/default/{}", station().as_str());
            client.publish_with_properties(to, QoS::AtLeastOnce, false, envelope.body, properties).await?;
        }
        answered.finished.notified().await;
        if let Some(error) = failed.lock().unwrap().take() {
            bail!(error);
        }
    }
    println!("{}", cpu(Some(std::process::id()))?);
    Ok(())
}

fn minimal(url: &str, name: &str) -> (AsyncClient, rumqttc::v5::EventLoop) {
    let (host, port) = url.trim_start_matches("mqtt://").split_once(':').unwrap();
    let mut options = MqttOptions::new(name, host, port.parse().unwrap());
    let mut network = rumqttc::NetworkOptions::new();
    network.set_tcp_nodelay(true);
    let (client, mut events) = AsyncClient::new(
        {
            options.set_keep_alive(Duration::from_secs(15)).set_clean_start(true);
            options.set_outgoing_inflight_upper_limit(1024);
            options
        },
        4096,
    );
    events.options.set_network_options(network);
    (client, events)
}
