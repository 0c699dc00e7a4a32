//! Each example serves a charger, commands it, and is killed between effect and answer.

use crate::support::{Example, Place};
use anyhow::{Result, ensure};
use serde_json::{Value, json};
use switchboard_testkit::{Charger, Proxy, Software, wait};

const TIME: &str = "2026-11-23T09:00:00Z";
const WORKERS: &str = "switchboard_gateway_workers";

/// A whole transaction, commands with each sort of end that a station and a gateway have for them, and a goodbye.
async fn serves(test: &'static str, example: Example) -> Result<()> {
    let Some(place) = Place::new(test, example).await? else { return Ok(()) };
    let Some(mut charger) = Charger::start(test, Software::Python16)? else { return Ok(()) };
    let mut worker = place.worker(place.broker)?;
    // A name that no topic, subject or header carries as it is.
    let (url, name) = (place.gateway.url("CP%C3%A9.1%2B"), "CP\u{e9}.1+");
    charger.does("connect", json!({ "url": url, "protocols": ["ocpp1.6"] })).await?;
    let booted = charger.does("boot", json!({})).await?;
    ensure!(booted["status"] == "Accepted", "{booted}");
    charger.does("authorize", json!({ "tag": "TAG1" })).await?;
    charger.does("report", json!({ "status": "Charging" })).await?;
    let started = charger.does("start", json!({ "tag": "TAG1", "meter": 100, "timestamp": TIME })).await?;
    charger.does("meter", json!({ "value": 150, "timestamp": TIME })).await?;

    let stop = json!({ "transactionId": started["transaction"] });
    let told = worker.command(name, "RemoteStopTransaction", &stop).await?;
    ensure!(told["outcome"] == "answered" && told["payload"]["status"] == "Accepted", "{told}");
    let told = worker.command(name, "DataTransfer", &json!({ "vendorId": "nobody" })).await?;
    ensure!(told["outcome"] == "refused" && told["code"] == "NotImplemented", "{told}");
    // Whichever gateway takes a command, it goes to the one that has the station.
    let _other = place.another_gateway().await?;
    for _ in 0..6 {
        let told = worker.command(name, "DataTransfer", &json!({ "vendorId": "nobody" })).await?;
        ensure!(told["outcome"] == "refused", "{told}");
    }
    let told = worker.command("NOBODY", "Reset", &json!({ "type": "Soft" })).await?;
    ensure!(told["outcome"] == "offline", "{told}");

    charger.does("stop", json!({ "meter": 200, "timestamp": TIME })).await?;
    ensure!(place.transactions()? == [(100, Some(200))], "{:?}", place.transactions());
    // The same once more, as a station does that got no answer: a new call, and no new transaction.
    let again = charger.does("start", json!({ "tag": "TAG1", "meter": 100, "timestamp": TIME })).await?;
    ensure!(again["transaction"] == started["transaction"], "{again} {started}");
    ensure!(place.transactions()?.len() == 1, "{:?}", place.transactions());
    charger.does("drop", json!({})).await?;
    wait::until("the station gone", async || {
        let told = worker.command(name, "ClearCache", &json!({})).await.ok()?;
        (told["outcome"] == "offline").then_some(())
    })
    .await?;
    ensure!(place.gateway.metric(WORKERS).await? <= 1.0, "one worker");
    worker.stop().await
}

/// The line to the broker takes nothing any more when the call has come: the effect is there, and the answer is not.
async fn is_killed(test: &'static str, example: Example) -> Result<()> {
    let Some(place) = Place::new(test, example).await? else { return Ok(()) };
    let Some(mut charger) = Charger::start(test, Software::Python16)? else { return Ok(()) };
    let line = Proxy::to(place.broker).await?;
    let mut first = place.worker(line.address())?;
    charger.does("connect", json!({ "url": place.gateway.url("CP1"), "protocols": ["ocpp1.6"] })).await?;
    charger.does("boot", json!({})).await?;
    line.hold_what_comers_say(true);
    charger.begins("start", json!({ "tag": "TAG1", "meter": 100, "timestamp": TIME })).await?;
    wait::until("the effect", async || place.transactions().ok().filter(|all| !all.is_empty())).await?;
    first.kill().await?;
    drop(line);
    let mut second = place.worker(place.broker)?;
    let started: Value = charger.ended("start").await?;
    ensure!(started.get("done").is_some(), "{started}");
    // Whatever came to the station twice would be taken for the answer of what it says next, and fail there.
    charger.does("heartbeat", json!({})).await?;
    ensure!(place.transactions()? == [(100, None)], "{:?}", place.transactions());
    charger.does("stop", json!({ "meter": 200, "timestamp": TIME })).await?;
    ensure!(place.transactions()? == [(100, Some(200))], "{:?}", place.transactions());
    // The one who came has heard of the station by one call at most: it need not know where it is.
    let told = second.command("CP1", "DataTransfer", &json!({ "vendorId": "nobody" })).await?;
    ensure!(told["outcome"] == "refused", "{told}");
    Ok(())
}

/// Stopped while nothing can be said to the broker.
async fn is_stopped_alone(test: &'static str, example: Example) -> Result<()> {
    let Some(place) = Place::new(test, example).await? else { return Ok(()) };
    let line = Proxy::to(place.broker).await?;
    let worker = place.worker(line.address())?;
    let workers = async |count: f64| {
        wait::until(format!("{count} workers"), async || {
            place.gateway.metric(WORKERS).await.ok().filter(|found| *found == count)
        })
        .await
    };
    workers(1.0).await?;
    line.refuse(true);
    line.cut();
    workers(0.0).await?;
    worker.stop().await
}

#[tokio::test]
async fn workers_that_are_stopped_while_their_broker_is_away_end_in_peace() -> Result<()> {
    is_stopped_alone("Python over NATS, alone", Example::PythonNats).await?;
    is_stopped_alone("Node over NATS, alone", Example::NodeNats).await
}

#[tokio::test]
async fn a_python_worker_over_nats_serves_and_commands_a_charger() -> Result<()> {
    serves("Python over NATS", Example::PythonNats).await
}

#[tokio::test]
async fn a_python_worker_over_rabbitmq_serves_and_commands_a_charger() -> Result<()> {
    serves("Python over RabbitMQ", Example::PythonRabbitMq).await
}

#[tokio::test]
async fn a_python_worker_over_mqtt_serves_and_commands_a_charger() -> Result<()> {
    serves("Python over MQTT", Example::PythonMqtt).await
}

#[tokio::test]
async fn a_node_worker_over_nats_serves_and_commands_a_charger() -> Result<()> {
    serves("Node over NATS", Example::NodeNats).await
}

#[tokio::test]
async fn s02_a_python_worker_over_nats_killed_before_its_answer_leaves_one_effect_and_one_answer()
-> Result<()> {
    is_killed("Python over NATS, killed", Example::PythonNats).await
}

#[tokio::test]
async fn s02_a_python_worker_over_rabbitmq_killed_before_its_answer_leaves_one_effect_and_one_answer()
-> Result<()> {
    is_killed("Python over RabbitMQ, killed", Example::PythonRabbitMq).await
}

#[tokio::test]
async fn s02_a_python_worker_over_mqtt_killed_before_its_answer_leaves_one_effect_and_one_answer()
-> Result<()> {
    is_killed("Python over MQTT, killed", Example::PythonMqtt).await
}

#[tokio::test]
async fn s02_a_node_worker_killed_before_its_answer_leaves_one_effect_and_one_answer() -> Result<()> {
    is_killed("Node over NATS, killed", Example::NodeNats).await
}
