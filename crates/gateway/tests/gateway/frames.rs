//! Frames as sockets bring them (F09–F11, F17), and stations that do not do their part (C02, C10).

use crate::support::{Station, World, until, within};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::Message;

/// A frame of a client, masked with zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ ..126 => frame.push(0x80 | u8::try_from(length).unwrap()),
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

async fn raw(world: &World, station: &str) -> TcpStream {
    let (answer, socket) =
        world.upgrade(&format!("/ocpp/{station}"), "Sec-WebSocket-Protocol: ocpp1.6\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    socket
}

/// The next frame: its first byte and payload. Only short ones are expected.
async fn next(socket: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    within("a frame", socket.read_exact(&mut head)).await.unwrap();
    let mut payload = vec![0; usize::from(head[1])];
    within("a frame", socket.read_exact(&mut payload)).await.unwrap();
    (head[0], payload)
}

async fn closes_with(socket: &mut TcpStream) -> u16 {
    let (first, payload) = next(socket).await;
    assert_eq!(first, 0x88, "a close frame");
    u16::from_be_bytes([payload[0], payload[1]])
}

#[tokio::test]
async fn f09_binary_is_read_as_text_or_closed_with_1003() {
    let world = World::start(|_| {}).await;
    let _processing = world.obliging().await;
    let mut station = world.station("A").await;
    station.send_message(Message::binary(&br#"[2,"1","Heartbeat",{}]"#[..])).await;
    assert_eq!(station.receive().await, r#"[3,"1",{}]"#);
    station.send_message(Message::binary(&b"\xff"[..])).await;
    assert_eq!(station.closed().await.unwrap().0, 1003);

    let world = World::start(|config| config.binary_as_text = false).await;
    let mut station = world.station("A").await;
    station.send_message(Message::binary(&br#"[2,"1","Heartbeat",{}]"#[..])).await;
    assert_eq!(station.closed().await.unwrap().0, 1003);
}

#[tokio::test]
async fn f10_what_is_not_utf8_or_too_big_says_why_it_is_closed() {
    let world = World::start(|config| config.message_bytes_max = 10_000).await;
    let mut socket = raw(&world, "A").await;
    socket.write_all(&frame(0x81, b"\xff\xfe")).await.unwrap();
    assert_eq!(closes_with(&mut socket).await, 1007);
    let mut socket = raw(&world, "B").await;
    // The peer goes on sending what nobody will read, and still sees the reason.
    drop(socket.write_all(&frame(0x81, &vec![b' '; 3_000_000])).await);
    assert_eq!(closes_with(&mut socket).await, 1009);
}

#[tokio::test]
async fn f11_fragments_with_pings_between_them_are_one_message() {
    let world = World::start(|_| {}).await;
    let processing = world.obliging().await;
    let mut socket = raw(&world, "A").await;
    for part in [
        frame(0x01, br#"[2,"1","#),
        frame(0x89, b"still there?"),
        frame(0x00, br#""Heart"#),
        frame(0x80, br#"beat",{}]"#),
    ] {
        socket.write_all(&part).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(next(&mut socket).await, (0x8a, b"still there?".to_vec()));
    assert_eq!(next(&mut socket).await, (0x81, br#"[3,"1",{}]"#.to_vec()));
    assert_eq!(processing.bodies(), [r#"[2,"1","Heartbeat",{}]"#]);
}

#[tokio::test]
async fn f17_compression_without_negotiation_is_named() {
    let world = World::start(|_| {}).await;
    let mut socket = raw(&world, "A").await;
    socket.write_all(&frame(0xc1, b"\x8a\x36\x52\x32")).await.unwrap();
    let (_, payload) = next(&mut socket).await;
    assert_eq!(u16::from_be_bytes([payload[0], payload[1]]), 1002);
    assert!(String::from_utf8_lossy(&payload).contains("compressed"));
    assert_eq!(world.metric("connections_closed_total{cause=\"protocol\"}"), 1.0);
}

#[tokio::test]
async fn f12_what_is_handed_on_are_the_stations_bytes() {
    let world = World::start(|_| {}).await;
    let processing = world.obliging().await;
    let mut station = world.station("A").await;
    let text = r#" [2, "1" ,"DataTransfer", {"b":1.10,"a":123456789012345678901234567890,"a":null} ] "#;
    station.ask(text).await;
    assert_eq!(processing.bodies(), [text]);
    let metadata = processing.call(0).metadata;
    assert_eq!(metadata.action.as_deref(), Some("DataTransfer"));
    assert_eq!((metadata.seq, metadata.attempt), (Some(1), 1));
    assert_eq!(metadata.connection.unwrap().gateway, *world.gateway.name());
    assert!(metadata.remaining.unwrap() <= Duration::from_secs(25));
}

#[tokio::test]
async fn c02_a_station_that_does_not_read_costs_only_itself() {
    let world = World::start(|config| config.write_timeout = Duration::from_millis(500)).await;
    let large = format!("{{\"data\":\"{}\"}}", "x".repeat(200_000));
    let _processing = world
        .processing(move |call| {
            let slow = call.metadata.station.as_ref().is_some_and(|station| station.as_str() == "slow");
            crate::support::Reply::payload(if slow { &large } else { "{}" })
        })
        .await;
    let mut slow = raw(&world, "slow").await;
    let flood = tokio::spawn(async move {
        for number in 0..100_000 {
            let call = frame(0x81, format!(r#"[2,"{number}","DataTransfer",{{}}]"#).as_bytes());
            if slow.write_all(&call).await.is_err() {
                break;
            }
        }
        // Not closed before the gateway closes it, however much fits into the kernel's buffers.
        slow
    });
    let mut other = world.station("other").await;
    until("the slow one is gone", || world.metric("connections_closed_total{cause=\"slow\"}") >= 1.0).await;
    assert_eq!(other.ask(r#"[2,"1","Heartbeat",{}]"#).await, r#"[3,"1",{}]"#);
    drop(within("the flood ends", flood).await.unwrap());
}

#[tokio::test]
async fn c10_a_flood_of_calls_is_answered_in_order() {
    let world = World::start(|_| {}).await;
    let _processing = world.obliging().await;
    let mut station = world.station("A").await;
    for number in 0..500 {
        station.send(&format!(r#"[2,"{number}","Heartbeat",{{}}]"#)).await;
    }
    for number in 0..500 {
        assert_eq!(station.receive().await, format!(r#"[3,"{number}",{{}}]"#));
    }
}

#[tokio::test]
async fn a_large_message_goes_through_and_the_next_ones_too() {
    let world = World::start(|_| {}).await;
    let processing = world.obliging().await;
    let mut station = Station::connect(&world.url("/ocpp/A"), &["ocpp1.6"], &[]).await.unwrap();
    for number in 0..3 {
        let data = "x".repeat(900_000);
        let text = format!(r#"[2,"large {number}","DataTransfer",{{"data":"{data}"}}]"#);
        assert_eq!(station.ask(&text).await, format!(r#"[3,"large {number}",{{}}]"#));
        assert_eq!(
            station.ask(&format!(r#"[2,"small {number}","Heartbeat",{{}}]"#)).await,
            format!(r#"[3,"small {number}",{{}}]"#)
        );
    }
    assert_eq!(processing.count(), 6);
}
