//! Whoever does not read, sends too much or too little at a time: it costs only itself.

use crate::{BINARY, refused, wire};
use anyhow::{Context, Result};
use std::time::Duration;
use switchboard_testkit::{RawStation, Switchboard, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const HEARTBEAT: &[u8] = br#"[2,"1","Heartbeat",{}]"#;

/// Writes as long as the other side takes it: until it is done, the socket is closed, or nothing goes for two seconds.
async fn pour(stream: &mut TcpStream, part: &[u8], times: usize) {
    for _ in 0..times {
        match tokio::time::timeout(Duration::from_secs(2), stream.write_all(part)).await {
            Ok(Ok(())) => {}
            _ => return,
        }
    }
}

/// Runs the abuse while a good station is served, and says by how much the process has grown.
async fn meanwhile<T: Send + 'static>(
    server: &Switchboard,
    abuse: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<(T, i64)> {
    let mut good = RawStation::connect(&server.url("GOOD"), &["ocpp1.6"]).await?.map_err(refused)?;
    good.ask(r#"[2,"0","Heartbeat",{}]"#).await?;
    let before = i64::try_from(server.memory_kb()?)?;
    let abuse = tokio::spawn(abuse);
    let (mut beats, mut most) = (0, before);
    while beats < 20 || !abuse.is_finished() {
        beats += 1;
        let answer = good.ask(&format!(r#"[2,"{beats}","Heartbeat",{{}}]"#)).await?;
        assert_eq!(answer[0], 3);
        most = most.max(i64::try_from(server.memory_kb()?)?);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok((abuse.await??, most - before))
}

#[tokio::test]
async fn stations_that_flood_and_never_read_cost_only_themselves() -> Result<()> {
    let server = Switchboard::start(BINARY, &["--log", "error"]).await?;
    let address = server.stations();
    // Ten of each kind, each writing more than sockets and queues hold.
    let (sockets, grown) = meanwhile(&server, async move {
        let mut floods = JoinSet::new();
        for number in 0..10 {
            floods.spawn(async move {
                let mut stream = wire::connect(address, &format!("CALLS{number}")).await?;
                // Each id is new, so that none is answered from memory.
                let calls: Vec<u8> = (0..1000)
                    .flat_map(|call| {
                        wire::frame(0x81, format!(r#"[2,"{call}","Heartbeat",{{}}]"#).as_bytes())
                    })
                    .collect();
                pour(&mut stream, &calls, 10).await;
                Ok::<_, anyhow::Error>(stream)
            });
            floods.spawn(async move {
                let mut stream = wire::connect(address, &format!("PINGS{number}")).await?;
                let pings = wire::frame(0x89, &[b'x'; 125]).repeat(1000);
                pour(&mut stream, &pings, 20).await;
                Ok(stream)
            });
        }
        let mut sockets = Vec::new();
        while let Some(stream) = floods.join_next().await {
            sockets.push(stream??);
        }
        Ok(sockets)
    })
    .await?;
    println!("twenty floods: {grown} kB more");
    assert!(grown < 40 * 1024, "{grown} kB more");
    drop(sockets);
    Ok(())
}

#[tokio::test]
async fn a_flood_that_is_read_is_answered_in_full_and_a_message_byte_by_byte_too() -> Result<()> {
    let server = Switchboard::start(BINARY, &["--log", "error"]).await?;
    let address = server.stations();
    let (_, grown) = meanwhile(&server, async move {
        // Ten thousand calls are written before the first answer is read.
        let mut stream = wire::connect(address, "FLOOD").await?;
        let (mut answers, mut calls) = stream.split();
        let writing = async {
            for _ in 0..10_000 {
                calls.write_all(&wire::frame(0x81, HEARTBEAT)).await?;
            }
            Ok::<_, anyhow::Error>(())
        };
        let reading = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            for _ in 0..10_000 {
                let mut head = [0; 2];
                answers.read_exact(&mut head).await.context("an answer is missing")?;
                let mut answer = vec![0; usize::from(head[1])];
                answers.read_exact(&mut answer).await?;
                assert!(answer.starts_with(br#"[3,"1",{"#), "{}", String::from_utf8_lossy(&answer));
            }
            Ok(())
        };
        tokio::try_join!(writing, reading)?;

        // One byte a frame, one frame a segment, with pings between.
        let mut stream = wire::connect(address, "BYTES").await?;
        stream.set_nodelay(true)?;
        for (index, byte) in HEARTBEAT.iter().enumerate() {
            let last = index + 1 == HEARTBEAT.len();
            let first = u8::from(index == 0) | if last { 0x80 } else { 0 };
            stream.write_all(&wire::frame(first, &[*byte])).await?;
            stream.write_all(&wire::frame(0x89, b"")).await?;
        }
        let mut seen = Vec::new();
        while !seen.windows(5).any(|part| part == br#"[3,"1"#) {
            seen.push(stream.read_u8().await?);
        }
        // And the beginning of a message whose end never comes.
        let mut open = wire::connect(address, "OPEN").await?;
        open.write_all(&wire::frame(0x01, b"[2,")).await?;
        pour(&mut open, &wire::frame(0x00, b"").repeat(100), 200).await;
        Ok((stream, open))
    })
    .await?;
    println!("a flood and bytes: {grown} kB more");
    assert!(grown < 40 * 1024, "{grown} kB more");
    Ok(())
}

#[tokio::test]
async fn callers_and_watchers_of_the_api_that_never_read_cost_only_themselves() -> Result<()> {
    let server = Switchboard::start(BINARY, &["--log", "error"]).await?;
    let (api, stations) = (server.api(), server.stations());
    let (_, grown) = meanwhile(&server, async move {
        let mut deaf = Vec::new();
        for _ in 0..20 {
            let mut caller = TcpStream::connect(api).await?;
            let requests = format!("GET /v1/stations HTTP/1.1\r\nHost: {api}\r\n\r\n").repeat(100);
            pour(&mut caller, requests.as_bytes(), 100).await;
            deaf.push(caller);
            let mut watcher = TcpStream::connect(api).await?;
            watcher.write_all(format!("GET /v1/trace HTTP/1.1\r\nHost: {api}\r\n\r\n").as_bytes()).await?;
            deaf.push(watcher);
        }
        // Traffic to be watched: 64 megabytes of it.
        let mut talker = wire::connect(stations, "TALK").await?;
        let (mut answers, mut calls) = talker.split();
        let payload = format!(r#"[2,"1","DataTransfer",{{"vendorId":"x","data":"{}"}}]"#, "x".repeat(60_000));
        let writing = async {
            for _ in 0..1000 {
                calls.write_all(&wire::frame(0x81, payload.as_bytes())).await?;
            }
            Ok::<_, anyhow::Error>(())
        };
        let reading = async {
            let mut waste = vec![0; 4096];
            loop {
                if answers.read(&mut waste).await? == 0 {
                    return Ok::<(), anyhow::Error>(());
                }
            }
        };
        tokio::select! {
            written = writing => written?,
            read = reading => read?,
        }
        Ok(deaf)
    })
    .await?;
    println!("deaf callers and watchers: {grown} kB more");
    assert!(grown < 200 * 1024, "{grown} kB more");
    Ok(())
}

#[tokio::test]
async fn memory_that_large_messages_took_is_given_back() -> Result<()> {
    let server = Switchboard::start(BINARY, &["--log", "error"]).await?;
    let mut station = RawStation::connect(&server.url("CP1"), &["ocpp1.6"]).await?.map_err(refused)?;
    station.ask(r#"[2,"0","Heartbeat",{}]"#).await?;
    let before = server.memory_kb()?;
    let data = "x".repeat(1_000_000);
    for number in 0..100 {
        let call = format!(r#"[2,"{number}","DataTransfer",{{"vendorId":"x","data":"{data}"}}]"#);
        station.ask(&call).await?;
    }
    let most = server.memory_kb()?;
    let after = wait::until("memory that is given back", async || {
        let now = server.memory_kb().ok()?;
        (now < before + 96 * 1024).then_some(now)
    })
    .await?;
    println!("before {before} kB, at most {most} kB, after {after} kB");
    Ok(())
}
