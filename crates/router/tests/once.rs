//! The same key twice, at once, and across a crash: one effect.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the process that is killed says how far it is")]
#![cfg(feature = "sqlite")]

use proptest::prelude::*;
use rusqlite::{Connection, TransactionBehavior};
use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::Barrier,
    time::Duration,
};
use switchboard_router::{
    Key,
    once::{
        Begin,
        sqlite::{Memory, Once},
    },
};
use switchboard_rpc::StationId;

fn open(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(30)).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    Once::create_tables(&connection).unwrap();
    connection
        .execute_batch("CREATE TABLE IF NOT EXISTS effects (station TEXT, generation INTEGER, seq INTEGER);")
        .unwrap();
    connection
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
fn handle(connection: &mut Connection, key: &Key, behavior: TransactionBehavior) -> Handled {
    let transaction = connection.transaction_with_behavior(behavior).unwrap();
    let token = match Once::begin(&transaction, key).unwrap() {
        Begin::Fresh(token) => token,
        Begin::Repeat(payload) => return Handled::Repeat(payload.to_string()),
        Begin::Stale => return Handled::Stale,
    };
    transaction
        .execute(
            "INSERT INTO effects VALUES (?1, ?2, ?3)",
            (key.station.as_str(), key.generation as i64, key.seq as i64),
        )
        .unwrap();
    let number: i64 = transaction.query_row("SELECT count(*) FROM effects", [], |row| row.get(0)).unwrap();
    let payload = format!("{{\"transactionId\":{number}}}");
    token.store_payload(&transaction, &payload).unwrap();
    transaction.commit().unwrap();
    Handled::Fresh(payload)
}

/// As [`handle`], remembering. What happens in the transaction is taken back if so.
fn handle_remembering(connection: &mut Connection, memory: &mut Memory, key: &Key, back: bool) -> Handled {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let handled = match Once::begin_remembering(&transaction, memory, key).unwrap() {
        Begin::Repeat(payload) => Handled::Repeat(payload.to_string()),
        Begin::Stale => Handled::Stale,
        Begin::Fresh(token) => {
            let payload = format!("{{\"transactionId\":{}}}", key.seq);
            token.store_remembering(&transaction, memory, &payload).unwrap();
            Handled::Fresh(payload)
        }
    };
    if back {
        transaction.rollback().unwrap();
        memory.forget();
    } else {
        transaction.commit().unwrap();
    }
    handled
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_remembered_decides_as_what_is_stored(
        calls in prop::collection::vec((0..2_u8, 1..4_u64, 0..6_u64, prop::bool::weighted(0.2), prop::bool::weighted(0.1)), 1..60),
    ) {
        let (mut with, mut without) = (Connection::open_in_memory().unwrap(), Connection::open_in_memory().unwrap());
        Once::create_tables(&with).unwrap();
        Once::create_tables(&without).unwrap();
        let mut memory = Memory::default();
        for (number, (station, generation, seq, is_journalled, back)) in (1_u64..).zip(calls) {
            let station = format!("S{station}");
            let key = match is_journalled {
                true => journalled(&station, generation, seq, number),
                false => key(&station, generation, seq),
            };
            let decided = handle_remembering(&mut with, &mut memory, &key, back);
            let expected = handle_remembering(&mut without, &mut Memory::default(), &key, back);
            prop_assert_eq!(decided, expected, "{:?}", key);
        }
    }
}

fn handle_now(connection: &mut Connection, key: &Key) -> Handled {
    handle(connection, key, TransactionBehavior::Immediate)
}

fn effects(connection: &Connection) -> i64 {
    connection.query_row("SELECT count(*) FROM effects", [], |row| row.get(0)).unwrap()
}

