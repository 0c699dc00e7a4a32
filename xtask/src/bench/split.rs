//! Gateway, worker and broker as processes, beside a minimal forwarder and worker over the same broker.

use super::servers::{Running, SERVERS, Server};
use super::{CALLS_OF_EACH, IDLE_CONNECTIONS, SERVER_CORE, STATIONS_CORE};
use super::{costs, load, measure, medians, number, ours, pinned, quantile, ratios, verdict};
use crate::root;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The brokers: what our program `broker` calls them.
pub(super) const BROKERS: [&str; 3] = ["nats", "rabbitmq", "mosquitto"];
/// Stations in the closed loop.
const STATIONS: usize = 100;
/// Stations in the open loop, where each has to be free in its turn.
const OPEN_STATIONS: usize = 1000;
/// Between how many stations the price of a call is compared; as many calls at a time as the fewer are.
const FEW_AND_MANY: [usize; 2] = [100, 10_000];
/// What share of the calls that it can carry the open loop asks of the split.
const LOAD: f64 = 0.3;

const CPU_GOAL: f64 = 1.3;
const LATENCY_GOAL: f64 = 1.5;
const MEMORY_GOAL: f64 = 1000.0;

const OURS: &str = "switchboard";
const MINIMAL: &str = "minimal forwarder";
const ONE_PROCESS: &str = "switchboard, in one process";
const BARE: &str = "the broker alone";
const FLOOR: &str = "floor";

/// All of it, over one broker or over all. A broker that is not installed is passed over, and of a part that fails is told.
pub(super) fn run(quick: bool, only: Option<&str>) -> Result<Value> {
    let mut result = json!({});
    for (place, name) in BROKERS.into_iter().enumerate() {
        if only.is_some_and(|only| only != name) {
            continue;
        }
        let Ok(broker) = Broker::start(name) else {
            eprintln!("{name} is not installed");
            continue;
        };
        let calls = or_null(calls(&broker, quick));
        // All of it takes long; whoever waits sees the beginning.
        eprintln!("{name}: {calls}");
        let per_second = number(&calls[OURS]["calls_per_second"]) * LOAD;
        let in_open_loop = per_second > 0.0;
        let mut table = json!({ "calls": calls });
        if in_open_loop {
            table["latency"] = or_null(latency(&broker, per_second, quick));
            eprintln!("{name}: {}", table["latency"]);
        }
        table["stations"] = or_null(stations(&broker, quick));
        eprintln!("{name}: {}", table["stations"]);
        // What a connection keeps does not depend on the broker.
        if !quick || place == 0 {
            table["memory"] = or_null(memory(&broker, quick));
        }
        result[name] = table;
    }
    Ok(result)
}

fn or_null(part: Result<Value>) -> Value {
    part.unwrap_or_else(|error| {
        eprintln!("not measured: {error:#}");
        Value::Null
    })
}

/// What a call costs, in a closed loop.
fn calls(broker: &Broker, quick: bool) -> Result<Value> {
    let (rounds, seconds) = if quick { (2, 3) } else { (5, 4) };
    let what = ["calls", "--stations", &STATIONS.to_string(), "--seconds", &seconds.to_string()];
    let mut runs = [Vec::new(), Vec::new()];
    for round in 1..=rounds {
        eprintln!("{}: {STATIONS} stations, round {round} of {rounds}", broker.name);
        runs[0].push(Site::ours(broker, "bench")?.load(&what)?);
        runs[1].push(Site::minimal(broker)?.load(&what)?);
    }
    Ok(json!({ OURS: medians(&runs[0]), MINIMAL: medians(&runs[1]) }))
}

/// How long calls take, in an open loop.
fn latency(broker: &Broker, per_second: f64, quick: bool) -> Result<Value> {
    let (rounds, seconds) = if quick { (2, 3) } else { (5, 6) };
    let (per_second, seconds) = (format!("{per_second:.0}"), seconds.to_string());
    let stations = OPEN_STATIONS.to_string();
    let what = ["open", "--stations", &stations, "--per-second", &per_second, "--seconds", &seconds];
    let mut runs = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    for round in 1..=rounds {
        eprintln!("{}: {per_second} calls a second, round {round} of {rounds}", broker.name);
        runs[0].push(Site::ours(broker, "bench")?.load(&what)?);
        runs[1].push(measure(in_one_process()?, &what)?);
        runs[2].push(round_trip(broker, &per_second, &seconds)?);
        if !quick {
            runs[3].push(Site::minimal(broker)?.load(&what)?);
        }
    }
    let [split, one, bare, minimal] = runs.map(|runs| medians(&runs));
    Ok(json!({ OURS: split, ONE_PROCESS: one, BARE: bare, MINIMAL: minimal }))
}

