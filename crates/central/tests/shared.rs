//! Books that several processes share in PostgreSQL, while processes and server are frozen, killed and started again.
//!
//! The test runs itself once more as a child, which answers calls and tells each answer on its standard output.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{meter, start, stop};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use switchboard_central::{Central, Config, Database, TransactionFilter};
use switchboard_router::{Context, Router};
use switchboard_rpc::{StationId, Version};
use switchboard_testkit::Proxy;
use switchboard_testkit::servers::Postgres;
use switchboard_testkit::wait;

const CHILD: &str = "SWITCHBOARD_CENTRAL_SHARED_CHILD";
const STATIONS: u32 = 6;

fn open(url: &str) -> Central {
    let mut config = Config::with(Database::parse(url).unwrap());
    config.readers = 1;
    Central::open(config).unwrap()
}

/// Each statement is a round trip, and one writer would do one after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "how long it takes is what is asked")]
async fn books_that_are_far_away_are_written_by_several_at_once() {
    let Some(server) = Postgres::shared("books far away").unwrap() else { return };
    let line = Proxy::to(server.address()).await.unwrap();
    let url = server.database().unwrap();
    let url = url.replace(&server.address().to_string(), &line.address().to_string());
    let central = open(&url);
    let router = central.router();
    // Known stations and a connection that is there, so that only what is repeated is measured.
    let names: Vec<String> = (0..40).map(|station| format!("S{station}")).collect();
    let say = |seq: u64| {
        let said = names.iter().map(|name| {
            let payload =
                serde_json::json!({"connectorId": 1, "errorCode": "NoError", "status": "Available"});
            let router = &router;
            async move { answered(router, name, (1, seq), "StatusNotification", &payload).await }
        });
        futures_util::future::join_all(said)
    };
    say(1).await;
    line.delay(Duration::from_millis(50));
    let begun = std::time::Instant::now();
    say(2).await;
    let took = begun.elapsed();
    line.delay(Duration::ZERO);
    // Begin, two statements at the least, commit, 100 ms each, for forty calls that share no station.
    let one_by_one = Duration::from_millis(4 * 100 * 40);
    assert!(took < one_by_one, "{took:?}");
    central.close().await;
}

/// What nobody needs an answer to travels with something else: the beginning with the lock of the station's row, the
/// answer that is stored with the commit. Between them is the reading.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "how long it takes is what is asked")]
async fn a_reading_in_books_far_away_costs_three_round_trips() {
    const THERE: Duration = Duration::from_millis(60);
    let Some(server) = Postgres::shared("books three round trips away").unwrap() else { return };
    let line = Proxy::to(server.address()).await.unwrap();
    let url = server.database().unwrap();
    let central = open(&url.replace(&server.address().to_string(), &line.address().to_string()));
    let router = central.router();
    let answer = answered(&router, "S1", (1, 1), "StartTransaction", &start(1, "TAG", &time(0, 0), 0)).await;
    let id = answer["transactionId"].as_i64();
    let read = async |number: u32| {
        let reading = meter(1, id, &time(number, 0), serde_json::json!([{"value": number.to_string()}]));
        answered(&router, "S1", (1, 1 + u64::from(number)), "MeterValues", &reading).await
    };
    read(1).await;
    line.delay(THERE);
    let mut number = 1;
    // As often as it takes on a machine that is busy with other things.
    let quick = wait::until("a reading that costs three round trips", async || {
        number += 1;
        let begun = std::time::Instant::now();
        read(number).await;
        (begun.elapsed() < 2 * THERE * 4).then_some(())
    });
    quick.await.unwrap();
    line.delay(Duration::ZERO);
    central.close().await;
}

fn time(number: u32, minute: u32) -> String {
    format!("2025-{:02}-{:02}T{:02}:{minute:02}:00Z", 1 + number / 600, 1 + number % 600 / 24, number % 24)
}

