//! Ten thousand stations come at once.

use crate::{NOW, key, open, server};
use bytestring::ByteString;
use futures_util::future::join_all;
use std::collections::HashSet;
use std::time::{Duration, Instant};
use switchboard_directory::Directory;
use switchboard_rpc::Version;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_stations_reconnect_at_two_gateways_in_seconds() {
    const STATIONS: usize = 10_000;
    let Some(server) = server().await else { return };
    let url = server.database().unwrap();
    let gateways = join_all((0..2).map(async |number| {
        let gateway = ByteString::from(format!("gateway-{number}"));
        let directory = open(&url).await;
        directory.gateway_lease(&gateway, NOW + 3_000).await.unwrap();
        (gateway, directory)
    }))
    .await;
    let begun = Instant::now();
    let storm = join_all((0..STATIONS).map(|number| {
        let (gateway, directory) = gateways[number % 2].clone();
        tokio::spawn(async move {
            // As the gateway does it: within the time that a handshake may take, and again if it took longer.
            let key = key(&format!("CP{number}"));
            loop {
                let Ok(account) = directory.account(&key).await else { continue };
                assert_eq!(account, None);
                let Ok(claim) = directory.claim(&key, &gateway, Version::V16.into(), NOW).await else {
                    continue;
                };
                if directory.journal_count(Some(&key)).await.is_ok() {
                    return claim.generation;
                }
            }
        })
    }))
    .await;
    let took = begun.elapsed();
    println!("{STATIONS} stations: account, claim and journal in {took:?}");
    assert!(storm.into_iter().all(|generation| generation.unwrap() >= NOW.unsigned_abs()));
    assert!(took < Duration::from_secs(60), "{took:?}");
    let (mut seen, mut after) = (HashSet::new(), None);
    loop {
        let page = gateways[0].1.stations("default", after.as_ref(), 1000, NOW).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.key.station.clone());
        assert!(page.iter().all(|record| record.location.is_some()));
        seen.extend(page.into_iter().map(|record| record.key));
    }
    assert_eq!(seen.len(), STATIONS);
}
