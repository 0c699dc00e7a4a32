//! What following the traffic costs, in CPU time per call: on the task of a socket, and in the thread of the trace.
//!
//! ```console
//! $ cargo run --release -p switchboard-trace --example cost
//! ```
//!
//! The mix of `docs/performance.md`: 80 % MeterValues with six samples, 15 % Heartbeat, 5 % StatusNotification, at 2,000
//! calls a second.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement for developers")]
#![expect(clippy::disallowed_methods, reason = "it reads the clock, which is its purpose")]

use bytestring::ByteString;
use prometheus_client::registry::Registry;
use std::{
    fs,
    time::{Duration, Instant},
};
use switchboard_gateway::{Record, Seen, Tap};
use switchboard_rpc::{StationId, Version};
use switchboard_trace::{Config, Query, Trace};

const CALLS: usize = 20_000;
const BATCH: usize = 50;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (name, ring_bytes, watched) in [
        ("closed", 0, None),
        ("ring", 64 << 20, None),
        ("one reader of one station", 0, Some("station=CP7")),
        ("one reader of all", 0, Some("")),
        ("ring and one reader of all", 64 << 20, Some("")),
    ] {
        runtime.block_on(measure(name, ring_bytes, watched));
    }
}

async fn measure(name: &str, ring_bytes: u64, watched: Option<&str>) {
    let folder = std::env::temp_dir().join(format!("switchboard-trace-cost-{}", std::process::id()));
    let tap = Tap::default();
    let mut config = Config::default();
    config.folder = folder.clone();
    config.ring_bytes = ring_bytes;
    config.lines_behind_max = 65_536;
    let trace = Trace::start(tap.clone(), config, &mut Registry::default()).unwrap();
    let mut lines = None;
    if let Some(query) = watched {
        lines = Some(trace.read(Query::parse_url(query, 0).unwrap()).await.unwrap());
    }
    std::thread::sleep(Duration::from_millis(100));
    let before = thread_time();
    let mut shown = Duration::ZERO;
    for batch in 0..CALLS / BATCH {
        let calls: Vec<_> = (0..BATCH).map(|index| frames(batch * BATCH + index)).collect();
        let start = Instant::now();
        for (number, (call, answer)) in calls.into_iter().enumerate() {
            show(&tap, number, Seen::Received(call));
            show(&tap, number, Seen::Sent(answer));
        }
        shown += start.elapsed();
        while let Some(lines) = &mut lines
            && lines.ready().is_some()
        {}
        std::thread::sleep(Duration::from_millis(BATCH as u64 / 2));
    }
    std::thread::sleep(Duration::from_millis(500));
    let worked = thread_time() - before;
    let per_call = |time: Duration| time.as_secs_f64() * 1e6 / CALLS as f64;
    let bytes: u64 = fs::read_dir(&folder)
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len())).sum())
        .unwrap_or(0);
    println!(
        "{name:<28} socket's task {:5.2} µs, thread {:5.2} µs per call; {} bytes on disk per call",
        per_call(shown),
        per_call(worked),
        bytes / CALLS as u64
    );
    trace.close().await;
    drop(fs::remove_dir_all(folder));
}

/// What a connection does for a frame.
fn show(tap: &Tap, number: usize, seen: Seen) {
    if tap.is_open() {
        tap.show(Record {
            tenant: ByteString::from_static("default"),
            station: StationId::new(STATIONS[number % STATIONS.len()], 48).ok(),
            generation: 1,
            version: Some(Version::V16),
            at: Instant::now(),
            time_ms: 1_795_412_632_202,
            seen,
        });
    }
}

fn frames(number: usize) -> (ByteString, ByteString) {
    let id = format!("{number:08x}-0000-4000-8000-000000000000");
    let (action, payload, answer) = match number % 20 {
        0..16 => ("MeterValues", meter_values(), "{}"),
        16..19 => ("Heartbeat", "{}".to_owned(), r#"{"currentTime":"2026-11-23T05:00:00.000Z"}"#),
        _ => (
            "StatusNotification",
            r#"{"connectorId":1,"errorCode":"NoError","status":"Charging","timestamp":"2026-11-23T05:00:00Z"}"#.to_owned(),
            "{}",
        ),
    };
    (format!("[2,\"{id}\",\"{action}\",{payload}]").into(), format!("[3,\"{id}\",{answer}]").into())
}

fn meter_values() -> String {
    let sample = |measurand: &str, unit: &str| {
        format!(
            r#"{{"value":"12345.6","context":"Sample.Periodic","measurand":"{measurand}","location":"Outlet","unit":"{unit}"}}"#
        )
    };
    let samples = [
        sample("Energy.Active.Import.Register", "Wh"),
        sample("Power.Active.Import", "W"),
        sample("Current.Import", "A"),
        sample("Voltage", "V"),
        sample("Temperature", "Celsius"),
        sample("Current.Offered", "A"),
    ];
    format!(
        r#"{{"connectorId":1,"transactionId":12345,"meterValue":[{{"timestamp":"2026-11-23T05:00:00.000Z","sampledValue":[{}]}}]}}"#,
        samples.join(",")
    )
}

/// CPU time of the thread of the trace.
fn thread_time() -> Duration {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let of = |folder: &std::path::Path| {
        let name = fs::read_to_string(folder.join("comm")).ok()?;
        let time = fs::read_to_string(folder.join("schedstat")).ok()?;
        let nanoseconds = time.split(' ').next()?.parse().ok()?;
        (name.trim() == "trace").then(|| Duration::from_nanos(nanoseconds))
    };
    tasks.filter_map(|task| of(&task.ok()?.path())).sum()
}

const STATIONS: [&str; 8] = ["CP0", "CP1", "CP2", "CP3", "CP4", "CP5", "CP6", "CP7"];
