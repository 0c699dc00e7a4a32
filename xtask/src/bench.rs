//! `cargo xtask bench`: the server beside a bare WebSocket server, in one run.
//!
//! Servers run on one core and the stations on another, by turns or in interleaved rounds; what is told is the median.
//! Each round starts a fresh process.

use crate::{cargo, root};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use servers::{SERVERS, Server};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

mod servers;
mod split;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
    /// Fewer and shorter rounds: a first impression in under a minute
    #[arg(long)]
    quick: bool,
    /// Only the part of this name
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Of the split, only over this broker
    #[arg(long, value_parser = split::BROKERS)]
    broker: Option<String>,
    /// Of the calls, only with so many stations
    #[arg(long)]
    stations: Option<usize>,
    /// Build nothing: measure the programs of the last run
    #[arg(long)]
    as_built: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Server CPU per call, beside the floor
    Calls,
    /// Connections to the first answer of a BootNotification, per second
    Boots,
    /// Resident memory per idle connection, beside the floor
    Memory,
    /// One message through the router alone
    Answer,
    /// Gateway, worker and broker as processes, beside a minimal forwarder over the same broker
    Split,
}

/// How many call in the closed loop.
const STATIONS: [usize; 3] = [100, 300, 1000];
const IDLE_CONNECTIONS: usize = 10_000;
const CALLS_OF_EACH: usize = 100;
const BOOTING: usize = 5_000;

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let wanted = |part| options.only.is_none_or(|only| only == part);
    if options.as_built {
        eprintln!("measuring what was built before");
    } else {
        eprintln!("building with optimisations");
        build_for(options)?;
    }
    let mut result = json!({ "machine": machine() });
    if wanted(Part::Calls) {
        result["calls"] = calls(options.quick, options.stations)?;
    }
    if wanted(Part::Boots) {
        result["boots"] = boots(options.quick)?;
    }
    if wanted(Part::Memory) {
        result["memory"] = memory(options.quick)?;
    }
    if wanted(Part::Answer) {
        result["answer"] = answer()?;
    }
    if wanted(Part::Split) {
        result["split"] = split::run(options.quick, options.broker.as_deref())?;
    }
    if options.json {
        println!("{result:#}");
    } else {
        print(&result);
    }
    Ok(ExitCode::SUCCESS)
}

fn build_for(options: &Options) -> Result<()> {
    if options.only != Some(Part::Split) {
        build(&["--package", "switchboard-benches"])?;
    }
    if options.only.is_none_or(|only| only == Part::Split) {
        build(&["--package", "switchboard-cli", "--bin", "switchboard"])?;
        let programs = ["floor", "inprocess", "load", "minimal", "worker", "broker"];
        let package = ["--package", "switchboard-benches", "--features", "split"];
        build(&[&package[..], &programs.map(|name| ["--bin", name]).concat()].concat())?;
    }
    Ok(())
}

fn build(what: &[&str]) -> Result<()> {
    let built = cargo()
        .args(["build", "--release", "--locked", "--quiet"])
        .args(what)
        .stdin(Stdio::null())
        .status()
        .context("cannot run cargo")?;
    ensure!(built.success(), "the benchmark does not build");
    Ok(())
}

/// What a call costs each server. Ours have turns, so that what else the machine does meets all of them; those of others
/// take so much longer that they have one run to themselves.
fn calls(quick: bool, only: Option<usize>) -> Result<Value> {
    let (rounds, turns, seconds) = if quick { (1, 12, 3) } else { (3, 20, 5) };
    let mut result = json!({});
    for stations in only.map_or_else(|| STATIONS.to_vec(), |only| vec![only]) {
        let number = stations.to_string();
        let mut runs: Vec<Vec<Value>> = vec![Vec::new(); SERVERS.len()];
        let (ours, others): (Vec<usize>, _) = (0..SERVERS.len()).partition(|at| SERVERS[*at].is_ours());
        for round in 1..=rounds {
            eprintln!("{stations} stations, round {round} of {rounds}");
            let (seconds, turns) = (seconds.to_string(), turns.to_string());
            let what = ["calls", "--stations", &number, "--seconds", &seconds, "--turns", &turns];
            let servers: Vec<&Server> = ours.iter().map(|at| &SERVERS[*at]).collect();
            for (at, run) in ours.iter().zip(measure_by_turns(&servers, &what)?) {
                runs[*at].push(run);
            }
        }
        for at in others {
            if SERVERS[at].is_here() {
                eprintln!("{stations} stations: {}", SERVERS[at].name);
                let what = ["calls", "--stations", &number, "--seconds", "3"];
                runs[at].push(measure(&SERVERS[at], &what)?);
            }
        }
        for (server, of_server) in SERVERS.iter().zip(&runs) {
            let mut row = medians(of_server);
            if !row.is_null() {
                add_ratios(&mut row, &ratios(&costs(of_server), &costs(&runs[0])));
            }
            result[&number][server.name] = row;
        }
    }
    Ok(result)
}

