//! Accounts, registrations, and the list of stations.

use super::{Harness, NOW, key, station_id};
use crate::{Account, PasswordHash};
use bytestring::ByteString;
use switchboard_bus::Registration;
use switchboard_rpc::Version;

/// Also across reopening.
pub async fn accounts_are_kept_replaced_and_removed(harness: &dyn Harness) {
    let directory = harness.open().await;
    let (with, without) = (key("accounts", "CP001"), key("accounts", "CP002"));
    let before = directory.account_count().await.unwrap();
    let account = |key: &crate::StationKey, password: Option<&str>| Account {
        key: key.clone(),
        password: password.map(|hash| PasswordHash(hash.to_owned())),
        created_ms: NOW,
    };
    assert_eq!(directory.account(&with).await.unwrap(), None);
    directory.put_account(account(&with, Some("$argon2id$1"))).await.unwrap();
    directory.put_account(account(&without, None)).await.unwrap();
    assert_eq!(directory.account(&with).await.unwrap(), Some(account(&with, Some("$argon2id$1"))));
    directory.put_account(account(&with, Some("$argon2id$2"))).await.unwrap();
    assert_eq!(directory.account_count().await.unwrap(), before + 2);
    directory.close().await.unwrap();
    let directory = harness.open().await;
    assert_eq!(directory.account(&with).await.unwrap(), Some(account(&with, Some("$argon2id$2"))));
    assert_eq!(directory.account(&without).await.unwrap(), Some(account(&without, None)));
    assert!(directory.remove_account(&with).await.unwrap());
    assert!(!directory.remove_account(&with).await.unwrap());
    assert_eq!(directory.account(&with).await.unwrap(), None);
    assert_eq!(directory.account_count().await.unwrap(), before + 1);
    directory.close().await.unwrap();
}

/// L07.
pub async fn registrations_survive_reconnection_and_reopening(harness: &dyn Harness) {
    let (key, gateway) = (key("registration", "CP001"), ByteString::from("gateway-1"));
    let mut expected = None;
    for (turn, registration) in
        [Registration::Pending, Registration::Rejected, Registration::Accepted].into_iter().enumerate()
    {
        let directory = harness.open().await;
        let now_ms = NOW + i64::try_from(turn).unwrap();
        let claim = directory.claim(&key, &gateway, Version::V16.into(), now_ms).await.unwrap();
        assert_eq!(claim.registration, expected, "after reopening");
        directory.set_registration(&key, registration).await.unwrap();
        directory.release(&key, claim.generation, now_ms).await.unwrap();
        let claim = directory.claim(&key, &gateway, Version::V16.into(), now_ms).await.unwrap();
        assert_eq!(claim.registration, Some(registration), "after reconnecting");
        expected = Some(registration);
        directory.close().await.unwrap();
    }
}

/// One tenant's, page by page.
pub async fn stations_are_listed_in_order_whether_registered_or_seen(harness: &dyn Harness) {
    let directory = harness.open().await;
    let gateway = ByteString::from("list-gateway");
    directory.gateway_lease(&gateway, NOW + 3_000).await.unwrap();
    for (station, password) in [("CP004", Some("$argon2id$")), ("CP002", None)] {
        let password = password.map(|hash: &str| PasswordHash(hash.to_owned()));
        let account = Account { key: key("list", station), password, created_ms: NOW };
        directory.put_account(account).await.unwrap();
    }
    for station in ["CP003", "CP001", "CP002"] {
        directory.claim(&key("list", station), &gateway, Version::V16.into(), NOW).await.unwrap();
    }
    let gone = directory.claim(&key("list", "CP005"), &gateway, Version::V201.into(), NOW).await.unwrap();
    directory.release(&key("list", "CP005"), gone.generation, NOW + 9).await.unwrap();
    directory.set_registration(&key("list", "CP003"), Registration::Accepted).await.unwrap();
    for tenant in ["lis", "list2"] {
        directory.claim(&key(tenant, "CP001"), &gateway, Version::V16.into(), NOW).await.unwrap();
    }
    let page = async |after: Option<&str>, limit| {
        let after = after.map(station_id);
        directory.stations("list", after.as_ref(), limit, NOW).await.unwrap()
    };
    let rows: Vec<_> = page(None, 100)
        .await
        .into_iter()
        .map(|record| {
            assert_eq!(record.key.tenant, "list");
            let version = record.location.map(|location| location.version);
            let station = record.key.station.to_string();
            let flags = (record.registered, record.has_password);
            (station, flags, version, record.registration, record.seen_ms)
        })
        .collect();
    let connected = Some(Version::V16);
    let expected = [
        ("CP001", (false, false), connected, None, Some(NOW)),
        ("CP002", (true, false), connected, None, Some(NOW)),
        ("CP003", (false, false), connected, Some(Registration::Accepted), Some(NOW)),
        ("CP004", (true, true), None, None, None),
        ("CP005", (false, false), None, None, Some(NOW + 9)),
    ];
    let expected = expected.map(|(station, flags, version, registration, seen)| {
        (station.to_owned(), flags, version, registration, seen)
    });
    assert_eq!(rows, expected);
    for record in page(None, 100).await {
        assert_eq!(directory.station(&record.key, NOW).await.unwrap(), Some(record), "one alone");
    }
    assert_eq!(directory.station(&key("list", "CP009"), NOW).await.unwrap(), None);
    let names = async |after, limit| {
        let page = page(after, limit).await;
        page.into_iter().map(|record| record.key.station.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(None, 2).await, ["CP001", "CP002"]);
    assert_eq!(names(Some("CP002"), 2).await, ["CP003", "CP004"]);
    assert_eq!(names(Some("CP0025"), 2).await, ["CP003", "CP004"]);
    assert_eq!(names(Some("CP005"), 2).await, Vec::<String>::new());
    assert!(directory.remove_account(&key("list", "CP004")).await.unwrap());
    assert_eq!(names(Some("CP003"), 9).await, ["CP005"]);
    directory.gateway_lease(&gateway, 0).await.unwrap();
    directory.close().await.unwrap();
    let directory = harness.open().await;
    let listed = directory.stations("list", None, 100, NOW).await.unwrap();
    let seen: Vec<_> = listed.iter().map(|record| (record.key.station.as_str(), record.seen_ms)).collect();
    let expected =
        [("CP001", Some(NOW)), ("CP002", Some(NOW)), ("CP003", Some(NOW)), ("CP005", Some(NOW + 9))];
    assert_eq!(seen, expected, "also the next owner knows who was here");
    assert!(listed.iter().all(|record| record.location.is_none()), "and that nobody is");
    directory.close().await.unwrap();
}
