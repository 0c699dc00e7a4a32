//! A broker that goes and returns: S04.

use crate::support::{Installation, booted, start, transactions};
use anyhow::{Result, ensure};
use serde_json::{Value, json};
use switchboard_testkit::{Charger, Software, servers::Nats};

/// Calls wait for it, commands fail with a clear error, and everything goes on by itself.
#[tokio::test]
async fn s04_a_broker_that_was_killed_costs_no_call_and_no_socket() -> Result<()> {
    let test = "split::broker";
    let Some(mut nats) = Nats::start(test).await? else { return Ok(()) };
    let Some(place) = Installation::on(test, nats.url()).await? else { return Ok(()) };
    let Some(mut charger) = Charger::start(test, Software::Python201)? else { return Ok(()) };
    let gateway = place.gateway(&[]).await?;
    let worker = place.worker(&[]).await?;
    charger.does("connect", json!({ "url": gateway.url("CP2"), "protocols": ["ocpp2.0.1"] })).await?;
    charger.does("boot", json!({})).await?;
    let mut stations = Vec::new();
    for number in 0..10 {
        stations.push(booted(&gateway, &format!("CP1{number}")).await?);
    }
    for round in 0..2 {
        nats.kill()?;
        charger
            .begins(
                "start",
                json!({ "tag": "A1", "meter": 0, "timestamp": format!("2026-11-20T1{round}:00:00Z") }),
            )
            .await?;
        for station in &mut stations {
            station.send(&start(&format!("s{round}"), round)).await?;
        }
        let refused = worker.run(&["send", "CP10", "ClearCache"]).await?;
        ensure!(refused.code != 0 && refused.stderr.contains("bus"), "{refused:?}");
        nats.start().await?;
        let answer = charger.ended("start").await?;
        ensure!(answer.get("done").is_some(), "{answer}");
        charger
            .does("stop", json!({ "meter": 5, "timestamp": format!("2026-11-20T1{round}:30:00Z") }))
            .await?;
        for station in &mut stations {
            let answer: Value = serde_json::from_str(&station.receive().await?)?;
            ensure!(answer[0] == 3 && answer[1] == format!("s{round}"), "{answer}");
        }
    }
    ensure!(transactions(&worker).await?.len() == 2 * (stations.len() + 1), "each once");
    ensure!(gateway.metric("switchboard_gateway_connections").await? >= 11.0, "no socket was closed");
    Ok(())
}
