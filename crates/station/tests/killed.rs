//! A station that is killed again and again in the middle of its business, with its messages in a file.
#![expect(clippy::disallowed_methods, reason = "the child learns from its environment what it is")]

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::{env, process::Stdio, time::Duration};
use switchboard_router::Router;
use switchboard_rpc::Version;
use switchboard_station::client::{BackOff, Config, FileQueue, Station, Transaction};
use switchboard_testkit::{Central, CentralSoftware};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

const LIMIT: Duration = Duration::from_secs(120);
const LIVES: u64 = 8;
/// Numbers of messages rise over all lives; so many are enough for one.
const PER_LIFE: u64 = 100_000;

/// Not a test of its own: the station of the test below, as a process that can be killed.
#[tokio::test]
async fn the_station_of_the_test_below() -> Result<()> {
    let Ok(life) = env::var("STATION_LIFE") else { return Ok(()) };
    let life: u64 = life.parse()?;
    let mut config = Config::raw(
        env::var("STATION_URL")?,
        "CP1",
        Version::V16,
        r#"{"chargePointVendor":"E","chargePointModel":"O"}"#,
    );
    config.back_off = BackOff {
        wait_minimum: Duration::from_millis(20),
        random_range: Duration::from_millis(20),
        repeat_times: 3,
    };
    config.message_attempts = 0;
    let queue = FileQueue::open(env::var("STATION_QUEUE")?)?;
    let station = Station::connect(config, queue, |_| Router::new())?;
    let mut number = life * PER_LIFE;
    let mut bill = |transaction: &Transaction, action: &str| -> Result<()> {
        number += 1;
        let time = "2026-01-01T00:00:00Z";
        let payload = match action {
            "StartTransaction" => {
                json!({ "connectorId": 1, "idTag": "TAG1", "meterStart": number, "timestamp": time })
            }
            "MeterValues" => {
                let value = json!({ "timestamp": time, "sampledValue": [{ "value": number.to_string() }] });
                json!({ "connectorId": 1, "transactionId": 0, "meterValue": [value] })
            }
            _ => json!({ "transactionId": 0, "meterStop": number, "timestamp": time }),
        };
        let receipt = station.bill_raw(transaction, action.to_owned(), &payload.to_string())?;
        ensure!(receipt.durable);
        // From here on it must not get lost.
        println!("\nbilled {number}");
        Ok(())
    };
    // The car of an earlier life is gone.
    for open in station.transactions().iter().filter(|open| !open.ended) {
        bill(&Transaction::named(open.transaction.clone()), "StopTransaction")?;
    }
    if life == LIVES {
        ensure!(!station.until(|status| status.unbilled == 0).await.stopped);
        station.close().await;
        return Ok(());
    }
    loop {
        let transaction = Transaction::new();
        bill(&transaction, "StartTransaction")?;
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(3)).await;
            bill(&transaction, "MeterValues")?;
        }
        bill(&transaction, "StopTransaction")?;
    }
}

fn live(life: u64, url: &str, queue: &std::path::Path) -> Result<Child> {
    Command::new(env::current_exe()?)
        .args(["--exact", "the_station_of_the_test_below", "--nocapture"])
        .env("STATION_LIFE", life.to_string())
        .env("STATION_URL", url)
        .env("STATION_QUEUE", queue)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start the station")
}

#[tokio::test]
async fn a_station_that_is_killed_again_and_again_bills_everything_once_and_in_order() -> Result<()> {
    tokio::time::timeout(LIMIT, killed_again_and_again()).await?
}

async fn killed_again_and_again() -> Result<()> {
    let Some(mut central) = Central::start("killed", CentralSoftware::Python, "1.6").await? else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let queue = folder.path().join("CP1.queue");
    let mut random = fastrand::Rng::with_seed(7);
    let mut billed = Vec::new();
    for life in 0..=LIVES {
        let mut child = live(life, &central.url(), &queue)?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        // Killed after so many messages, wherever it is by then; the last life ends by itself.
        let mut left = if life == LIVES { u64::MAX } else { random.u64(1..60) };
        while left > 0
            && let Some(line) = lines.next_line().await?
        {
            if let Some(number) = line.strip_prefix("billed ") {
                billed.push(number.parse::<u64>()?);
                left -= 1;
            }
        }
        if life == LIVES {
            ensure!(child.wait().await?.success(), "the last life failed");
        } else {
            child.kill().await?;
            // What it said before it died counts as well.
            while let Some(line) = lines.next_line().await? {
                if let Some(number) = line.strip_prefix("billed ") {
                    billed.push(number.parse::<u64>()?);
                }
            }
        }
    }

    let mut arrived: Vec<(u64, String, Value)> = Vec::new();
    let last = *billed.last().context("nothing was billed")?;
    while arrived.last().is_none_or(|(number, ..)| *number != last) {
        let (action, payload) = central.called().await?;
        if let Some(number) = number(&payload) {
            arrived.push((number, action, payload));
        }
    }
    // Whose answer was not taken note of before the kill is sent again; no other message is.
    arrived.dedup_by_key(|(number, ..)| *number);
    let numbers: Vec<u64> = arrived.iter().map(|(number, ..)| *number).collect();
    assert!(numbers.is_sorted_by(|one, next| one < next), "in order, and each once: {numbers:?}");
    for number in &billed {
        assert!(numbers.contains(number), "{number} was lost: {numbers:?}");
    }
    // What arrived beside that was kept, and its station killed before it could say so: one per life at most.
    assert!(numbers.len() <= billed.len() + usize::try_from(LIVES)?, "{} of {}", numbers.len(), billed.len());
    // Each message is about the transaction that it belongs to, although its id was learnt in another life.
    let mut id = 999;
    for (number, action, payload) in &arrived {
        if action == "StartTransaction" {
            id += 1;
        } else {
            assert_eq!(payload["transactionId"], id, "{number} {action}");
        }
    }
    Ok(())
}

fn number(payload: &Value) -> Option<u64> {
    let reading = &payload["meterValue"][0]["sampledValue"][0]["value"];
    let start = payload["meterStart"].as_u64().or_else(|| payload["meterStop"].as_u64());
    start.or_else(|| reading.as_str()?.parse().ok())
}