/// How often the floor's, in the middle and for the middle half of them.
fn add_ratios(row: &mut Value, ratios: &[f64]) {
    row["times_floor"] = json!(quantile(ratios, 0.5));
    row["times_floor_half_within"] = json!([quantile(ratios, 0.25), quantile(ratios, 0.75)]);
}

/// What a call has cost in each turn of all runs.
fn costs(runs: &[Value]) -> Vec<f64> {
    by_turn(runs, "us_per_call_by_turn")
}

fn by_turn(runs: &[Value], what: &str) -> Vec<f64> {
    runs.iter().filter_map(|run| run[what].as_array()).flatten().filter_map(Value::as_f64).collect()
}

/// Each beside the floor's before it; where there are not as many, all beside the floor's median.
fn ratios(costs: &[f64], floor: &[f64]) -> Vec<f64> {
    if costs.len() == floor.len() {
        return costs.iter().zip(floor).map(|(cost, floor)| cost / floor).collect();
    }
    let floor = quantile(floor, 0.5);
    costs.iter().map(|cost| cost / floor).collect()
}

/// How fast stations boot. The servers have turns.
fn boots(quick: bool) -> Result<Value> {
    let (rounds, turns) = if quick { (1, "10") } else { (3, "24") };
    let servers: Vec<&Server> = SERVERS.iter().filter(|server| server.boots).collect();
    let mut runs: Vec<Vec<Value>> = vec![Vec::new(); servers.len()];
    for round in 1..=rounds {
        eprintln!("{BOOTING} stations boot, round {round} of {rounds}");
        let what = ["boots", "--stations", &BOOTING.to_string(), "--turns", turns];
        for (runs, run) in runs.iter_mut().zip(measure_by_turns(&servers, &what)?) {
            runs.push(run);
        }
    }
    let mut result = json!({});
    for (server, of_server) in servers.iter().zip(&runs) {
        let by_turn = |runs: &[Value]| by_turn(runs, "booted_per_second_by_turn");
        let mut row = medians(of_server);
        add_ratios(&mut row, &ratios(&by_turn(of_server), &by_turn(&runs[0])));
        result[server.name] = row;
    }
    Ok(result)
}

fn memory(quick: bool) -> Result<Value> {
    let rounds = if quick { 1 } else { 2 };
    let calls = if quick { 10 } else { CALLS_OF_EACH };
    let mut runs: Vec<Vec<Value>> = vec![Vec::new(); SERVERS.len()];
    for round in 1..=rounds {
        for (server, runs) in SERVERS.iter().zip(&mut runs).filter(|(server, _)| server.memory) {
            eprintln!("{IDLE_CONNECTIONS} idle connections, round {round} of {rounds}: {}", server.name);
            let connections = IDLE_CONNECTIONS.to_string();
            runs.push(measure(
                server,
                &["idle", "--connections", &connections, "--calls", &calls.to_string()],
            )?);
        }
    }
    Ok(SERVERS.iter().zip(&runs).map(|(server, runs)| (server.name.to_owned(), medians(runs))).collect())
}

fn answer() -> Result<Value> {
    eprintln!("Router::answer alone");
    let output = pinned(STATIONS_CORE, &ours("answer"), &[]).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "the benchmark of the router failed");
    serde_json::from_slice(&output.stdout).context("the benchmark of the router printed no JSON")
}

const SERVER_CORE: &str = "0";
const STATIONS_CORE: &str = "1";