/// What a call costs with few stations and with many, as many calls at a time among either. Few and many have turns,
/// as what is compared is how the one differs from the other.
fn stations(broker: &Broker, quick: bool) -> Result<Value> {
    let (rounds, turns, seconds) = if quick { (1, "20", "5") } else { (3, "20", "5") };
    let [few, many] = FEW_AND_MANY.map(|stations| stations.to_string());
    let mut runs = [Vec::new(), Vec::new()];
    for round in 1..=rounds {
        eprintln!("{}: {few} and {many} stations, round {round} of {rounds}", broker.name);
        let what = ["calls", "--stations", &few, "--at-once", &few, "--seconds", seconds, "--turns", turns];
        let pair = |told: Value| {
            let pair: Option<[Value; 2]> = told.as_array().and_then(|told| told.clone().try_into().ok());
            pair.context("the stations told of one server only")
        };
        {
            // Side by side at one broker, and so each in a namespace of its own.
            let (of_few, of_many) = (Site::ours(broker, "few")?, Site::ours(broker, "many")?);
            let beside = of_many.beside(&many);
            runs[0].push(pair(of_few.load(&[&what[..], &["--beside", &beside]].concat())?)?);
        }
        let (of_few, of_many) = (SERVERS[0].start()?, SERVERS[0].start()?);
        let beside = format!("{}={}+fixed+stations:{many}", of_many.address, of_many.pid());
        let pid = of_few.pid();
        let what = [&["--pid", &pid, "--fixed"], &what[..], &["--beside", &beside]].concat();
        runs[1].push(pair(load(FLOOR, &of_few.address, &what)?)?);
    }
    let mut result = json!({});
    for (who, runs) in [OURS, FLOOR].into_iter().zip(runs) {
        let (few, many): (Vec<Value>, Vec<Value>) = runs.into_iter().map(|[few, many]| (few, many)).unzip();
        let mut row = json!({ "few": medians(&few), "many": medians(&many) });
        let growth = ratios(&costs(&many), &costs(&few));
        row["growth"] = json!(quantile(&growth, 0.5));
        row["growth_half_within"] = json!([quantile(&growth, 0.25), quantile(&growth, 0.75)]);
        result[who] = row;
    }
    Ok(result)
}

/// Memory of connections that do nothing. Stations that wait for their turn answer no pings, so that over a slow broker it
/// has to come soon.
fn memory(broker: &Broker, quick: bool) -> Result<Value> {
    let rounds = if quick { 1 } else { 2 };
    let calls = if quick || broker.name != BROKERS[0] { 10 } else { CALLS_OF_EACH }.to_string();
    let connections = IDLE_CONNECTIONS.to_string();
    let what = ["idle", "--connections", &connections, "--calls", &calls];
    let mut runs = [Vec::new(), Vec::new()];
    for round in 1..=rounds {
        eprintln!("{}: {connections} idle connections, round {round} of {rounds}", broker.name);
        runs[0].push(Site::ours(broker, "bench")?.load(&what)?);
        runs[1].push(measure(in_one_process()?, &what)?);
    }
    Ok(json!({ OURS: medians(&runs[0]), ONE_PROCESS: medians(&runs[1]) }))
}

fn in_one_process() -> Result<&'static Server> {
    SERVERS.iter().find(|server| server.name == ONE_PROCESS).context("there is no server in one process")
}

fn round_trip(broker: &Broker, per_second: &str, seconds: &str) -> Result<Value> {
    let arguments = ["--bus", &broker.url];
    let _worker = worker("minimal", &[&arguments[..], &["worker"]].concat())?;
    let what = ["roundtrip", "--per-second", per_second, "--seconds", seconds];
    let mut command = pinned(STATIONS_CORE, &ours("minimal"), &[&arguments[..], &what].concat());
    let output = command.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "the round trip over {} broke off", broker.name);
    serde_json::from_slice(&output.stdout).context("the round trip printed no JSON")
}

