//! Commands across processes: S07, S08, S09.

use crate::engine::{Engine, over_each_broker};
use crate::support::{Installation, booted, obey, send, station};
use anyhow::{Result, ensure};
use switchboard_testkit::wait;

over_each_broker! {
    s08_the_same_key_twice_goes_to_the_station_once,
    s09_a_command_waits_for_its_station_and_ends_as_it_must,
    s07_the_true_outcome_comes_back_from_another_process,
}

/// The station gets it once, and both callers its outcome.
async fn s08_the_same_key_twice_goes_to_the_station_once(engine: Engine) -> Result<()> {
    let Some(place) = Installation::over(engine, "split::key").await? else { return Ok(()) };
    let gateway = place.gateway(&[]).await?;
    let worker = place.worker(&[]).await?;
    let mut station = booted(&gateway, "CP1").await?;
    let words = ["CP1", "Reset", r#"{"type":"Soft"}"#, "--key", "nightly"];
    let (first, second, obeyed) = tokio::join!(
        send(&worker, &words),
        send(&worker, &words),
        obey(&mut station, "Reset", r#"{"status":"Accepted"}"#)
    );
    obeyed?;
    for sent in [first?, second?, send(&worker, &words).await?] {
        ensure!(sent.code == 0 && sent.stdout.trim() == r#"{"status":"Accepted"}"#, "{sent:?}");
    }
    // What another command came to is not told as the outcome of one that nobody sent.
    let other = send(&worker, &["CP1", "Reset", r#"{"type":"Hard"}"#, "--key", "nightly"]).await?;
    ensure!(other.code == 65 && other.stderr.contains("another command"), "{other:?}");
    // The next command that the station gets is the next one.
    let (sent, obeyed) = tokio::join!(
        send(&worker, &["CP1", "ClearCache"]),
        obey(&mut station, "ClearCache", r#"{"status":"Accepted"}"#)
    );
    obeyed?;
    ensure!(sent?.code == 0, "and only that");
    Ok(())
}

/// Kept by the directory for a station that is not there; taken back or expired, it never goes out.
async fn s09_a_command_waits_for_its_station_and_ends_as_it_must(engine: Engine) -> Result<()> {
    let Some(place) = Installation::over(engine, "split::queue").await? else { return Ok(()) };
    let gateway = place.gateway(&[]).await?;
    let worker = place.worker(&[]).await?;
    drop(booted(&gateway, "CP1").await?);
    crate::support::connected(&worker, "CP1", false).await?;

    let expired = send(&worker, &["CP1", "ClearCache", "--ttl", "500ms"]).await?;
    ensure!(expired.code == 5, "{expired:?}");
    let kept = ["CP1", "GetConfiguration", "--ttl", "1m"];
    let (sent, came) = tokio::join!(send(&worker, &kept), async {
        // It is there before the station is.
        wait::until("the command in the directory", async || {
            let (code, text) = switchboard_testkit::http::get(worker.api(), "/v1/stations/CP1").await.ok()?;
            (code == 200 && !text.is_empty()).then_some(())
        })
        .await?;
        let mut station = station(&gateway, "CP1").await?;
        ensure!(station.ask(r#"[2,"h","Heartbeat",{}]"#).await?[0] == 3, "its first call");
        obey(&mut station, "GetConfiguration", r#"{"configurationKey":[]}"#).await?;
        // What has expired does not come.
        let (sent, obeyed) = tokio::join!(
            send(&worker, &["CP1", "ClearCache"]),
            obey(&mut station, "ClearCache", r#"{"status":"Rejected"}"#)
        );
        obeyed?;
        ensure!(sent?.stdout.contains("Rejected"), "the one of now");
        Ok(())
    });
    came?;
    let sent = sent?;
    ensure!(sent.code == 0 && sent.stdout.contains("configurationKey"), "{sent:?}");
    Ok(())
}

/// S07: each outcome as it was, through a worker that has nothing to do with the gateway.
async fn s07_the_true_outcome_comes_back_from_another_process(engine: Engine) -> Result<()> {
    let Some(place) = Installation::over(engine, "split::outcomes").await? else { return Ok(()) };
    let gateway = place.gateway(&[]).await?;
    let worker = place.worker(&[]).await?;
    let mut station = booted(&gateway, "CP1").await?;
    let (refused, said) = tokio::join!(send(&worker, &["CP1", "ClearCache", "--json"]), async {
        let call: serde_json::Value = serde_json::from_str(&station.receive().await?)?;
        station.send(&format!(r#"[4,{},"NotSupported","no cache",{{}}]"#, call[1])).await
    });
    said?;
    let refused = refused?;
    ensure!(refused.code == 1 && refused.json()?["code"] == "NotSupported", "{refused:?}");
    let unknown = send(&worker, &["CP1", "ClearCache", "--timeout", "300ms"]).await?;
    ensure!(unknown.code == 8, "{unknown:?}");
    station.receive().await?;
    let offline = send(&worker, &["CP9", "ClearCache"]).await?;
    ensure!(offline.code == 3, "{offline:?}");
    // Written, and then the socket goes.
    let (unknown, gone) = tokio::join!(send(&worker, &["CP1", "ClearCache"]), async {
        station.receive().await?;
        drop(station);
        anyhow::Ok(())
    });
    gone?;
    let unknown = unknown?;
    ensure!(unknown.code == 8, "{unknown:?}");
    Ok(())
}
