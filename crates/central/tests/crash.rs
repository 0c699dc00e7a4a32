//! Killed at any moment, or out of disk: everything that was answered is in the books, exactly once.
//!
//! The test runs itself once more as a child, which answers calls and tells each answer on its standard output.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "helpers of tests"
)]

mod common;

use common::{meter, start, stop};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use switchboard_central::{Central, Config, Transaction, TransactionFilter};
use switchboard_router::{Context, Router};
use switchboard_rpc::{StationId, Version};

const CHILD: &str = "SWITCHBOARD_CENTRAL_CHILD";
const STATIONS: u32 = 8;

/// What one station said of one of its transactions and got answered.
#[derive(Default)]
struct Answered {
    id: Option<i64>,
    metered: bool,
    stopped: bool,
}

type Told = BTreeMap<(u32, u32), Answered>;

/// If this is the child: the database and the round.
fn child() -> Option<(String, u64)> {
    #[expect(clippy::disallowed_methods, reason = "the only way to tell a test binary that it is the child")]
    let told = std::env::var(CHILD).ok()?;
    let (round, path) = told.split_once(' ')?;
    Some((path.to_owned(), round.parse().ok()?))
}

fn time(number: u32, minute: u32) -> String {
    format!("2025-{:02}-{:02}T{:02}:{minute:02}:00Z", 1 + number / 600, 1 + number % 600 / 24, number % 24)
}

/// Answers calls of several stations at once until it is killed. Each station begins from its first transaction, as if
/// it had never got an answer.
#[tokio::main]
async fn serve(path: &str, round: u64) {
    let central = Central::open(Config::at(path)).expect("the books open again after a kill");
    let stations: Vec<_> =
        (0..STATIONS).map(|station| tokio::spawn(talk(central.router(), station, round))).collect();
    for station in stations {
        station.await.expect("a station");
    }
}

async fn talk(router: Router, station: u32, round: u64) {
    let mut context = Context::new(StationId::new(format!("S{station}"), 48).unwrap(), Version::V16);
    context.generation = round;
    let mut number = 0;
    loop {
        let begin = start(1, "TAG", &time(number, 0), i64::from(number) * 1000);
        let Some(answer) = call(&router, &mut context, "StartTransaction", &begin).await else { continue };
        let id = answer["transactionId"].as_i64().unwrap();
        tell(&format!("@ start {station} {number} {id}"));
        let samples = serde_json::json!([{"value": (number * 1000 + 500).to_string()}]);
        let values = meter(1, Some(id), &time(number, 10), samples);
        while call(&router, &mut context, "MeterValues", &values).await.is_none() {}
        tell(&format!("@ meter {station} {number}"));
        let end = stop(id, &time(number, 20), i64::from(number) * 1000 + 900);
        while call(&router, &mut context, "StopTransaction", &end).await.is_none() {}
        tell(&format!("@ stop {station} {number}"));
        number += 1;
    }
}

/// The answer's payload; none for silence or an error, upon which a station tries again.
async fn call(router: &Router, context: &mut Context, action: &str, payload: &Value) -> Option<Value> {
    context.seq += 1;
    let frame = format!(r#"[2,"{}","{action}",{payload}]"#, context.seq);
    // The books could not take it: the gateway would hand it over again.
    let Some(answer) = router.answer(context, frame.into()).await.frame else {
        tell("@ later");
        return None;
    };
    let mut answer: Value = serde_json::from_slice(&answer).unwrap();
    if answer[0] == 4 {
        tell(&format!("@ error {}", answer[2].as_str().unwrap()));
        return None;
    }
    Some(answer[2].take())
}

fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    // One write, so that a kill cannot cut a line in two.
    out.write_all(format!("{line}\n").as_bytes()).expect("the parent listens");
    out.flush().expect("the parent listens");
}

