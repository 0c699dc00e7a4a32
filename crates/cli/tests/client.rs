//! The client for stations against the real server, in 1.6 and 2.0.1: calls in both directions, and a queue in a file
//! that survives a line that is cut and the end of the station's process.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use switchboard_messages::{v16, v21, v201};
use switchboard_router::{CallError, Router};
use switchboard_rpc::Version;
use switchboard_station::client::{BackOff, Config, FileQueue, Station, Transaction};
use switchboard_testkit::{Proxy, Switchboard, wait};

const BINARY: &str = env!("CARGO_BIN_EXE_switchboard");
/// It takes seconds; this is for a machine that has much else to do.
const LIMIT: Duration = Duration::from_secs(120);

async fn clear_v16(_: v16::ClearCacheRequest) -> Result<v16::ClearCacheResponse, CallError> {
    Ok(v16::ClearCacheResponse::new(v16::ClearCacheStatus::Accepted))
}

async fn clear_v201(_: v201::ClearCacheRequest) -> Result<v201::ClearCacheResponse, CallError> {
    Ok(v201::ClearCacheResponse::new(v201::ClearCacheStatus::Accepted))
}

async fn clear_v21(_: v21::ClearCacheRequest) -> Result<v21::ClearCacheResponse, CallError> {
    Ok(v21::ClearCacheResponse::new(v21::ClearCacheStatus::Accepted))
}

fn station(line: &Proxy, queue: &Path, version: Version) -> Result<Station> {
    let boot = match version {
        Version::V16 => r#"{"chargePointVendor":"Example","chargePointModel":"One"}"#,
        _ => r#"{"reason":"PowerUp","chargingStation":{"vendorName":"Example","model":"One"}}"#,
    };
    let mut config = Config::raw(format!("ws://{}/ocpp", line.address()), "CP1", version, boot);
    config.back_off = BackOff {
        wait_minimum: Duration::from_millis(20),
        random_range: Duration::from_millis(20),
        repeat_times: 3,
    };
    let handlers = Router::new().on_command(clear_v16).on_command(clear_v201).on_command(clear_v21);
    Ok(Station::connect(config, FileQueue::open(queue)?, |_| handlers)?)
}

/// The message at this place of a transaction: a start, two readings, an end, of 1 kWh each.
fn bill(station: &Station, version: Version, transaction: &Transaction, place: u64) -> Result<()> {
    let time = format!("2026-01-01T00:0{place}:00Z");
    let wh = 1000 * place;
    let (action, payload) = match (version, place) {
        (Version::V16, 0) => (
            "StartTransaction",
            json!({ "connectorId": 1, "idTag": "TAG1", "meterStart": wh, "timestamp": time }),
        ),
        (Version::V16, 3) => {
            ("StopTransaction", json!({ "transactionId": 0, "meterStop": wh, "timestamp": time }))
        }
        (Version::V16, _) => {
            let value = json!({ "timestamp": time, "sampledValue": [{ "value": wh.to_string() }] });
            ("MeterValues", json!({ "connectorId": 1, "transactionId": 0, "meterValue": [value] }))
        }
        _ => {
            let kind = ["Started", "Updated", "Updated", "Ended"][usize::try_from(place)?];
            let context = ["Transaction.Begin", "Sample.Periodic", "Sample.Periodic", "Transaction.End"]
                [usize::try_from(place)?];
            let value = json!({ "timestamp": time, "sampledValue": [{ "value": wh, "context": context }] });
            let mut event = json!({
                "eventType": kind, "triggerReason": "MeterValuePeriodic", "seqNo": place, "timestamp": time,
                "transactionInfo": { "transactionId": transaction.name() }, "meterValue": [value],
            });
            if place == 0 {
                event["idToken"] = json!({ "idToken": "TAG1", "type": "ISO14443" });
                event["evse"] = json!({ "id": 1 });
            }
            ("TransactionEvent", event)
        }
    };
    ensure!(station.bill_raw(transaction, action, &payload.to_string())?.durable);
    Ok(())
}

async fn a_transaction_over_two_lives_of_the_station(version: Version) -> Result<()> {
    tokio::time::timeout(LIMIT, two_lives(version)).await?
}

async fn two_lives(version: Version) -> Result<()> {
    let server = Switchboard::start(BINARY, &[]).await?;
    let line = Proxy::to(server.stations()).await?;
    let folder = tempfile::tempdir()?;
    let queue = folder.path().join("CP1.queue");

    let first = station(&line, &queue, version)?;
    ensure!(first.accepted().await);
    let ran = server.run(&["send", "CP1", "ClearCache", "{}", "--json"]).await?;
    ensure!(ran.code == 0 && ran.stdout.contains("Accepted"), "{ran:?}");
    let transaction = Transaction::new();
    bill(&first, version, &transaction, 0)?;
    first.until(|status| status.unbilled == 0).await;

    // Nothing gets through; one message is under way, one waits, and the station is switched off with both.
    line.hold(true);
    bill(&first, version, &transaction, 1)?;
    bill(&first, version, &transaction, 2)?;
    first.close().await;
    drop(first);
    line.hold(false);
    line.cut();

    let second =
        wait::until("the queue is free again", async || station(&line, &queue, version).ok()).await?;
    let left = second.transactions();
    ensure!(left.len() == 1 && !left[0].ended && *left[0].transaction == *transaction.name(), "{left:?}");
    bill(&second, version, &transaction, 3)?;
    let settled = second.until(|status| status.unbilled == 0).await;
    ensure!(!settled.stopped && second.transactions().is_empty());
    second.close().await;

    let ran = server.run(&["transactions", "--station", "CP1", "--json"]).await?;
    let transactions: Vec<Value> = ran.json()?["transactions"].as_array().context("no list")?.clone();
    ensure!(transactions.len() == 1, "{transactions:?}");
    let one = &transactions[0];
    ensure!(one["state"] == "ended" && one["energyWh"].as_f64() == Some(3000.0), "{one}");
    Ok(())
}

#[tokio::test]
async fn a_transaction_over_two_lives_of_a_1_6_station() -> Result<()> {
    a_transaction_over_two_lives_of_the_station(Version::V16).await
}

#[tokio::test]
async fn a_transaction_over_two_lives_of_a_2_0_1_station() -> Result<()> {
    a_transaction_over_two_lives_of_the_station(Version::V201).await
}
