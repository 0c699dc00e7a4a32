//! What is never answered: SEND and CALLRESULTERROR of 2.1 (F16, C12).

use crate::support::{Heard, Reply, World, answer, id, until, within};
use bytes::Bytes;
use switchboard_bus::{Address, Bus as _, Envelope, Kind, Metadata, Topic};
use switchboard_rpc::ErrorCode;

const HEARTBEAT: &str = r#"[2,"1","Heartbeat",{}]"#;
const SEND: &str = r#"[6,"s","NotifyPeriodicEventStream",{"id":1}]"#;

/// As a worker acknowledges a SEND.
fn acknowledge(world: &World, send: &Envelope) {
    answer(&world.bus, send, String::new(), None);
}

#[tokio::test]
async fn f16_a_send_goes_to_processing_until_it_is_acknowledged_and_is_never_answered() {
    let world = World::start(|_| {}).await;
    // Even where processing answers it, the station hears nothing.
    let processing = world.obliging().await;
    let mut station = world.station_with("A", "ocpp2.1").await;
    station.send(SEND).await;
    assert_eq!(station.ask(HEARTBEAT).await, r#"[3,"1",{}]"#);
    let send = processing.call(0);
    assert_eq!((send.metadata.kind, send.metadata.seq, send.metadata.attempt), (Kind::Send, Some(1), 1));
    assert_eq!(send.body, SEND);
    // An answer with a frame is no acknowledgement.
    until("it goes again", || processing.count() == 3).await;
    let again = processing.call(2);
    assert_eq!((again.metadata.seq, again.metadata.attempt, &again.body), (Some(1), 2, &send.body));
    acknowledge(&world, &again);
    assert_eq!(station.ask(r#"[2,"2","Heartbeat",{}]"#).await, r#"[3,"2",{}]"#);
    let late = world.metric("answers_late_total");
    acknowledge(&world, &again);
    until("the second one is late", || world.metric("answers_late_total") > late).await;
}

#[tokio::test]
async fn f16_a_send_waits_for_processing_to_come_and_not_for_the_call_beside_it() {
    let world = World::start(|_| {}).await;
    let mut station = world.station_with("A", "ocpp2.1").await;
    station.send(HEARTBEAT).await;
    station.send(SEND).await;
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let bus = world.bus.clone();
    let processing = world
        .processing(move |envelope| match envelope.metadata.kind {
            Kind::Send => {
                answer(&bus, envelope, String::new(), None);
                Reply::Nothing
            }
            _ => Reply::payload("{}"),
        })
        .await;
    assert_eq!(station.receive().await, r#"[3,"1",{}]"#);
    until("the SEND came too", || processing.bodies().iter().any(|body| body == SEND)).await;
    let count = processing.count();
    assert_eq!(station.ask(r#"[2,"2","Heartbeat",{}]"#).await, r#"[3,"2",{}]"#);
    assert_eq!(processing.count(), count + 1, "acknowledged, it does not come again");
    assert_eq!(world.metric("sends_lost_total"), 0.0);
}

#[tokio::test]
async fn f16_s01_a_send_that_a_frozen_worker_was_given_goes_to_one_that_is_heard() {
    let world = World::start(|config| config.beat = std::time::Duration::from_millis(100)).await;
    let frozen = world.processing(|_| Reply::Nothing).await;
    let (living, _beating) = world.living().await;
    let mut station = world.station_with("A", "ocpp2.1").await;
    station.send(SEND).await;
    until("it comes to the one that lives", || living.count() > 0).await;
    let (first, second) = (frozen.call(0), living.call(0));
    assert_eq!((first.metadata.kind, first.metadata.attempt), (Kind::Send, 1));
    assert_eq!((second.metadata.kind, second.metadata.attempt % 2), (Kind::Send, 0), "all have their turns");
    assert_eq!((second.metadata.seq, &second.body), (first.metadata.seq, &first.body));
    acknowledge(&world, &second);
    assert_eq!(world.metric("sends_lost_total"), 0.0);
}

#[tokio::test]
async fn f16_a_result_error_is_counted_and_told_and_completes_nothing() {
    let world = World::start(|_| {}).await;
    let _processing = world.obliging().await;
    let heard = Heard::on(&world.bus, Topic::Events).await;
    let mut station = world.station_with("A", "ocpp2.1").await;
    assert_eq!(station.ask(HEARTBEAT).await, r#"[3,"1",{}]"#);
    station.send(r#"[5,"1","FormatViolation","no \"currentTime\"",{}]"#).await;
    assert_eq!(station.ask(r#"[2,"2","Heartbeat",{}]"#).await, r#"[3,"2",{}]"#);
    let told = heard.all().into_iter().find(|event| event.body.starts_with(br#"{"event":"result-error""#));
    let body = Bytes::from_static(
        br#"{"event":"result-error","id":"1","code":"FormatViolation","description":"no \"currentTime\""}"#,
    );
    assert_eq!(told.map(|event| event.body), Some(body));
    assert_eq!(world.metric("result_errors_received_total"), 1.0);
    // 1.6 and 2.0.1 have no such message.
    let mut older = world.station_with("B", "ocpp2.0.1").await;
    let refused = older.ask(r#"[5,"1","GenericError","",{}]"#).await;
    assert!(refused.contains("MessageTypeNotSupported"), "{refused}");
}

#[tokio::test]
async fn c12_a_result_error_of_processing_reaches_its_connection_and_no_other() {
    let world = World::start(|_| {}).await;
    let processing = world.obliging().await;
    let mut station = world.station_with("A", "ocpp2.1").await;
    assert_eq!(station.ask(HEARTBEAT).await, r#"[3,"1",{}]"#);
    let call = processing.call(0).metadata;
    let connection = call.connection.clone().unwrap();
    let tell = |generation: u64, text: &'static str| {
        let mut metadata = Metadata::new(Kind::ResultError);
        metadata.station = Some(id("A"));
        metadata.connection = Some(switchboard_bus::ConnectionKey { generation, ..connection.clone() });
        let envelope = Envelope::new(metadata, Bytes::from_static(text.as_bytes()));
        drop(world.bus.publish(Address::Inbox(call.reply_to.clone().unwrap()), envelope));
    };
    tell(connection.generation - 1, r#"[5,"of another","FormatViolation","",{}]"#);
    tell(connection.generation, r#"[4,"no such frame","FormatViolation","",{}]"#);
    tell(connection.generation, r#"[5,"of this","FormatViolation","",{}]"#);
    assert_eq!(station.receive().await, r#"[5,"of this","FormatViolation","",{}]"#);
}

#[tokio::test]
async fn c12_an_answer_that_its_receiver_cannot_read_gets_a_result_error_in_2_1_only() {
    let world = World::start(|_| {}).await;
    let _processing = world.obliging().await;
    let commander = world.commander().await.judging(|_, action, payload| {
        let fit = action != "Reset" || payload != b"{}";
        (!fit).then(|| (ErrorCode::OccurrenceConstraintViolation, "/status: expected a text".to_owned()))
    });
    for (protocol, answer, objection) in [
        ("ocpp2.1", "{}", Some(r#""OccurrenceConstraintViolation","/status: expected a text",{}]"#)),
        ("ocpp2.1", r#"{"status":"Accepted"}"#, None),
        ("ocpp2.0.1", "{}", None),
    ] {
        let mut station = world.station_with("A", protocol).await;
        assert_eq!(station.ask(HEARTBEAT).await, r#"[3,"1",{}]"#);
        let asking = tokio::spawn({
            let commander = commander.clone();
            async move {
                let options = switchboard_bus::command::Options::default();
                commander.command(&"default".into(), &id("A"), "Reset", Bytes::new(), options).await
            }
        });
        let command = station.receive().await;
        let id = command.split(',').nth(1).unwrap().to_owned();
        station.send(&format!("[3,{id},{answer}]")).await;
        if let Some(objection) = objection {
            assert_eq!(station.receive().await, format!("[5,{id},{objection}"));
        }
        // It was answered, whatever that is worth; and nothing else was written.
        let outcome = within("its outcome", asking).await.unwrap().unwrap();
        assert_eq!(outcome, switchboard_bus::command::Outcome::Answered(answer.into()));
        assert_eq!(station.ask(r#"[2,"2","Heartbeat",{}]"#).await, r#"[3,"2",{}]"#);
        station.close().await;
        until("it is gone", || world.gateway.connections() == 0).await;
    }
}