fn count(connection: &Connection, table: &str) -> i64 {
    connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

/// S02
#[test]
fn the_same_key_again_gets_the_first_answer_and_has_no_effect() {
    let directory = tempfile::tempdir().unwrap();
    let mut db = open(&directory.path().join("db"));
    let first = handle_now(&mut db, &key("CP1", 7, 0));
    let Handled::Fresh(payload) = first else { panic!("{first:?}") };
    assert_eq!(handle_now(&mut db, &key("CP1", 7, 0)), Handled::Repeat(payload.clone()));
    drop(db);
    let mut db = open(&directory.path().join("db"));
    assert_eq!(handle_now(&mut db, &key("CP1", 7, 0)), Handled::Repeat(payload));
    assert_eq!(effects(&db), 1);
}

#[test]
fn keys_rise_by_generation_and_then_by_number_and_what_is_lower_is_stale() {
    let directory = tempfile::tempdir().unwrap();
    let mut db = open(&directory.path().join("db"));
    for (generation, seq, fresh) in [
        (7, 5, true),
        (7, 4, false),
        (6, 9, false),
        (7, 6, true),
        (8, 0, true),
        (7, 7, false),
        (u64::MAX / 4, 0, true),
        (8, 1, false),
    ] {
        let handled = handle_now(&mut db, &key("CP1", generation, seq));
        assert_eq!(matches!(handled, Handled::Fresh(_)), fresh, "{generation}/{seq}: {handled:?}");
        assert_eq!(handled == Handled::Stale, !fresh, "{generation}/{seq}: {handled:?}");
    }
    assert_eq!(effects(&db), 4);
}

#[test]
fn stations_and_tenants_do_not_share_keys() {
    let directory = tempfile::tempdir().unwrap();
    let mut db = open(&directory.path().join("db"));
    let other_tenant = Key { tenant: "acme".into(), ..key("CP1", 1, 0) };
    for key in [key("CP1", 9, 9), key("CP2", 1, 0), other_tenant] {
        assert!(matches!(handle_now(&mut db, &key), Handled::Fresh(_)), "{key:?}");
    }
}

#[test]
fn a_transaction_that_is_rolled_back_leaves_the_call_fresh() {
    let directory = tempfile::tempdir().unwrap();
    let mut db = open(&directory.path().join("db"));
    let key = key("CP1", 1, 0);
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let Begin::Fresh(token) = Once::begin(&transaction, &key).unwrap() else { panic!("not fresh") };
    token.store_payload(&transaction, "{}").unwrap();
    transaction.rollback().unwrap();
    assert!(matches!(handle_now(&mut db, &key), Handled::Fresh(_)));
}

#[test]
fn s02_a_call_that_had_its_effect_late_and_was_then_journalled_has_none_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut db = open(&directory.path().join("db"));
    // Its gateway gave up waiting and journalled it; the station went on with calls that do not wait for the journal.
    for (generation, seq) in [(5, 3), (5, 4), (5, 8), (6, 0)] {
        assert!(matches!(handle_now(&mut db, &key("CP1", generation, seq)), Handled::Fresh(_)));
    }
    assert!(matches!(handle_now(&mut db, &journalled("CP1", 5, 3, 71)), Handled::Repeat(_)));
    assert!(matches!(handle_now(&mut db, &journalled("CP1", 5, 8, 72)), Handled::Repeat(_)));
    assert_eq!(handle_now(&mut db, &key("CP1", 5, 8)), Handled::Stale);
    assert_eq!(effects(&db), 4);
    assert!(matches!(handle_now(&mut db, &journalled("CP1", 5, 5, 73)), Handled::Fresh(_)));
}

#[test]
fn s02_a_frozen_worker_finds_that_its_call_was_worked_off_from_the_journal() {
    let directory = tempfile::tempdir().unwrap();
    let mut db = open(&directory.path().join("db"));
    assert!(matches!(handle_now(&mut db, &key("CP1", 5, 2)), Handled::Fresh(_)));
    let worked_off = handle_now(&mut db, &journalled("CP1", 5, 3, 71));
    let Handled::Fresh(payload) = worked_off else { panic!("{worked_off:?}") };
    assert_eq!(handle_now(&mut db, &key("CP1", 5, 3)), Handled::Repeat(payload));
    assert_eq!(effects(&db), 2);
}

#[test]
fn the_memory_of_earlier_calls_is_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let mut db = open(&directory.path().join("db"));
    for seq in 0..100 {
        assert!(matches!(handle_now(&mut db, &key("CP1", 5, seq)), Handled::Fresh(_)));
    }
    let bytes: i64 = db.query_row("SELECT length(earlier) FROM once", [], |row| row.get(0)).unwrap();
    assert_eq!(bytes, 16, "one byte for each of sixteen");
    assert!(matches!(handle_now(&mut db, &journalled("CP1", 5, 90, 1)), Handled::Repeat(_)));
}

#[test]
fn journalled_calls_are_known_by_themselves_and_leave_the_last_key_alone() {
    let directory = tempfile::tempdir().unwrap();
    let mut db = open(&directory.path().join("db"));
    assert!(matches!(handle_now(&mut db, &key("CP1", 5, 9)), Handled::Fresh(_)));
    // From before, worked off now.
    let late = handle_now(&mut db, &journalled("CP1", 5, 3, 71));
    let Handled::Fresh(payload) = late else { panic!("{late:?}") };
    assert_eq!(handle_now(&mut db, &journalled("CP1", 5, 3, 71)), Handled::Repeat(payload));
    assert!(
        matches!(handle_now(&mut db, &key("CP1", 5, 9)), Handled::Repeat(_)),
        "the last key has not moved"
    );
    assert!(matches!(handle_now(&mut db, &key("CP1", 5, 10)), Handled::Fresh(_)));
    // Its handler was done, the answer came too late for the station, and the gateway journalled it.
    assert!(matches!(handle_now(&mut db, &journalled("CP1", 5, 10, 72)), Handled::Repeat(_)));
    assert_eq!(effects(&db), 3);
}

