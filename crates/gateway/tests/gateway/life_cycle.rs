//! From the first to the last word of a connection (L01–L07).

use crate::moody::Moody;
use crate::support::{Heard, Reply, Station, World, key, until, within};
use bytestring::ByteString;
use std::{sync::Arc, time::Duration};
use switchboard_bus::{InProcess, Kind, Outcome, Registration, Topic, command::Options};
use switchboard_directory::Directory as _;
use tokio_tungstenite::tungstenite::Message;

const HEARTBEAT: &str = r#"[2,"1","Heartbeat",{}]"#;

fn tenant() -> ByteString {
    ByteString::from_static("default")
}

#[tokio::test]
async fn l01_the_newest_connection_wins_and_the_old_ones_calls_end_first() {
    let world = World::start(|config| config.flapping_alarm = 2).await;
    let _processing = world.obliging().await;
    let commander = world.commander().await;
    let mut old = world.station("A").await;
    old.ask(HEARTBEAT).await;
    let waiting = tokio::spawn({
        let commander = commander.clone();
        async move {
            let id = crate::support::id("A");
            commander.command(&tenant(), &id, "Reset", r#"{"type":"Soft"}"#, Options::default()).await
        }
    });
    assert!(old.receive().await.contains("Reset"));
    let mut new = world.station("A").await;
    let (code, reason) = old.closed().await.unwrap();
    assert_eq!(code, 1008);
    assert!(reason.contains("newer"), "{reason}");
    // It had been written, and nobody knows what the station did.
    assert_eq!(within("an outcome", waiting).await.unwrap().unwrap(), Outcome::Unknown);
    until("the old one is gone", || world.metric("connections_closed_total{cause=\"replaced\"}") >= 1.0)
        .await;
    // Its late end took nothing from its successor.
    assert_eq!(world.gateway.connections(), 1);
    assert!(
        world.directory.locate(&key("A"), i64::MAX / 2).await.unwrap().is_none(),
        "no lease lasts so long"
    );
    assert_eq!(new.ask(HEARTBEAT).await, r#"[3,"1",{}]"#);
    let ask = tokio::spawn(async move {
        let id = crate::support::id("A");
        commander.command(&tenant(), &id, "ClearCache", "{}", Options::default()).await
    });
    let call = new.receive().await;
    let id = call.split('"').nth(1).unwrap().to_owned();
    new.send(&format!(r#"[3,"{id}",{{"status":"Accepted"}}]"#)).await;
    assert!(matches!(within("an outcome", ask).await.unwrap().unwrap(), Outcome::Answered(_)));
    let _third = world.station("A").await;
    until("the alarm", || world.metric("stations_flapping_total") >= 1.0).await;
    assert_eq!(world.metric("connections_replaced_total"), 2.0);
}

#[tokio::test]
async fn l01_the_newest_connection_wins_at_another_gateway_too() {
    let (bus, directory) = (InProcess::new(), Arc::new(Moody::new()));
    let one = World::start_on(bus.clone(), Arc::clone(&directory), |_| {}).await;
    let two = World::start_on(bus, directory, |_| {}).await;
    let mut old = one.station("A").await;
    let _new = two.station("A").await;
    assert_eq!(old.closed().await.unwrap().0, 1008);
    until("the old one is gone", || one.gateway.connections() == 0).await;
    assert_eq!(two.gateway.connections(), 1);
}

#[tokio::test]
async fn l01_keep_old_protects_identities_that_need_no_credentials() {
    let world = World::start(|config| config.keep_old = true).await;
    world.register("B", Some(b"secret")).await;
    let authorization = crate::support::basic("B", b"secret");
    let url = world.url("/ocpp/B");
    let credentials = [("authorization", authorization.as_str())];
    let mut first = world.station("A").await;
    assert_eq!(Station::connect(&world.url("/ocpp/A"), &["ocpp1.6"], &[]).await.err(), Some(409));
    let mut old = Station::connect(&url, &["ocpp1.6"], &credentials).await.unwrap();
    let _new = Station::connect(&url, &["ocpp1.6"], &credentials).await.unwrap();
    assert_eq!(old.closed().await.unwrap().0, 1008);
    first.send_message(Message::Ping(Vec::new().into())).await;
    assert!(matches!(first.receive_message().await, Message::Pong(_)));
}

#[tokio::test]
async fn l02_stations_are_pinged_and_a_silent_one_is_closed() {
    let world = World::start(|config| {
        config.ping_interval = Duration::from_millis(50);
        config.silence_max = Duration::from_millis(600);
    })
    .await;
    let mut station = world.station("A").await;
    assert!(matches!(station.receive_message().await, Message::Ping(_)));
    // This one never answers: its socket is not read.
    let (_, _silent) = world.upgrade("/ocpp/B", "Sec-WebSocket-Protocol: ocpp1.6\r\n").await;
    tokio::select! {
        // Reading answers the pings.
        end = station.closed() => panic!("{end:?}"),
        () = until("the silent one is gone", || {
            world.metric("connections_closed_total{cause=\"silent\"}") >= 1.0
        }) => {}
    }
    assert_eq!(world.gateway.connections(), 1);
}

#[tokio::test]
async fn l02_a_station_without_pongs_is_borne_unless_pongs_are_required() {
    for require_pong in [false, true] {
        let world = World::start(|config| {
            config.ping_interval = Duration::from_millis(40);
            config.require_pong = require_pong;
        })
        .await;
        let _processing = world.obliging().await;
        let (_, mut socket) = world.upgrade("/ocpp/A", "Sec-WebSocket-Protocol: ocpp1.6\r\n").await;
        let mut call = vec![0x81, 0x80 | 22, 0, 0, 0, 0];
        call.extend(HEARTBEAT.as_bytes());
        // Frames of all kinds but pongs, for ten intervals.
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            drop(tokio::io::AsyncWriteExt::write_all(&mut socket, &call).await);
        }
        if require_pong {
            until("it is gone", || world.gateway.connections() == 0).await;
        } else {
            assert_eq!(world.gateway.connections(), 1);
        }
    }
}

#[tokio::test]
async fn l03_connected_and_disconnected_frame_the_messages_of_a_connection() {
    let world = World::start(|_| {}).await;
    let events = Heard::on(&world.bus, Topic::Events).await;
    let processing = world.obliging().await;
    let mut station = world.station("A").await;
    until("it is told", || events.all().len() == 1).await;
    assert_eq!(processing.count(), 0);
    station.ask(HEARTBEAT).await;
    let close = tokio_tungstenite::tungstenite::protocol::CloseFrame { code: 4000.into(), reason: "".into() };
    station.send_message(Message::Close(Some(close))).await;
    assert_eq!(station.closed().await.unwrap().0, 4000, "the close is answered");
    until("it is told", || events.all().len() == 2).await;
    let mut station = world.station("A").await;
    station.ask(HEARTBEAT).await;
    drop(station);
    until("it is told", || events.all().len() == 4).await;
    let events = events.all();
    let told: Vec<_> = events
        .iter()
        .map(|event| {
            assert_eq!(event.metadata.kind, Kind::Event);
            assert_eq!(event.metadata.station.as_ref().unwrap().as_str(), "A");
            std::str::from_utf8(&event.body).unwrap()
        })
        .collect();
    assert_eq!(told[0], r#"{"event":"connected"}"#);
    assert_eq!(told[1], r#"{"event":"disconnected","reason":"the station closed","closeCode":4000}"#);
    assert_eq!(told[2], told[0]);
    assert_eq!(
        told[3],
        r#"{"event":"disconnected","reason":"the network connection was lost","closeCode":null}"#
    );
    let generation = |index: usize| events[index].metadata.connection.as_ref().unwrap().generation;
    assert!(generation(0) == generation(1) && generation(1) < generation(2));
    assert_eq!(processing.call(0).metadata.connection.unwrap().generation, generation(0));
}

#[tokio::test]
async fn l04_at_a_disconnect_the_written_command_is_unknown_and_the_others_are_not_sent() {
    let world = World::start(|_| {}).await;
    let _processing = world.obliging().await;
    let commander = world.commander().await;
    let mut station = world.station("A").await;
    station.ask(HEARTBEAT).await;
    let send = |action: &'static str| {
        let commander = commander.clone();
        tokio::spawn(async move {
            let id = crate::support::id("A");
            commander.command(&tenant(), &id, action, "{}", Options::default()).await.unwrap()
        })
    };
    let first = send("ClearCache");
    assert!(station.receive().await.contains("ClearCache"));
    let second = send("GetLocalListVersion");
    // A command is in the connection's hands once a later urgent one can be refused or queued behind it; here it is
    // enough that the second cannot have been written while the first is open.
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(station);
    assert_eq!(within("an outcome", first).await.unwrap(), Outcome::Unknown);
    assert_eq!(within("an outcome", second).await.unwrap(), Outcome::NotSent);
}

#[tokio::test]
async fn l05_a_shutdown_lets_calls_be_answered_refuses_upgrades_and_closes_with_1001() {
    let world = World::start(|config| config.drain_time = Duration::from_millis(300)).await;
    let processing = world.processing(|_| Reply::Nothing).await;
    let mut busy = world.station("busy").await;
    let mut idle = Vec::new();
    for number in 0..20 {
        idle.push(world.station(&format!("idle{number}")).await);
    }
    busy.send(HEARTBEAT).await;
    until("the call is handed over", || processing.count() == 1).await;
    world.stop.cancel();
    for station in &mut idle {
        assert_eq!(station.closed().await.unwrap().0, 1001);
    }
    let (answer, _) = world.upgrade("/ocpp/late", "Sec-WebSocket-Protocol: ocpp1.6\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    let call = processing.call(0);
    crate::support::answer(&world.bus, &call, r#"[3,"1",{"currentTime":"x"}]"#.to_owned(), None);
    assert_eq!(busy.receive().await, r#"[3,"1",{"currentTime":"x"}]"#);
    assert_eq!(busy.closed().await.unwrap().0, 1001);
    let directory = Arc::clone(&world.directory);
    world.end().await;
    assert!(directory.locate(&key("busy"), 0).await.unwrap().is_none());
}

#[tokio::test]
async fn l05_who_does_not_finish_is_left_after_the_grace() {
    let world = World::start(|config| config.drain_grace = Duration::from_millis(200)).await;
    let _processing = world.processing(|_| Reply::Nothing).await;
    let mut busy = world.station("busy").await;
    busy.send(HEARTBEAT).await;
    world.stop.cancel();
    assert_eq!(busy.closed().await.unwrap().0, 1001);
    world.end().await;
}

#[tokio::test]
async fn l06_commands_wait_for_the_first_call_and_the_answer_to_a_boot() {
    let world = World::start(|_| {}).await;
    let processing = world.processing(|_| Reply::Nothing).await;
    let commander = world.commander().await;
    let mut station = world.station("A").await;
    let command = tokio::spawn(async move {
        let id = crate::support::id("A");
        commander.command(&tenant(), &id, "ClearCache", "{}", Options::default()).await.unwrap()
    });
    station.send(r#"[2,"boot","BootNotification",{}]"#).await;
    until("the boot is handed over", || processing.count() == 1).await;
    let call = processing.call(0);
    crate::support::answer(&world.bus, &call, r#"[3,"boot",{}]"#.to_owned(), Some(Registration::Accepted));
    assert_eq!(station.receive().await, r#"[3,"boot",{}]"#);
    let call = station.receive().await;
    let id = call.split('"').nth(1).unwrap().to_owned();
    assert_eq!(id.len(), 36);
    station.send(&format!(r#"[4,"{id}","NotSupported","","{{}}"]"#)).await;
    assert!(matches!(within("an outcome", command).await.unwrap(), Outcome::Refused { .. }));
}

#[tokio::test]
async fn l06_l07_a_registration_limits_commands_and_survives_the_connection() {
    let world = World::start(|_| {}).await;
    let _processing = world
        .processing(|call| {
            let boot = call.metadata.action.as_deref() == Some("BootNotification");
            Reply::Payload("{}".to_owned(), boot.then_some(Registration::Pending))
        })
        .await;
    let commander = world.commander().await;
    let mut station = world.station("A").await;
    station.ask(r#"[2,"1","BootNotification",{}]"#).await;
    within("it is kept", async {
        while world.directory.stations("default", None, 9, 0).await.unwrap()[0].registration.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    drop(station);
    until("it is gone", || world.gateway.connections() == 0).await;
    let mut station = world.station("A").await;
    station.ask(HEARTBEAT).await;
    let id = crate::support::id("A");
    let outcome = commander.command(&tenant(), &id, "ClearCache", "{}", Options::default()).await.unwrap();
    assert_eq!(outcome, Outcome::NotSent);
    let ask = tokio::spawn(async move {
        commander.command(&tenant(), &id, "GetConfiguration", "{}", Options::default()).await.unwrap()
    });
    let call = station.receive().await;
    assert!(call.contains("GetConfiguration"), "{call}");
    let id = call.split('"').nth(1).unwrap();
    station.send(&format!(r#"[3,"{id}",{{}}]"#)).await;
    assert!(matches!(within("an outcome", ask).await.unwrap(), Outcome::Answered(_)));
}
