//! What the embedded directory promises beside the conformance suite.

mod crash;
mod model;

use super::*;
use switchboard_bus::ConnectionKey;
use switchboard_rpc::Version;

fn key(station: &str) -> StationKey {
    StationKey { tenant: "default".into(), station: StationId::new(station, 48).unwrap() }
}

fn entry(station: &str, seq: u64) -> JournalEntry {
    JournalEntry {
        id: 0,
        key: key(station),
        version: Version::V16,
        connection: ConnectionKey { gateway: "gateway-1".into(), generation: 7 },
        seq,
        action: "MeterValues".into(),
        frame: Bytes::from(format!(r#"[2,"{seq}","MeterValues",{{}}]"#)),
        received_ms: 1_000,
    }
}

mod promises {
    use crate::conformance::{Harness, Opening};
    use crate::{Directory, Embedded, embedded::Config};
    use futures_util::future::BoxFuture;
    use std::sync::Arc;

    fn harness() -> impl Harness {
        let folder = tempfile::tempdir().unwrap();
        Opening(move || {
            let directory: Arc<dyn Directory> =
                Arc::new(Embedded::open(&Config::in_dir(folder.path())).unwrap());
            std::future::ready(directory)
        })
    }

    crate::directory_conformance!(harness());

    /// One process has it, and several gateways in that may share it.
    #[derive(Debug)]
    struct OneProcess(Arc<dyn Directory>);

    impl crate::conformance::Sharing for OneProcess {
        fn join(&self) -> BoxFuture<'_, Arc<dyn Directory>> {
            Box::pin(std::future::ready(Arc::clone(&self.0)))
        }

        fn crash(&self) -> BoxFuture<'_, ()> {
            unreachable!("there is nothing to crash but ourselves")
        }
    }

    crate::shared_directory_conformance!(OneProcess(Arc::new(Embedded::in_memory().unwrap())));
}

#[tokio::test]
async fn a_second_owner_is_refused_until_the_first_has_closed() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::in_dir(folder.path());
    let first = Embedded::open(&config).unwrap();
    let error = Embedded::open(&config).unwrap_err();
    let DirectoryError::Owned { path } = error else { panic!("{error:?}") };
    assert!(path.contains(FILE_NAME), "{path}");
    first.journal_append(entry("CP001", 1)).await.unwrap();
    first.close().await.unwrap();
    let second = Embedded::open(&config).unwrap();
    assert_eq!(second.journal_count(None).await.unwrap(), 1);
    assert_eq!(second.journal_read(Some(&key("CP001")), 0, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_copy_of_the_lock_in_a_process_being_started_does_not_keep_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(FILE_NAME);
    let lock = Lock::take(&file).unwrap();
    // What a fork does to the file: another handle to the same open file.
    let copy = lock.copy();
    drop(lock);
    Lock::take(&file).unwrap();
    drop(copy);
}

/// An entry of about four thousand bytes.
fn large_entry(seq: u64) -> JournalEntry {
    JournalEntry { frame: Bytes::from(vec![b' '; 4000]), ..entry("CP001", seq) }
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_is_over_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { bytes_max: Some(400 * 1024), ..Config::in_dir(folder.path()) };
    let directory = Arc::new(Embedded::open(&config).unwrap());
    // Many at once, so that they share transactions: some fit, and one that does not takes no other with it.
    let mut tasks = Vec::new();
    for seq in 0..300 {
        let directory = Arc::clone(&directory);
        tasks.push(tokio::spawn(async move { (seq, directory.journal_append(large_entry(seq)).await) }));
    }
    let mut appended = Vec::new();
    let mut refused = 0;
    for task in tasks {
        match task.await.unwrap() {
            (seq, Ok(id)) => appended.push((id, seq)),
            (_, Err(DirectoryError::Full(_))) => refused += 1,
            (_, Err(error)) => panic!("{error:?}"),
        }
    }
    assert!(appended.len() > 20 && refused > 20, "{} and {refused}", appended.len());
    let there = async |directory: &Embedded| {
        let entries = directory.journal_read(None, 0, 1000).await.unwrap();
        entries.into_iter().map(|entry| (entry.id, entry.seq)).collect::<Vec<_>>()
    };
    appended.sort_unstable();
    assert_eq!(there(&directory).await, appended);
    assert_eq!(directory.journal_count(None).await.unwrap(), appended.len() as u64);
    // What needs no disk goes on.
    let gateway = ByteString::from("gateway-1");
    directory.gateway_lease(&gateway, 2_000).await.unwrap();
    directory.claim(&key("CP001"), &gateway, Version::V16.into(), 1_000).await.unwrap();
    assert!(directory.locate(&key("CP001"), 1_000).await.unwrap().is_some());
    assert!(matches!(directory.journal_append(large_entry(1)).await, Err(DirectoryError::Full(_))));
    // Room comes by itself when what was kept is worked off.
    for (id, _) in appended.drain(..10) {
        directory.journal_remove(id).await.unwrap();
    }
    for seq in 1000..1005 {
        appended.push((directory.journal_append(large_entry(seq)).await.unwrap(), seq));
    }
    directory.close().await.unwrap();
    let directory = Embedded::open(&config).unwrap();
    assert_eq!(there(&directory).await, appended);
}

#[tokio::test]
async fn a_damaged_file_says_what_to_do_and_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::in_dir(folder.path());
    let file = folder.path().join(FILE_NAME);
    let directory = Embedded::open(&config).unwrap();
    for seq in 0..50 {
        directory.journal_append(large_entry(seq)).await.unwrap();
    }
    directory.close().await.unwrap();
    let sound = std::fs::read(&file).unwrap();
    let damage = |places: std::ops::Range<usize>| {
        let mut bytes = sound.clone();
        bytes[places].fill(0xa5);
        bytes
    };
    let half = sound.len() / 2 / 4096 * 4096;
    for (name, bytes) in [
        ("another kind of file", b"this is no database, and never was one; it is a long text".repeat(100)),
        ("header", damage(0..100)),
        ("a page", damage(half..half + 4096)),
        ("cut off", sound[..half].to_vec()),
    ] {
        std::fs::write(&file, &bytes).unwrap();
        let error = Embedded::open(&config).unwrap_err();
        let DirectoryError::Damaged { detail } = &error else { panic!("{name}: {error:?}") };
        assert!(detail.contains(FILE_NAME) && detail.contains("Restore a copy"), "{name}: {detail}");
        assert!(!error.is_retryable());
        assert!(std::fs::read(&file).unwrap() == bytes, "{name}: it was changed");
    }
    std::fs::write(&file, &sound).unwrap();
    let directory = Embedded::open(&config).unwrap();
    assert_eq!(directory.journal_count(None).await.unwrap(), 50);
}