#[test]
fn a_journal_that_begins_anew_after_its_loss_hides_no_call() {
    let directory = tempfile::tempdir().unwrap();
    let mut db = open(&directory.path().join("db"));
    assert!(matches!(handle_now(&mut db, &journalled("CP1", 5, 3, 1)), Handled::Fresh(_)));
    assert!(matches!(handle_now(&mut db, &journalled("CP1", 6, 0, 1)), Handled::Fresh(_)));
}

#[test]
fn the_memory_of_journalled_calls_is_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let mut db = open(&directory.path().join("db"));
    for number in 0..200 {
        assert!(matches!(handle_now(&mut db, &journalled("CP1", 5, number, number)), Handled::Fresh(_)));
    }
    assert_eq!(count(&db, "once_journalled"), 64);
    assert!(matches!(handle_now(&mut db, &journalled("CP1", 5, 199, 199)), Handled::Repeat(_)));
    assert!(matches!(handle_now(&mut db, &journalled("CP2", 5, 0, 200)), Handled::Fresh(_)));
    assert_eq!(count(&db, "once_journalled"), 65, "each station has its own room");
}

#[test]
fn the_same_key_at_once_has_one_effect_and_one_answer() {
    for (name, behavior) in
        [("immediate", TransactionBehavior::Immediate), ("deferred", TransactionBehavior::Deferred)]
    {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let db = open(&path);
        let threads = 8;
        let barrier = Barrier::new(threads);
        for round in 0..10 {
            let handled: Vec<Handled> = std::thread::scope(|scope| {
                let workers: Vec<_> = (0..threads)
                    .map(|_| {
                        scope.spawn(|| {
                            let mut db = open(&path);
                            barrier.wait();
                            handle(&mut db, &key("CP1", 1, round), behavior)
                        })
                    })
                    .collect();
                workers.into_iter().map(|worker| worker.join().unwrap()).collect()
            });
            let fresh: Vec<_> = handled.iter().filter(|one| matches!(one, Handled::Fresh(_))).collect();
            assert_eq!(fresh.len(), 1, "{name}: {handled:?}");
            let answers: std::collections::HashSet<_> = handled
                .iter()
                .map(|one| match one {
                    Handled::Fresh(payload) | Handled::Repeat(payload) => payload,
                    Handled::Stale => panic!("the same key is never stale"),
                })
                .collect();
            assert_eq!(answers.len(), 1, "{name}: {handled:?}");
            assert_eq!(effects(&db), i64::try_from(round).unwrap() + 1, "{name}");
        }
    }
}

/// Where a process is when it is killed.
const CRASHES: [(&str, bool); 3] =
    [("before the effect", false), ("before the commit", false), ("after the commit", true)];

const CHILD: &str = "SWITCHBOARD_ONCE_TEST_CHILD";

/// Kills processes at each point of a call, and lets another one repeat it.
#[test]
#[expect(clippy::disallowed_methods, reason = "the test starts itself as the process that is killed")]
fn a_process_killed_in_the_middle_of_a_call_leaves_one_effect_when_it_is_repeated() {
    if let Some(argument) = std::env::var_os(CHILD) {
        let argument = argument.into_string().unwrap();
        let (point, path) = argument.split_once('\n').unwrap();
        die_at(point, Path::new(path));
    }
    for (point, done) in CRASHES {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        drop(open(&path));
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("a_process_killed_in_the_middle_of_a_call_leaves_one_effect_when_it_is_repeated")
            .env(CHILD, format!("{point}\n{}", path.display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let reached = output.lines().map_while(Result::ok).any(|line| line.ends_with("there"));
        // SIGKILL: no destructor, no rollback, no goodbye.
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(reached, "{point}: the process did not come that far");

        let mut db = open(&path);
        assert_eq!(effects(&db), i64::from(done), "{point}");
        let handled = handle_now(&mut db, &key("CP1", 1, 0));
        assert_eq!(matches!(handled, Handled::Repeat(_)), done, "{point}: {handled:?}");
        let (Handled::Fresh(payload) | Handled::Repeat(payload)) = handled else { panic!("{point}: stale") };
        assert_eq!(payload, "{\"transactionId\":1}", "{point}");
        assert_eq!(effects(&db), 1, "{point}");
    }
}

/// Goes as far as that, says so, and waits to be killed.
fn die_at(point: &str, path: &Path) -> ! {
    let mut db = open(path);
    let key = key("CP1", 1, 0);
    let there = || -> ! {
        println!("there");
        loop {
            std::thread::park();
        }
    };
    if point == "after the commit" {
        handle_now(&mut db, &key);
        there();
    }
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let Begin::Fresh(token) = Once::begin(&transaction, &key).unwrap() else { panic!("not fresh") };
    if point == "before the effect" {
        there();
    }
    transaction.execute("INSERT INTO effects VALUES ('CP1', 1, 0)", []).unwrap();
    token.store_payload(&transaction, "{\"transactionId\":1}").unwrap();
    there();
}