/// The answer's payload; none for silence.
async fn call(
    router: &Router,
    station: &str,
    key: (u64, u64),
    action: &str,
    payload: &Value,
) -> Option<Value> {
    let mut context = Context::new(StationId::new(station.to_owned(), 48).unwrap(), Version::V16);
    (context.generation, context.seq) = key;
    let frame = format!(r#"[2,"{}","{action}",{payload}]"#, key.1);
    let answer = router.answer(&context, frame.into()).await.frame?;
    let mut answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer[0], 3, "{action}: {answer}");
    Some(answer[2].take())
}

/// One that is handed over until it is answered.
async fn answered(router: &Router, station: &str, key: (u64, u64), action: &str, payload: &Value) -> Value {
    wait::until(action, async || call(router, station, key, action, payload).await).await.unwrap()
}

/// What every child says: the same calls of the same stations, as if each were handed over to all of them. One that is
/// behind finds its calls stale; one that the books do not hear goes on after a while, as a gateway would elsewhere.
async fn talk(router: Router, station: u32) {
    let name = format!("S{station}");
    for number in 0.. {
        let seq = u64::from(number) * 3;
        let say = async |step: u64, action: &str, payload: &Value| {
            for _ in 0..3 {
                if let Some(answer) = call(&router, &name, (1, seq + step), action, payload).await {
                    return Some(answer);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            None
        };
        let begin = start(1, "TAG", &time(number, 0), i64::from(number) * 1000);
        let Some(answer) = say(1, "StartTransaction", &begin).await else { continue };
        let id = answer["transactionId"].as_i64().unwrap();
        tell(&format!("@ start {station} {number} {id}"));
        let samples = serde_json::json!([{"value": (number * 1000 + 500).to_string()}]);
        if say(2, "MeterValues", &meter(1, Some(id), &time(number, 10), samples)).await.is_some() {
            tell(&format!("@ meter {station} {number} {id}"));
        }
        let end = stop(id, &time(number, 20), i64::from(number) * 1000 + 900);
        if say(3, "StopTransaction", &end).await.is_some() {
            tell(&format!("@ stop {station} {number} {id}"));
        }
    }
}

fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    // One write, so that a kill cannot cut a line in two.
    out.write_all(format!("{line}\n").as_bytes()).expect("the parent listens");
}

type Told = BTreeMap<(u32, u32), (i64, Vec<String>)>;

struct Worker(Child);

impl Worker {
    /// Starts a child whose answers come to `told`.
    fn start(url: &str, told: &Arc<Mutex<Told>>) -> Self {
        let name = std::thread::current().name().unwrap().to_owned();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &name, "--nocapture", "--test-threads", "1"])
            .env(CHILD, url)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let told = Arc::clone(told);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let Some(at) = line.find("@ ") else { continue };
                let words: Vec<&str> = line[at..].split(' ').collect();
                let number = |place: usize| words[place].parse::<u32>().unwrap();
                let id = words[4].parse().unwrap();
                let mut told = told.lock().unwrap();
                let known = told.entry((number(2), number(3))).or_insert_with(|| (id, Vec::new()));
                known.1.push(if known.0 == id { words[1].to_owned() } else { format!("another id: {id}") });
            }
        });
        Self(child)
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// S02
#[tokio::test]
async fn what_several_processes_answered_is_booked_once_whatever_becomes_of_them_and_of_the_server() {
    #[expect(clippy::disallowed_methods, reason = "the only way to tell a test binary that it is the child")]
    if let Ok(url) = std::env::var(CHILD) {
        let central = open(&url);
        let stations: Vec<_> =
            (0..STATIONS).map(|station| tokio::spawn(talk(central.router(), station))).collect();
        for station in stations {
            station.await.expect("a station");
        }
    }
    let Some(mut server) = Postgres::start("shared books").await.unwrap() else { return };
    server.spare_the_disk().unwrap();
    let url = server.database().unwrap();
    let told = Arc::new(Mutex::new(Told::new()));
    let mut workers: Vec<_> = (0..3).map(|_| Worker::start(&url, &told)).collect();
    let progress = async |what: &str| {
        let before = told.lock().unwrap().len();
        wait::until(what, async || (told.lock().unwrap().len() > before + 5).then_some(())).await.unwrap();
    };
    progress("three processes answer").await;
    for round in 0..2_usize {
        let frozen = &workers[round % 3];
        frozen.signal("-STOP");
        progress("the others go on while one is frozen").await;
        frozen.signal("-CONT");
        workers[(round + 1) % 3] = Worker::start(&url, &told);
        progress("and after one was killed").await;
        if round == 0 {
            server.kill().unwrap();
            server.start().await.unwrap();
            progress("and after the server was killed").await;
        }
    }
    drop(workers);

    let central = open(&url);
    let mut filter = TransactionFilter::default();
    filter.limit = usize::MAX;
    let booked: BTreeMap<i64, _> =
        central.transactions(filter).await.unwrap().into_iter().map(|found| (found.id, found)).collect();
    let told = std::mem::take(&mut *told.lock().unwrap());
    for ((station, number), (id, steps)) in &told {
        assert!(
            !steps.iter().any(|step| step.starts_with("another")),
            "S{station} {number}: {id}, {steps:?}"
        );
        let found = booked.get(id).unwrap_or_else(|| panic!("S{station} was told of transaction {id}"));
        assert_eq!(found.station, format!("S{station}"));
        assert_eq!(found.started.as_ref().unwrap().text, time(*number, 0));
        if steps.iter().any(|step| step == "meter") {
            assert_eq!(central.readings(*id).await.unwrap().len(), 1);
        }
        if steps.iter().any(|step| step == "stop") {
            assert!(found.ended, "S{station} was told that {id} has ended");
        }
    }
    let mut begun: Vec<_> =
        booked.values().map(|found| (&found.station, &found.started.as_ref().unwrap().text)).collect();
    begun.sort_unstable();
    let all = begun.len();
    begun.dedup();
    assert_eq!(begun.len(), all, "a transaction is booked twice");
    central.close().await;
}

