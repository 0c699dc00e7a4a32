//! The directory against real servers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytestring::ByteString;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use switchboard_bus::{Connect, ConnectError, ConnectionKey, Registration};
use switchboard_directory::{Directory, DirectoryError, JournalEntry, StationKey, conformance::Opening};
use switchboard_directory_nats::NatsKv;
use switchboard_rpc::{StationId, Version};
use switchboard_testkit::{servers::Nats as Server, wait};
use tokio::sync::OnceCell;

const NOW: i64 = 1_795_341_600_000;

/// The server that all tests share which do not kill it; none if they have to be skipped.
async fn server() -> Option<&'static Server> {
    static SERVER: OnceCell<Option<Server>> = OnceCell::const_new();
    let server = SERVER.get_or_init(async || Server::start("the directory in NATS").await.unwrap());
    server.await.as_ref()
}

/// A bucket of its own at this server.
fn bucket(url: &str) -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    format!("{url}/test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

fn key(station: &'static str) -> StationKey {
    StationKey { tenant: "default".into(), station: StationId::new(station, 48).unwrap() }
}

fn begin(url: &str) -> Arc<dyn Directory> {
    Arc::new(NatsKv::connect(Connect::to(url)).unwrap())
}

/// Opens it, and waits until it answers.
async fn open(url: &str) -> Arc<dyn Directory> {
    let directory = begin(url);
    answers(&directory).await;
    directory
}

async fn answers(directory: &Arc<dyn Directory>) {
    let wait = async {
        while directory.locate(&key("nobody"), NOW).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(wait::DEADLINE, wait).await.unwrap();
}

mod promises {
    use super::*;

    // All that is not about the outbox and the journal.
    switchboard_directory::directory_conformance! { @tests {
            let Some(server) = server().await else { return };
            let url = bucket(&server.url());
            Opening(move || {
                let url = url.clone();
                async move { open(&url).await }
            })
        };
        generations_rise_also_when_the_clock_goes_back
        generations_rise_from_owner_to_owner
        a_claim_names_the_connection_before
        a_release_of_an_older_generation_changes_nothing
        a_lease_that_ran_out_makes_its_stations_offline
        many_claims_at_once_all_get_generations_of_their_own
        accounts_are_kept_replaced_and_removed
        registrations_survive_reconnection_and_reopening
        stations_are_listed_in_order_whether_registered_or_seen
        the_first_to_say_it_decides_for_all
    }
}

#[tokio::test]
async fn what_was_answered_is_there_after_the_server_was_killed() {
    let Some(mut server) = Server::start("a directory in NATS that is killed").await.unwrap() else { return };
    let url = bucket(&server.url());
    let (one, two) = (open(&url).await, open(&url).await);
    let gateway = ByteString::from("gateway-1");
    one.gateway_lease(&gateway, NOW + 3_000).await.unwrap();
    let claim = one.claim(&key("CP1"), &gateway, Version::V16.into(), NOW).await.unwrap();
    one.set_registration(&key("CP1"), Registration::Accepted).await.unwrap();
    one.agree("default.partitions", "256").await.unwrap();
    server.kill().unwrap();
    let wait = async {
        while !matches!(one.locate(&key("CP1"), NOW).await, Err(DirectoryError::Away(_))) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(wait::DEADLINE, wait).await.unwrap();
    let refused = one.claim(&key("CP2"), &gateway, Version::V16.into(), NOW).await;
    assert!(matches!(&refused, Err(error) if error.is_retryable()), "{refused:?}");
    server.start().await.unwrap();
    for directory in [&one, &two] {
        answers(directory).await;
        let there = directory.locate(&key("CP1"), NOW).await.unwrap().unwrap();
        assert_eq!(there.connection.generation, claim.generation);
        assert_eq!(directory.agree("default.partitions", "512").await.unwrap(), "256");
    }
    let next = two.claim(&key("CP1"), &"gateway-2".into(), Version::V201.into(), NOW - 1).await.unwrap();
    assert_eq!(next.registration, Some(Registration::Accepted));
    assert_eq!(next.previous.unwrap().generation, claim.generation);
    assert!(next.generation > claim.generation);
}

#[tokio::test]
async fn a_server_that_lost_its_disk_is_begun_with_anew() {
    let Some(mut server) = Server::start("a directory in NATS that is lost").await.unwrap() else { return };
    let directory = open(&bucket(&server.url())).await;
    let gateway = ByteString::from("gateway-1");
    let before = directory.claim(&key("CP1"), &gateway, Version::V16.into(), NOW).await.unwrap();
    server.kill().unwrap();
    std::fs::remove_dir_all(server.folder().join("jetstream")).unwrap();
    server.start().await.unwrap();
    answers(&directory).await;
    let after = directory.claim(&key("CP1"), &gateway, Version::V16.into(), NOW + 1).await.unwrap();
    assert!(after.generation > before.generation, "the clock fences what was before");
    assert_eq!(after.previous, None);
}

#[tokio::test]
async fn two_processes_see_the_same() {
    let Some(server) = server().await else { return };
    let url = bucket(&server.url());
    let (one, two) = (open(&url).await, open(&url).await);
    let gateways = [ByteString::from("gateway-1"), ByteString::from("gateway-2")];
    for gateway in &gateways {
        one.gateway_lease(gateway, NOW + 3_000).await.unwrap();
    }
    let first = one.claim(&key("CP1"), &gateways[0], Version::V16.into(), NOW).await.unwrap();
    let second = two.claim(&key("CP1"), &gateways[1], Version::V16.into(), NOW).await.unwrap();
    assert_eq!(second.previous.unwrap().gateway, gateways[0]);
    one.release(&key("CP1"), first.generation, NOW + 1).await.unwrap();
    let there = one.locate(&key("CP1"), NOW + 1).await.unwrap().unwrap();
    assert_eq!(there.connection.gateway, gateways[1], "a late end does not remove its successor");
    two.gateway_lease(&gateways[1], 0).await.unwrap();
    assert_eq!(one.locate(&key("CP1"), NOW + 1).await.unwrap(), None);
}

#[tokio::test]
async fn what_must_not_be_lost_is_not_taken() {
    let Some(server) = server().await else { return };
    let directory = open(&bucket(&server.url())).await;
    assert!(!directory.keeps());
    let entry = JournalEntry {
        id: 0,
        key: key("CP1"),
        version: Version::V16,
        connection: ConnectionKey { gateway: "gateway-1".into(), generation: 1 },
        seq: 1,
        action: "StatusNotification".into(),
        frame: "[]".into(),
        received_ms: NOW,
    };
    let refused = directory.journal_append(entry).await;
    assert!(
        matches!(&refused, Err(error @ DirectoryError::NotKept { .. }) if !error.is_retryable()),
        "{refused:?}"
    );
    assert_eq!(directory.journal_count(None).await.unwrap(), 0);
    assert!(directory.outbox_waiting(&key("CP1"), NOW, 9).await.unwrap().is_empty());
    assert!(!directory.outbox_sending(&key("CP1"), &"id".into(), 1).await.unwrap());
}

#[tokio::test]
async fn what_can_never_work_is_told_at_once() {
    for url in ["nats://user:secret@host", "nats://host/", "nats://host/a.b", "nats://host/a?replicas=6"] {
        let refused = NatsKv::connect(Connect::to(url));
        assert!(matches!(refused, Err(ConnectError::Url { .. })), "{url}");
        let told = refused.unwrap_err().to_string();
        assert!(!told.contains("secret"), "{told}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_away_and_waited_for() {
    let Some(mut server) = Server::start("a directory in NATS that comes late").await.unwrap() else {
        return;
    };
    server.kill().unwrap();
    let directory = begin(&bucket(&server.url()));
    let refused = directory.locate(&key("CP1"), NOW).await;
    assert!(matches!(refused, Err(DirectoryError::Away(_))), "{refused:?}");
    server.start().await.unwrap();
    answers(&directory).await;
}