/// A broker with nobody else at it.
struct Broker {
    name: &'static str,
    url: String,
    pid: String,
    _running: Running,
}

impl Broker {
    fn start(name: &'static str) -> Result<Self> {
        let running = Running::start(name, pinned(SERVER_CORE, &ours("broker"), &[name]))?;
        let (url, pid) = running.address.split_once(' ').context("the broker told no process")?;
        let (url, pid) = (url.to_owned(), pid.to_owned());
        Ok(Self { name, url, pid, _running: running })
    }
}

/// A gateway with a worker behind a broker.
struct Site {
    name: &'static str,
    address: String,
    processes: Vec<String>,
    fixed: bool,
    // In this order, so that the worker is there until the gateway has ended.
    _gateway: Running,
    _worker: Running,
    _folder: Option<Folder>,
}

impl Site {
    /// `switchboard gateway`, as it comes, but for the recording of traffic, which a single process of the benchmark does
    /// not have either; and our worker with the handlers of that process.
    fn ours(broker: &Broker, namespace: &str) -> Result<Self> {
        let worker = worker("worker", &["--bus", &broker.url, "--namespace", namespace])?;
        let folder = Folder::new()?;
        let (ports, data) = (folder.0.join("ports.json"), folder.0.join("data"));
        let directory = format!("sqlite:{}", data.join("directory.sqlite3").display());
        let (ports_file, data) = (ports.display().to_string(), data.display().to_string());
        let arguments = [
            &["gateway", "--bus", &broker.url, "--namespace", namespace, "--data-dir", &data][..],
            &["--directory", &directory, "--ports-file", &ports_file, "--trace-ring", "0"],
            &["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"],
            // Ten thousand stations at once are the measurement, not an attack.
            &["--accept-unknown", "--gateway-accept-rate", "0", "--log", "warn", "--log-format", "json"],
        ]
        .concat();
        let mut command = pinned(SERVER_CORE, &ours("switchboard"), &arguments);
        let mut gateway = Running::new(command.stdout(Stdio::null()).spawn()?);
        let begun = Instant::now();
        let address = loop {
            let ports = std::fs::read(&ports).ok();
            let ports = ports.and_then(|text| serde_json::from_slice::<Value>(&text).ok());
            if let Some(address) = ports.as_ref().and_then(|ports| ports["stations"].as_str()) {
                break address.to_owned();
            }
            ensure!(begun.elapsed() < Duration::from_secs(30), "switchboard gateway does not listen");
            ensure!(gateway.is_running(), "switchboard gateway has ended");
            sleep(Duration::from_millis(20));
        };
        Ok(Self::new(OURS, broker, address, gateway, worker, Some(folder)))
    }

    fn minimal(broker: &Broker) -> Result<Self> {
        let worker = worker("minimal", &["--bus", &broker.url, "worker"])?;
        let command = pinned(SERVER_CORE, &ours("minimal"), &["--bus", &broker.url, "gateway"]);
        let gateway = Running::start(MINIMAL, command)?;
        let address = gateway.address.clone();
        Ok(Self::new(MINIMAL, broker, address, gateway, worker, None))
    }

    fn new(
        name: &'static str,
        broker: &Broker,
        address: String,
        gateway: Running,
        worker: Running,
        folder: Option<Folder>,
    ) -> Self {
        let processes = vec![
            format!("gateway={}", gateway.pid()),
            format!("worker={}", worker.pid()),
            format!("broker={}", broker.pid),
        ];
        let fixed = name == MINIMAL;
        Self { name, address, processes, fixed, _gateway: gateway, _worker: worker, _folder: folder }
    }

    /// How it is named to the stations where it has turns with others.
    fn beside(&self, stations: &str) -> String {
        let processes: Vec<String> = self.processes.iter().map(|one| one.replace('=', ":")).collect();
        format!("{}={}+stations:{stations}", self.address, processes.join(","))
    }

