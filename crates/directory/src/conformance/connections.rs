//! Generations, locations and leases.

use super::{Harness, NOW, key};
use crate::Terms;
use bytestring::ByteString;
use std::collections::HashSet;
use std::sync::Arc;
use switchboard_bus::ConnectionKey;
use switchboard_rpc::Version;

const LEASE_MS: i64 = 3_000;

/// Never lower than the clock, and always higher than before.
pub async fn generations_rise_also_when_the_clock_goes_back(harness: &dyn Harness) {
    let directory = harness.open().await;
    let (key, gateway) = (key("rise", "CP001"), ByteString::from("gateway-1"));
    let mut last = 0;
    for (now_ms, at_least) in [
        (NOW, NOW),
        (NOW, NOW + 1),
        (NOW + 1, NOW + 2),
        (NOW + 60_000, NOW + 60_000),
        (NOW - 3_600_000, NOW + 60_001),
        (0, NOW + 60_002),
        (NOW + 120_000, NOW + 120_000),
    ] {
        let claim = directory.claim(&key, &gateway, Version::V16.into(), now_ms).await.unwrap();
        assert!(claim.generation > last, "{} after {last}", claim.generation);
        let at_least = u64::try_from(at_least).unwrap();
        assert!(claim.generation >= at_least, "{} at {now_ms}, not {at_least}", claim.generation);
        last = claim.generation;
    }
    directory.close().await.unwrap();
}

/// Also with a clock that went back while nobody had it: what was written out counts.
pub async fn generations_rise_from_owner_to_owner(harness: &dyn Harness) {
    let (key, gateway) = (key("owners", "CP001"), ByteString::from("gateway-1"));
    let mut last = 0;
    for owner in 0..3 {
        let directory = harness.open().await;
        let now_ms = NOW - owner * 60_000;
        let claim = directory.claim(&key, &gateway, Version::V16.into(), now_ms).await.unwrap();
        assert!(claim.generation > last, "{} after {last}", claim.generation);
        last = claim.generation;
        directory.close().await.unwrap();
    }
}

/// As long as that one is not known to have ended.
pub async fn a_claim_names_the_connection_before(harness: &dyn Harness) {
    let directory = harness.open().await;
    let key = key("previous", "CP001");
    let (one, two) = (ByteString::from("gateway-1"), ByteString::from("gateway-2"));
    let first = directory.claim(&key, &one, Version::V16.into(), NOW).await.unwrap();
    assert_eq!(first.previous, None);
    let second = directory.claim(&key, &two, Version::V201.into(), NOW + 5).await.unwrap();
    let expected = ConnectionKey { gateway: one.clone(), generation: first.generation };
    assert_eq!(second.previous, Some(expected));
    let third = directory.claim(&key, &two, Version::V201.into(), NOW + 5).await.unwrap();
    let expected = ConnectionKey { gateway: two, generation: second.generation };
    assert_eq!(third.previous, Some(expected));
    directory.release(&key, third.generation, NOW + 6).await.unwrap();
    let fourth = directory.claim(&key, &one, Version::V16.into(), NOW + 7).await.unwrap();
    assert_eq!(fourth.previous, None);
    directory.close().await.unwrap();
}

/// The late end of a connection cannot remove its successor (L01).
pub async fn a_release_of_an_older_generation_changes_nothing(harness: &dyn Harness) {
    let directory = harness.open().await;
    let (key, gateway) = (key("release", "CP001"), ByteString::from("gateway-1"));
    directory.gateway_lease(&gateway, NOW + LEASE_MS).await.unwrap();
    let first = directory.claim(&key, &gateway, Version::V16.into(), NOW).await.unwrap();
    let terms = Terms { version: Version::V201, compressed: true };
    let second = directory.claim(&key, &gateway, terms, NOW + 1).await.unwrap();
    for stale in [first.generation, 0, second.generation + 1] {
        directory.release(&key, stale, NOW + 2).await.unwrap();
        let there = directory.locate(&key, NOW + 2).await.unwrap().expect("it is connected");
        assert_eq!(there.connection.generation, second.generation);
        let told = Terms { version: there.version, compressed: there.compressed };
        assert_eq!((told, there.since_ms), (terms, NOW + 1));
    }
    directory.release(&key, second.generation, NOW + 3).await.unwrap();
    assert_eq!(directory.locate(&key, NOW + 3).await.unwrap(), None);
    // Twice is no fault, and neither is a station that nobody knows.
    directory.release(&key, second.generation, NOW + 3).await.unwrap();
    directory.release(&super::key("release", "CP002"), 7, NOW + 3).await.unwrap();
    directory.close().await.unwrap();
}