#[tokio::test]
async fn books_whose_server_is_away_are_silent_and_come_back_with_it() {
    let Some(mut server) = Postgres::start("books come back").await.unwrap() else { return };
    server.spare_the_disk().unwrap();
    let url = server.database().unwrap();
    server.kill().unwrap();
    // Absent at the start.
    let central = open(&url);
    let router = central.router();
    let start = |number: u32| start(1, "TAG", &time(number, 0), 0);
    assert_eq!(call(&router, "CP1", (1, 1), "StartTransaction", &start(0)).await, None);
    assert!(central.health().trouble().unwrap().contains("away"), "{:?}", central.health().trouble());
    server.start().await.unwrap();
    let first = answered(&router, "CP1", (1, 1), "StartTransaction", &start(0)).await;
    assert_eq!(central.health().trouble(), None);
    // Gone while nobody asks, and there again before somebody does.
    server.kill().unwrap();
    server.start().await.unwrap();
    assert_eq!(answered(&router, "CP1", (1, 1), "StartTransaction", &start(0)).await, first);
    // Gone for a while.
    server.kill().unwrap();
    assert_eq!(call(&router, "CP1", (1, 2), "StartTransaction", &start(1)).await, None);
    assert!(central.alarms(1).await.is_err());
    server.start().await.unwrap();
    let second = answered(&router, "CP1", (1, 2), "StartTransaction", &start(1)).await;
    assert_ne!(first["transactionId"], second["transactionId"]);
    central.close().await;
}

/// Holds a station's row as a process does that was frozen in the middle of a call.
async fn hold(url: &str, station: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let lock = format!("SELECT 1 FROM switchboard_central.once WHERE station = '{station}' FOR UPDATE");
    client
        .batch_execute(&format!("SET idle_in_transaction_session_timeout = '1500ms'; BEGIN; {lock}"))
        .await
        .unwrap();
    client
}

