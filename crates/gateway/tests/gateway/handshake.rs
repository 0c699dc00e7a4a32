//! Who is let in, and what the others are told (H01–H16).

use crate::support::{Station, World, basic, until, within};
use std::time::Duration;
use switchboard_gateway::{NoCommonVersion, UnknownStations};
use switchboard_rpc::Version;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const OCPP16: &str = "Sec-WebSocket-Protocol: ocpp1.6\r\n";

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    answer.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

#[tokio::test]
async fn h01_h02_h05_every_version_on_one_port_by_the_stations_preference() {
    let world = World::start(|_| {}).await;
    for (path, offered, expected) in [
        ("/ocpp/A", &["ocpp1.6"][..], "ocpp1.6"),
        ("/ocpp/B", &["ocpp2.0.1"], "ocpp2.0.1"),
        ("/ocpp/C", &["ocpp2.1"], "ocpp2.1"),
        ("/ocpp/D", &["ocpp1.5", "ocpp2.0.1", "ocpp1.6"], "ocpp2.0.1"),
        ("/ocpp/2.0.1/E", &["ocpp1.6"], "ocpp1.6"),
    ] {
        let station = Station::connect(&world.url(path), offered, &[]).await.unwrap();
        assert_eq!(station.protocol.as_deref(), Some(expected), "{path}");
    }
    let repeated = "Sec-WebSocket-Protocol: ocpp2.1\r\nSec-WebSocket-Protocol: ocpp1.6\r\n";
    let (answer, _socket) = world.upgrade("/ocpp/F", repeated).await;
    assert_eq!(header(&answer, "sec-websocket-protocol"), Some("ocpp2.1"), "{answer}");
    assert_eq!(header(&answer, "sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
}

#[tokio::test]
async fn h02_a_version_that_is_off_is_passed_over() {
    let world = World::start(|config| config.versions = vec![Version::V16]).await;
    let station = Station::connect(&world.url("/ocpp/A"), &["ocpp2.1", "ocpp1.6"], &[]).await.unwrap();
    assert_eq!(station.protocol.as_deref(), Some("ocpp1.6"));
}

#[tokio::test]
async fn h03_no_common_version_is_refused_with_400() {
    let world = World::start(|_| {}).await;
    for headers in ["", "Sec-WebSocket-Protocol: OCPP1.6\r\n", "Sec-WebSocket-Protocol: ocpp1.6j, mqtt\r\n"] {
        let (answer, mut socket) = world.upgrade("/ocpp/A", headers).await;
        assert_eq!(status(&answer), 400, "{headers:?}");
        let mut body = String::new();
        within("the body", socket.read_to_string(&mut body)).await.unwrap();
        assert!(body.contains("ocpp2.0.1"), "it says what is spoken: {body}");
    }
}

#[tokio::test]
async fn h03_no_common_version_is_accepted_and_closed_if_the_operator_says_so() {
    let world = World::start(|config| config.no_common_version = NoCommonVersion::AcceptThenClose).await;
    let (answer, mut socket) = world.upgrade("/ocpp/A", "Sec-WebSocket-Protocol: ocpp1.5\r\n").await;
    assert_eq!(status(&answer), 101);
    assert_eq!(header(&answer, "sec-websocket-protocol"), None);
    let mut frame = [0; 4];
    within("a close frame", socket.read_exact(&mut frame)).await.unwrap();
    assert_eq!((frame[0], u16::from_be_bytes([frame[2], frame[3]])), (0x88, 1002));
    assert_eq!(world.gateway.connections(), 0);
}

#[tokio::test]
async fn h04_a_version_is_assumed_only_if_the_operator_says_so_and_then_not_named() {
    let world = World::start(|config| config.assume_version = Some(Version::V16)).await;
    let (answer, _socket) = world.upgrade("/ocpp/A", "").await;
    assert_eq!((status(&answer), header(&answer, "sec-websocket-protocol")), (101, None));
}

#[tokio::test]
async fn h06_an_unknown_identity_gets_404_or_401_and_404_is_never_a_failed_look_up() {
    let world = World::start(|config| config.unknown_stations = UnknownStations::Reject).await;
    let (answer, _) = world.upgrade("/ocpp/A", OCPP16).await;
    assert_eq!(status(&answer), 404);
    world.directory.fails(true);
    let (answer, _) = world.upgrade("/ocpp/A", OCPP16).await;
    assert_eq!(status(&answer), 503, "{answer}");
    assert!(header(&answer, "retry-after").is_some());

    let world = World::start(|config| {
        config.unknown_stations = UnknownStations::Reject;
        config.hide_unknown = true;
    })
    .await;
    let (answer, _) = world.upgrade("/ocpp/A", OCPP16).await;
    assert_eq!(status(&answer), 401);
}

#[tokio::test]
async fn h07_h08_h09_credentials_decide_before_the_upgrade() {
    let world = World::start(|_| {}).await;
    world.register("CP1", Some(b"se:cr\xffet\0")).await;
    world.register("CP2", Some(b"30313233343536373839616263646566")).await;
    world.register("CP3", None).await;
    for (name, path, credentials, expected) in [
        ("missing", "CP1", None, 401),
        ("wrong", "CP1", Some(basic("CP1", b"secret")), 401),
        ("another user", "CP1", Some(basic("CP2", b"se:cr\xffet\0")), 401),
        ("another user of another case", "CP1", Some(basic("cp1", b"se:cr\xffet\0")), 401),
        ("empty", "CP1", Some(basic("CP1", b"")), 401),
        ("right", "CP1", Some(basic("CP1", b"se:cr\xffet\0")), 101),
        ("right again", "CP1", Some(basic("CP1", b"se:cr\xffet\0")), 101),
        ("hexadecimal as text", "CP2", Some(basic("CP2", b"30313233343536373839616263646566")), 101),
        ("hexadecimal as bytes", "CP2", Some(basic("CP2", b"0123456789abcdef")), 101),
        ("no password asked", "CP3", None, 101),
        ("another user where no password is asked", "CP3", Some(basic("CP1", b"x")), 401),
        ("its own user where no password is asked", "CP3", Some(basic("CP3", b"x")), 101),
        ("unknown ones are accepted here", "CP4", None, 101),
        ("unknown, with another user", "CP4", Some(basic("CP1", b"x")), 401),
        ("unknown, with its own user", "CP4", Some(basic("CP4", b"x")), 101),
    ] {
        let authorization =
            credentials.map(|credentials| format!("Authorization: {credentials}\r\n")).unwrap_or_default();
        let (answer, _socket) = world.upgrade(&format!("/ocpp/{path}"), &(authorization + OCPP16)).await;
        assert_eq!(status(&answer), expected, "{name}");
        if expected == 401 {
            assert_eq!(header(&answer, "www-authenticate"), Some("Basic realm=\"OCPP\""), "{name}");
        }
    }
}

#[tokio::test]
async fn h10_h11_h12_the_identity_is_the_last_segment() {
    let world = World::start(|_| {}).await;
    let processing = world.obliging().await;
    for (path, expected) in [
        ("/ocpp/RDAM%7C123", Ok("RDAM|123")),
        ("/ocpp/CP%201/", Ok("CP 1")),
        ("/ocpp/CP2?station=CP3", Ok("CP2")),
        ("/ocpp/a%2Fb", Err(400)),
        ("/ocpp/%FF", Err(400)),
        ("/ocpp/", Err(400)),
        ("/elsewhere/CP1", Err(404)),
    ] {
        match (Station::connect(&world.url(path), &["ocpp1.6"], &[]).await, expected) {
            (Ok(mut station), Ok(identity)) => {
                let before = processing.count();
                station.ask(r#"[2,"1","Heartbeat",{}]"#).await;
                assert_eq!(processing.call(before).metadata.station.unwrap().as_str(), identity, "{path}");
            }
            (Err(status), Err(expected)) => assert_eq!(status, expected, "{path}"),
            (Ok(_), Err(expected)) => panic!("{path} was let in instead of {expected}"),
            (Err(status), Ok(_)) => panic!("{path}: {status}"),
        }
    }
}

#[tokio::test]
async fn h13_an_origin_shuts_nobody_out() {
    let world = World::start(|_| {}).await;
    let origin = [("origin", "https://elsewhere.example")];
    assert!(Station::connect(&world.url("/ocpp/A"), &["ocpp1.6"], &origin).await.is_ok());
}

#[tokio::test]
async fn h15_what_is_no_upgrade_is_told_so_in_one_sentence_and_there_is_nothing_else_here() {
    let world = World::start(|_| {}).await;
    for path in ["/", "/ocpp/CP1", "/healthz", "/metrics", "/readyz"] {
        let answer = world.exchange(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await;
        assert_eq!(status(&answer), 426, "{path}");
        assert_eq!(header(&answer, "sec-websocket-version"), Some("13"), "{path}");
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        assert!(body.trim_end().ends_with('.') && body.trim_end().lines().count() == 1, "{body:?}");
    }
    let post = b"POST /ocpp/CP1 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(status(&world.exchange(post).await), 426);
    assert_eq!(status(&world.exchange(b"nonsense\r\n\r\n").await), 400);
}

#[tokio::test]
async fn h16_whoever_comes_too_much_is_told_when_to_come_back() {
    let world = World::start(|config| config.connections_per_address_max = 1).await;
    let first = world.station("A").await;
    let (answer, _) = world.upgrade("/ocpp/B", OCPP16).await;
    assert_eq!(status(&answer), 429);
    let after: u64 = header(&answer, "retry-after").unwrap().parse().unwrap();
    assert!((5..=15).contains(&after), "{after}");
    first.close().await;
    until("the place is free", || world.gateway.connections() == 0).await;
    within("the place is given back", async {
        while status(&world.upgrade("/ocpp/B", OCPP16).await.0) != 101 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;

    let world = World::start(|config| config.accept_rate = 1).await;
    let mut statuses = Vec::new();
    for station in ["A", "B", "C"] {
        statuses.push(status(&world.upgrade(&format!("/ocpp/{station}"), OCPP16).await.0));
    }
    assert!(statuses.contains(&101) && statuses.contains(&503), "{statuses:?}");

    let world = World::start(|config| config.connections_max = 0).await;
    assert_eq!(status(&world.upgrade("/ocpp/A", OCPP16).await.0), 503);
}

#[tokio::test]
async fn a_client_that_never_ends_its_request_is_left() {
    let world = World::start(|config| config.handshake_timeout = Duration::from_millis(300)).await;
    let mut socket = TcpStream::connect(world.address).await.unwrap();
    socket.write_all(b"GET /ocpp/CP1 HTTP/1.1\r\nHost: x\r\nX-Slow: ").await.unwrap();
    let mut rest = Vec::new();
    // Closed or reset, whichever comes first.
    drop(within("the end", socket.read_to_end(&mut rest)).await);
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"), "{rest:?}");
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let world = World::start(|_| {}).await;
    let mut socket = TcpStream::connect(world.address).await.unwrap();
    let line = format!("X-Long: {}\r\n", "x".repeat(1000));
    let mut written = socket.write_all(b"GET /ocpp/CP1 HTTP/1.1\r\nHost: x\r\n").await;
    for _ in 0..1000 {
        if written.is_ok() {
            written = socket.write_all(line.as_bytes()).await;
        }
    }
    let mut answer = Vec::new();
    drop(within("the end", socket.read_to_end(&mut answer)).await);
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || status(&answer) == 431, "{answer}");
    drop(world.station("CP1").await);
}

#[tokio::test]
async fn frames_that_come_with_the_request_are_not_lost() {
    let world = World::start(|_| {}).await;
    let _processing = world.obliging().await;
    let text = br#"[2,"1","Heartbeat",{}]"#;
    let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).unwrap(), 0, 0, 0, 0];
    frame.extend(text);
    let (answer, mut socket) = world.upgrade_with("/ocpp/A", OCPP16, &frame).await;
    assert_eq!(status(&answer), 101);
    let mut head = [0; 2];
    within("an answer", socket.read_exact(&mut head)).await.unwrap();
    let mut text = vec![0; usize::from(head[1])];
    within("an answer", socket.read_exact(&mut text)).await.unwrap();
    assert_eq!(text, br#"[3,"1",{}]"#);
}