/// Runs a child until `enough` says so, then kills it. `limit` bounds the size of its files, in kilobytes.
fn run_child(path: &Path, round: u64, limit: Option<u32>, mut enough: impl FnMut(&str) -> bool) {
    let this = std::env::current_exe().unwrap();
    let name = std::thread::current().name().unwrap().to_owned();
    let mut command = match limit {
        // The signal is ignored, so that a write beyond the limit fails like one to a full disk.
        Some(limit) => {
            let mut command = Command::new("bash");
            command.arg("-c").arg(format!("trap '' XFSZ; ulimit -f {limit}; exec \"$0\" \"$@\"")).arg(this);
            command
        }
        None => Command::new(this),
    };
    let mut child = command
        .args(["--exact", &name, "--nocapture", "--test-threads", "1"])
        .env(CHILD, format!("{round} {}", path.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut told_enough = false;
    // The test harness may have begun the first line.
    let own = |line: String| line.find("@ ").map_or_else(String::new, |at| line[at..].to_owned());
    for line in lines.by_ref() {
        if enough(&own(line.unwrap())) {
            told_enough = true;
            break;
        }
    }
    child.kill().unwrap();
    // What it told before the kill and we have not read yet counts too.
    for line in lines {
        enough(&own(line.unwrap()));
    }
    child.wait().unwrap();
    assert!(told_enough, "the child ended by itself");
}

/// Takes down what the child told; the same call never gets two answers.
fn note(told: &mut Told, line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    let number = |position: usize| words[position].parse().unwrap();
    match words.as_slice() {
        ["@", "start", ..] => {
            let id = words[4].parse().unwrap();
            let before = told.entry((number(2), number(3))).or_default().id.replace(id);
            assert!(before.is_none_or(|before| before == id), "{line} after {before:?}");
        }
        ["@", "meter", ..] => told.entry((number(2), number(3))).or_default().metered = true,
        ["@", "stop", ..] => told.entry((number(2), number(3))).or_default().stopped = true,
        _ => {}
    }
}

/// Compares the books with what was told.
#[tokio::main]
async fn audit(path: &Path, told: &Told) {
    let central = Central::open(Config::at(path)).expect("the books open again after a kill");
    let mut filter = TransactionFilter::default();
    filter.limit = usize::MAX;
    let booked: BTreeMap<i64, Transaction> = central
        .transactions(filter)
        .await
        .unwrap()
        .into_iter()
        .map(|transaction| (transaction.id, transaction))
        .collect();
    for ((station, number), answered) in told {
        let id = answered.id.expect("nothing is metered before its start was answered");
        let found = booked.get(&id).unwrap_or_else(|| panic!("S{station} was told of transaction {id}"));
        assert_eq!(found.station, format!("S{station}"));
        assert_eq!(found.started.as_ref().unwrap().text, time(*number, 0));
        if answered.metered {
            assert_eq!(central.readings(id).await.unwrap().len(), 1);
        }
        if answered.stopped {
            assert!(found.ended, "S{station} was told that {id} has ended");
            assert_eq!(found.energy.unwrap().to_string(), "900");
        }
    }
    // Exactly once: no two transactions of a station with one beginning; and at most one per station that was in the
    // books before its answer was told.
    let mut begun: Vec<_> =
        booked.values().map(|found| (&found.station, &found.started.as_ref().unwrap().text)).collect();
    begun.sort_unstable();
    let all = begun.len();
    begun.dedup();
    assert_eq!(begun.len(), all, "a transaction is booked twice");
    assert!(all <= told.len() + STATIONS as usize, "{all} booked, {} told", told.len());
    assert!(central.alarms(10).await.unwrap().is_empty());
    central.close().await;
}

/// S02
#[test]
fn what_was_answered_survives_a_kill_at_any_moment() {
    if let Some((path, round)) = child() {
        return serve(&path, round);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("central.db");
    let mut told = Told::new();
    for round in 1..=10 {
        // Numbers without a pattern, so that kills fall into every phase of a commit; no clock is needed for that.
        let patience = 1 + (round * 7919 % 97) as usize;
        let known = told.values().filter(|answered| answered.stopped).count() * 3;
        let mut lines = 0;
        run_child(&path, round, None, |line| {
            note(&mut told, line);
            lines += usize::from(line.starts_with('@'));
            lines > known + patience
        });
        audit(&path, &told);
    }
    assert!(told.len() > 20, "only {} transactions in all rounds", told.len());
}

#[test]
fn what_was_answered_survives_a_disk_that_is_full() {
    if let Some((path, round)) = child() {
        return serve(&path, round);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("central.db");
    let mut told = Told::new();
    let mut errors = 0;
    // The log beside the database grows until it hits the limit; from then on some calls fail, and none is forgotten.
    run_child(&path, 1, Some(1024), |line| {
        note(&mut told, line);
        assert!(!line.starts_with("@ error"), "{line}");
        errors += u32::from(line.starts_with("@ later"));
        errors > 100
    });
    audit(&path, &told);
    // With room again, everything goes on from where it was.
    let before = told.len();
    run_child(&path, 2, None, |line| {
        note(&mut told, line);
        assert!(!line.starts_with("@ error") && !line.starts_with("@ later"), "{line}");
        told.len() > before + 20
    });
    audit(&path, &told);
}