    fn load(&self, what: &[&str]) -> Result<Value> {
        let mut arguments: Vec<&str> = self.processes.iter().flat_map(|pid| ["--pid", pid]).collect();
        if self.fixed {
            arguments.push("--fixed");
        }
        arguments.extend(what);
        load(self.name, &self.address, &arguments)
    }
}

fn worker(program: &str, arguments: &[&str]) -> Result<Running> {
    Running::start(program, pinned(SERVER_CORE, &ours(program), arguments))
}

/// What a gateway writes, and is gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = root().join(format!("target/bench-split/{}-{number}", std::process::id()));
        std::fs::create_dir_all(folder.join("data"))?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left over lies in the folder of what is built.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

pub(super) fn print(result: &Value) {
    println!("\ngateway, worker and broker as processes");
    for name in BROKERS {
        let table = &result[name];
        if table.is_null() {
            println!("  {name}: not measured");
            continue;
        }
        println!("  {name}");
        let of = |table: &Value, who: &str, what: &str| number(&table[who][what]);
        let calls = &table["calls"];
        println!("    CPU per call, {STATIONS} stations, one call after the other of each");
        for who in [OURS, MINIMAL] {
            let sum = of(calls, who, "server_us_per_call");
            println!(
                "      {who:<28} {sum:>6.1} µs = gateway {:>5.1} + worker {:>5.1} + broker {:>5.1}   {:>6.0} calls/s  p99 {:>5.2} ms{}",
                of(calls, who, "gateway_us_per_call"),
                of(calls, who, "worker_us_per_call"),
                of(calls, who, "broker_us_per_call"),
                of(calls, who, "calls_per_second"),
                of(calls, who, "p99_us") / 1e3,
                if who == OURS {
                    let ratio = sum / of(calls, MINIMAL, "server_us_per_call");
                    format!("   {ratio:.2} × minimal{}", verdict(ratio, CPU_GOAL, "×"))
                } else {
                    String::new()
                },
            );
        }
        let latency = &table["latency"];
        println!(
            "    {:.0} calls a second at random times, {OPEN_STATIONS} stations",
            of(latency, OURS, "calls_per_second")
        );
        for who in [OURS, ONE_PROCESS, BARE, MINIMAL].into_iter().filter(|who| !latency[who].is_null()) {
            println!(
                "      {who:<28} p50 {:>6.3} ms  p99 {:>6.3} ms",
                of(latency, who, "p50_us") / 1e3,
                of(latency, who, "p99_us") / 1e3,
            );
        }
        let added = of(latency, OURS, "p99_us") - of(latency, ONE_PROCESS, "p99_us");
        let ratio = added / of(latency, BARE, "p99_us");
        println!(
            "      p99 that the split adds: {:.3} ms, {ratio:.2} × the broker's{}",
            added / 1e3,
            verdict(ratio, LATENCY_GOAL, "×")
        );
        let stations = &table["stations"];
        let [few, many] = FEW_AND_MANY;
        println!("    CPU per call, {few} and {many} stations, {few} calls at a time");
        let rounded = |who: &str| (number(&stations[who]["growth"]) * 100.0).round() / 100.0;
        for who in [OURS, FLOOR] {
            let row = &stations[who];
            let [few, many] = ["few", "many"].map(|of| number(&row[of]["server_us_per_call"]));
            let [low, high] = [0, 1].map(|at| number(&row["growth_half_within"][at]));
            println!(
                "      {who:<28} {few:>6.1} µs and {many:>6.1} µs: {:.2} × ({low:.2} to {high:.2}){}",
                rounded(who),
                if who == OURS {
                    verdict(rounded(who), rounded(FLOOR), "× as the floor")
                } else {
                    String::new()
                },
            );
        }
        let memory = &table["memory"];
        if memory.is_null() {
            continue;
        }
        println!("    resident memory per idle connection, {IDLE_CONNECTIONS} of them");
        for (what, when) in [("bytes_each_fresh", "fresh"), ("bytes_each_after_calls", "after calls of each")]
        {
            let (split, one) = (of(memory, OURS, what), of(memory, ONE_PROCESS, what));
            println!(
                "      {when:<28} gateway {split:>6.0} B, one process {one:>6.0} B: {:+.0} B{}",
                split - one,
                verdict(split - one, MEMORY_GOAL, "B")
            );
        }
    }
}