/// S02
#[tokio::test]
async fn a_process_that_is_frozen_with_a_station_holds_up_neither_others_nor_that_for_long() {
    let Some(server) = Postgres::shared("a frozen process").unwrap() else { return };
    let url = server.database().unwrap();
    let central = open(&url);
    let router = central.router();
    for station in ["CP1", "CP2"] {
        answered(&router, station, (1, 1), "StartTransaction", &start(1, "TAG", &time(0, 0), 0)).await;
    }
    let zombie = hold(&url, "CP1").await;
    let begin = start(1, "TAG", &time(1, 0), 0);
    let (first, second) = tokio::join!(
        answered(&router, "CP1", (1, 2), "StartTransaction", &begin),
        answered(&router, "CP2", (1, 2), "StartTransaction", &begin),
    );
    assert_ne!(first["transactionId"], second["transactionId"]);
    assert!(zombie.batch_execute("COMMIT").await.is_err(), "it was thrown out");
    central.close().await;
}

#[tokio::test]
async fn a_full_disk_of_the_server_is_told_as_such_and_loses_nothing() {
    let Some(server) = Postgres::shared("a full disk").unwrap() else { return };
    let url = server.database().unwrap();
    let central = open(&url);
    let router = central.router();
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    // What the server says when it cannot extend a file.
    let full = "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
        CREATE TRIGGER full_disk BEFORE INSERT ON switchboard_central.notice EXECUTE FUNCTION full_disk()";
    let data = serde_json::json!({"vendorId": "com.example", "data": "x"});
    answered(&router, "CP1", (1, 1), "Heartbeat", &serde_json::json!({})).await;
    client.batch_execute(full).await.unwrap();
    assert_eq!(call(&router, "CP1", (1, 2), "DataTransfer", &data).await, None);
    // What needs no room is served.
    assert!(call(&router, "CP1", (1, 3), "Authorize", &serde_json::json!({"idTag": "TAG"})).await.is_some());
    client.batch_execute("DROP TRIGGER full_disk ON switchboard_central.notice").await.unwrap();
    answered(&router, "CP1", (1, 4), "DataTransfer", &data).await;
    assert_eq!(central.notices("default", "CP1", None, 10).await.unwrap().len(), 1);
    central.close().await;
}

#[tokio::test]
async fn what_can_never_be_opened_is_refused_at_once_and_without_the_password() {
    let Some(server) = Postgres::shared("refusals").unwrap() else { return };
    let address = server.address();
    for (url, part) in [
        (format!("postgres://postgres:secret@{address}/absent"), "\"absent\" does not exist"),
        (format!("postgres://nobody:secret@{address}/postgres"), "\"nobody\" does not exist"),
        (format!("postgres://{address}/postgres"), "names no user"),
        (format!("postgres://postgres:secret@{address}/postgres?colour=red"), "colour"),
    ] {
        let refused = Central::open(Config::with(Database::parse(&url).unwrap())).unwrap_err().to_string();
        assert!(refused.contains(part) && !refused.contains("secret"), "{refused}");
    }
    assert!(Database::parse("mysql://host/db").is_err());
}

/// Where somebody else makes the schemas. And one who died before all was made leaves nobody without books.
#[tokio::test]
async fn books_begin_in_a_schema_of_ones_own_and_where_somebody_died_who_began_them() {
    let Some(server) = Postgres::shared("books that somebody began").unwrap() else { return };
    let url = server.database().unwrap();
    let database = url.rsplit('/').next().unwrap();
    let sql = "CREATE ROLE keeper LOGIN; CREATE SCHEMA switchboard_central AUTHORIZATION keeper";
    server.psql(database, sql).unwrap();
    let url = url.replace("postgres@", "keeper@");
    open(&url).close().await;
    for (seq, gone) in [(1, "once_journalled"), (2, "once")] {
        server.psql(database, &format!("DROP TABLE switchboard_central.{gone}")).unwrap();
        let central = open(&url);
        let begin = start(1, "TAG", &time(u32::try_from(seq).unwrap(), 0), 0);
        answered(&central.router(), "S1", (1, seq), "StartTransaction", &begin).await;
        central.close().await;
    }
}
