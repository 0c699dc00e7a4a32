//! What an idle connection costs: resident memory per station after connecting, and after a hundred calls each.
//!
//! `cargo run --release -p switchboard-gateway --example idle -- 10000`. The stations live in a process of their own, so
//! that their memory is not counted. Needs as many open files as stations, and a few.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "it prints what it measured")]

use bytestring::ByteString;
use std::{
    env::args,
    error::Error,
    net::SocketAddr,
    num::NonZeroU32,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};
use switchboard_bus::{
    Address, Bus, Consumer, Done, Envelope, InProcess, Kind, Metadata, Subscription, Topic,
};
use switchboard_directory::Embedded;
use switchboard_gateway::{Config, Gateway, UnknownStations};
use switchboard_rpc::{Frame, frame::write_result};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::Command,
};
use tokio_util::sync::CancellationToken;

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let mut arguments = args().skip(1);
    let first = arguments.next().unwrap_or_else(|| "5000".to_owned());
    if first == "stations" {
        let address = arguments.next().ok_or("no address")?.parse()?;
        return stations(address, arguments.next().ok_or("no count")?.parse()?).await;
    }
    gateway(first.parse()?).await
}

/// Answers every call with the empty object.
#[derive(Debug)]
struct Obliging(InProcess);

impl Consumer for Obliging {
    fn deliver(&self, call: Envelope, _done: Done) {
        let Some(frame) = ByteString::try_from(call.body).ok() else { return };
        let (Some(version), Some(inbox)) = (call.metadata.version, call.metadata.reply_to) else { return };
        let Ok(Frame::Call { id, .. }) = Frame::parse(&frame, version) else { return };
        let mut metadata = Metadata::new(Kind::Answer);
        metadata.station = call.metadata.station;
        metadata.connection = call.metadata.connection;
        metadata.seq = call.metadata.seq;
        let body = write_result(&id, b"{}");
        // The in-process bus has published it when it gives the future.
        drop(self.0.publish(Address::Inbox(inbox), Envelope::new(metadata, body)));
    }
}

async fn gateway(count: usize) -> Outcome {
    let bus = InProcess::new();
    let mut config = Config::default();
    config.listen = "127.0.0.1:0".parse()?;
    config.unknown_stations = UnknownStations::Accept;
    let mut metrics = prometheus_client::registry::Registry::default();
    let directory = Arc::new(Embedded::in_memory()?);
    let gateway = Gateway::new(config, Arc::new(bus.clone()), directory, &mut metrics)?;
    let listener = gateway.bind()?;
    let address = listener.local_addr()?;
    let subscription = Subscription { topic: Topic::Calls, in_hand_max: NonZeroU32::MAX };
    let _processing = bus.subscribe(subscription, Arc::new(Obliging(bus.clone()))).await?;
    let stop = CancellationToken::new();
    let serving = tokio::spawn({
        let (gateway, stop) = (gateway.clone(), stop.clone());
        async move { gateway.serve(listener, stop).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = resident()?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["stations", &address.to_string(), &count.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut orders = child.stdin.take().ok_or("no stdin")?;
    let mut reports = BufReader::new(child.stdout.take().ok_or("no stdout")?).lines();
    reports.next_line().await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let per_station = |bytes: u64| bytes.saturating_sub(before) / count as u64;
    println!("{} stations connected", gateway.connections());
    println!("{:>6} bytes resident each after connecting", per_station(resident()?));
    for round in ["one call", "a hundred calls"] {
        let (cpu, began) = (cpu()?, Instant::now());
        orders.write_all(b"go\n").await?;
        reports.next_line().await?;
        let (cpu, took) = (self::cpu()? - cpu, began.elapsed());
        let calls = if round == "one call" { count } else { 99 * count };
        println!(
            "{:>6} bytes resident each after {round}; {:.1} µs of CPU a call, {:.0} calls/s",
            per_station(resident()?),
            cpu.as_secs_f64() * 1e6 / calls as f64,
            calls as f64 / took.as_secs_f64(),
        );
    }
    child.kill().await?;
    stop.cancel();
    serving.await??;
    Ok(())
}

/// Bytes of memory that this process has in hand.
fn resident() -> Result<u64, Box<dyn Error + Send + Sync>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
}

/// The processor time of this process.
fn cpu() -> Result<Duration, Box<dyn Error + Send + Sync>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    Ok(Duration::from_millis((ticks(11) + ticks(12)) * 10))
}

/// The other side: connects, says so, then makes one call per station, then a hundred.
async fn stations(address: SocketAddr, count: usize) -> Outcome {
    let mut sockets = Vec::with_capacity(count);
    for number in 0..count {
        let mut socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let request = format!(
            "GET /ocpp/CP{number:06} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: ocpp1.6\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await?;
        let mut head = [0; 512];
        let mut read = 0;
        while !head.get(..read).is_some_and(|head| head.ends_with(b"\r\n\r\n")) {
            read += socket.read(head.get_mut(read..).ok_or("a long answer")?).await?;
        }
        sockets.push(socket);
    }
    println!("connected");
    let orders = std::io::stdin();
    let mut order = String::new();
    for rounds in [1, 99] {
        orders.read_line(&mut order)?;
        for round in 0..rounds {
            for wave in sockets.chunks_mut(64) {
                for socket in wave.iter_mut() {
                    socket.write_all(&call(round)).await?;
                }
                for socket in wave.iter_mut() {
                    let mut answer = [0; 128];
                    if socket.read(&mut answer).await? == 0 {
                        return Err("closed".into());
                    }
                }
            }
        }
        println!("called");
    }
    orders.read_line(&mut order)?;
    Ok(())
}

/// A masked frame with a MeterValues of some 300 bytes.
fn call(round: usize) -> Vec<u8> {
    let text = format!(
        r#"[2,"{round:08}","MeterValues",{{"connectorId":1,"transactionId":1,"meterValue":[{{"timestamp":"2026-01-01T00:00:00Z","sampledValue":[{{"value":"1234","measurand":"Energy.Active.Import.Register","unit":"Wh"}},{{"value":"16.1","measurand":"Current.Import","unit":"A"}}]}}]}}]"#
    );
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut frame = vec![0x81, 0x80 | 126, length[0], length[1], 0, 0, 0, 0];
    frame.extend(text.into_bytes());
    frame
}
