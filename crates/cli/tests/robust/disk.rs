//! A disk without room, and with room again.

use crate::{BINARY, charging::Fleet, refused};
use anyhow::Result;
use std::time::Duration;
use switchboard_testkit::{RawStation, Switchboard, http, tools::SmallDisk, wait};

const START: &str = r#"[2,"1","StartTransaction",{"connectorId":1,"idTag":"A","meterStart":0,"timestamp":"2026-01-01T00:00:00Z"}]"#;
const METER: &str = r#"[2,"2","MeterValues",{"connectorId":1,"meterValue":[{"timestamp":"2026-01-01T00:05:00Z","sampledValue":[{"value":"5"}]}]}]"#;

/// Waits until `/readyz` says so.
async fn readiness(server: &Switchboard, status: u16) -> Result<String> {
    wait::until(format!("readiness {status}"), async || {
        let (found, text) = http::get(server.admin(), "/readyz").await.ok()?;
        (found == status).then_some(text)
    })
    .await
}

/// What happens while nothing can be written and afterwards; `fill` and `free` are the disk's.
async fn full_and_free(
    server: &mut Switchboard,
    fill: impl Fn(&Switchboard) -> Result<()>,
    free: impl Fn(&Switchboard) -> Result<()>,
) -> Result<()> {
    let fleet = Fleet::start(&server.url(""), 6);
    wait::until("answers", async || (fleet.answers() > 60).then_some(())).await?;
    let mut held = RawStation::connect(&server.url("HELD"), &["ocpp1.6"]).await?.map_err(refused)?;
    held.ask(r#"[2,"0","Heartbeat",{}]"#).await?;
    fill(server)?;
    held.send(START).await?;
    let why = readiness(server, 503).await?;
    assert!(why.contains("books") && why.contains("cannot be written"), "{why}");
    assert!(server.is_running());
    // What needs no disk is served.
    assert_eq!(http::get(server.admin(), "/healthz").await?.0, 200);
    let mut other = RawStation::connect(&server.url("OTHER"), &["ocpp1.6"]).await?.map_err(refused)?;
    assert_eq!(other.ask(r#"[2,"1","Heartbeat",{}]"#).await?[0], 3);
    free(server)?;
    // Nobody restarted anything; the call that was held is answered on its own connection.
    let answer = held.receive().await?;
    assert!(answer.starts_with(r#"[3,"1",{"#), "{answer}");
    readiness(server, 200).await?;
    let before = fleet.answers();
    wait::until("answers afterwards", async || (fleet.answers() > before + 60).then_some(())).await?;
    let log = server.log();
    let lines = log.lines().filter(|line| line.contains("cannot be written")).count();
    assert!((1..30).contains(&lines), "{lines} lines: {log}");
    assert!(log.contains("can be written again"), "{log}");
    server.kill().await?;
    fleet.audit(&server.data_dir())?;
    Ok(())
}

#[tokio::test]
async fn a_full_disk_holds_calls_and_loses_none_and_room_is_enough_to_go_on() -> Result<()> {
    let test = "a_full_disk_holds_calls_and_loses_none_and_room_is_enough_to_go_on";
    let Some(disk) = SmallDisk::of_kilobytes(test, 16 * 1024)? else { return Ok(()) };
    let mut server = Switchboard::start_in(BINARY, &[], &disk.path().join("data")).await?;
    full_and_free(&mut server, |_| disk.fill(), |_| disk.make_room()).await
}

#[tokio::test]
async fn files_that_may_not_grow_are_a_full_disk_and_nothing_worse() -> Result<()> {
    let mut server = Switchboard::start(BINARY, &[]).await?;
    full_and_free(&mut server, |server| server.limit_files(Some(8192)), |server| server.limit_files(None))
        .await
}

#[tokio::test]
async fn at_the_deadline_a_full_disk_lets_stations_keep_what_is_about_money() -> Result<()> {
    let mut server = Switchboard::start(BINARY, &["--gateway-answer-deadline", "1s"]).await?;
    let mut start = RawStation::connect(&server.url("A"), &["ocpp1.6"]).await?.map_err(refused)?;
    let mut meter = RawStation::connect(&server.url("B"), &["ocpp1.6"]).await?.map_err(refused)?;
    server.limit_files(Some(8192))?;
    start.send(START).await?;
    // Closed, not refused: most stations throw away what was refused a few times.
    assert_eq!(start.closed().await?, Some(1013));
    // It cannot be journalled either, on the same disk; that must not look like an acknowledgement.
    meter.send(METER).await?;
    let said = tokio::time::timeout(Duration::from_secs(30), meter.receive()).await?;
    assert!(said.as_ref().map_or(true, |text| text.starts_with("[4,")), "{said:?}");
    server.limit_files(None)?;
    readiness(&server, 200).await?;
    let mut again = RawStation::connect(&server.url("A"), &["ocpp1.6"]).await?.map_err(refused)?;
    assert_eq!(again.ask(START).await?[0], 3);
    assert_eq!(server.terminate().await?, 0);
    Ok(())
}
