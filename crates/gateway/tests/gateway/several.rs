//! Several gateways that share a directory in PostgreSQL, and one or several buses.

use crate::{
    moody::Moody,
    support::{Station, World, id, key, until, within},
};
use bytes::Bytes;
use bytestring::ByteString;
use std::{num::NonZeroU32, sync::Arc, time::Duration};
use switchboard_bus::{
    Address, Bus as _, Commander, Consumer, Done, Envelope, InProcess, Kind, Lane, Metadata, Outcome,
    OutcomeKind, Subscription, Topic,
    command::{CommandError, Options},
    presence::Facts,
};
use switchboard_directory::{Directory as _, OutboxEntry, OutboxState};
use switchboard_directory_postgres::{Config as Database, Postgres};
use switchboard_gateway::Config;
use switchboard_testkit::servers::Postgres as Server;
use tokio::sync::{OnceCell, mpsc};

const HEARTBEAT: &str = r#"[2,"1","Heartbeat",{}]"#;

/// None if the tests have to be skipped.
async fn server() -> Option<&'static Server> {
    static SERVER: OnceCell<Option<Server>> = OnceCell::const_new();
    SERVER.get_or_init(async || Server::start("several gateways").await.unwrap()).await.as_ref()
}

/// An empty database; none if the tests have to be skipped.
async fn database() -> Option<String> {
    Some(server().await?.database().unwrap())
}

/// A gateway with connections of its own to this database.
async fn gateway(bus: &InProcess, url: &str, change: impl FnOnce(&mut Config)) -> World {
    let directory = Postgres::connect(Database::to(url)).unwrap();
    directory.ready().await.unwrap();
    World::start_on(bus.clone(), Arc::new(Moody::around(directory)), change).await
}

fn tenant() -> ByteString {
    ByteString::from_static("default")
}

async fn reset(commander: &Commander) -> Result<Outcome, CommandError> {
    let (tenant, station) = (tenant(), id("A"));
    let commanding = commander.command(&tenant, &station, "ClearCache", "{}", Options::default());
    within("an outcome", commanding).await
}