/// Starts a server, lets the load loose on it and gives back what that measured.
fn measure(server: &Server, what: &[&str]) -> Result<Value> {
    let running = server.start()?;
    let pid = running.pid();
    let arguments = [&["--pid", &pid][..], server.arguments, what].concat();
    load(server.name, &running.address, &arguments)
}

/// The same for several servers, which are called by turns.
fn measure_by_turns(servers: &[&Server], what: &[&str]) -> Result<Vec<Value>> {
    let running = servers.iter().map(|server| server.start()).collect::<Result<Vec<_>>>()?;
    let (Some((first, others)), Some(server)) = (running.split_first(), servers.first()) else {
        return Ok(Vec::new());
    };
    let beside = others.iter().zip(servers.iter().skip(1)).map(|(running, server)| {
        let traits: String = server.arguments.iter().map(|it| it.replace("--", "+")).collect();
        format!("{}={}{traits}", running.address, running.pid())
    });
    let beside: Vec<String> = beside.flat_map(|beside| ["--beside".to_owned(), beside]).collect();
    let pid = first.pid();
    let mut arguments = [&["--pid", &pid][..], server.arguments, what].concat();
    arguments.extend(beside.iter().map(String::as_str));
    let told = load("servers that have turns", &first.address, &arguments)?;
    told.as_array().cloned().context("the stations told of one server only")
}

/// Lets the stations loose on a server.
fn load(name: &str, address: &str, arguments: &[&str]) -> Result<Value> {
    let arguments = [&["--server", address][..], arguments].concat();
    let output = pinned(STATIONS_CORE, &ours("load"), &arguments).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "the stations of {name} broke off");
    serde_json::from_slice(&output.stdout).context("the stations printed no JSON")
}

fn ours(program: &str) -> PathBuf {
    root().join("target/release").join(program)
}

/// A program on one core, with room for ten thousand sockets.
fn pinned(core: &str, program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 20000 2>/dev/null || ulimit -n $(ulimit -H -n); core=$1; shift; exec taskset -c $core \"$@\""])
        .args(["sh", core])
        .arg(program)
        .args(arguments)
        .stdin(Stdio::null());
    command
}

/// The median of each number, over all runs.
fn medians(runs: &[Value]) -> Value {
    let Some(Value::Object(first)) = runs.first() else { return Value::Null };
    first
        .iter()
        .filter(|(_, value)| value.is_number())
        .map(|(key, _)| {
            let numbers: Vec<f64> = runs.iter().filter_map(|run| run[key].as_f64()).collect();
            (key.clone(), json!(quantile(&numbers, 0.5)))
        })
        .collect()
}

/// The number that this share of them lies below; between two of them, as far as the share says.
fn quantile(numbers: &[f64], share: f64) -> f64 {
    let mut numbers = numbers.to_vec();
    numbers.sort_by(f64::total_cmp);
    let place = (numbers.len().saturating_sub(1)) as f64 * share;
    let at = |place: f64| numbers.get(place as usize).copied().unwrap_or_default();
    at(place.floor()) + (at(place.ceil()) - at(place.floor())) * place.fract()
}

fn machine() -> Value {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    json!({
        "processor": model.trim_start_matches([' ', '\t', ':']),
        "cores": cores,
        "load_before": load.split(' ').next().unwrap_or_default(),
    })
}

