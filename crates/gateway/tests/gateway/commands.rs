//! Commands and their true outcomes (S06–S09).

use crate::support::{Reply, Station, World, id, until, within};
use bytestring::ByteString;
use std::time::Duration;
use switchboard_bus::{
    Commander, Lane, Outcome, OutcomeKind, Registration,
    command::{CommandError, Options},
};
use switchboard_directory::{Directory as _, OutboxState};
use tokio::task::JoinHandle;

const HEARTBEAT: &str = r#"[2,"1","Heartbeat",{}]"#;

fn send(commander: &Commander, action: &'static str, options: Options) -> JoinHandle<Outcome> {
    let commander = commander.clone();
    tokio::spawn(async move {
        let tenant = ByteString::from_static("default");
        commander.command(&tenant, &id("A"), action, "{}", options).await.unwrap()
    })
}

async fn outcome(waiting: JoinHandle<Outcome>) -> Outcome {
    within("an outcome", waiting).await.unwrap()
}

/// The id and the action of the call that comes next.
async fn called(station: &mut Station) -> (String, String) {
    let call = station.receive().await;
    let mut parts = call.split('"');
    (parts.nth(1).unwrap().to_owned(), parts.nth(1).unwrap().to_owned())
}

async fn ready(world: &World) -> (Station, Commander) {
    let mut station = world.station("A").await;
    station.ask(HEARTBEAT).await;
    (station, world.commander().await)
}

