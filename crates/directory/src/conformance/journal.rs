//! The journal: order, and what survives.

use super::{Harness, NOW, key};
use crate::{Directory, JournalEntry, StationKey};
use bytes::Bytes;
use std::sync::Arc;
use switchboard_bus::ConnectionKey;
use switchboard_rpc::Version;

pub(crate) fn entry(key: StationKey, seq: u64) -> JournalEntry {
    JournalEntry {
        id: 0,
        key,
        version: Version::V201,
        connection: ConnectionKey { gateway: "gateway-1".into(), generation: u64::MAX },
        seq,
        action: "TransactionEvent".into(),
        frame: Bytes::from(format!("[2,\"{seq}\",\"TransactionEvent\",{{\"a\":1.10,\"b\":\"\u{e9}\"}}]")),
        received_ms: NOW,
    }
}

pub(super) async fn append(directory: &Arc<dyn Directory>, key: &StationKey, seq: u64) -> u64 {
    directory.journal_append(entry(key.clone(), seq)).await.unwrap()
}

pub(super) async fn seqs(directory: &Arc<dyn Directory>, key: &StationKey, limit: usize) -> Vec<u64> {
    let entries = directory.journal_read(Some(key), 0, limit).await.unwrap();
    assert!(entries.iter().all(|entry| entry.key == *key));
    entries.iter().map(|entry| entry.seq).collect()
}

/// Byte by byte, per station, with rising ids.
pub async fn entries_come_out_as_they_went_in_and_in_order(harness: &dyn Harness) {
    let directory = harness.open().await;
    let (one, two) = (key("journal", "CP001"), key("journal", "CP002"));
    let mut last = 0;
    for seq in 0..10 {
        for key in [&one, &two] {
            let id = append(&directory, key, seq).await;
            assert!(id > last, "{id} after {last}");
            last = id;
        }
    }
    let read = directory.journal_read(Some(&one), 0, 100).await.unwrap();
    for (place, got) in read.iter().enumerate() {
        let expected = entry(one.clone(), u64::try_from(place).unwrap());
        assert_eq!(*got, JournalEntry { id: got.id, ..expected });
        assert_ne!(got.id, 0);
    }
    assert_eq!(seqs(&directory, &two, 3).await, [0, 1, 2], "the limit");
    assert_eq!(directory.journal_count(Some(&one)).await.unwrap(), 10);
    let all = directory.journal_read(None, 0, usize::MAX).await.unwrap();
    assert!(all.is_sorted_by_key(|entry| entry.id));
    let rest = directory.journal_read(Some(&one), read[6].id, 2).await.unwrap();
    assert_eq!(rest, read[7..9], "after an id");
    let rest = directory.journal_read(None, all[0].id, usize::MAX).await.unwrap();
    assert_eq!(rest.first().map(|entry| entry.id), Some(all[1].id));
    assert!(directory.journal_count(None).await.unwrap() >= 20);
    directory.close().await.unwrap();
}

/// Removing what is not there is no fault.
pub async fn a_removed_entry_does_not_come_back(harness: &dyn Harness) {
    let directory = harness.open().await;
    let key = key("removed", "CP001");
    let first = append(&directory, &key, 1).await;
    append(&directory, &key, 2).await;
    directory.journal_remove(first).await.unwrap();
    directory.journal_remove(first).await.unwrap();
    assert_eq!(seqs(&directory, &key, 100).await, [2]);
    assert_eq!(directory.journal_count(Some(&key)).await.unwrap(), 1);
    directory.close().await.unwrap();
    let directory = harness.open().await;
    assert_eq!(seqs(&directory, &key, 100).await, [2]);
    assert_eq!(directory.journal_count(Some(&key)).await.unwrap(), 1);
    directory.close().await.unwrap();
}

/// A worker that still holds the number of a removed entry must not remove another.
pub async fn ids_are_not_given_again_after_reopening(harness: &dyn Harness) {
    let key = key("ids", "CP001");
    let mut last = 0;
    for _ in 0..3 {
        let directory = harness.open().await;
        let id = append(&directory, &key, 1).await;
        assert!(id > last, "{id} after {last}");
        last = id;
        directory.journal_remove(id).await.unwrap();
        assert_eq!(directory.journal_count(Some(&key)).await.unwrap(), 0);
        directory.close().await.unwrap();
    }
}

/// Each station's in the order in which it was appended.
pub async fn many_appends_at_once_are_all_there_after_reopening(harness: &dyn Harness) {
    const STATIONS: usize = 20;
    const TURNS: u64 = 20;
    let directory = harness.open().await;
    let mut tasks = Vec::new();
    for station in 0..STATIONS {
        let directory = Arc::clone(&directory);
        tasks.push(tokio::spawn(async move {
            let key = key("appends", &format!("CP{station}"));
            for seq in 0..TURNS {
                append(&directory, &key, seq).await;
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    directory.close().await.unwrap();
    let directory = harness.open().await;
    for station in 0..STATIONS {
        let got = seqs(&directory, &key("appends", &format!("CP{station}")), 1000).await;
        assert!(got.iter().copied().eq(0..TURNS), "station {station}: {got:?}");
    }
    directory.close().await.unwrap();
}

/// With its reason, byte by byte, also after reopening; it is no part of the journal any more.
pub async fn what_was_refused_is_kept_aside_until_it_is_settled(harness: &dyn Harness) {
    let directory = harness.open().await;
    let key = key("refused", "CP001");
    let refused = append(&directory, &key, 1).await;
    append(&directory, &key, 2).await;
    let before = directory.journal_read(Some(&key), 0, 1).await.unwrap().remove(0);
    directory.journal_refuse(refused, "FormationViolation: no", NOW).await.unwrap();
    // Whatever processing has said.
    let odd = append(&directory, &key, 3).await;
    directory.journal_refuse(odd, "InternalError: a\0b", NOW).await.unwrap();
    assert!(directory.journal_settle(odd).await.unwrap());
    // A second time, and what is not there, change nothing.
    directory.journal_refuse(refused, "again", NOW).await.unwrap();
    directory.close().await.unwrap();
    let directory = harness.open().await;
    assert_eq!(seqs(&directory, &key, 100).await, [2]);
    assert_eq!(directory.journal_count(Some(&key)).await.unwrap(), 1);
    let list = directory.journal_refused(0, 10).await.unwrap();
    let mine: Vec<_> = list.into_iter().filter(|one| one.entry.key == key).collect();
    assert_eq!(mine.len(), 1);
    assert_eq!((&mine[0].entry, &*mine[0].why, mine[0].refused_ms), (&before, "FormationViolation: no", NOW));
    assert!(directory.journal_refused(refused, 10).await.unwrap().is_empty());
    assert!(directory.journal_settle(refused).await.unwrap());
    assert!(!directory.journal_settle(refused).await.unwrap());
    directory.close().await.unwrap();
}
