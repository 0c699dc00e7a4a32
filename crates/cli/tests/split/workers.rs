//! Workers that die, freeze, are slow or all gone: S01, S02, S03, S10.

use crate::engine::{Engine, over_each_broker};
use crate::support::{AT_ONCE, Installation, booted, metric_at_least, start, station, status, transactions};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use switchboard_messages::v16;
use switchboard_router::Router;
use switchboard_testkit::{Charger, RawStation, Software, http, wait};

over_each_broker! {
    s01_a_worker_killed_in_mid_call_leaves_one_effect_and_one_answer,
    s01_all_workers_gone_for_five_seconds_cost_no_call_and_no_socket,
    s01_what_a_killed_or_frozen_worker_had_is_done_by_the_other_one_once,
    s10_the_late_answer_of_a_worker_that_was_frozen_is_dropped_and_counted,
    s03_at_the_deadline_without_workers_each_call_ends_as_its_class_wants,
    a_worker_that_is_told_to_stop_answers_what_it_has,
    s01_a_slow_handler_under_load_is_left_in_peace_as_long_as_presence_names_it,
}

const AGAIN: &str = "switchboard_gateway_calls_handed_over_again_total";
const LATE: &str = "switchboard_gateway_answers_late_total";

/// It dies between the commit and the answer: whoever takes over must know what was done (S02).
async fn s01_a_worker_killed_in_mid_call_leaves_one_effect_and_one_answer(engine: Engine) -> Result<()> {
    let test = "split::killed";
    let Some(place) = Installation::over(engine, test).await? else { return Ok(()) };
    let Some(mut charger) = Charger::start(test, Software::Python16)? else { return Ok(()) };
    let gateway = place.gateway(&[]).await?;
    let mut worker = place.worker(&[]).await?;
    charger.does("connect", json!({ "url": gateway.url("CP1"), "protocols": ["ocpp1.6"] })).await?;
    charger.does("boot", json!({})).await?;
    worker.kill().await?;
    // How often it commits before it is ready is its own matter.
    for commits in 1..10 {
        worker.die_at(Some(&format!("books.after-commit:{commits}")));
        if worker.start_again().await.is_ok() {
            break;
        }
    }
    ensure!(worker.is_running(), "{}", worker.log());
    charger
        .begins("start", json!({ "tag": "A1", "meter": 100, "timestamp": "2026-11-20T10:00:00Z" }))
        .await?;
    ensure!(worker.ended().await?.is_none(), "it dies with the call in hand: {}", worker.log());
    worker.die_at(None);
    worker.start_again().await?;
    let answer = charger.ended("start").await?;
    ensure!(answer.get("done").is_some(), "{answer}");
    metric_at_least(&gateway, AGAIN, 1.0).await?;
    charger.does("stop", json!({ "meter": 200, "timestamp": "2026-11-20T10:30:00Z" })).await?;
    let list = transactions(&worker).await?;
    ensure!(list.len() == 1 && list[0]["state"] == "ended", "{list:?}");
    Ok(())
}

