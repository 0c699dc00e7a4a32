//! Several gateways: S05, S06, and the newest connection wins wherever it is.

use crate::engine::{Engine, over_each_broker};
use crate::support::{AT_ONCE, Installation, booted, connected, obey, send, station};
use anyhow::{Result, ensure};
use serde_json::json;
use std::time::Duration;
use switchboard_testkit::{Charger, Software, wait};

over_each_broker! {
    s05_a_killed_gateway_leaves_its_commands_unknown_and_its_stations_to_the_other,
    s06_a_command_finds_the_gateway_that_has_the_station,
    l01_the_newest_connection_wins_also_at_another_gateway,
    a_gateway_that_is_told_to_stop_leaves_no_station_behind,
}

/// A command that it had written ends as unknown; its stations reconnect at the other one.
async fn s05_a_killed_gateway_leaves_its_commands_unknown_and_its_stations_to_the_other(
    engine: Engine,
) -> Result<()> {
    let test = "split::gateway-killed";
    let Some(place) = Installation::over(engine, test).await? else { return Ok(()) };
    let Some(mut charger) = Charger::start(test, Software::Python16)? else { return Ok(()) };
    let mut first = place.gateway(&["--gateway-id", "first"]).await?;
    let second = place.gateway(&["--gateway-id", "second"]).await?;
    let worker = place.worker(&[]).await?;
    let mut silent = booted(&first, "SILENT").await?;
    charger.does("connect", json!({ "url": first.url("CP1"), "protocols": ["ocpp1.6"] })).await?;
    charger.does("boot", json!({})).await?;
    let begun = tokio::time::Instant::now();
    let (sent, killed) = tokio::join!(send(&worker, &["SILENT", "ClearCache"]), async {
        let asked = silent.receive().await?;
        ensure!(asked.contains("ClearCache"), "{asked}");
        first.kill().await?;
        // S06: the route is stale, and that is known at once.
        let stale = tokio::time::Instant::now();
        let offline = send(&worker, &["CP1", "ClearCache"]).await?;
        ensure!(offline.code == 3 && stale.elapsed() < AT_ONCE, "{offline:?} after {:?}", stale.elapsed());
        Ok(())
    });
    killed?;
    let sent = sent?;
    ensure!(sent.code == 8 && begun.elapsed() < 3 * AT_ONCE, "{sent:?} after {:?}", begun.elapsed());

    charger.does("connect", json!({ "url": second.url("CP1"), "protocols": ["ocpp1.6"] })).await?;
    charger.does("heartbeat", json!({})).await?;
    connected(&worker, "CP1", true).await?;
    let answer = send(&worker, &["CP1", "GetConfiguration"]).await?;
    ensure!(answer.code == 0 && answer.stdout.contains("configurationKey"), "{answer:?}");
    Ok(())
}

async fn s06_a_command_finds_the_gateway_that_has_the_station(engine: Engine) -> Result<()> {
    let Some(place) = Installation::over(engine, "split::two-gateways").await? else { return Ok(()) };
    let (first, second) = (place.gateway(&[]).await?, place.gateway(&[]).await?);
    let worker = place.worker(&[]).await?;
    let mut one = booted(&first, "ONE").await?;
    let mut two = booted(&second, "TWO").await?;
    for (id, station) in [("ONE", &mut one), ("TWO", &mut two)] {
        let words = [id, "ClearCache"];
        let (sent, obeyed) =
            tokio::join!(send(&worker, &words), obey(station, "ClearCache", r#"{"status":"Accepted"}"#));
        obeyed?;
        let sent = sent?;
        ensure!(sent.code == 0 && sent.stdout.trim() == r#"{"status":"Accepted"}"#, "{sent:?}");
    }
    Ok(())
}

/// L01 across gateways: also the late close of the old one takes nothing from the new one.
async fn l01_the_newest_connection_wins_also_at_another_gateway(engine: Engine) -> Result<()> {
    let Some(place) = Installation::over(engine, "split::newest").await? else { return Ok(()) };
    let (first, second) = (place.gateway(&[]).await?, place.gateway(&[]).await?);
    let worker = place.worker(&[]).await?;
    let mut old = booted(&first, "CP1").await?;
    let mut new = station(&second, "CP1").await?;
    ensure!(old.closed().await? == Some(1008), "replaced");
    drop(old);
    wait::until("the first gateway without stations", async || {
        let connections = first.metric("switchboard_gateway_connections").await.ok()?;
        (connections == 0.0).then_some(())
    })
    .await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    ensure!(new.ask(r#"[2,"1","Heartbeat",{}]"#).await?[0] == 3, "the new one stays");
    let (sent, obeyed) = tokio::join!(
        send(&worker, &["CP1", "ClearCache"]),
        obey(&mut new, "ClearCache", r#"{"status":"Accepted"}"#)
    );
    obeyed?;
    ensure!(sent?.code == 0, "it is found where it is");
    Ok(())
}

/// The gateway that is told to stop closes with 1001 over the drain time, and the directory knows at once.
async fn a_gateway_that_is_told_to_stop_leaves_no_station_behind(engine: Engine) -> Result<()> {
    let Some(place) = Installation::over(engine, "split::drain").await? else { return Ok(()) };
    let mut gateway = place.gateway(&["--gateway-drain-time", "200ms"]).await?;
    let worker = place.worker(&[]).await?;
    let mut station = booted(&gateway, "CP1").await?;
    let (ended, closed) = tokio::join!(gateway.terminate(), station.closed());
    ensure!(ended? == 0 && closed? == Some(1001), "{}", gateway.log());
    connected(&worker, "CP1", false).await?;
    ensure!(send(&worker, &["CP1", "ClearCache"]).await?.code == 3, "offline");
    Ok(())
}
