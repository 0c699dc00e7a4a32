//! A broker that goes and returns: S04.

use crate::engine::{Engine, over_each_broker};
use crate::support::{Installation, booted, start, transactions};
use anyhow::{Result, ensure};
use serde_json::{Value, json};
use switchboard_testkit::{Charger, Software};

over_each_broker! {
    s04_a_broker_that_was_killed_costs_no_call_and_no_socket,
}

/// Calls wait for it, commands fail with a clear error, and everything goes on by itself.
async fn s04_a_broker_that_was_killed_costs_no_call_and_no_socket(engine: Engine) -> Result<()> {
    let test = "split::broker";
    let Some(mut broker) = engine.start(test).await? else { return Ok(()) };
    let Some(place) = Installation::on(engine, test, broker.url()).await? else { return Ok(()) };
    let Some(mut charger) = Charger::start(test, Software::Python201)? else { return Ok(()) };
    let gateway = place.gateway(&[]).await?;
    let worker = place.worker(&[]).await?;
    charger.does("connect", json!({ "url": gateway.url("CP2"), "protocols": ["ocpp2.0.1"] })).await?;
    charger.does("boot", json!({})).await?;
    let mut stations = Vec::new();
    for number in 0..10 {
        stations.push(booted(&gateway, &format!("CP1{number}")).await?);
    }
    // One of the three takes many seconds to come back.
    let rounds = if matches!(engine, Engine::Nats) { 2 } else { 1 };
    let mut expected = 0;
    for round in 0..rounds {
        expected += stations.len() + 1;
        broker.kill()?;
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
        broker.start().await?;
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
    ensure!(transactions(&worker).await?.len() == expected, "each once");
    ensure!(gateway.metric("switchboard_gateway_connections").await? >= 11.0, "no socket was closed");
    Ok(())
}
