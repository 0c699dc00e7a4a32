//! How most stories begin: a station of 1.6 connects to a running server, boots, charges, and is commanded.

use crate::{RawStation, Switchboard, wait};
use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

/// Connects as a station of 1.6.
///
/// # Errors
/// It is refused, or nobody listens there.
pub async fn station(gateway: &Switchboard, id: &str) -> Result<RawStation> {
    RawStation::connect(&gateway.url(id), &["ocpp1.6"])
        .await?
        .map_err(|status| anyhow!("{id} was refused with {status}"))
}

/// The same, and boots.
///
/// # Errors
/// It is refused, or not accepted.
pub async fn booted(gateway: &Switchboard, id: &str) -> Result<RawStation> {
    let mut station = station(gateway, id).await?;
    let answer = station
        .ask(r#"[2,"boot","BootNotification",{"chargePointVendor":"V","chargePointModel":"M"}]"#)
        .await?;
    ensure!(answer[0] == 3 && answer[2]["status"] == "Accepted", "{answer}");
    Ok(station)
}

/// A StartTransaction with this id, at this minute.
#[must_use]
pub fn start(id: &str, minute: u32) -> String {
    format!(
        r#"[2,"{id}","StartTransaction",{{"connectorId":1,"idTag":"A1","meterStart":{minute},"timestamp":"2026-11-20T10:{minute:02}:00Z"}}]"#
    )
}

/// A StatusNotification with this id, at this minute: it needs nothing of processing.
#[must_use]
pub fn status(id: &str, minute: u32) -> String {
    format!(
        r#"[2,"{id}","StatusNotification",{{"connectorId":1,"errorCode":"NoError","status":"Available","timestamp":"2026-11-20T10:{minute:02}:00Z"}}]"#
    )
}

/// Answers the next command of this action with this payload, and gives back what it asked for. Other frames are errors.
///
/// # Errors
/// Something else comes, or nothing.
pub async fn obey(station: &mut RawStation, action: &str, answer: &str) -> Result<Value> {
    let text = station.receive().await?;
    let call: Value = serde_json::from_str(&text)?;
    ensure!(call[0] == 2 && call[2] == action, "{text} instead of {action}");
    station.send(&format!("[3,{},{answer}]", call[1])).await?;
    Ok(call[3].clone())
}

/// The transactions in a worker's books.
///
/// # Errors
/// It does not tell.
pub async fn transactions(worker: &Switchboard) -> Result<Vec<Value>> {
    let list = worker.run(&["transactions", "--json", "--limit", "1000"]).await?.json()?;
    Ok(list["transactions"].as_array().context("no list")?.clone())
}

/// Waits until a metric is at least this.
///
/// # Errors
/// It never is.
pub async fn metric_at_least(server: &Switchboard, name: &str, value: f64) -> Result<()> {
    wait::until(format!("{name} of {value}"), async || {
        server.metric(name).await.ok().filter(|now| *now >= value)
    })
    .await
    .map(|_| ())
}