#[tokio::test]
async fn a_file_of_a_newer_program_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::in_dir(folder.path());
    Embedded::open(&config).unwrap().close().await.unwrap();
    let connection = Connection::open(folder.path().join(FILE_NAME)).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    connection.close().unwrap();
    let error = Embedded::open(&config).unwrap_err();
    let DirectoryError::Damaged { detail } = error else { panic!("{error:?}") };
    assert!(detail.contains("99") && detail.contains("newer program"), "{detail}");
}

#[test]
fn a_folder_that_cannot_be_made_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let error = Embedded::open(&Config::in_dir(file.join("data"))).unwrap_err();
    assert!(matches!(error, DirectoryError::Unusable { .. }), "{error:?}");
}

#[tokio::test]
async fn after_closing_what_needs_the_disk_fails_and_closing_again_does_not() {
    let directory = Embedded::in_memory().unwrap();
    directory.close().await.unwrap();
    let outcome = directory.journal_append(entry("CP001", 1)).await;
    assert!(matches!(outcome, Err(DirectoryError::Away(_))), "{outcome:?}");
    directory.close().await.unwrap();
}

#[tokio::test]
async fn who_came_and_went_is_written_before_long_without_closing() {
    let folder = tempfile::tempdir().unwrap();
    let directory = Embedded::open(&Config::in_dir(folder.path())).unwrap();
    let gateway = ByteString::from("gateway-1");
    let claim = directory.claim(&key("CP001"), &gateway, Version::V16.into(), 10_000).await.unwrap();
    let looking = Connection::open(folder.path().join(FILE_NAME)).unwrap();
    let written = || -> Option<(i64, i64)> {
        let row = looking
            .query_row("SELECT generation, seen_ms FROM station", [], |row| Ok((row.get(0)?, row.get(1)?)));
        row.ok()
    };
    let mut now_ms = 10_000;
    let wait = async {
        while written().is_none() {
            // A gateway's lease, renewed every second, is what moves it.
            now_ms += 1_000;
            directory.gateway_lease(&gateway, now_ms).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), wait).await.unwrap();
    assert_eq!(written(), Some((claim.generation.cast_signed(), 10_000)));
}

