//! Compression on real sockets (H14): what is agreed, what goes over the line, and what a bomb costs.

use crate::support::{Reply, World, key, within};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use switchboard_directory::Directory as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const GRANTED: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// A raw upgrade with these offers; the socket, and what the 101 says of extensions.
async fn offered(world: &World, station: &str, offers: &[&str]) -> (TcpStream, Option<String>) {
    let mut headers = "Sec-WebSocket-Protocol: ocpp1.6\r\n".to_owned();
    for offer in offers {
        headers += &format!("Sec-WebSocket-Extensions: {offer}\r\n");
    }
    let (answer, socket) = world.upgrade(&format!("/ocpp/{station}"), &headers).await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    let line = answer.lines().find(|line| line.to_ascii_lowercase().starts_with("sec-websocket-extensions:"));
    (socket, line.map(|line| line.split_once(':').unwrap().1.trim().to_owned()))
}

async fn compressed(world: &World, station: &str) -> TcpStream {
    let (socket, granted) = offered(world, station, &["permessage-deflate; client_max_window_bits"]).await;
    assert_eq!(granted.as_deref(), Some(GRANTED));
    socket
}

fn deflate(text: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(text.len() + 100);
    Compress::new(Compression::default(), false)
        .compress_vec(text, &mut payload, FlushCompress::Sync)
        .unwrap();
    payload.truncate(payload.len() - 4);
    payload
}

fn inflate(payload: &[u8]) -> String {
    let mut text = Vec::with_capacity(1 << 20);
    let payload = [payload, &[0, 0, 0xff, 0xff]].concat();
    Decompress::new(false).decompress_vec(&payload, &mut text, FlushDecompress::Sync).unwrap();
    String::from_utf8(text).unwrap()
}

