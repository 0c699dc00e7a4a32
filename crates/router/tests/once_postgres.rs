//! The same key twice, at once, and across a crash of either side, over PostgreSQL: one effect.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the process that is killed says how far it is")]
#![cfg(feature = "postgres")]

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;
use switchboard_router::{
    Key,
    once::{
        Begin,
        postgres::{Once, Statements},
    },
};
use switchboard_rpc::StationId;
use switchboard_testkit::{servers::Postgres, wait};
use tokio::sync::OnceCell;
use tokio_postgres::{Client, NoTls};

/// An empty database of the server that the tests share; none where PostgreSQL is not installed.
async fn database(test: &str) -> Option<String> {
    static SERVER: OnceCell<Option<Postgres>> = OnceCell::const_new();
    let server = SERVER.get_or_init(|| async { Postgres::start(test).await.unwrap() }).await;
    Some(server.as_ref()?.database().unwrap())
}

struct Db {
    client: Client,
    statements: Option<Statements>,
}

async fn open(url: &str) -> Db {
    // A server that is starting accepts and refuses.
    let (client, connection) =
        wait::until("the server answers", async || tokio_postgres::connect(url, NoTls).await.ok())
            .await
            .unwrap();
    tokio::spawn(connection);
    Once::create_tables(&client).await.unwrap();
    client
        .batch_execute(
            "SET lock_timeout = '20s';
            SELECT pg_advisory_xact_lock(1);
            CREATE TABLE IF NOT EXISTS effects (station TEXT, generation BIGINT, seq BIGINT)",
        )
        .await
        .unwrap();
    Db { client, statements: None }
}

async fn open_prepared(url: &str) -> Db {
    let mut db = open(url).await;
    db.statements = Some(Once::prepare(&db.client).await.unwrap());
    db
}

fn key(station: &str, generation: u64, seq: u64) -> Key {
    Key {
        tenant: "default".into(),
        station: StationId::new(station, 48).unwrap(),
        generation,
        seq,
        journal: None,
    }
}

