//! Processing that cannot keep up: stations are held back, each at its own call, and nothing piles up on the way.

use crate::engine::{Engine, over_each_broker};
use crate::support::{Installation, station};
use anyhow::{Context, Result, ensure};
use futures_util::future::{join_all, try_join_all};
use serde_json::Value;
use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use switchboard_messages::v16;
use switchboard_router::Router;
use switchboard_testkit::{RawStation, wait};
use switchboard_worker::Worker;
use tokio::sync::Semaphore;

over_each_broker! {
    a_worker_that_is_stuck_holds_stations_back_and_grows_no_memory,
    one_slow_station_costs_only_itself,
}

const RECEIVED: &str = "switchboard_gateway_calls_received_total";
/// Stations that flood, and what each sends at once.
const FLOODING: u32 = 30;
const CALLS_EACH: u32 = 400;
const BYTES_EACH: usize = 8 * 1024;
/// How many answers are looked at of each.
const LOOKED_AT: u32 = 10;

fn call(id: u32, vendor: &str, bytes: usize) -> String {
    let data = "x".repeat(bytes);
    format!(r#"[2,"{id}","DataTransfer",{{"vendorId":"{vendor}","data":"{data}"}}]"#)
}

/// A worker whose slow handlers wait for a permit each.
async fn worker(
    place: &Installation,
    in_hand_max: u32,
    permits: &Arc<Semaphore>,
    begun: &Arc<AtomicU32>,
) -> Result<Worker> {
    let (permits, begun) = (Arc::clone(permits), Arc::clone(begun));
    let router = Router::new().on(move |request: v16::DataTransferRequest| {
        let (permits, begun) = (Arc::clone(&permits), Arc::clone(&begun));
        async move {
            if request.vendor_id == "slow" {
                begun.fetch_add(1, Ordering::Relaxed);
                if let Ok(permit) = permits.acquire().await {
                    permit.forget();
                }
            }
            v16::DataTransferResponse::new(v16::DataTransferStatus::Accepted)
        }
    });
    let mut config = switchboard_worker::Config::default();
    config.in_hand_max = NonZeroU32::new(in_hand_max).context("some")?;
    Ok(switchboard_worker::serve(router, place.join().await?, config).await?)
}

/// The next answer is the one to this call.
async fn answers(station: &mut RawStation, id: u32) -> Result<()> {
    let answer: Value = serde_json::from_str(&station.receive().await?)?;
    ensure!(
        answer[0] == 3 && answer[1].as_str() == Some(id.to_string().as_str()),
        "{answer} instead of the answer to {id}"
    );
    Ok(())
}

/// Section 7: 100 MB are said to a gateway whose worker does nothing. It reads one call of each station, and no more.
async fn a_worker_that_is_stuck_holds_stations_back_and_grows_no_memory(engine: Engine) -> Result<()> {
    let Some(place) = Installation::over(engine, "split::stuck").await? else { return Ok(()) };
    let gateway = place.gateway(&[]).await?;
    let (permits, begun) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU32::new(0)));
    let worker = worker(&place, 8, &permits, &begun).await?;
    let mut stations = Vec::new();
    for number in 0..FLOODING {
        let mut station = station(&gateway, &format!("CP{number}")).await?;
        // What the first call costs is not what is measured.
        station.send(&call(0, "quick", BYTES_EACH)).await?;
        answers(&mut station, 0).await?;
        stations.push(station);
    }
    let (received, memory) = (gateway.metric(RECEIVED).await?, gateway.memory_kb()?);
    let flooding: Vec<_> = stations
        .into_iter()
        .map(|mut station| {
            tokio::spawn(async move {
                for id in 1..=CALLS_EACH {
                    // Whoever is not read cannot send for ever either: what does not go out now is not meant to.
                    match tokio::time::timeout(FLOOD_FOR, station.send(&call(id, "slow", BYTES_EACH))).await {
                        Ok(sent) => sent?,
                        Err(_) => break,
                    }
                }
                anyhow::Ok(station)
            })
        })
        .collect();
    let mut stations = try_join_all(flooding).await?.into_iter().collect::<Result<Vec<_>>>()?;
    wait::until("the worker's hands are full", async || (begun.load(Ordering::Relaxed) >= 8).then_some(()))
        .await?;
    let said = gateway.metric(RECEIVED).await? - received;
    let grown = gateway.memory_kb()?.saturating_sub(memory);
    ensure!(begun.load(Ordering::Relaxed) == 8, "no more than its hands hold");
    ensure!(said <= f64::from(FLOODING), "{said} calls were taken of {FLOODING} stations");
    let flood = u64::from(FLOODING * CALLS_EACH) * u64::try_from(BYTES_EACH)? / 1024;
    ensure!(grown < flood / 4, "{grown} kB more for a flood of {flood} kB");

    // It goes on: each in its order, and nobody was closed.
    permits.add_permits(usize::try_from(FLOODING * CALLS_EACH)?);
    let reading = stations.iter_mut().map(async |station| {
        for id in 1..=LOOKED_AT {
            answers(station, id).await?;
        }
        anyhow::Ok(())
    });
    for read in join_all(reading).await {
        read?;
    }
    drop(stations);
    worker.stop().await;
    Ok(())
}

/// Its calls wait for each other; those of all others go by.
async fn one_slow_station_costs_only_itself(engine: Engine) -> Result<()> {
    let Some(place) = Installation::over(engine, "split::slow-station").await? else { return Ok(()) };
    let gateway = place.gateway(&[]).await?;
    let (permits, begun) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU32::new(0)));
    let worker = worker(&place, 16, &permits, &begun).await?;
    let mut slow = station(&gateway, "SLOW").await?;
    for id in 1..=50 {
        slow.send(&call(id, "slow", 100)).await?;
    }
    wait::until("its first call is in hand", async || (begun.load(Ordering::Relaxed) > 0).then_some(()))
        .await?;
    let mut others = Vec::new();
    for number in 0..10 {
        others.push(station(&gateway, &format!("CP{number}")).await?);
    }
    let busy = others.iter_mut().map(async |station| {
        for id in 1..=20 {
            station.send(&call(id, "quick", 100)).await?;
            answers(station, id).await?;
        }
        anyhow::Ok(())
    });
    for done in join_all(busy).await {
        done?;
    }
    ensure!(
        begun.load(Ordering::Relaxed) == 1,
        "one of its calls at a time is all that it has of the worker"
    );
    for id in 1..=50 {
        permits.add_permits(1);
        answers(&mut slow, id).await?;
    }
    worker.stop().await;
    Ok(())
}

const FLOOD_FOR: Duration = Duration::from_millis(500);
