//! What becomes of calls when processing is late, gone or wrong (S01–S04, S10, C11).

use crate::moody::Moody;
use crate::support::{Processing, Reply, World, answer, id, key, until, within};
use std::{sync::Arc, time::Duration};
use switchboard_bus::{ConnectionKey, InProcess, Kind, Topic};
use switchboard_directory::{Directory as _, JournalEntry};
use switchboard_gateway::BillingDeadline;
use switchboard_rpc::Version;

const HEARTBEAT: &str = r#"[2,"1","Heartbeat",{}]"#;

#[tokio::test]
async fn s01_a_call_waits_for_processing_to_come() {
    let world = World::start(|_| {}).await;
    let mut station = world.station("A").await;
    station.send(HEARTBEAT).await;
    // Long enough for an attempt or two; how many does not matter.
    tokio::time::sleep(Duration::from_millis(120)).await;
    let processing = world.obliging().await;
    assert_eq!(station.receive().await, r#"[3,"1",{}]"#);
    let call = processing.call(0).metadata;
    assert!(call.attempt > 1, "{}", call.attempt);
    assert!(call.remaining.unwrap() < Duration::from_secs(25));
}

#[tokio::test]
async fn s01_a_call_that_a_dead_worker_took_is_handed_over_again() {
    let world = World::start(|config| config.patience_min = Duration::from_millis(100)).await;
    let dead = world.processing(|_| Reply::Nothing).await;
    let mut station = world.station("A").await;
    station.send(HEARTBEAT).await;
    until("it is taken", || dead.count() == 1).await;
    let first = dead.call(0);
    drop(dead);
    let processing = world.obliging().await;
    assert_eq!(station.receive().await, r#"[3,"1",{}]"#);
    let second = processing.call(0);
    assert_eq!(second.metadata.attempt, 2);
    assert_eq!((second.metadata.seq, &second.body), (first.metadata.seq, &first.body), "the same key");
    // The dead one was only slow: its answer reaches nobody (S10).
    answer(&world.bus, &first, r#"[3,"1",{"late":true}]"#.to_owned(), None);
    until("it is counted", || world.metric("answers_late_total") >= 1.0).await;
    assert_eq!(station.ask(r#"[2,"2","Heartbeat",{}]"#).await, r#"[3,"2",{}]"#);
}

#[tokio::test]
async fn s01_what_a_frozen_worker_was_given_goes_to_one_that_is_heard() {
    let world = World::start(|config| {
        config.patience_min = Duration::from_millis(100);
        config.beat = Duration::from_millis(100);
    })
    .await;
    // Its subscription stands, and it is the one that the bus always chooses.
    let frozen = world.processing(|_| Reply::Nothing).await;
    let (living, _beating) = world.living().await;
    let mut station = world.station("A").await;
    assert_eq!(station.ask(HEARTBEAT).await, r#"[3,"1",{}]"#);
    let (first, second) = (frozen.call(0), living.call(0));
    assert_eq!(first.metadata.attempt, 1, "no worker is preferred before something is wrong");
    assert_eq!(second.metadata.attempt % 2, 0, "every other attempt is for all again");
    assert_eq!((second.metadata.seq, &second.body), (first.metadata.seq, &first.body), "the same key");
}

#[tokio::test]
async fn s01_a_worker_that_falls_silent_is_not_waited_for_however_patient_the_gateway_is() {
    let world = World::start(|config| {
        config.patience_min = Duration::from_secs(20);
        config.beat = Duration::from_millis(50);
    })
    .await;
    let dies = world.processing(|_| Reply::Nothing).await;
    world.sign_of_life("dies").await;
    let mut station = world.station("A").await;
    station.send(HEARTBEAT).await;
    until("it is taken", || dies.count() == 1).await;
    drop(dies);
    let processing = world.obliging().await;
    let answered = tokio::time::timeout(Duration::from_secs(15), station.receive()).await;
    assert_eq!(answered.expect("long before patience is over"), r#"[3,"1",{}]"#);
    assert_eq!(processing.call(0).metadata.attempt, 2);
}

#[tokio::test]
async fn s01_what_a_worker_gives_back_is_handed_over_again_soon() {
    let world = World::start(|config| config.patience_min = Duration::from_secs(20)).await;
    let processing = world
        .processing(|call| match call.metadata.attempt {
            1..=3 => Reply::Later,
            _ => Reply::payload("{}"),
        })
        .await;
    let mut station = world.station("A").await;
    station.send(HEARTBEAT).await;
    let answered = tokio::time::timeout(Duration::from_secs(15), station.receive()).await;
    assert_eq!(answered.expect("long before patience is over"), r#"[3,"1",{}]"#);
    assert_eq!(processing.count(), 4);
    assert!(world.gateway.processing_away_for().is_zero(), "a worker is there");
}

#[tokio::test]
async fn c11_an_answer_for_an_earlier_connection_never_reaches_its_successor() {
    let world = World::start(|_| {}).await;
    let processing = world.processing(|_| Reply::Nothing).await;
    let mut station = world.station("A").await;
    station.send(HEARTBEAT).await;
    until("it is taken", || processing.count() == 1).await;
    drop(station);
    until("it is gone", || world.gateway.connections() == 0).await;
    let mut station = world.station("A").await;
    station.send(HEARTBEAT).await;
    until("it is taken", || processing.count() == 2).await;
    answer(&world.bus, &processing.call(0), r#"[3,"1",{"of":"the first"}]"#.to_owned(), None);
    answer(&world.bus, &processing.call(1), r#"[3,"1",{"of":"the second"}]"#.to_owned(), None);
    assert_eq!(station.receive().await, r#"[3,"1",{"of":"the second"}]"#);
    // Of an earlier generation: dropped where it was delivered.
    assert_eq!(world.metric("answers_late_total"), 1.0);
}

#[tokio::test]
async fn what_is_no_answer_to_the_call_becomes_an_internal_error() {
    let world = World::start(|_| {}).await;
    let _processing = world.processing(|_| Reply::Text(r#"[3,"another",{}]"#.to_owned())).await;
    let mut station = world.station("A").await;
    let answer = station.ask(HEARTBEAT).await;
    assert!(answer.starts_with(r#"[4,"1","InternalError","#), "{answer}");
    assert_eq!(world.metric("answers_unfit_total"), 1.0);
}

#[tokio::test]
async fn s03_at_the_deadline_the_class_of_the_action_decides() {
    let world = World::start(|config| config.answer_deadline = Duration::from_millis(150)).await;
    for (version, call, expected) in [
        ("ocpp1.6", r#"[2,"1","StatusNotification",{}]"#, Ok(r#"[3,"1",{}]"#)),
        ("ocpp1.6", r#"[2,"1","StopTransaction",{"transactionId":1}]"#, Ok(r#"[3,"1",{}]"#)),
        ("ocpp2.0.1", r#"[2,"1","TransactionEvent",{"seqNo":1}]"#, Ok(r#"[3,"1",{}]"#)),
        ("ocpp1.6", r#"[2,"1","Authorize",{"idTag":"A"}]"#, Ok(r#"[4,"1","InternalError","#)),
        ("ocpp1.6", r#"[2,"1","VendorAction",{}]"#, Ok(r#"[4,"1","InternalError","#)),
        ("ocpp1.6", r#"[2,"1","StartTransaction",{"idTag":"A"}]"#, Err(1013)),
        ("ocpp2.1", r#"[2,"1","TransactionEvent",{"idToken":{"idToken":"A"}}]"#, Err(1013)),
    ] {
        let mut station = world.station_with("A", version).await;
        station.send(call).await;
        match expected {
            Ok(beginning) => {
                let answer = station.receive().await;
                assert!(answer.starts_with(beginning), "{call}: {answer}");
            }
            Err(code) => assert_eq!(station.closed().await.unwrap().0, code, "{call}"),
        }
    }
    assert_eq!(world.directory.journal_count(Some(&key("A"))).await.unwrap(), 3);
}

#[tokio::test]
async fn s03_silence_instead_of_a_close_if_the_operator_says_so() {
    let world = World::start(|config| {
        config.answer_deadline = Duration::from_millis(150);
        config.billing_deadline = BillingDeadline::Silence;
    })
    .await;
    let mut station = world.station("A").await;
    station.send(r#"[2,"1","StartTransaction",{}]"#).await;
    // The next one has its turn although the first is never answered.
    assert!(station.ask(r#"[2,"2","Authorize",{}]"#).await.starts_with(r#"[4,"2""#));
    assert_eq!(world.metric("calls_unprocessed_total{by=\"silence\"}"), 1.0);
}

#[tokio::test]
async fn s03_the_journal_is_worked_off_in_order_and_later_keepable_calls_stay_behind() {
    let world = World::start(|config| config.answer_deadline = Duration::from_millis(150)).await;
    let mut station = world.station("A").await;
    for number in 1..=5 {
        let call = format!(r#"[2,"{number}","MeterValues",{{"n":{number}}}]"#);
        assert_eq!(station.ask(&call).await, format!(r#"[3,"{number}",{{}}]"#));
    }
    assert_eq!(world.directory.journal_count(None).await.unwrap(), 5);
    // Only the first waited for its deadline; the others went the same way at once.
    assert_eq!(world.metric("calls_unprocessed_total{by=\"journal\"}"), 5.0);
    let processing = world.obliging().await;
    within("the journal is empty", async {
        while world.directory.journal_count(None).await.unwrap() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    until("that is known", || world.gateway.journal_entries() == 0).await;
    let bodies = processing.bodies();
    let order: Vec<_> =
        (1..=5).map(|number| format!(r#"[2,"{number}","MeterValues",{{"n":{number}}}]"#)).collect();
    assert_eq!(bodies, order);
    let first = processing.call(0).metadata;
    assert!(first.kind == Kind::Call && first.journal.is_some() && first.seq == Some(1));
    // From now on they are processed directly, and no answer to the journal reached the socket.
    assert_eq!(station.ask(r#"[2,"6","MeterValues",{}]"#).await, r#"[3,"6",{}]"#);
    assert_eq!(processing.call(5).metadata.journal, None);
}

#[tokio::test]
async fn what_processing_fails_at_stays_in_the_journal_and_what_it_refuses_is_kept_aside() {
    let world = World::start(|config| config.answer_deadline = Duration::from_millis(150)).await;
    let mut station = world.station("A").await;
    station.ask(r#"[2,"1","MeterValues",{}]"#).await;
    let failing = world.processing(|_| Reply::Text(r#"[4,"1","InternalError","",{}]"#.to_owned())).await;
    until("it was tried", || failing.count() >= 2).await;
    assert_eq!(world.directory.journal_count(None).await.unwrap(), 1);
    drop(failing);
    let _refusing =
        world.processing(|_| Reply::Text(r#"[4,"1","FormationViolation","",{}]"#.to_owned())).await;
    until("it is let go", || world.gateway.journal_entries() == 0).await;
    assert_eq!(world.directory.journal_count(None).await.unwrap(), 0);
    let aside = world.directory.journal_refused(0, 10).await.unwrap();
    assert_eq!(aside.len(), 1);
    assert!(aside[0].why.starts_with("FormationViolation"), "{}", aside[0].why);
    assert_eq!(&*aside[0].entry.frame, br#"[2,"1","MeterValues",{}]"#);
}

#[tokio::test]
async fn s03_while_the_directory_is_away_calls_flow_and_no_billing_message_is_thrown_away() {
    let world = World::start(|config| config.answer_deadline = Duration::from_millis(150)).await;
    let mut station = world.station("A").await;
    let mut other = world.station("B").await;
    world.directory.fails(true);
    assert!(
        station.ask(r#"[2,"1","StatusNotification",{}]"#).await.starts_with(r#"[4,"1","InternalError","#)
    );
    station.send(r#"[2,"2","StopTransaction",{}]"#).await;
    assert_eq!(station.closed().await.unwrap().0, 1013);
    let _processing = world.obliging().await;
    assert_eq!(other.ask(HEARTBEAT).await, r#"[3,"1",{}]"#);
    // The one that was closed comes back as soon as the directory does.
    world.directory.fails(false);
    assert_eq!(world.station("A").await.ask(HEARTBEAT).await, r#"[3,"1",{}]"#);
}

#[tokio::test]
async fn a_station_whose_calls_processing_fails_at_does_not_hold_up_the_journal_of_others() {
    fails_at_the_calls_of_a(|| Reply::Text(r#"[4,"1","InternalError","",{}]"#.to_owned())).await;
}

#[tokio::test]
async fn a_station_whose_calls_processing_gives_back_does_not_hold_up_the_journal_of_others() {
    fails_at_the_calls_of_a(|| Reply::Later).await;
}

async fn fails_at_the_calls_of_a(failure: impl Fn() -> Reply + Send + Sync + 'static) {
    let directory = Arc::new(Moody::new());
    // More than are looked at at once.
    for seq in 0..600 {
        directory.journal_append(entry("A", seq)).await.unwrap();
    }
    for seq in 0..3 {
        directory.journal_append(entry("B", seq)).await.unwrap();
    }
    let bus = InProcess::new();
    let processing = Processing::start(&bus, Topic::Calls, move |call| {
        if call.metadata.station.as_ref().is_some_and(|station| station.as_str() == "A") {
            failure()
        } else {
            Reply::payload("{}")
        }
    })
    .await;
    let world = World::start_on(bus, directory, |_| {}).await;
    within("the calls of B are worked off", async {
        while world.directory.journal_count(Some(&key("B"))).await.unwrap() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(world.directory.journal_count(Some(&key("A"))).await.unwrap(), 600);
    let of_a: Vec<_> = processing.calls.lock().unwrap().iter().map(|call| call.metadata.clone()).collect();
    assert!(
        of_a.iter().filter(|call| call.station == Some(id("A"))).all(|call| call.seq == Some(0)),
        "nothing overtakes the one that fails"
    );
}

#[tokio::test]
async fn s01_what_a_frozen_worker_was_given_of_the_journal_goes_to_one_that_is_heard() {
    let directory = Arc::new(Moody::new());
    for seq in 0..3 {
        directory.journal_append(entry("A", seq)).await.unwrap();
    }
    let bus = InProcess::new();
    let frozen = Processing::start(&bus, Topic::Calls, |_| Reply::Nothing).await;
    let world = World::start_on(bus, directory, |config| {
        config.patience_min = Duration::from_millis(100);
        config.beat = Duration::from_millis(100);
    })
    .await;
    let (living, _beating) = world.living().await;
    // At its deadline each would be put off for later.
    within("the journal is worked off", async {
        while world.directory.journal_count(None).await.unwrap() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let numbers = |calls: &Processing| {
        let mut numbers: Vec<_> = calls.calls.lock().unwrap().iter().map(|call| call.metadata.seq).collect();
        numbers.dedup();
        numbers
    };
    assert_eq!(numbers(&frozen), [Some(0), Some(1), Some(2)], "in their order");
    assert_eq!(numbers(&living), [Some(0), Some(1), Some(2)]);
}

fn entry(station: &str, seq: u64) -> JournalEntry {
    JournalEntry {
        id: 0,
        key: key(station),
        version: Version::V16,
        connection: ConnectionKey { gateway: "gateway-0".into(), generation: 1 },
        seq,
        action: "MeterValues".into(),
        frame: r#"[2,"1","MeterValues",{}]"#.into(),
        received_ms: 0,
    }
}

#[tokio::test]
async fn a_heartbeat_is_answered_here_if_the_operator_says_so() {
    let world = World::start(|config| config.local_heartbeat = true).await;
    let mut station = world.station("A").await;
    let answer = station.ask(HEARTBEAT).await;
    let time = answer.strip_prefix(r#"[3,"1",{"currentTime":""#).unwrap().strip_suffix(r#""}]"#).unwrap();
    assert_eq!((time.len(), &time[23..]), (24, "Z"), "{time}");
}

#[tokio::test]
async fn upgrades_are_refused_while_processing_is_away_for_long_if_the_operator_says_so() {
    let world = World::start(|config| config.refuse_upgrades_after = Some(Duration::from_millis(100))).await;
    let mut station = world.station("A").await;
    station.send(HEARTBEAT).await;
    let protocol = "Sec-WebSocket-Protocol: ocpp1.6\r\n";
    within("upgrades are refused", async {
        while !world.upgrade("/ocpp/B", protocol).await.0.starts_with("HTTP/1.1 503") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let _processing = world.obliging().await;
    station.receive().await;
    assert!(world.upgrade("/ocpp/B", protocol).await.0.starts_with("HTTP/1.1 101"));
}

#[tokio::test]
async fn a_workers_sign_of_life_opens_the_door_although_no_station_is_left_to_find_out() {
    let world = World::start(|config| config.refuse_upgrades_after = Some(Duration::ZERO)).await;
    let mut station = world.station("A").await;
    station.send(HEARTBEAT).await;
    let protocol = "Sec-WebSocket-Protocol: ocpp1.6\r\n";
    within("upgrades are refused", async {
        while !world.upgrade("/ocpp/B", protocol).await.0.starts_with("HTTP/1.1 503") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    drop(station);
    until("it is gone", || world.gateway.connections() == 0).await;
    world.sign_of_life("worker-1").await;
    assert!(world.upgrade("/ocpp/B", protocol).await.0.starts_with("HTTP/1.1 101"));
}