fn journalled(station: &str, generation: u64, seq: u64, journal: u64) -> Key {
    Key { journal: Some(journal), ..key(station, generation, seq) }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Handled {
    Fresh(String),
    Repeat(String),
    Stale,
}

/// A handler: one effect, and an answer that nobody could guess.
async fn handle(db: &mut Db, key: &Key) -> Handled {
    let mut transaction = db.client.transaction().await.unwrap();
    let begun = match &db.statements {
        Some(statements) => Once::begin_prepared(&transaction, statements, key).await,
        None => Once::begin(&mut transaction, key).await,
    };
    let token = match begun.unwrap() {
        Begin::Fresh(token) => token,
        Begin::Repeat(payload) => return Handled::Repeat(payload.to_string()),
        Begin::Stale => return Handled::Stale,
    };
    let effect = "INSERT INTO effects VALUES ($1, $2, $3)";
    let (generation, seq) = (key.generation as i64, key.seq as i64);
    transaction.execute(effect, &[&key.station.as_str(), &generation, &seq]).await.unwrap();
    let counted = transaction.query_one("SELECT count(*) FROM effects", &[]).await.unwrap();
    let payload = format!("{{\"transactionId\":{}}}", counted.get::<_, i64>(0));
    match &db.statements {
        Some(statements) => token.store_prepared(&transaction, statements, &payload).await,
        None => token.store_payload(&transaction, &payload).await,
    }
    .unwrap();
    transaction.commit().await.unwrap();
    Handled::Fresh(payload)
}

async fn effects(db: &Db) -> i64 {
    count(db, "effects").await
}

async fn count(db: &Db, table: &str) -> i64 {
    db.client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap().get(0)
}

/// What each of them finds, one after the other, whether the statements were prepared or not.
async fn check(test: &str, calls: &[(Key, &str)]) {
    for prepared in [false, true] {
        let Some(url) = database(test).await else { return };
        let mut db = if prepared { open_prepared(&url).await } else { open(&url).await };
        for (key, expected) in calls {
            let handled = handle(&mut db, key).await;
            let found = match &handled {
                Handled::Fresh(_) => "fresh",
                Handled::Repeat(_) => "repeat",
                Handled::Stale => "stale",
            };
            assert_eq!(found, *expected, "{key:?}: {handled:?}");
        }
        let fresh = calls.iter().filter(|(_, expected)| *expected == "fresh").count();
        assert_eq!(effects(&db).await, i64::try_from(fresh).unwrap());
    }
}

/// S02
#[tokio::test]
async fn the_same_key_again_gets_the_first_answer_and_has_no_effect() {
    let Some(url) = database("the_same_key_again_gets_the_first_answer_and_has_no_effect").await else {
        return;
    };
    let mut db = open(&url).await;
    let first = handle(&mut db, &key("CP1", 7, 0)).await;
    let Handled::Fresh(payload) = first else { panic!("{first:?}") };
    assert_eq!(handle(&mut db, &key("CP1", 7, 0)).await, Handled::Repeat(payload.clone()));
    let mut other = open_prepared(&url).await;
    assert_eq!(handle(&mut other, &key("CP1", 7, 0)).await, Handled::Repeat(payload));
    assert_eq!(effects(&db).await, 1);
}

#[tokio::test]
async fn keys_rise_by_generation_and_then_by_number_and_what_is_lower_is_stale() {
    check(
        "keys_rise_by_generation_and_then_by_number_and_what_is_lower_is_stale",
        &[
            (key("CP1", 7, 5), "fresh"),
            (key("CP1", 7, 4), "stale"),
            (key("CP1", 6, 9), "stale"),
            (key("CP1", 7, 6), "fresh"),
            (key("CP1", 8, 0), "fresh"),
            (key("CP1", 7, 7), "stale"),
            (key("CP1", u64::MAX / 4, 0), "fresh"),
            (key("CP1", 8, 1), "stale"),
        ],
    )
    .await;
}

#[tokio::test]
async fn stations_and_tenants_do_not_share_keys() {
    let other_tenant = Key { tenant: "acme".into(), ..key("CP1", 1, 0) };
    check(
        "stations_and_tenants_do_not_share_keys",
        &[(key("CP1", 9, 9), "fresh"), (key("CP2", 1, 0), "fresh"), (other_tenant, "fresh")],
    )
    .await;
}

#[tokio::test]
async fn a_transaction_that_is_rolled_back_leaves_the_call_fresh() {
    let Some(url) = database("a_transaction_that_is_rolled_back_leaves_the_call_fresh").await else { return };
    let mut db = open(&url).await;
    let key = key("CP1", 1, 0);
    let mut transaction = db.client.transaction().await.unwrap();
    let Begin::Fresh(token) = Once::begin(&mut transaction, &key).await.unwrap() else { panic!("not fresh") };
    token.store_payload(&transaction, "{}").await.unwrap();
    transaction.rollback().await.unwrap();
    assert!(matches!(handle(&mut db, &key).await, Handled::Fresh(_)));
}

#[tokio::test]
async fn s02_a_call_that_had_its_effect_late_and_was_then_journalled_has_none_again() {
    check(
        "s02_a_call_that_had_its_effect_late_and_was_then_journalled_has_none_again",
        &[
            (key("CP1", 5, 3), "fresh"),
            (key("CP1", 5, 4), "fresh"),
            (key("CP1", 5, 8), "fresh"),
            (key("CP1", 6, 0), "fresh"),
            // Its gateway gave up waiting and journalled it; the station went on with calls that do not wait for that.
            (journalled("CP1", 5, 3, 71), "repeat"),
            (journalled("CP1", 5, 8, 72), "repeat"),
            (key("CP1", 5, 8), "stale"),
            (journalled("CP1", 5, 5, 73), "fresh"),
            (journalled("CP1", 5, 5, 73), "repeat"),
            // A frozen worker finds that its call was worked off.
            (journalled("CP1", 6, 1, 74), "fresh"),
            (key("CP1", 6, 1), "repeat"),
            // The last key has not moved.
            (key("CP1", 6, 0), "repeat"),
            // A journal that begins anew after its loss hides no call.
            (journalled("CP1", 6, 3, 74), "fresh"),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_memory_of_calls_is_bounded() {
    let Some(url) = database("the_memory_of_calls_is_bounded").await else { return };
    let mut db = open_prepared(&url).await;
    for seq in 0..20 {
        assert!(matches!(handle(&mut db, &key("CP1", 5, seq)).await, Handled::Fresh(_)));
    }
    let row = db.client.query_one("SELECT length(earlier) FROM once", &[]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 16, "one byte for each of sixteen");
    for number in 100..170 {
        assert!(matches!(handle(&mut db, &journalled("CP1", 5, number, number)).await, Handled::Fresh(_)));
    }
    assert_eq!(count(&db, "once_journalled").await, 64);
    assert!(matches!(handle(&mut db, &journalled("CP1", 5, 169, 1)).await, Handled::Repeat(_)));
    assert!(matches!(handle(&mut db, &journalled("CP2", 5, 0, 200)).await, Handled::Fresh(_)));
    assert_eq!(count(&db, "once_journalled").await, 65, "each station has its own room");
    assert_eq!(Once::generation_max(&db.client).await.unwrap(), 5);
}

#[tokio::test]
async fn the_same_key_at_once_has_one_effect_and_one_answer() {
    let Some(url) = database("the_same_key_at_once_has_one_effect_and_one_answer").await else { return };
    let mut workers = Vec::new();
    for number in 0..8 {
        // Also the tables are made by all at once.
        let open = async |url: &str| {
            if number % 2 == 0 { open(url).await } else { open_prepared(url).await }
        };
        workers.push(open(&url).await);
    }
    for round in 0..10 {
        let key = key("CP1", 1, round);
        let handled = futures_util::future::join_all(workers.iter_mut().map(|db| handle(db, &key))).await;
        let fresh = handled.iter().filter(|one| matches!(one, Handled::Fresh(_))).count();
        assert_eq!(fresh, 1, "{handled:?}");
        let answers: std::collections::HashSet<_> = handled
            .iter()
            .map(|one| match one {
                Handled::Fresh(payload) | Handled::Repeat(payload) => payload,
                Handled::Stale => panic!("the same key is never stale"),
            })
            .collect();
        assert_eq!(answers.len(), 1, "{handled:?}");
        assert_eq!(effects(&workers[0]).await, i64::try_from(round).unwrap() + 1);
    }
}

#[tokio::test]
async fn tables_are_made_by_many_at_once() {
    let Some(url) = database("tables_are_made_by_many_at_once").await else { return };
    futures_util::future::join_all((0..8).map(|_| open(&url))).await;
}

/// A frozen worker holds its station's row, until the server ends its transaction.
#[tokio::test]
async fn a_zombie_blocks_nobody_for_long_and_cannot_commit() {
    let Some(url) = database("a_zombie_blocks_nobody_for_long_and_cannot_commit").await else { return };
    let (mut zombie, mut heir) = (open(&url).await, open(&url).await);
    zombie.client.batch_execute("SET idle_in_transaction_session_timeout = '500ms'").await.unwrap();
    let key = key("CP1", 1, 0);
    let mut transaction = zombie.client.transaction().await.unwrap();
    let Begin::Fresh(token) = Once::begin(&mut transaction, &key).await.unwrap() else { panic!("not fresh") };
    token.store_payload(&transaction, "{}").await.unwrap();
    let handled = handle(&mut heir, &key).await;
    assert!(matches!(handled, Handled::Fresh(_)), "{handled:?}");
    assert!(transaction.commit().await.is_err());
    assert_eq!(handle(&mut heir, &key).await, Handled::Repeat("{\"transactionId\":1}".to_owned()));
    assert_eq!(effects(&heir).await, 1);
}

/// Where a process, or the server, is killed.
const CRASHES: [(&str, bool); 3] =
    [("before the effect", false), ("before the commit", false), ("after the commit", true)];

const CHILD: &str = "SWITCHBOARD_ONCE_TEST_CHILD";

/// Kills processes at each point of a call, then the server, and lets another process repeat the call.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the test starts itself as the process that is killed")]
async fn a_crash_of_either_side_leaves_one_effect_when_the_call_is_repeated() {
    const NAME: &str = "a_crash_of_either_side_leaves_one_effect_when_the_call_is_repeated";
    if let Some(argument) = std::env::var_os(CHILD) {
        let argument = argument.into_string().unwrap();
        let (point, url) = argument.split_once('\n').unwrap();
        die_at(point, url).await;
    }
    let Some(mut server) = Postgres::start(NAME).await.unwrap() else { return };
    for (point, done) in CRASHES {
        for server_too in [false, true] {
            let url = server.database().unwrap();
            drop(open(&url).await);
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "--nocapture", NAME])
                .env(CHILD, format!("{point}\n{url}"))
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let output = BufReader::new(child.stdout.take().unwrap());
            let reached = output.lines().map_while(Result::ok).any(|line| line.ends_with("there"));
            if server_too {
                server.kill().unwrap();
            }
            // SIGKILL: no destructor, no rollback, no goodbye.
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(reached, "{point}: the process did not come that far");
            if server_too {
                server.start().await.unwrap();
            }

            let mut db = open(&url).await;
            assert_eq!(effects(&db).await, i64::from(done), "{point}");
            let handled = handle(&mut db, &key("CP1", 1, 0)).await;
            assert_eq!(matches!(handled, Handled::Repeat(_)), done, "{point}: {handled:?}");
            let (Handled::Fresh(payload) | Handled::Repeat(payload)) = handled else {
                panic!("{point}: stale")
            };
            assert_eq!(payload, "{\"transactionId\":1}", "{point}");
            assert_eq!(effects(&db).await, 1, "{point}");
        }
    }
}

/// Goes as far as that, says so, and waits to be killed.
async fn die_at(point: &str, url: &str) -> ! {
    let mut db = open(url).await;
    let key = key("CP1", 1, 0);
    if point == "after the commit" {
        handle(&mut db, &key).await;
        there().await;
    }
    let mut transaction = db.client.transaction().await.unwrap();
    let Begin::Fresh(token) = Once::begin(&mut transaction, &key).await.unwrap() else { panic!("not fresh") };
    if point == "before the effect" {
        there().await;
    }
    transaction.execute("INSERT INTO effects VALUES ('CP1', 1, 0)", &[]).await.unwrap();
    token.store_payload(&transaction, "{\"transactionId\":1}").await.unwrap();
    there().await
}

async fn there() -> ! {
    println!("there");
    loop {
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
}
