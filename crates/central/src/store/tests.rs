//! What the store promises, without any books in it.

use super::{Limits, OpenError, Store, StoreError, Transaction};
use crate::clock::Clock;
use crate::config::Database;
use futures_util::future::join_all;
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;
use switchboard_testkit::servers::Postgres;
use tempfile::TempDir;

const LIMITS: Limits = Limits {
    queue_calls_max: 1024,
    batch_calls_max: 64,
    batch_time_max: Duration::from_secs(30),
    readers: 2,
    before_commit: |_, _| Ok(()),
};

struct Bench {
    _folder: TempDir,
    path: PathBuf,
    store: Store,
}

fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/central.db");
    let store = open(&path).unwrap();
    Bench { _folder: folder, path, store }
}

fn open(path: &Path) -> Result<Store, OpenError> {
    let database = Database::Sqlite { path: path.to_owned() };
    Store::open(&database, LIMITS, &Clock::new(|| 0), false).map(|(store, _)| store)
}

fn put(name: String) -> impl Fn(&Transaction<'_>) -> Result<(), StoreError> + Send + 'static {
    move |transaction| {
        transaction.execute("INSERT INTO counter (name, value) VALUES (?1, 1)", [&name])?;
        Ok(())
    }
}

async fn count(store: &Store) -> i64 {
    store
        .read(|db| {
            let sql = "SELECT count(*) FROM counter WHERE name LIKE 'row%'";
            Ok(db.query_row(sql, [], |row| row.get(0))?)
        })
        .await
        .unwrap()
}

/// Keeps the writer busy until the sender is used or dropped, so that what is sent meanwhile is one batch.
async fn hold(store: &Store) -> (mpsc::Sender<()>, tokio::task::JoinHandle<Result<(), StoreError>>) {
    let (release, released) = mpsc::channel::<()>();
    let (running, entered) = tokio::sync::oneshot::channel();
    let gate = std::sync::Mutex::new((Some(running), released));
    let store = store.clone();
    let held = tokio::spawn(async move {
        store
            .write(move |_| {
                let mut gate = gate.lock().unwrap();
                if let Some(running) = gate.0.take() {
                    running.send(()).unwrap();
                }
                gate.1.recv().ok();
                Ok(())
            })
            .await
    });
    entered.await.unwrap();
    (release, held)
}

#[tokio::test]
async fn calls_that_wait_share_one_commit() {
    let Bench { store, .. } = &bench();
    let (release, held) = hold(store).await;
    let before = store.stats();
    let calls = (0..640).map(|number| store.write(put(format!("row{number}"))));
    // `join_all` sends all of them before the first can be answered, since the writer is held.
    let answers = tokio::join!(join_all(calls), async { drop(release) }).0;
    assert!(answers.iter().all(Result::is_ok));
    held.await.unwrap().unwrap();
    let commits = store.stats().commits - before.commits;
    // 641 calls in batches of 64.
    assert!(commits <= 12, "{commits} commits for 640 calls");
    assert_eq!(store.stats().written - before.written, 641);
    assert_eq!(count(store).await, 640);
}

#[tokio::test]
async fn a_failing_call_leaves_nothing_and_costs_its_neighbours_nothing() {
    let Bench { store, .. } = &bench();
    let (release, held) = hold(store).await;
    let fails = store.write(|transaction| {
        put("row-failing".to_owned())(transaction)?;
        Err::<(), _>(StoreError::Invalid("no".to_owned()))
    });
    let panics = store.write(|transaction| -> Result<(), StoreError> {
        put("row-panicking".to_owned())(transaction)?;
        panic!("on purpose")
    });
    let answers = tokio::join!(
        store.write(put("row1".to_owned())),
        fails,
        panics,
        store.write(put("row2".to_owned())),
        async { drop(release) },
    );
    assert!(answers.0.is_ok() && answers.3.is_ok());
    assert!(matches!(answers.1, Err(StoreError::Invalid(text)) if text == "no"));
    assert!(matches!(answers.2, Err(StoreError::Panicked)));
    held.await.unwrap().unwrap();
    assert_eq!(count(store).await, 2);
    assert_eq!(store.stats().repeated, 1);
}

#[tokio::test]
async fn a_full_disk_fails_what_does_not_fit_and_heals() {
    let Bench { store, .. } = &bench();
    store.write(put("row1".to_owned())).await.unwrap();
    let quota = |pages: i64| {
        store.write(move |transaction| {
            let sql = format!("PRAGMA max_page_count = {pages}");
            Ok(transaction.query_row(&sql, [], |_| Ok(()))?)
        })
    };
    quota(1).await.unwrap();
    let large = || {
        store.write(|transaction| {
            let sql = "INSERT INTO counter (name, value) VALUES ('row' || hex(randomblob(1000000)), 1)";
            transaction.execute(sql, [])?;
            Ok(())
        })
    };
    let refused = large().await.unwrap_err();
    assert!(matches!(refused, StoreError::Full) && refused.is_retryable(), "{refused:?}");
    // What needs no room goes on, and so do reads.
    store
        .write(|transaction| Ok(transaction.execute("UPDATE counter SET value = 2 WHERE name = 'row1'", [])?))
        .await
        .unwrap();
    assert_eq!(count(store).await, 1);
    quota(1_000_000).await.unwrap();
    large().await.unwrap();
    assert_eq!(count(store).await, 2);
}

#[tokio::test]
async fn a_file_has_one_owner() {
    let bench = bench();
    let refused = open(&bench.path).unwrap_err();
    assert!(matches!(&refused, OpenError::InUse { path } if *path == bench.path));
    assert!(refused.to_string().contains("in use by another process"), "{refused}");
    bench.store.write(put("row1".to_owned())).await.unwrap();
    bench.store.close().await;
    let again = open(&bench.path).unwrap();
    assert_eq!(count(&again).await, 1);
}

#[tokio::test]
async fn closing_writes_what_is_queued_and_refuses_what_comes_later() {
    let Bench { path, store, _folder } = bench();
    let (release, held) = hold(&store).await;
    let calls = (0..200).map(|number| store.write(put(format!("row{number}"))));
    let answers = tokio::join!(join_all(calls), store.close(), async { drop(release) }).0;
    assert!(answers.iter().all(Result::is_ok));
    held.await.unwrap().unwrap();
    assert!(matches!(store.write(put("late".to_owned())).await, Err(StoreError::Closed)));
    store.close().await;
    let again = open(&path).unwrap();
    assert_eq!(count(&again).await, 200);
}

#[tokio::test]
async fn an_abandoned_call_is_stored_all_the_same() {
    let Bench { store, .. } = &bench();
    let (release, held) = hold(store).await;
    let abandoned = tokio::spawn({
        let store = store.clone();
        async move { store.write(put("row1".to_owned())).await }
    });
    while store.writes.capacity() == LIMITS.queue_calls_max {
        tokio::task::yield_now().await;
    }
    abandoned.abort();
    drop(release);
    held.await.unwrap().unwrap();
    store.write(put("row2".to_owned())).await.unwrap();
    assert_eq!(count(store).await, 2);
}

#[tokio::test]
async fn what_was_learnt_in_a_transaction_that_failed_is_forgotten() {
    let Bench { store, .. } = &bench();
    let (release, held) = hold(store).await;
    let learns = store.write(|transaction| {
        let known = transaction.known().station("default", "CP1");
        transaction.learn().note_station("default", "CP1", 7);
        Ok(known)
    });
    let fails = store.write(|_| Err::<(), _>(StoreError::Invalid("no".to_owned())));
    let (learnt, failed, ()) = tokio::join!(learns, fails, async { drop(release) });
    held.await.unwrap().unwrap();
    assert!(failed.is_err());
    assert_eq!(learnt.unwrap(), None, "when it was done again");
    let known = store.write(|transaction| Ok(transaction.known().station("default", "CP1")));
    assert_eq!(known.await.unwrap(), None, "as the savepoint after it was rolled back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_whose_failure_was_overlooked_spoils_its_own_transaction_only() {
    let Some(server) = Postgres::shared("a statement that fails").unwrap() else { return };
    let database = Database::parse(&server.database().unwrap()).unwrap();
    let (store, _) = Store::open(&database, LIMITS, &Clock::system(), false).unwrap();
    let overlooked = store.write(|transaction| {
        drop(transaction.execute("INSERT INTO counter (name, value) VALUES (?1, 1)", [None::<&str>]));
        Ok(())
    });
    assert!(overlooked.await.is_err());
    store.write(put("row1".to_owned())).await.unwrap();
    assert_eq!(count(&store).await, 1);
    store.close().await;
}

/// Opens a file that was spoilt and gives out what is said about it.
fn refusal(spoil: impl FnOnce(&Path)) -> OpenError {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("central.db");
    spoil(&path);
    open(&path).unwrap_err()
}

#[tokio::test]
async fn a_file_of_a_later_version_is_left_alone() {
    let bench = bench();
    bench.store.close().await;
    Connection::open(&bench.path).unwrap().pragma_update(None, "user_version", 4711).unwrap();
    let refused = open(&bench.path).unwrap_err();
    assert!(matches!(refused, OpenError::NewerSchema { found: 4711, .. }), "{refused:?}");
    assert!(refused.to_string().contains("use a newer program"), "{refused}");
}

#[test]
fn a_file_of_another_program_is_left_alone() {
    let refused = refusal(|path| {
        Connection::open(path).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    });
    assert!(matches!(refused, OpenError::Foreign { .. }), "{refused:?}");
}

#[test]
fn what_is_no_database_is_said_to_be_none() {
    let refused = refusal(|path| std::fs::write(path, "not a database, ".repeat(1000)).unwrap());
    assert!(matches!(refused, OpenError::Damaged { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_damaged_file_is_found_at_the_start() {
    let bench = bench();
    let fill = (0..500).map(|number| bench.store.write(put(format!("row{number:0>100}"))));
    assert!(join_all(fill).await.iter().all(Result::is_ok));
    bench.store.close().await;
    let mut bytes = std::fs::read(&bench.path).unwrap();
    let middle = bytes.len() - 3 * 4096;
    bytes[middle..middle + 4096].fill(0xa5);
    std::fs::write(&bench.path, bytes).unwrap();
    let refused = open(&bench.path).unwrap_err();
    assert!(matches!(refused, OpenError::Damaged { .. }), "{refused:?}");
    assert!(refused.to_string().contains("Restore a copy"), "{refused}");
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let refused = open(&file.join("central.db")).unwrap_err();
    assert!(matches!(&refused, OpenError::Io { path, .. } if *path == file), "{refused:?}");
}
