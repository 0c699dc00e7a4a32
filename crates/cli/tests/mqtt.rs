//! Gateways and workers as processes of their own, over MQTT and in its bare mode, with a charger that is not ours.

use anyhow::{Result, ensure};
use serde_json::json;
use switchboard_testkit::{
    Charger, CloudLimits, Software, Switchboard,
    servers::{Mosquitto, Postgres},
};

const BINARY: &str = env!("CARGO_BIN_EXE_switchboard");
const TIME: &str = "2026-11-23T09:00:00Z";

#[tokio::test]
async fn a_charger_charges_over_mqtt_while_its_worker_is_killed_and_replaced() -> Result<()> {
    let test = "charging over MQTT";
    let Some(broker) = Mosquitto::start(test).await? else { return Ok(()) };
    let Some(database) = Postgres::start(test).await? else { return Ok(()) };
    let Some(mut charger) = Charger::start(test, Software::Python16)? else { return Ok(()) };
    let (bus, directory, books) = (broker.url(), database.database()?, database.database()?);
    let gateway = Switchboard::gateway(BINARY, &["--bus", &bus, "--directory", &directory]).await?;
    let worker = ["--bus", &bus, "--directory", &directory, "--database", &books];
    let mut first = Switchboard::worker(BINARY, &worker).await?;
    let connect = json!({ "url": gateway.url("CP1"), "protocols": ["ocpp1.6"] });
    charger.does("connect", connect).await?;
    let booted = charger.does("boot", json!({})).await?;
    ensure!(booted["status"] == "Accepted", "{booted}");
    let started = charger.does("start", json!({ "tag": "TAG1", "meter": 100, "timestamp": TIME })).await?;
    first.kill().await?;
    // It is said while nobody is there, and answered by the one who comes.
    charger.begins("meter", json!({ "value": 150, "timestamp": TIME })).await?;
    let _second = Switchboard::worker(BINARY, &worker).await?;
    charger.ended("meter").await?;
    let stopped = charger.does("stop", json!({ "meter": 200, "timestamp": TIME })).await?;
    ensure!(started["transaction"].is_number() && stopped["done"] == "stop", "{started} {stopped}");
    Ok(())
}

#[tokio::test]
async fn a_gateway_in_bare_mode_serves_a_charger_by_a_function_of_others() -> Result<()> {
    let test = "a gateway in bare mode";
    let Some(broker) = Mosquitto::start(test).await? else { return Ok(()) };
    let limits = CloudLimits::before(broker.address()).await?;
    let Some(mut rule) = Charger::start_script(test, "rule.py", &broker.address().to_string())? else {
        return Ok(());
    };
    rule.event("ready").await?;
    let Some(mut charger) = Charger::start(test, Software::Python16)? else { return Ok(()) };
    let Some(database) = Postgres::start(test).await? else { return Ok(()) };
    let (bus, directory) = (format!("mqtt://{}?mode=bare", limits.address()), database.database()?);
    let gateway = Switchboard::gateway(BINARY, &["--bus", &bus, "--directory", &directory]).await?;
    charger.does("connect", json!({ "url": gateway.url("CP1"), "protocols": ["ocpp1.6"] })).await?;
    let booted = charger.does("boot", json!({})).await?;
    ensure!(booted["status"] == "Accepted", "{booted}");
    let started = charger.does("start", json!({ "tag": "TAG1", "meter": 100, "timestamp": TIME })).await?;
    let payload = json!({ "transactionId": started["transaction"] });
    let command = json!({ "station": "CP1", "action": "RemoteStopTransaction", "payload": payload });
    let outcome = rule.does("command", command).await?;
    ensure!(outcome["answer"][2]["status"] == "Accepted", "{outcome}");
    charger.does("stop", json!({ "meter": 200, "timestamp": TIME })).await?;
    let traffic = limits.traffic();
    ensure!(traffic.violations.is_empty(), "{traffic:?}");
    Ok(())
}