/// For one that was restored from a copy: what the living know of their connections goes back into it, and takes nothing from
/// anybody.
pub async fn a_connection_that_was_lost_is_restored_unless_there_is_a_later_one(harness: &dyn Harness) {
    let directory = harness.open().await;
    let (key, gateway) = (key("restore", "CP001"), ByteString::from("restore-gateway-1"));
    assert!(directory.gateway_lease(&gateway, NOW + LEASE_MS).await.unwrap());
    assert!(directory.gateway_lease(&gateway, NOW + 2 * LEASE_MS).await.unwrap());
    let terms = Terms { version: Version::V21, compressed: true };
    let lost = ConnectionKey { gateway: gateway.clone(), generation: u64::try_from(NOW).unwrap() + 7 };
    let restore = async |lost: &ConnectionKey| directory.restore(&key, lost, terms, NOW).await.unwrap();
    assert!(restore(&lost).await);
    assert!(!restore(&lost).await, "it is there");
    let there = directory.locate(&key, NOW).await.unwrap().expect("it is connected");
    assert_eq!((&there.connection, there.version, there.compressed), (&lost, Version::V21, true));
    let earlier = ConnectionKey { generation: lost.generation - 1, gateway: "restore-gateway-2".into() };
    assert!(!restore(&earlier).await, "an earlier one takes nothing from a later one");
    let claim = directory.claim(&key, &gateway, Version::V16.into(), NOW).await.unwrap();
    assert!(claim.generation > lost.generation);
    assert_eq!(claim.previous, Some(lost.clone()));
    assert!(!restore(&lost).await);
    // One that is known to have ended does not come back either.
    directory.release(&key, claim.generation, NOW).await.unwrap();
    let ended = ConnectionKey { generation: claim.generation, ..lost.clone() };
    assert!(!restore(&lost).await && !restore(&ended).await);
    assert_eq!(directory.locate(&key, NOW).await.unwrap(), None);
    directory.close().await.unwrap();
}

/// And renewing it brings them back; ending it is at once.
pub async fn a_lease_that_ran_out_makes_its_stations_offline(harness: &dyn Harness) {
    let directory = harness.open().await;
    let (gateway, other) = (ByteString::from("lease-gateway-1"), ByteString::from("lease-gateway-2"));
    let (here, there) = (key("lease", "CP001"), key("lease", "CP002"));
    directory.claim(&here, &gateway, Version::V16.into(), NOW).await.unwrap();
    directory.claim(&there, &other, Version::V16.into(), NOW).await.unwrap();
    let connected = async |key, now_ms| directory.locate(key, now_ms).await.unwrap().is_some();
    assert!(!connected(&here, NOW).await, "no lease yet");
    directory.gateway_lease(&gateway, NOW + LEASE_MS).await.unwrap();
    directory.gateway_lease(&other, NOW + 10 * LEASE_MS).await.unwrap();
    assert!(connected(&here, NOW + LEASE_MS - 1).await);
    assert!(!connected(&here, NOW + LEASE_MS).await, "it has run out");
    assert!(connected(&there, NOW + LEASE_MS).await, "the other's has not");
    directory.gateway_lease(&gateway, NOW + 2 * LEASE_MS).await.unwrap();
    assert!(connected(&here, NOW + LEASE_MS).await, "renewed");
    directory.gateway_lease(&gateway, NOW).await.unwrap();
    assert!(!connected(&here, NOW + LEASE_MS).await, "ended");
    directory.close().await.unwrap();
}

/// All different, and the highest is the one that is located.
pub async fn many_claims_at_once_all_get_generations_of_their_own(harness: &dyn Harness) {
    const TASKS: usize = 16;
    const TURNS: usize = 25;
    let directory = harness.open().await;
    let gateway = ByteString::from("many-gateway");
    directory.gateway_lease(&gateway, NOW + LEASE_MS).await.unwrap();
    let mut tasks = Vec::new();
    for _ in 0..TASKS {
        let (directory, gateway) = (Arc::clone(&directory), gateway.clone());
        tasks.push(tokio::spawn(async move {
            let mut mine = Vec::new();
            for _ in 0..TURNS {
                let key = key("many", "CP001");
                mine.push(directory.claim(&key, &gateway, Version::V16.into(), NOW).await.unwrap());
                tokio::task::yield_now().await;
            }
            mine
        }));
    }
    let mut claims = Vec::new();
    for task in tasks {
        let mine = task.await.unwrap();
        assert!(mine.is_sorted_by(|one, two| one.generation < two.generation));
        claims.extend(mine);
    }
    let generations: HashSet<u64> = claims.iter().map(|claim| claim.generation).collect();
    assert_eq!(generations.len(), TASKS * TURNS);
    // Each but the first replaced another, and none was replaced twice.
    let replaced: HashSet<u64> =
        claims.iter().filter_map(|claim| Some(claim.previous.as_ref()?.generation)).collect();
    assert_eq!(replaced.len(), TASKS * TURNS - 1);
    let there = directory.locate(&key("many", "CP001"), NOW).await.unwrap().expect("it is connected");
    assert_eq!(Some(&there.connection.generation), generations.iter().max());
    directory.close().await.unwrap();
}