/// A station's row as somebody else reads it who opens the file.
fn row(folder: &tempfile::TempDir, station: &str) -> Option<(i64, Option<String>, Option<i64>)> {
    let looking = Connection::open(folder.path().join(FILE_NAME)).unwrap();
    let columns = "SELECT generation, registration, seen_ms FROM station WHERE station = ?1";
    looking.query_row(columns, [station], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).ok()
}

#[tokio::test]
async fn registrations_that_come_together_are_written_with_the_whole_rows_before_ok_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let directory = Arc::new(Embedded::open(&Config::in_dir(folder.path())).unwrap());
    let gateway = ByteString::from("gateway-1");
    let mut tasks = tokio::task::JoinSet::new();
    for station in 0..300 {
        let (directory, gateway) = (Arc::clone(&directory), gateway.clone());
        tasks.spawn(async move {
            let name = format!("CP{station}");
            let key = key(&name);
            let claim = directory.claim(&key, &gateway, Version::V16.into(), 10_000).await.unwrap();
            directory.set_registration(&key, Registration::Pending).await.unwrap();
            (name, claim.generation.cast_signed())
        });
    }
    while let Some(told) = tasks.join_next().await {
        let (name, generation) = told.unwrap();
        assert_eq!(row(&folder, &name), Some((generation, Some("pending".to_owned()), Some(10_000))));
    }
    // Of a station that never came there is not more.
    directory.set_registration(&key("CP-never"), Registration::Rejected).await.unwrap();
    assert_eq!(row(&folder, "CP-never"), Some((0, Some("rejected".to_owned()), None)));
}

#[tokio::test]
async fn a_registration_that_finds_no_room_counts_and_is_written_when_there_is_some() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { bytes_max: Some(400 * 1024), ..Config::in_dir(folder.path()) };
    let directory = Embedded::open(&config).unwrap();
    let mut ids = Vec::new();
    while let Ok(id) = directory.journal_append(large_entry(0)).await {
        ids.push(id);
    }
    let gateway = ByteString::from("gateway-1");
    let mut refused = None;
    // A page has room for some.
    for station in 0..1_000 {
        let key = key(&format!("CP{station:030}"));
        if let Err(error) = directory.set_registration(&key, Registration::Accepted).await {
            assert!(matches!(error, DirectoryError::Full(_)), "{error:?}");
            refused = Some(key);
            break;
        }
    }
    let key = refused.unwrap();
    let claim = directory.claim(&key, &gateway, Version::V16.into(), 1_000).await.unwrap();
    assert_eq!(claim.registration, Some(Registration::Accepted));
    assert_eq!(row(&folder, key.station.as_str()), None);
    for id in ids {
        directory.journal_remove(id).await.unwrap();
    }
    directory.close().await.unwrap();
    let directory = Embedded::open(&config).unwrap();
    let claim = directory.claim(&key, &gateway, Version::V16.into(), 1_000).await.unwrap();
    assert_eq!(claim.registration, Some(Registration::Accepted));
}

#[tokio::test]
async fn more_commands_than_may_wait_for_one_station_are_refused() {
    let directory = Embedded::in_memory().unwrap();
    let put =
        |station, id: usize| directory.outbox_put(crate::conformance::command(key(station), &id.to_string()));
    for id in 0..256 {
        assert_eq!(put("CP001", id).await.unwrap(), Enqueued::Fresh);
    }
    let outcome = put("CP001", 256).await;
    assert!(matches!(outcome, Err(DirectoryError::Full(_))), "{outcome:?}");
    assert_eq!(put("CP002", 256).await.unwrap(), Enqueued::Fresh, "others have room");
    let outcome = OutcomeKind::Cancelled;
    directory.outbox_end(&key("CP001"), &"7".into(), outcome, Bytes::new(), 0).await.unwrap();
    assert_eq!(put("CP001", 256).await.unwrap(), Enqueued::Fresh);
}

#[tokio::test]
async fn outcomes_are_forgotten_after_a_day() {
    const DAY_MS: i64 = 86_400_000;
    let directory = Embedded::in_memory().unwrap();
    let (key, id) = (key("CP001"), ByteString::from("a"));
    directory.outbox_put(crate::conformance::command(key.clone(), "a")).await.unwrap();
    directory.outbox_end(&key, &id, OutcomeKind::Offline, Bytes::new(), 1_000).await.unwrap();
    directory.outbox_sweep(999 + DAY_MS, 10).await.unwrap();
    assert!(directory.outbox_get(&key, &id).await.unwrap().is_some());
    directory.outbox_sweep(1_000 + DAY_MS, 10).await.unwrap();
    assert_eq!(directory.outbox_get(&key, &id).await.unwrap(), None);
}
