//! Thousands of stations at once.

use crate::{BINARY, refused, scale, wire};
use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use switchboard_testkit::{RawStation, Switchboard, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

const BOOT: &[u8] = br#"[2,"1","BootNotification",{"chargePointVendor":"V","chargePointModel":"M"}]"#;

fn raise_open_files() {
    let limits = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, maximum: limits.maximum })
        .expect("a process may raise its limit up to the maximum");
}

/// Connects, boots, and gives the socket when the answer is there.
async fn boot(address: std::net::SocketAddr, station: &str) -> Result<tokio::net::TcpStream> {
    let (mut stream, head) = wire::knock_patiently(address, station).await?;
    ensure!(head.starts_with("HTTP/1.1 101"), "{head}");
    stream.write_all(&wire::frame(0x81, BOOT)).await?;
    loop {
        let mut head = [0; 2];
        stream.read_exact(&mut head).await.context("no answer to the boot")?;
        // It may be the turn of a ping.
        if head != [0x89, 0] {
            assert_eq!(head[0], 0x81, "{head:?}");
            return Ok(stream);
        }
    }
}

/// As a station does: a connection that the system resets before it was answered, as its queue was full for a moment, is made
/// once more after a while.
async fn come(
    address: std::net::SocketAddr,
    station: &str,
    again: &AtomicUsize,
) -> Result<tokio::net::TcpStream> {
    let begun = Instant::now();
    loop {
        match boot(address, station).await {
            Err(error) if was_reset(&error) && begun.elapsed() < 2 * wait::DEADLINE => {}
            other => return other,
        }
        again.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(500 + u64::from(begun.elapsed().subsec_micros() % 1000)))
            .await;
    }
}

fn was_reset(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
}

/// Ten thousand: `cargo xtask storm --stations 10000`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stations_that_come_all_at_once_are_all_served_and_those_that_are_there_go_on() -> Result<()> {
    let stations = scale("TESTKIT_STORM_STATIONS", 2000);
    raise_open_files();
    let server = Switchboard::start(BINARY, &["--log", "warn"]).await?;
    let before = server.memory_kb()?;
    let served = Arc::new(AtomicUsize::new(0));
    // Those that are there: their heartbeats are answered all the time, whatever comes in at the door. How fast is a
    // matter of the machine; that they get their turns among the newcomers is not.
    let mut old = RawStation::connect(&server.url("OLD"), &["ocpp1.6"]).await?.map_err(refused)?;
    let seen = Arc::clone(&served);
    let heart = tokio::spawn(async move {
        let (mut beats, mut most) = (0, 0);
        let mut slowest = Duration::ZERO;
        while seen.load(Ordering::Relaxed) < stations {
            let (came, begun) = (seen.load(Ordering::Relaxed), Instant::now());
            old.ask(r#"[2,"1","Heartbeat",{}]"#).await?;
            most = most.max(seen.load(Ordering::Relaxed) - came);
            slowest = slowest.max(begun.elapsed());
            beats += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok::<_, anyhow::Error>((beats, most, slowest))
    });
    let begun = Instant::now();
    let mut coming = JoinSet::new();
    let again = Arc::new(AtomicUsize::new(0));
    for number in 0..stations {
        let (address, served, again) = (server.stations(), Arc::clone(&served), Arc::clone(&again));
        coming.spawn(async move {
            let stream = come(address, &format!("S{number}"), &again).await;
            served.fetch_add(1, Ordering::Relaxed);
            stream
        });
    }
    let mut sockets = Vec::new();
    // How long the last one waits is a matter of the machine; that somebody is served all the time is not.
    while let Some(stream) = tokio::time::timeout(wait::DEADLINE, coming.join_next())
        .await
        .with_context(|| format!("nobody was served for {:?}, after {}", wait::DEADLINE, sockets.len()))?
    {
        sockets.push(stream??);
    }
    let took = begun.elapsed();
    let (beats, most, slowest) = heart.await??;
    let each = (server.memory_kb()? - before) * 1024 / u64::try_from(stations)?;
    println!(
        "{stations} stations booted in {took:?}, {} after a reset; {beats} heartbeats, slowest {slowest:?}; {each} bytes a \
         station",
        again.load(Ordering::Relaxed)
    );
    assert_eq!(sockets.len(), stations);
    assert!(beats >= 5 && most < stations / 2, "{beats} heartbeats; {most} newcomers were served during one");
    // A connection is about 6 kB, and what its handshake took comes back; the allocator may keep some of it.
    assert!(each < 60_000, "{each} bytes a station");
    Ok(())
}

#[tokio::test]
async fn more_stations_than_there_is_room_for_are_told_when_to_come_back() -> Result<()> {
    let server = Switchboard::start(
        BINARY,
        &["--gateway-connections-max", "50", "--gateway-connections-per-address-max", "60"],
    )
    .await?;
    let mut coming = JoinSet::new();
    for number in 0..120 {
        let address = server.stations();
        coming.spawn(async move { wire::knock(address, &format!("S{number}")).await });
    }
    let (mut inside, mut outside) = (Vec::new(), 0);
    while let Some(knocked) = coming.join_next().await {
        let (stream, head) = knocked??;
        if head.starts_with("HTTP/1.1 101") {
            inside.push(stream);
        } else {
            assert!(head.starts_with("HTTP/1.1 503") || head.starts_with("HTTP/1.1 429"), "{head}");
            assert!(head.to_lowercase().contains("retry-after: "), "{head}");
            outside += 1;
        }
    }
    assert_eq!((inside.len(), outside), (50, 70));
    inside.truncate(40);
    wait::until("a place that became free", async || wire::connect(server.stations(), "LATE").await.ok())
        .await?;
    Ok(())
}