/// Answers the call that comes next.
async fn answer_next(station: &mut Station) {
    let call = station.receive().await;
    let message = call.split('"').nth(1).unwrap().to_owned();
    station.send(&format!(r#"[3,"{message}",{{"status":"Accepted"}}]"#)).await;
}

async fn closed_as_replaced(mut station: Station) {
    let (code, reason) = station.closed().await.unwrap();
    assert_eq!(code, 1008);
    assert!(reason.contains("newer"), "{reason}");
}

fn command(id: &str) -> OutboxEntry {
    OutboxEntry {
        id: id.into(),
        key: key("A"),
        action: "ClearCache".into(),
        payload: Bytes::from_static(b"{}"),
        lane: Lane::Normal,
        timeout: Duration::from_secs(30),
        expires_ms: i64::MAX / 2,
        reply_to: None,
        context: None,
        state: OutboxState::Waiting,
    }
}

#[tokio::test]
async fn l01_s06_the_newest_connection_wins_whichever_gateway_it_comes_to() {
    let Some(url) = database().await else { return };
    let bus = InProcess::new();
    let (one, two) =
        (gateway(&bus, &url, |config| config.flapping_alarm = 4).await, gateway(&bus, &url, |_| {}).await);
    let _processing = one.obliging().await;
    let commander = two.commander().await;
    let mut present = one.station("A").await;
    // It has its generation when it is answered; with its 101 alone the other gateway might still be faster.
    assert_eq!(present.ask(HEARTBEAT).await, r#"[3,"1",{}]"#);
    for turn in 0..4 {
        let there = if turn % 2 == 0 { &two } else { &one };
        let mut newer = there.station("A").await;
        closed_as_replaced(present).await;
        assert_eq!(newer.ask(HEARTBEAT).await, r#"[3,"1",{}]"#);
        // Wherever it is asked for, the command goes to where it is now.
        let (outcome, ()) = tokio::join!(reset(&commander), answer_next(&mut newer));
        assert!(matches!(outcome.unwrap(), Outcome::Answered(_)));
        present = newer;
    }
    until("the older ones are gone", || one.gateway.connections() + two.gateway.connections() == 1).await;
    let location = two.directory.locate(&key("A"), two.gateway.wall_ms()).await.unwrap().unwrap();
    assert_eq!(location.connection.gateway, one.gateway.name());
    // One gateway saw only half of them come, and knows of all.
    until("the alarm", || one.metric("stations_flapping_total") >= 1.0).await;
    assert_eq!(one.metric("connections_replaced_total") + two.metric("connections_replaced_total"), 4.0);
    present.close().await;
    until("it is gone", || one.gateway.connections() == 0).await;
    assert_eq!(reset(&commander).await.unwrap(), Outcome::Offline);
}

/// Where outcomes come to.
struct Told(mpsc::Sender<Envelope>);

impl Consumer for Told {
    fn deliver(&self, envelope: Envelope, _done: Done) {
        self.0.try_send(envelope).unwrap();
    }
}

/// Sends a command without asking where its station is.
async fn command_wherever_it_is(bus: &InProcess, id: &str) {
    let mut metadata = Metadata::new(Kind::Command);
    metadata.station = Some(key("A").station);
    metadata.command_id = Some(id.into());
    metadata.reply_to = Some("sender".into());
    let to = Address::Command { tenant: tenant(), station: key("A").station };
    bus.publish(to, Envelope::new(metadata, r#"[2,"x","ClearCache",{}]"#)).await.unwrap();
}

#[tokio::test]
async fn s06_a_command_to_no_gateway_in_particular_goes_to_the_one_that_has_the_station() {
    let Some(url) = database().await else { return };
    let bus = InProcess::new();
    let (one, two) = (gateway(&bus, &url, |_| {}).await, gateway(&bus, &url, |_| {}).await);
    let _processing = one.obliging().await;
    let mut station = two.station("A").await;
    station.ask(HEARTBEAT).await;
    let (told, mut outcomes) = mpsc::channel(16);
    let inbox = Subscription { topic: Topic::Inbox("sender".into()), in_hand_max: NonZeroU32::MAX };
    let _inbox = bus.subscribe(inbox, Arc::new(Told(told))).await.unwrap();
    let mut outcome = async |id: &str| {
        let envelope = within("an outcome", outcomes.recv()).await.unwrap();
        assert_eq!(envelope.metadata.command_id.as_deref(), Some(id));
        envelope.metadata.outcome.unwrap()
    };
    // They take them in turn.
    for id in ["1", "2", "3", "4"] {
        command_wherever_it_is(&bus, id).await;
        answer_next(&mut station).await;
        assert_eq!(outcome(id).await, OutcomeKind::Answered);
    }
    // Who cannot learn where it is says so, and does not guess; who has it needs to ask nobody.
    one.directory.fails(true);
    let mut ends = Vec::new();
    for id in ["5", "6"] {
        command_wherever_it_is(&bus, id).await;
        if ends.contains(&OutcomeKind::NotSent) {
            answer_next(&mut station).await;
            ends.push(outcome(id).await);
            continue;
        }
        tokio::select! {
            () = answer_next(&mut station) => ends.push(outcome(id).await),
            end = outcome(id) => ends.push(end),
        }
    }
    ends.sort_by_key(|end| end.as_str());
    assert_eq!(ends, [OutcomeKind::Answered, OutcomeKind::NotSent]);
    one.directory.fails(false);
    station.close().await;
    until("it is gone", || two.gateway.connections() == 0).await;
    for id in ["7", "8"] {
        command_wherever_it_is(&bus, id).await;
        assert_eq!(outcome(id).await, OutcomeKind::Offline);
    }
}

#[tokio::test]
async fn l01_a_notice_that_never_came_is_made_up_for_by_the_sweep() {
    let Some(url) = database().await else { return };
    // They do not hear each other.
    let (here, there) = (InProcess::new(), InProcess::new());
    let one = gateway(&here, &url, |config| config.sweep_interval = Duration::from_millis(500)).await;
    let two = gateway(&there, &url, |_| {}).await;
    let old = one.station("A").await;
    let bystander = one.station("B").await;
    until("both have begun", || one.gateway.connections() == 2).await;
    let _new = two.station("A").await;
    closed_as_replaced(old).await;
    assert_eq!(one.gateway.connections(), 1);
    bystander.close().await;
}

#[tokio::test]
async fn while_the_directory_is_away_sockets_stay_and_calls_flow() {
    let Some(mut server) = Server::start("gateways without a directory").await.unwrap() else { return };
    let url = server.database().unwrap();
    let bus = InProcess::new();
    let (one, two) = (gateway(&bus, &url, |_| {}).await, gateway(&bus, &url, |_| {}).await);
    let _processing = one.obliging().await;
    let commander = two.commander().await;
    let mut stays = one.station("A").await;
    let mut also = two.station("B").await;
    stays.ask(HEARTBEAT).await;
    also.ask(HEARTBEAT).await;
    server.kill().unwrap();
    for _ in 0..3 {
        assert_eq!(stays.ask(HEARTBEAT).await, r#"[3,"1",{}]"#);
        assert_eq!(also.ask(HEARTBEAT).await, r#"[3,"1",{}]"#);
        let refused = Station::connect(&two.url("/ocpp/C"), &["ocpp1.6"], &[]).await;
        assert_eq!(refused.err(), Some(503));
        assert!(matches!(reset(&commander).await, Err(CommandError::Locate(_))));
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    server.start().await.unwrap();
    within("commands go again", async {
        loop {
            let (outcome, answered) = tokio::join!(
                reset(&commander),
                tokio::time::timeout(Duration::from_millis(500), answer_next(&mut stays))
            );
            match outcome {
                Ok(Outcome::Answered(_)) => return answered.unwrap(),
                // Its lease ran out, and is renewed in a second.
                Ok(Outcome::Offline) | Err(_) => {}
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
    assert_eq!(also.ask(HEARTBEAT).await, r#"[3,"1",{}]"#);
    assert_eq!((one.gateway.connections(), two.gateway.connections()), (1, 1));
    // What was there before is still there, so that the newest wins as ever.
    let _newer = two.station("A").await;
    closed_as_replaced(stays).await;
}

#[tokio::test]
async fn s03_the_journal_of_several_gateways_is_worked_off_once_and_in_order() {
    let Some(url) = database().await else { return };
    let bus = InProcess::new();
    let short = |config: &mut Config| config.answer_deadline = Duration::from_millis(200);
    let (one, two) = (gateway(&bus, &url, short).await, gateway(&bus, &url, short).await);
    let call = |station: &str, number: usize| {
        format!(r#"[2,"{number}","MeterValues",{{"station":"{station}","n":{number}}}]"#)
    };
    for station in ["A", "B", "C"] {
        // Each begins at one gateway and goes on at the other.
        for (gateway, numbers) in [(&one, 1..=4), (&two, 5..=8)] {
            let mut socket = gateway.station(station).await;
            for number in numbers {
                let expected = format!(r#"[3,"{number}",{{}}]"#);
                assert_eq!(socket.ask(&call(station, number)).await, expected);
            }
        }
    }
    assert_eq!(one.directory.journal_count(None).await.unwrap(), 24);
    let mut socket = two.station("A").await;
    let processing = one.obliging().await;
    // Both hear that there is somebody again.
    for gateway in [&one, &two] {
        assert_eq!(gateway.station("D").await.ask(HEARTBEAT).await, r#"[3,"1",{}]"#);
    }
    within("the journal of both is empty", async {
        while one.directory.journal_count(None).await.unwrap() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let bodies: Vec<_> =
        processing.bodies().into_iter().filter(|body| body.contains("MeterValues")).collect();
    assert_eq!(bodies.len(), 24, "each once: {bodies:?}");
    for station in ["A", "B", "C"] {
        let of_station = bodies.iter().filter(|body| body.contains(&format!(r#""station":"{station}""#)));
        assert!(of_station.cloned().eq((1..=8).map(|number| call(station, number))), "{bodies:?}");
    }
    // Also the gateway that did not work it off learns that it is empty, and hands the next one over at once.
    within("calls are handed over at once again", async {
        let mut number = 100;
        loop {
            let before = processing.count();
            socket.ask(&format!(r#"[2,"{number}","MeterValues",{{}}]"#)).await;
            let direct = (before..processing.count())
                .map(|index| processing.call(index))
                .any(|call| call.metadata.journal.is_none());
            if direct {
                return;
            }
            number += 1;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn s05_what_a_gateway_was_sending_when_it_was_cut_off_is_unknown_and_not_sent_again() {
    let Some(url) = database().await else { return };
    let bus = InProcess::new();
    let short = |config: &mut Config| config.lease = Duration::from_millis(900);
    let (one, two) = (gateway(&bus, &url, short).await, gateway(&bus, &url, short).await);
    let _processing = one.obliging().await;
    let commander = two.commander().await;
    let mut station = one.station("A").await;
    station.ask(HEARTBEAT).await;
    let sending = tokio::spawn({
        let commander = commander.clone();
        async move {
            let options = Options { key: Some("once".into()), ..Options::default() };
            commander.command(&tenant(), &id("A"), "Reset", r#"{"type":"Soft"}"#, options).await
        }
    });
    assert!(station.receive().await.contains("Reset"));
    // As if it were dead: it reaches the directory no more.
    one.directory.fails(true);
    assert_eq!(within("an outcome", sending).await.unwrap().unwrap(), Outcome::Unknown);
    // Whoever asks again gets that, also where the station has come back.
    let mut newer = two.station("A").await;
    newer.ask(HEARTBEAT).await;
    let options = Options { key: Some("once".into()), ..Options::default() };
    let (tenant, station) = (tenant(), id("A"));
    let again = commander.command(&tenant, &station, "Reset", r#"{"type":"Soft"}"#, options);
    assert_eq!(within("an outcome", again).await.unwrap(), Outcome::Unknown);
    let entry = two.directory.outbox_get(&key("A"), &"once".into()).await.unwrap().unwrap();
    assert_eq!(entry.state, OutboxState::Ended { outcome: OutcomeKind::Unknown, frame: Bytes::new() });
    assert_eq!(newer.ask(HEARTBEAT).await, r#"[3,"1",{}]"#, "nothing else was written");
    one.directory.fails(false);
}

#[tokio::test]
async fn s09_a_command_that_came_to_wait_without_a_hint_goes_out_soon() {
    let Some(url) = database().await else { return };
    let (here, there) = (InProcess::new(), InProcess::new());
    let (one, two) = (gateway(&here, &url, |_| {}).await, gateway(&there, &url, |_| {}).await);
    let _processing = one.obliging().await;
    let mut station = one.station("A").await;
    station.ask(HEARTBEAT).await;
    // Whoever put it in could not say so.
    two.directory.outbox_put(command("unnoticed")).await.unwrap();
    answer_next(&mut station).await;
    within("its end is recorded", async {
        loop {
            let entry = two.directory.outbox_get(&key("A"), &"unnoticed".into()).await.unwrap().unwrap();
            if let OutboxState::Ended { outcome, .. } = entry.state {
                return assert_eq!(outcome, OutcomeKind::Answered);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Changes what the directory knows, as if it were a copy of yesterday.
async fn forget(url: &str, sql: &str) {
    let database = url.rsplit('/').next().unwrap();
    let sql = format!("SET search_path = switchboard_directory; {sql}");
    server().await.unwrap().psql(database, &sql).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l01_a_directory_that_was_restored_from_a_copy_learns_again_who_is_where() {
    let Some(url) = database().await else { return };
    let bus = InProcess::new();
    let (one, two) = (gateway(&bus, &url, |_| {}).await, gateway(&bus, &url, |_| {}).await);
    let _processing = one.obliging().await;
    let mut here = one.station("A").await;
    let mut there = two.station("B").await;
    for station in [&mut here, &mut there] {
        assert_eq!(station.ask(HEARTBEAT).await, r#"[3,"1",{}]"#);
    }
    // A had been at the other gateway, and of B nothing was known.
    forget(
        &url,
        "UPDATE station SET generation = generation - 5, gateway = 'gone' WHERE station = 'A';
         DELETE FROM station WHERE station = 'B'; UPDATE gateway SET until_ms = until_ms - 60000",
    )
    .await;
    for (world, station) in [(&one, "A"), (&two, "B")] {
        within("it is known again", async {
            loop {
                let now_ms = world.gateway.wall_ms();
                let found = world.directory.locate(&key(station), now_ms).await.unwrap();
                if found.is_some_and(|found| found.connection.gateway == *world.gateway.name()) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }
    let commander = one.commander().await;
    let (outcome, ()) = tokio::join!(reset(&commander), answer_next(&mut here));
    assert!(matches!(outcome, Ok(Outcome::Answered(_))), "{outcome:?}");
    // The newest one still wins, and has a higher generation than all before.
    let newer = two.station("A").await;
    closed_as_replaced(here).await;
    drop(newer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l01_generations_rise_also_when_the_directory_is_lost_and_its_clock_goes_back() {
    let Some(url) = database().await else { return };
    let bus = InProcess::new();
    let world = gateway(&bus, &url, |_| {}).await;
    let _processing = world.obliging().await;
    // As if it were tomorrow.
    forget(&url, "INSERT INTO station (tenant, station, generation) VALUES ('default', 'A', 4000000000000)")
        .await;
    let old = world.station("A").await;
    until("it has begun", || world.gateway.connections() == 1).await;
    forget(&url, "DELETE FROM station").await;
    let mut new = world.station("A").await;
    closed_as_replaced(old).await;
    assert_eq!(new.ask(HEARTBEAT).await, r#"[3,"1",{}]"#);
    let found = world.directory.locate(&key("A"), world.gateway.wall_ms()).await.unwrap().unwrap();
    assert!(found.connection.generation > 4_000_000_000_001, "{found:?}");
}

/// Those that are known of connections that have ended, and from the books of workers.
#[tokio::test]
async fn l01_generations_rise_beyond_all_that_processing_knows_when_the_directory_is_lost() {
    let Some(url) = database().await else { return };
    let bus = InProcess::new();
    let (one, two) = (gateway(&bus, &url, |_| {}).await, gateway(&InProcess::new(), &url, |_| {}).await);
    let (_processing, _also) = (one.obliging().await, two.obliging().await);
    let generation = async |world: &World, station: &str| {
        let found = world.directory.locate(&key(station), world.gateway.wall_ms()).await.unwrap();
        found.unwrap().connection.generation
    };
    forget(&url, "INSERT INTO station (tenant, station, generation) VALUES ('default', 'A', 4000000000000)")
        .await;
    let old = one.station("A").await;
    until("it has begun", || one.gateway.connections() == 1).await;
    old.close().await;
    until("it is gone", || one.gateway.connections() == 0).await;
    forget(&url, "DELETE FROM station").await;
    // It was there before, at this gateway.
    let mut again = one.station("A").await;
    assert_eq!(again.ask(HEARTBEAT).await, r#"[3,"1",{}]"#);
    assert!(generation(&one, "A").await > 4_000_000_000_001);
    // This one knows only what a worker says.
    let _fresh = two.station("B").await;
    until("it has begun", || two.gateway.connections() == 1).await;
    assert!(generation(&two, "B").await < 4_000_000_000_000);
    let facts = Facts { generation: 4_000_000_000_007, ..Facts::default() };
    two.introduces_itself("worker-1", &facts).await;
    let mut next = two.station("C").await;
    assert_eq!(next.ask(HEARTBEAT).await, r#"[3,"1",{}]"#);
    assert_eq!(generation(&two, "C").await, 4_000_000_000_008);
    // One that knows of more than was ever given is not believed.
    two.introduces_itself("worker-1", &Facts { generation: u64::MAX, ..facts }).await;
    let mut last = two.station("D").await;
    assert_eq!(last.ask(HEARTBEAT).await, r#"[3,"1",{}]"#);
    assert_eq!(generation(&two, "D").await, 4_000_000_000_009);
}