async fn s01_all_workers_gone_for_five_seconds_cost_no_call_and_no_socket(engine: Engine) -> Result<()> {
    let Some(place) = Installation::over(engine, "split::gone").await? else { return Ok(()) };
    let gateway = place.gateway(&[]).await?;
    let mut worker = place.worker(&[]).await?;
    let mut stations = Vec::new();
    for number in 0..20 {
        stations.push(booted(&gateway, &format!("CP{number}")).await?);
    }
    worker.kill().await?;
    for (number, station) in (0..).zip(&mut stations) {
        station.send(&start("s", number)).await?;
    }
    // Not a wait for anything: the absence itself.
    tokio::time::sleep(Duration::from_secs(5)).await;
    worker.start_again().await?;
    for station in &mut stations {
        let answer: Value = serde_json::from_str(&station.receive().await?)?;
        ensure!(answer[0] == 3 && answer[1] == "s" && answer[2]["transactionId"].is_i64(), "{answer}");
        ensure!(station.ask(r#"[2,"h","Heartbeat",{}]"#).await?[0] == 3, "the same socket goes on");
    }
    ensure!(transactions(&worker).await?.len() == stations.len(), "each once");
    Ok(())
}

/// One of two dies or freezes under load: the other one has each call done, once, and the one that wakes changes nothing.
async fn s01_what_a_killed_or_frozen_worker_had_is_done_by_the_other_one_once(engine: Engine) -> Result<()> {
    let Some(place) = Installation::over(engine, "split::two-workers").await? else { return Ok(()) };
    let gateway = place.gateway(&[]).await?;
    let (mut first, second) = (place.one_of_many().await?, place.one_of_many().await?);
    let mut stations = Vec::new();
    for number in 0..10 {
        stations.push(booted(&gateway, &format!("CP{number}")).await?);
    }
    for minute in 0..6 {
        let id = format!("s{minute}");
        match minute {
            1 => first.freeze()?,
            3 => first.thaw()?,
            4 => first.kill().await?,
            _ => {}
        }
        for station in &mut stations {
            station.send(&start(&id, minute)).await?;
        }
        for station in &mut stations {
            let answer: Value = serde_json::from_str(&station.receive().await?)?;
            ensure!(answer[0] == 3 && answer[1] == id, "{minute}: {answer}");
        }
    }
    let list = transactions(&second).await?;
    ensure!(list.len() == 6 * stations.len(), "{} transactions of {}", list.len(), 6 * stations.len());
    metric_at_least(&gateway, AGAIN, 1.0).await?;
    Ok(())
}

/// S10: what it says when it wakes is for a call that has ended.
async fn s10_the_late_answer_of_a_worker_that_was_frozen_is_dropped_and_counted(
    engine: Engine,
) -> Result<()> {
    let Some(place) = Installation::over(engine, "split::frozen").await? else { return Ok(()) };
    let gateway = place.gateway(&["--gateway-answer-deadline", "2s"]).await?;
    let worker = place.worker(&[]).await?;
    let mut station = booted(&gateway, "CP1").await?;
    worker.freeze()?;
    let answer = station.ask(r#"[2,"1","Authorize",{"idTag":"A1"}]"#).await?;
    ensure!(answer[0] == 4 && answer[2] == "InternalError", "{answer}");
    let before = gateway.metric(LATE).await?;
    worker.thaw()?;
    metric_at_least(&gateway, LATE, before + 1.0).await?;
    // The next frame on the socket is the answer of the next call and nothing else.
    let answer = station.ask(r#"[2,"2","Authorize",{"idTag":"A1"}]"#).await?;
    ensure!(answer[0] == 3 && answer[1] == "2", "{answer}");
    Ok(())
}

/// What needs nothing of processing is journalled and worked off; what money hangs on closes the socket; the rest fails.
async fn s03_at_the_deadline_without_workers_each_call_ends_as_its_class_wants(engine: Engine) -> Result<()> {
    let Some(place) = Installation::over(engine, "split::deadline").await? else { return Ok(()) };
    let arguments = ["--gateway-answer-deadline", "1500ms", "--gateway-refuse-upgrades-after", "1s"];
    let gateway = place.gateway(&arguments).await?;
    let mut worker = place.worker(&[]).await?;
    let mut keeping = booted(&gateway, "KEEP").await?;
    let mut paying = booted(&gateway, "PAY").await?;
    let mut asking = booted(&gateway, "ASK").await?;
    worker.kill().await?;
    paying.send(&start("1", 1)).await?;
    asking.send(r#"[2,"1","Authorize",{"idTag":"A1"}]"#).await?;
    for minute in 1..=3 {
        let answer = keeping.ask(&status(&minute.to_string(), minute)).await?;
        ensure!(answer == json!([3, minute.to_string(), {}]), "{answer}");
    }
    ensure!(paying.closed().await? == Some(1013), "the station keeps it");
    let answer: Value = serde_json::from_str(&asking.receive().await?)?;
    ensure!(answer[0] == 4 && answer[2] == "InternalError", "{answer}");

    // New ones are sent away meanwhile, and told when to return.
    let refusal = wait::until("a refusal", async || {
        let head = format!(
            "GET /ocpp/NEW HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: ocpp1.6\r\n\r\n",
            gateway.stations()
        );
        let refused = matches!(RawStation::connect(&gateway.url("NEW"), &["ocpp1.6"]).await, Ok(Err(503)));
        let answer = if refused { http::exchange(gateway.stations(), head.as_bytes()).await.ok()? } else { return None };
        answer.starts_with("HTTP/1.1 503").then_some(answer)
    })
    .await?;
    ensure!(refusal.to_lowercase().contains("retry-after:"), "{refusal}");
    let (code, why) = http::get(gateway.admin(), "/readyz").await?;
    ensure!(code == 503 && why.contains("taken calls"), "{code} {why}");

    worker.start_again().await?;
    metric_at_least(&gateway, "switchboard_gateway_journal_worked_off_total", 3.0).await?;
    let answer = keeping.ask(r#"[2,"h","Heartbeat",{}]"#).await?;
    ensure!(answer[0] == 3, "its socket was never closed: {answer}");
    let mut paying = wait::until("the station back", async || station(&gateway, "PAY").await.ok()).await?;
    let answer = paying.ask(&start("2", 1)).await?;
    ensure!(answer[2]["transactionId"].is_i64(), "{answer}");
    ensure!(transactions(&worker).await?.len() == 1, "kept by the station, and booked once");
    Ok(())
}

/// A restart by hand: what is in hand is finished, and whoever comes next finds the new one.
async fn a_worker_that_is_told_to_stop_answers_what_it_has(engine: Engine) -> Result<()> {
    let Some(place) = Installation::over(engine, "split::stopped").await? else { return Ok(()) };
    let gateway = place.gateway(&[]).await?;
    let mut worker = place.worker(&[]).await?;
    let mut station = booted(&gateway, "CP1").await?;
    let begun = tokio::time::Instant::now();
    station.send(&start("1", 1)).await?;
    ensure!(worker.terminate().await? == 0, "{}", worker.log());
    station.send(&status("2", 2)).await?;
    worker.start_again().await?;
    for id in ["1", "2"] {
        let answer: Value = serde_json::from_str(&station.receive().await?).context("an answer")?;
        ensure!(answer[0] == 3 && answer[1] == id, "{answer}");
    }
    ensure!(begun.elapsed() < 3 * AT_ONCE && transactions(&worker).await?.len() == 1, "once");
    Ok(())
}

/// Five handlers sleep for three seconds while others are busy: two workers, and each call is taken by one of them.
async fn s01_a_slow_handler_under_load_is_left_in_peace_as_long_as_presence_names_it(
    engine: Engine,
) -> Result<()> {
    let Some(place) = Installation::over(engine, "split::slow").await? else { return Ok(()) };
    let gateway = place.gateway(&[]).await?;
    let runs = Arc::new(AtomicU32::new(0));
    let router = {
        let runs = Arc::clone(&runs);
        Router::new().on(move |request: v16::DataTransferRequest| {
            let runs = Arc::clone(&runs);
            async move {
                if request.vendor_id == "slow" {
                    runs.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_secs(3)).await;
                }
                v16::DataTransferResponse::new(v16::DataTransferStatus::Accepted)
            }
        })
    };
    let mut workers = Vec::new();
    for _ in 0..2 {
        let config = switchboard_worker::Config::default();
        workers.push(switchboard_worker::serve(router.clone(), place.join().await?, config).await?);
    }
    let mut stations = Vec::new();
    for number in 0..20 {
        stations.push(station(&gateway, &format!("CP{number}")).await?);
    }
    // Whoever cannot give a sign of life for a second is taken for dead, rightly; a machine that busy proves nothing.
    for attempt in 1.. {
        let (before, again) = (runs.load(Ordering::Relaxed), gateway.metric(AGAIN).await?);
        let calls = (0..).zip(&mut stations).map(async |(number, station): (u32, &mut RawStation)| {
            let vendor = if number < 5 { "slow" } else { "busy" };
            let until = tokio::time::Instant::now() + Duration::from_secs(3);
            let mut count = 0;
            loop {
                count += 1;
                let call = format!(r#"[2,"{attempt}-{count}","DataTransfer",{{"vendorId":"{vendor}"}}]"#);
                let answer = station.ask(&call).await?;
                ensure!(answer[0] == 3, "{answer}");
                if number < 5 || tokio::time::Instant::now() > until {
                    return anyhow::Ok(());
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        for done in futures_util::future::join_all(calls).await {
            done?;
        }
        let runs = runs.load(Ordering::Relaxed) - before;
        let again = gateway.metric(AGAIN).await? - again;
        if runs == 5 && again == 0.0 {
            break;
        }
        ensure!(attempt < 4, "{runs} runs of 5 calls, {again} handed over again");
    }
    for worker in workers {
        worker.stop().await;
    }
    Ok(())
}
