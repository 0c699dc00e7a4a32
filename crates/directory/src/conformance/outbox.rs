//! The outbox: once in, once sent, once ended.

use super::{Harness, NOW, key};
use crate::{Directory, Enqueued, OutboxEntry, OutboxState, StationKey};
use bytes::Bytes;
use bytestring::ByteString;
use std::sync::Arc;
use std::time::Duration;
use switchboard_bus::{Lane, OutcomeKind};
use switchboard_rpc::Version;

pub(crate) fn entry(key: StationKey, id: &str) -> OutboxEntry {
    OutboxEntry {
        id: id.into(),
        key,
        action: "RemoteStartTransaction".into(),
        payload: Bytes::from_static(br#"{"idTag":"A1"}"#),
        lane: Lane::Normal,
        timeout: Duration::from_secs(30),
        expires_ms: NOW + 60_000,
        reply_to: Some("caller-1".into()),
        context: Some("{\"job\":7}".into()),
        state: OutboxState::Waiting,
    }
}

pub(super) fn text(text: &str) -> ByteString {
    text.into()
}

pub(super) async fn state(directory: &Arc<dyn Directory>, key: &StationKey, id: &str) -> OutboxState {
    directory.outbox_get(key, &text(id)).await.unwrap().expect("it is there").state
}

/// The second is told how far the first is.
pub async fn a_command_goes_in_once_per_station_and_id(harness: &dyn Harness) {
    let directory = harness.open().await;
    let (one, two) = (key("once", "CP001"), key("once", "CP002"));
    let first = entry(one.clone(), "a");
    assert_eq!(directory.outbox_put(first.clone()).await.unwrap(), Enqueued::Fresh);
    assert_eq!(directory.outbox_get(&one, &text("a")).await.unwrap(), Some(first));
    let mut other = entry(one.clone(), "a");
    other.action = "Reset".into();
    let repeat = directory.outbox_put(other).await.unwrap();
    assert_eq!(repeat, Enqueued::Repeat(OutboxState::Waiting));
    let kept = directory.outbox_get(&one, &text("a")).await.unwrap().unwrap();
    assert_eq!(kept.action, "RemoteStartTransaction");
    assert_eq!(directory.outbox_put(entry(one.clone(), "b")).await.unwrap(), Enqueued::Fresh);
    assert_eq!(directory.outbox_put(entry(two, "a")).await.unwrap(), Enqueued::Fresh);
    assert_eq!(directory.outbox_get(&one, &text("c")).await.unwrap(), None);
    directory.close().await.unwrap();
}

/// Whoever was told so writes it; nobody else, however many ask.
pub async fn a_command_is_taken_for_sending_once(harness: &dyn Harness) {
    let directory = harness.open().await;
    let key = key("sending", "CP001");
    directory.outbox_put(entry(key.clone(), "a")).await.unwrap();
    let mut tasks = Vec::new();
    for generation in 1..=20_u64 {
        let (directory, key) = (Arc::clone(&directory), key.clone());
        tasks.push(tokio::spawn(async move {
            let taken = directory.outbox_sending(&key, &text("a"), generation).await.unwrap();
            taken.then_some(generation)
        }));
    }
    let mut winners = Vec::new();
    for task in tasks {
        winners.extend(task.await.unwrap());
    }
    assert_eq!(winners.len(), 1, "{winners:?}");
    let expected = OutboxState::Sending { generation: winners[0] };
    assert_eq!(state(&directory, &key, "a").await, expected);
    assert_eq!(directory.outbox_waiting(&key, NOW, 10).await.unwrap(), []);
    let repeat = directory.outbox_put(entry(key.clone(), "a")).await.unwrap();
    assert_eq!(repeat, Enqueued::Repeat(expected));
    assert!(!directory.outbox_sending(&key, &text("unknown"), 1).await.unwrap());
    directory.close().await.unwrap();
}

/// What was certainly not written waits again; what another connection is sending is left alone.
pub async fn a_command_that_was_not_written_waits_again(harness: &dyn Harness) {
    let directory = harness.open().await;
    let key = key("put-back", "CP001");
    directory.outbox_put(entry(key.clone(), "a")).await.unwrap();
    assert!(directory.outbox_sending(&key, &text("a"), 7).await.unwrap());
    directory.outbox_put_back(&key, &text("a"), 6).await.unwrap();
    assert_eq!(state(&directory, &key, "a").await, OutboxState::Sending { generation: 7 });
    directory.outbox_put_back(&key, &text("a"), 7).await.unwrap();
    assert_eq!(state(&directory, &key, "a").await, OutboxState::Waiting);
    assert_eq!(directory.outbox_waiting(&key, NOW, 10).await.unwrap().len(), 1);
    assert!(directory.outbox_sending(&key, &text("a"), 8).await.unwrap());
    directory.outbox_end(&key, &text("a"), OutcomeKind::Answered, Bytes::new(), NOW).await.unwrap();
    directory.outbox_put_back(&key, &text("a"), 8).await.unwrap();
    assert!(matches!(state(&directory, &key, "a").await, OutboxState::Ended { .. }));
    directory.close().await.unwrap();
}

/// The first end counts, and says what became of it for good.
pub async fn a_command_ends_once(harness: &dyn Harness) {
    let directory = harness.open().await;
    let key = key("ended", "CP001");
    let frame = Bytes::from_static(br#"[3,"x",{"status":"Accepted"}]"#);
    let ended = OutboxState::Ended { outcome: OutcomeKind::Answered, frame: frame.clone() };
    directory.outbox_put(entry(key.clone(), "a")).await.unwrap();
    assert!(directory.outbox_sending(&key, &text("a"), 7).await.unwrap());
    directory.outbox_end(&key, &text("a"), OutcomeKind::Answered, frame, NOW).await.unwrap();
    assert_eq!(state(&directory, &key, "a").await, ended);
    directory.outbox_end(&key, &text("a"), OutcomeKind::Unknown, Bytes::new(), NOW).await.unwrap();
    assert_eq!(state(&directory, &key, "a").await, ended);
    assert!(!directory.outbox_sending(&key, &text("a"), 8).await.unwrap());
    assert_eq!(directory.outbox_put(entry(key.clone(), "a")).await.unwrap(), Enqueued::Repeat(ended));
    for outcome in OutcomeKind::ALL {
        let id = outcome.as_str();
        directory.outbox_put(entry(key.clone(), id)).await.unwrap();
        directory.outbox_end(&key, &text(id), outcome, Bytes::new(), NOW).await.unwrap();
        let expected = OutboxState::Ended { outcome, frame: Bytes::new() };
        assert_eq!(state(&directory, &key, id).await, expected);
    }
    directory.outbox_end(&key, &text("nothing"), OutcomeKind::Busy, Bytes::new(), NOW).await.unwrap();
    directory.close().await.unwrap();
}

/// Within a lane in the order in which they came.
pub async fn urgent_commands_come_first_and_expired_ones_not_at_all(harness: &dyn Harness) {
    let directory = harness.open().await;
    let key = key("lanes", "CP001");
    for (id, lane, expires_ms) in [
        ("n1", Lane::Normal, NOW + 10),
        ("late", Lane::Urgent, NOW),
        ("u1", Lane::Urgent, NOW + 10),
        ("n2", Lane::Normal, NOW + 1),
        ("u2", Lane::Urgent, NOW + 10),
    ] {
        directory.outbox_put(OutboxEntry { lane, expires_ms, ..entry(key.clone(), id) }).await.unwrap();
    }
    directory.outbox_put(entry(super::key("lanes", "CP002"), "other")).await.unwrap();
    let waiting = async |now_ms, limit| {
        let entries = directory.outbox_waiting(&key, now_ms, limit).await.unwrap();
        entries.into_iter().map(|entry| entry.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(waiting(NOW, 10).await, ["u1", "u2", "n1", "n2"]);
    assert_eq!(waiting(NOW, 3).await, ["u1", "u2", "n1"]);
    assert_eq!(waiting(NOW + 1, 10).await, ["u1", "u2", "n1"]);
    directory.close().await.unwrap();
}

/// And gives out just those, so that their senders can be told.
pub async fn a_sweep_ends_what_expired_and_what_nobody_sends_any_more(harness: &dyn Harness) {
    let directory = harness.open().await;
    let (connected, gone) = (key("sweep", "CP001"), key("sweep", "CP002"));
    let gateway = ByteString::from("sweep-gateway");
    directory.gateway_lease(&gateway, NOW + 3_000).await.unwrap();
    let there = directory.claim(&connected, &gateway, Version::V16.into(), NOW).await.unwrap();
    let left = directory.claim(&gone, &gateway, Version::V16.into(), NOW).await.unwrap();
    for key in [&connected, &gone] {
        for id in ["waits", "expires", "sends"] {
            let expires_ms = if id == "expires" { NOW + 5 } else { NOW + 60_000 };
            directory.outbox_put(OutboxEntry { expires_ms, ..entry(key.clone(), id) }).await.unwrap();
        }
    }
    directory.outbox_put(entry(connected.clone(), "sent-before")).await.unwrap();
    let sending = async |key, id, generation| {
        assert!(directory.outbox_sending(key, &text(id), generation).await.unwrap());
    };
    sending(&connected, "sends", there.generation).await;
    sending(&connected, "sent-before", there.generation - 1).await;
    sending(&gone, "sends", left.generation).await;
    directory.release(&gone, left.generation, NOW + 1).await.unwrap();
    let mut ended = Vec::new();
    // As many turns as it takes with a small limit, and never more than that at once.
    loop {
        let some = directory.outbox_sweep(NOW + 5, 2).await.unwrap();
        assert!(some.len() <= 2, "{some:?}");
        if some.is_empty() {
            break;
        }
        ended.extend(some.into_iter().filter(|entry| entry.key.tenant == "sweep"));
    }
    let mut told: Vec<_> = ended
        .iter()
        .map(|entry| match &entry.state {
            OutboxState::Ended { outcome, .. } => (entry.key.station.as_str(), &*entry.id, *outcome),
            other => panic!("{other:?}"),
        })
        .collect();
    told.sort_by_key(|(station, id, _)| (*station, *id));
    let expected = [
        ("CP001", "expires", OutcomeKind::Expired),
        ("CP001", "sent-before", OutcomeKind::Unknown),
        ("CP002", "expires", OutcomeKind::Expired),
        ("CP002", "sends", OutcomeKind::Unknown),
    ];
    assert_eq!(told, expected);
    assert!(ended.iter().all(|entry| entry.reply_to.is_some() && entry.context.is_some()));
    let still = OutboxState::Sending { generation: there.generation };
    assert_eq!(state(&directory, &connected, "sends").await, still);
    assert_eq!(state(&directory, &gone, "waits").await, OutboxState::Waiting);
    // When the lease runs out, so does the sending of everybody there.
    let late = directory.outbox_sweep(NOW + 3_000, 100).await.unwrap();
    let late: Vec<_> = late.iter().filter(|entry| entry.key == connected).map(|entry| &*entry.id).collect();
    assert_eq!(late, ["sends"]);
    directory.close().await.unwrap();
}

/// And what was being sent when everything died is unknown, never sent again.
pub async fn commands_survive_reopening(harness: &dyn Harness) {
    let directory = harness.open().await;
    let key = key("reopened", "CP001");
    for id in ["waits", "sends", "ends"] {
        directory.outbox_put(entry(key.clone(), id)).await.unwrap();
    }
    assert!(directory.outbox_sending(&key, &text("sends"), 7).await.unwrap());
    let outcome = OutcomeKind::Offline;
    directory.outbox_end(&key, &text("ends"), outcome, Bytes::new(), NOW).await.unwrap();
    directory.close().await.unwrap();
    let directory = harness.open().await;
    let waiting = directory.outbox_waiting(&key, NOW, 10).await.unwrap();
    assert_eq!(waiting, [entry(key.clone(), "waits")]);
    assert_eq!(state(&directory, &key, "sends").await, OutboxState::Sending { generation: 7 });
    let swept = directory.outbox_sweep(NOW, 100).await.unwrap();
    let swept: Vec<_> = swept.iter().filter(|entry| entry.key == key).map(|entry| &*entry.id).collect();
    assert_eq!(swept, ["sends"]);
    let ended = OutboxState::Ended { outcome, frame: Bytes::new() };
    assert_eq!(state(&directory, &key, "ends").await, ended);
    directory.close().await.unwrap();
}