/// A frame of a client, masked with zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first, 0xff];
    frame.extend((payload.len() as u64).to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// The next frame: its first byte and payload.
async fn next(socket: &mut TcpStream) -> (u8, Vec<u8>) {
    within("a frame", async {
        let (first, length) = (socket.read_u8().await.unwrap(), socket.read_u8().await.unwrap());
        let length = if length == 126 { socket.read_u16().await.unwrap() } else { length.into() };
        let mut payload = vec![0; usize::from(length)];
        socket.read_exact(&mut payload).await.unwrap();
        (first, payload)
    })
    .await
}

async fn closes_with(socket: &mut TcpStream) -> (u16, String) {
    let (first, payload) = next(socket).await;
    assert_eq!(first, 0x88, "a close frame: {payload:?}");
    (u16::from_be_bytes([payload[0], payload[1]]), String::from_utf8_lossy(&payload[2..]).into_owned())
}

#[tokio::test]
async fn h14_compression_is_agreed_where_it_is_offered_and_wanted() {
    let world = World::start(|config| config.compression_refused = vec!["OLD-*".to_owned()]).await;
    for (station, offers, expected) in [
        ("A", &[][..], None),
        ("A", &["permessage-deflate"], Some(GRANTED.to_owned())),
        (
            "A",
            &["foo, permessage-deflate; x", "permessage-deflate; server_max_window_bits=\"10\""],
            Some(format!("{GRANTED}; server_max_window_bits=10")),
        ),
        ("A", &["permessage-deflate; server_max_window_bits=99, \"\";;=,"], None),
        ("OLD-1", &["permessage-deflate"], None),
    ] {
        let (_, granted) = offered(&world, station, offers).await;
        assert_eq!(granted, expected, "{station} {offers:?}");
    }
    let world = World::start(|config| config.compression = false).await;
    assert_eq!(offered(&world, "A", &["permessage-deflate"]).await.1, None);
}

#[tokio::test]
async fn h14_calls_and_answers_are_compressed_if_they_are_large() {
    let world = World::start(|_| {}).await;
    let large = format!(r#"{{"data":"{}"}}"#, "0123456789".repeat(100));
    let answer = large.clone();
    let processing = world
        .processing(move |call| Reply::payload(if call.body.len() > 100 { &answer } else { "{}" }))
        .await;
    let mut socket = compressed(&world, "A").await;
    let small = r#"[2,"1","Heartbeat",{}]"#;
    let call = format!(r#"[2,"2","DataTransfer",{large}]"#);
    socket.write_all(&frame(0xc1, &deflate(small.as_bytes()))).await.unwrap();
    assert_eq!(next(&mut socket).await, (0x81, br#"[3,"1",{}]"#.to_vec()), "too small");
    // Again, and again: no window is kept.
    for _ in 0..3 {
        socket.write_all(&frame(0xc1, &deflate(call.as_bytes()))).await.unwrap();
        let (first, payload) = next(&mut socket).await;
        assert_eq!((first, inflate(&payload)), (0xc1, format!(r#"[3,"2",{large}]"#)));
    }
    assert_eq!((processing.bodies()[0].as_str(), &processing.bodies()[3]), (small, &call));
    assert_eq!(world.metric("connections_compressed "), 1.0);
    let record = world.directory.station(&key("A"), 0).await.unwrap().unwrap();
    assert!(record.location.unwrap().compressed);
    let wire = deflate(small.as_bytes()).len() + 3 * deflate(call.as_bytes()).len();
    assert_eq!(world.metric("received_compressed_bytes_total "), wire as f64);
    assert_eq!(world.metric("received_inflated_bytes_total "), (small.len() + 3 * call.len()) as f64);
    assert_eq!(world.metric("sent_uncompressed_bytes_total "), (3 * (large.len() + 8)) as f64);
    let sent = world.metric("sent_compressed_bytes_total ");
    assert!((1.0..300.0).contains(&sent), "{sent}");
    drop(socket);
    crate::support::until("the end is counted", || world.metric("connections_compressed ") == 0.0).await;
}

#[tokio::test]
async fn h14_a_peer_that_keeps_its_window_is_told_so() {
    let world = World::start(|_| {}).await;
    let _processing = world.obliging().await;
    let mut socket = compressed(&world, "A").await;
    let mut state = Compress::new(Compression::default(), false);
    for id in 1..=2 {
        let text = format!(r#"[2,"{id}","DataTransfer",{{"vendorId":"the very same thing as before"}}]"#);
        let mut payload = Vec::with_capacity(1000);
        state.compress_vec(text.as_bytes(), &mut payload, FlushCompress::Sync).unwrap();
        payload.truncate(payload.len() - 4);
        socket.write_all(&frame(0xc1, &payload)).await.unwrap();
        if id == 1 {
            assert_eq!(next(&mut socket).await.1, br#"[3,"1",{}]"#);
        }
    }
    let (code, reason) = closes_with(&mut socket).await;
    assert_eq!(code, 1007);
    assert!(reason.contains("decompressed"), "{reason}");
    assert_eq!(world.metric("compressed_messages_refused_total{refused=\"invalid\"}"), 1.0);
}

#[tokio::test]
async fn f10_h14_a_gibibyte_in_a_megabyte_is_closed_with_1009() {
    let world = World::start(|_| {}).await;
    let _processing = world.obliging().await;
    // A mebibyte of blanks that refers to nothing before it, a thousand times.
    let mut mebibyte = Vec::with_capacity(1 << 20);
    Compress::new(Compression::best(), false)
        .compress_vec(&vec![b' '; 1 << 20], &mut mebibyte, FlushCompress::Full)
        .unwrap();
    let bomb = mebibyte.repeat(1024);
    assert!(bomb.len() < 1_100_000, "{}", bomb.len());
    let mut socket = compressed(&world, "A").await;
    socket.write_all(&frame(0xc1, &bomb)).await.unwrap();
    assert_eq!(closes_with(&mut socket).await, (1009, "message too big after decompression".to_owned()));

    let mut socket = compressed(&world, "B").await;
    for (index, part) in bomb.chunks(100_000).enumerate() {
        let last = if index == bomb.len() / 100_000 { 0x80 } else { 0 };
        socket.write_all(&frame(if index == 0 { 0x41 } else { last }, part)).await.unwrap();
        socket.write_all(&frame(0x89, b"")).await.unwrap();
    }
    loop {
        let (first, payload) = next(&mut socket).await;
        if first != 0x8a {
            assert_eq!((first, &payload[..2]), (0x88, &1009_u16.to_be_bytes()[..]));
            break;
        }
    }
    assert_eq!(world.metric("compressed_messages_refused_total{refused=\"too-big\"}"), 2.0);
    assert_eq!(world.metric("frames_bad_total "), 2.0);
    assert_eq!(world.metric("received_inflated_bytes_total "), 0.0);
    world.station("C").await.ask(r#"[2,"1","Heartbeat",{}]"#).await;
}