#[tokio::test]
async fn s07_answered_refused_and_offline() {
    let world = World::start(|_| {}).await;
    let _processing = world.obliging().await;
    let (mut station, commander) = ready(&world).await;
    let waiting = send(&commander, "ClearCache", Options::default());
    let (call, action) = called(&mut station).await;
    assert_eq!(action, "ClearCache");
    station.send(&format!(r#"[3,"{call}",{{"status":"Accepted"}}]"#)).await;
    match outcome(waiting).await {
        Outcome::Answered(payload) => assert_eq!(payload, r#"{"status":"Accepted"}"#),
        other => panic!("{other:?}"),
    }
    let waiting = send(&commander, "ClearCache", Options::default());
    let (call, _) = called(&mut station).await;
    station.send(&format!(r#"[4,"{call}","NotImplemented","no",{{}}]"#)).await;
    match outcome(waiting).await {
        Outcome::Refused { code, .. } => assert_eq!(code, "NotImplemented"),
        other => panic!("{other:?}"),
    }
    drop(station);
    until("it is gone", || world.gateway.connections() == 0).await;
    assert_eq!(outcome(send(&commander, "ClearCache", Options::default())).await, Outcome::Offline);
    assert_eq!(world.metric("commands_total{outcome=\"answered\"}"), 1.0);
}

#[tokio::test]
async fn s07_unknown_after_the_timeout_and_the_next_one_goes_out() {
    let world = World::start(|_| {}).await;
    let _processing = world.obliging().await;
    let (mut station, commander) = ready(&world).await;
    let short = Options { timeout: Duration::from_millis(300), ..Options::default() };
    let first = send(&commander, "ClearCache", short);
    let (late, _) = called(&mut station).await;
    let second = send(&commander, "GetLocalListVersion", Options::default());
    assert_eq!(outcome(first).await, Outcome::Unknown);
    let (call, action) = called(&mut station).await;
    assert_eq!(action, "GetLocalListVersion");
    // C04: the late answer completes nothing.
    station.send(&format!(r#"[3,"{late}",{{}}]"#)).await;
    station.send(&format!(r#"[3,"{call}",{{"listVersion":1}}]"#)).await;
    assert!(matches!(outcome(second).await, Outcome::Answered(_)));
}

#[tokio::test]
async fn s07_expired_in_the_queue_cancelled_and_urgent_ones_first() {
    let world = World::start(|_| {}).await;
    let _processing = world.obliging().await;
    let (mut station, commander) = ready(&world).await;
    let first = send(&commander, "ClearCache", Options::default());
    let (call, _) = called(&mut station).await;
    let short = Options { timeout: Duration::from_millis(200), ..Options::default() };
    assert_eq!(outcome(send(&commander, "Reset", short)).await, Outcome::Expired);
    let named = Options { id: Some("mine".into()), ..Options::default() };
    let cancelled = send(&commander, "ChangeAvailability", named);
    within("it is cancelled", async {
        while !cancelled.is_finished() {
            // Before it has reached the connection there is nothing to cancel.
            commander.cancel(&"default".into(), &id("A"), &"mine".into()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(outcome(cancelled).await, Outcome::Cancelled);
    let normal = send(&commander, "GetConfiguration", Options::default());
    let urgent = send(&commander, "UnlockConnector", Options { lane: Lane::Urgent, ..Options::default() });
    // Both are at the connection when a third has found its way there and back.
    let short = Options { timeout: Duration::from_millis(100), ..Options::default() };
    assert_eq!(outcome(send(&commander, "Reset", short)).await, Outcome::Expired);
    station.send(&format!(r#"[3,"{call}",{{}}]"#)).await;
    assert!(matches!(outcome(first).await, Outcome::Answered(_)));
    for (expected, waiting) in [("UnlockConnector", urgent), ("GetConfiguration", normal)] {
        let (call, action) = called(&mut station).await;
        assert_eq!(action, expected);
        station.send(&format!(r#"[3,"{call}",{{}}]"#)).await;
        assert!(matches!(outcome(waiting).await, Outcome::Answered(_)));
    }
}

#[tokio::test]
async fn s07_busy_when_the_queue_is_full() {
    let world = World::start(|config| config.rpc.outgoing_calls_max = 2).await;
    let _processing = world.obliging().await;
    let (mut station, commander) = ready(&world).await;
    let _first = send(&commander, "ClearCache", Options::default());
    called(&mut station).await;
    let waiting: Vec<_> = (0..3).map(|_| send(&commander, "Reset", Options::default())).collect();
    until("one was turned away", || waiting.iter().any(JoinHandle::is_finished)).await;
    for waiting in waiting {
        if waiting.is_finished() {
            assert_eq!(outcome(waiting).await, Outcome::Busy);
        }
    }
    assert_eq!(world.metric("commands_total{outcome=\"busy\"}"), 1.0);
}

#[tokio::test]
async fn s08_a_key_goes_to_the_station_once_and_both_callers_get_its_outcome() {
    let world = World::start(|_| {}).await;
    let _processing = world.obliging().await;
    let (mut station, commander) = ready(&world).await;
    let keyed = Options { key: Some("once".into()), ..Options::default() };
    let other = world.commander().await;
    let first = send(&commander, "ClearCache", keyed.clone());
    let (call, _) = called(&mut station).await;
    let second = send(&other, "ClearCache", keyed.clone());
    station.send(&format!(r#"[3,"{call}",{{"status":"Accepted"}}]"#)).await;
    let first = outcome(first).await;
    assert!(matches!(first, Outcome::Answered(_)), "{first:?}");
    assert_eq!(outcome(second).await, first);
    assert_eq!(outcome(send(&commander, "ClearCache", keyed)).await, first, "long after");
    // Nothing else came to the station.
    assert_eq!(station.ask(r#"[2,"2","Heartbeat",{}]"#).await, r#"[3,"2",{}]"#);
}

/// Its outcome would be taken for that of a command that no station ever saw.
#[tokio::test]
async fn s08_a_key_of_another_command_is_refused_and_nothing_is_sent() {
    let world = World::start(|_| {}).await;
    let _processing = world.obliging().await;
    let (mut station, commander) = ready(&world).await;
    let keyed = Options { key: Some("once".into()), ..Options::default() };
    let first = send(&commander, "ClearCache", keyed.clone());
    let (call, _) = called(&mut station).await;
    let tenant = ByteString::from_static("default");
    let station_id = id("A");
    let reset = || commander.command(&tenant, &station_id, "Reset", "{}", keyed.clone());
    let under_way = reset().await;
    assert!(matches!(under_way, Err(CommandError::KeyTaken { .. })), "{under_way:?}");
    station.send(&format!(r#"[3,"{call}",{{"status":"Accepted"}}]"#)).await;
    assert!(matches!(outcome(first).await, Outcome::Answered(_)));
    let ended = reset().await;
    assert!(matches!(ended, Err(CommandError::KeyTaken { .. })), "{ended:?}");
    assert_eq!(station.ask(r#"[2,"2","Heartbeat",{}]"#).await, r#"[3,"2",{}]"#);
}

#[tokio::test]
async fn s07_an_end_that_the_directory_could_not_be_told_is_recorded_when_it_is_back() {
    let world = World::start(|_| {}).await;
    let _processing = world.obliging().await;
    let (mut station, commander) = ready(&world).await;
    let keyed = Options { key: Some("once".into()), ..Options::default() };
    let first = send(&commander, "ClearCache", keyed.clone());
    let (call, _) = called(&mut station).await;
    world.directory.fails(true);
    station.send(&format!(r#"[3,"{call}",{{"status":"Accepted"}}]"#)).await;
    let first = outcome(first).await;
    assert!(matches!(first, Outcome::Answered(_)), "{first:?}");
    // The station goes, too: whoever looks after such commands would take it for unknown.
    drop(station);
    until("it is gone", || world.gateway.connections() == 0).await;
    world.directory.fails(false);
    within("the end is there", async {
        loop {
            let entry = world.directory.outbox_get(&crate::support::key("A"), &"once".into()).await.unwrap();
            match entry.unwrap().state {
                OutboxState::Ended { outcome, .. } => break assert_eq!(outcome, OutcomeKind::Answered),
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    })
    .await;
    assert_eq!(outcome(send(&commander, "ClearCache", keyed)).await, first);
}

#[tokio::test]
async fn s08_a_key_whose_station_went_after_the_write_is_unknown_for_ever() {
    let world = World::start(|_| {}).await;
    let _processing = world.obliging().await;
    let (mut station, commander) = ready(&world).await;
    let keyed = Options { key: Some("once".into()), ..Options::default() };
    let first = send(&commander, "ClearCache", keyed.clone());
    called(&mut station).await;
    drop(station);
    assert_eq!(outcome(first).await, Outcome::Unknown);
    let mut station = world.station("A").await;
    station.ask(HEARTBEAT).await;
    assert_eq!(outcome(send(&commander, "ClearCache", keyed)).await, Outcome::Unknown);
    assert_eq!(station.ask(r#"[2,"2","Heartbeat",{}]"#).await, r#"[3,"2",{}]"#);
}

#[tokio::test]
async fn s09_a_command_waits_for_its_station_and_goes_out_after_the_first_call() {
    let world = World::start(|_| {}).await;
    let _processing = world.obliging().await;
    let commander = world.commander().await;
    let patient = Options { time_to_live: Duration::from_secs(60), ..Options::default() };
    let first = send(&commander, "ClearCache", patient.clone());
    within("it is kept", async {
        while world_waiting(&world).await < 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let second = send(&commander, "GetConfiguration", patient);
    within("it is kept", async {
        while world_waiting(&world).await < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let mut station = world.station("A").await;
    station.ask(HEARTBEAT).await;
    for (expected, waiting) in [("ClearCache", first), ("GetConfiguration", second)] {
        let (call, action) = called(&mut station).await;
        assert_eq!(action, expected);
        station.send(&format!(r#"[3,"{call}",{{}}]"#)).await;
        assert!(matches!(outcome(waiting).await, Outcome::Answered(_)));
    }
    assert_eq!(world_waiting(&world).await, 0);
}

#[tokio::test]
async fn s09_a_command_waits_until_its_station_is_accepted() {
    let world = World::start(|_| {}).await;
    let _processing = world
        .processing(|call| {
            let body = std::str::from_utf8(&call.body).unwrap();
            let registration = match body.split('"').nth(1).unwrap() {
                "pending" => Some(Registration::Pending),
                "accepted" => Some(Registration::Accepted),
                _ => None,
            };
            Reply::Payload("{}".to_owned(), registration)
        })
        .await;
    let commander = world.commander().await;
    let patient = Options { time_to_live: Duration::from_secs(60), ..Options::default() };
    let waiting = send(&commander, "ClearCache", patient);
    within("it is kept", async {
        while world_waiting(&world).await < 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let mut station = world.station("A").await;
    station.ask(r#"[2,"pending","BootNotification",{}]"#).await;
    assert_eq!(station.ask(r#"[2,"x","Heartbeat",{}]"#).await, r#"[3,"x",{}]"#);
    assert_eq!(station.ask(r#"[2,"accepted","BootNotification",{}]"#).await, r#"[3,"accepted",{}]"#);
    let (call, action) = called(&mut station).await;
    assert_eq!(action, "ClearCache");
    station.send(&format!(r#"[3,"{call}",{{}}]"#)).await;
    assert!(matches!(outcome(waiting).await, Outcome::Answered(_)));
}

#[tokio::test]
async fn s09_a_kept_command_whose_socket_goes_before_the_write_is_sent_to_the_next_one() {
    let world = World::start(|_| {}).await;
    let _processing = world.obliging().await;
    let (station, commander) = ready(&world).await;
    world.directory.is_slow(true);
    let key = Some(ByteString::from_static("k"));
    let patient = Options { time_to_live: Duration::from_secs(60), key, ..Options::default() };
    let waiting = send(&commander, "ClearCache", patient);
    within("it is about to be written", async {
        while !world_sending(&world).await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    drop(station);
    until("it is gone", || world.gateway.connections() == 0).await;
    world.directory.is_slow(false);
    let mut station = world.station("A").await;
    station.ask(HEARTBEAT).await;
    let (call, action) = called(&mut station).await;
    assert_eq!(action, "ClearCache");
    station.send(&format!(r#"[3,"{call}",{{}}]"#)).await;
    assert!(matches!(outcome(waiting).await, Outcome::Answered(_)));
}

#[tokio::test]
async fn s09_a_command_whose_station_never_comes_expires() {
    let world = World::start(|_| {}).await;
    let commander = world.commander().await;
    let short = Options { time_to_live: Duration::from_millis(200), ..Options::default() };
    assert_eq!(outcome(send(&commander, "ClearCache", short)).await, Outcome::Expired);
}

#[tokio::test]
async fn s06_a_stale_route_is_offline_at_once() {
    use switchboard_bus::{Address, Bus as _, Envelope, Kind, Metadata, Topic};
    let world = World::start(|_| {}).await;
    let heard = crate::support::Heard::on(&world.bus, Topic::Inbox("me".into())).await;
    let mut metadata = Metadata::new(Kind::Command);
    metadata.station = Some(id("A"));
    metadata.action = Some("Reset".into());
    metadata.command_id = Some("c".into());
    metadata.reply_to = Some("me".into());
    metadata.context = Some("mine".into());
    let body = r#"[2,"x","Reset",{}]"#;
    let inbox = Address::Inbox(world.gateway.name().clone());
    world.bus.publish(inbox, Envelope::new(metadata, body)).await.unwrap();
    until("an outcome", || heard.all().len() == 1).await;
    let told = heard.all().remove(0).metadata;
    assert_eq!(told.outcome, Some(switchboard_bus::OutcomeKind::Offline));
    assert_eq!((told.command_id.as_deref(), told.context.as_deref()), (Some("c"), Some("mine")));
}

/// Whether the command with the key `k` is marked as being sent.
async fn world_sending(world: &World) -> bool {
    use switchboard_directory::{Directory as _, OutboxState};
    let entry = world.directory.outbox_get(&crate::support::key("A"), &"k".into()).await.unwrap();
    entry.is_some_and(|entry| matches!(entry.state, OutboxState::Sending { .. }))
}

async fn world_waiting(world: &World) -> usize {
    use switchboard_directory::Directory as _;
    world.directory.outbox_waiting(&crate::support::key("A"), 0, 99).await.unwrap().len()
}

#[tokio::test]
async fn c08_ids_of_ours_are_uuids_and_never_the_same() {
    let world = World::start(|_| {}).await;
    let _processing = world.obliging().await;
    let (mut station, commander) = ready(&world).await;
    let mut ids = std::collections::HashSet::new();
    for number in 0..20 {
        // Its name is not its id on the wire.
        let options = Options { id: Some(format!("mine-{number}").into()), ..Options::default() };
        let waiting = send(&commander, "ClearCache", options);
        let (call, _) = called(&mut station).await;
        let id = uuid::Uuid::parse_str(&call).unwrap();
        assert_eq!((id.get_version_num(), call.len()), (4, 36), "{call}");
        station.send(&format!(r#"[3,"{call}",{{}}]"#)).await;
        assert!(matches!(outcome(waiting).await, Outcome::Answered(_)));
        assert!(ids.insert(call));
    }
}

#[tokio::test]
async fn a_command_that_the_bus_delivers_twice_goes_to_the_station_once() {
    use switchboard_bus::{Address, Bus as _, Envelope, Kind, Metadata};
    let world = World::start(|_| {}).await;
    let _processing = world.obliging().await;
    let (mut station, commander) = ready(&world).await;
    let waiting = send(&commander, "ClearCache", Options { id: Some("once".into()), ..Options::default() });
    let (call, _) = called(&mut station).await;
    let mut metadata = Metadata::new(Kind::Command);
    metadata.station = Some(id("A"));
    metadata.command_id = Some("once".into());
    let again = Envelope::new(metadata, r#"[2,"command","ClearCache",{}]"#);
    world.bus.publish(Address::Inbox(world.gateway.name().clone()), again).await.unwrap();
    station.send(&format!(r#"[3,"{call}",{{}}]"#)).await;
    assert!(matches!(outcome(waiting).await, Outcome::Answered(_)));
    // Whatever came before this one would have been written before it.
    let waiting = send(&commander, "GetConfiguration", Options::default());
    let (call, action) = called(&mut station).await;
    assert_eq!(action, "GetConfiguration");
    station.send(&format!(r#"[3,"{call}",{{}}]"#)).await;
    assert!(matches!(outcome(waiting).await, Outcome::Answered(_)));
}