fn print(result: &Value) {
    let machine = &result["machine"];
    println!(
        "machine: {} cores of {}, load before {}",
        machine["cores"], machine["processor"], machine["load_before"]
    );
    if let Some(calls) = result["calls"].as_object() {
        println!(
            "\nserver CPU per call, OCPP 1.6, 80 % MeterValues of 942 B, 15 % Heartbeat, 5 % StatusNotification"
        );
        let mut points: Vec<(usize, &Value)> =
            calls.iter().filter_map(|(stations, table)| Some((stations.parse().ok()?, table))).collect();
        points.sort_by_key(|(stations, _)| *stations);
        for (stations, table) in points {
            println!("  {stations} stations");
            for server in SERVERS {
                let row = &table[server.name];
                if row.is_null() {
                    println!(
                        "    {:<30} not measured: its packages are not here; cargo xtask tools --install",
                        server.name
                    );
                    continue;
                }
                let p99 = number(&row["p99_us"]) / 1e3;
                let p99_goal = server.p99_goal.filter(|(with, _)| *with == stations);
                let ratio = number(&row["times_floor"]);
                let [low, high] = [0, 1].map(|at| number(&row["times_floor_half_within"][at]));
                println!(
                    "    {:<30} {:>6.2} µs  {:>5.2} × floor ({low:.2} to {high:.2})   p50 {:>5.2} ms  p99 {:>5.2} ms  busy {:>3.0} %{}{}",
                    server.name,
                    number(&row["server_us_per_call"]),
                    ratio,
                    number(&row["p50_us"]) / 1e3,
                    p99,
                    number(&row["server_busy"]) * 100.0,
                    verdict(ratio, server.calls_goal, "×"),
                    verdict(p99, p99_goal.map_or(0.0, |(_, goal)| goal), "ms"),
                );
            }
        }
    }
    if let Some(boots) = result["boots"].as_object() {
        println!("\n{BOOTING} connections to the first answer of a BootNotification");
        for server in SERVERS.iter().filter(|server| server.boots) {
            let row = &boots[server.name];
            let ratio = number(&row["times_floor"]);
            let [low, high] = [0, 1].map(|at| number(&row["times_floor_half_within"][at]));
            let met = if ratio >= server.boots_goal { "met" } else { "MISSED" };
            println!(
                "    {:<30} {:>6.0}/s  {ratio:>5.2} × floor ({low:.2} to {high:.2})   {:>6.1} µs of CPU each{}",
                server.name,
                number(&row["booted_per_second"]),
                number(&row["server_us_each"]),
                if server.boots_goal > 0.0 {
                    format!("   goal ≥ {} ×: {met}", server.boots_goal)
                } else {
                    String::new()
                },
            );
        }
    }
    if let Some(memory) = result["memory"].as_object() {
        println!("\nresident memory per idle connection, {IDLE_CONNECTIONS} of them");
        for server in SERVERS.iter().filter(|server| server.memory) {
            let row = &memory[server.name];
            let after = number(&row["bytes_each_after_calls"]);
            println!(
                "    {:<30} fresh {:>6.0} B   after {} calls of each {:>6.0} B   {:>6.0} connected/s{}",
                server.name,
                number(&row["bytes_each_fresh"]),
                number(&row["calls_of_each"]),
                after,
                number(&row["connected_per_second"]),
                verdict(after, server.memory_goal, "B"),
            );
        }
    }
    if !result["split"].is_null() {
        split::print(&result["split"]);
    }
    if let Some(answer) = result["answer"].as_object() {
        println!("\none message through Router::answer");
        for (name, row) in answer {
            let (micros, allocations) = (number(&row["us"]), number(&row["allocations"]));
            println!(
                "    {name:<30} {micros:>6.2} µs{}   {allocations:>3.0} allocations{}",
                verdict(micros, number(&row["us_goal"]), "µs"),
                verdict(allocations, number(&row["allocations_goal"]), ""),
            );
        }
    }
}

fn verdict(measured: f64, goal: f64, unit: &str) -> String {
    if goal == 0.0 {
        return String::new();
    }
    let met = if measured <= goal { "met" } else { "MISSED" };
    format!("   goal ≤ {goal} {unit}: {met}")
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_of_each_number() {
        let runs = [json!({"a": 3.0, "b": 1}), json!({"a": 1.0, "b": 9}), json!({"a": 2.0, "b": 5})];
        assert_eq!(medians(&runs), json!({"a": 2.0, "b": 5.0}));
        assert_eq!(medians(&runs[..2]), json!({"a": 2.0, "b": 5.0}));
        let with_turns = [json!({"a": 3.0, "turns": [1.0, 2.0]})];
        assert_eq!(medians(&with_turns), json!({"a": 3.0}));
    }

    #[test]
    fn turns_are_compared_with_the_turn_of_the_floor_beside_them() {
        let run = |costs: [f64; 3]| json!({ "us_per_call_by_turn": costs });
        let (ours, floor) = ([run([2.0, 6.0, 3.0])], [run([1.0, 2.0, 2.0])]);
        assert_eq!(ratios(&costs(&ours), &costs(&floor)), [2.0, 3.0, 1.5]);
        assert_eq!(ratios(&[4.0], &costs(&floor)), [2.0]);
        assert_eq!(quantile(&[2.0, 3.0, 1.0, 4.0], 0.25), 1.75);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }
}
