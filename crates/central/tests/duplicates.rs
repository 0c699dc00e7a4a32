//! Repeats, row by row of the table of natural keys: the same message is booked once and answered alike, whichever
//! connection and message id it comes with; and a call that is handed over twice has one effect.

mod common;

use common::{Site, event, meter, start, stop, with};
use serde_json::json;
use switchboard_central::{AlarmKind, TokenStatus};
use switchboard_rpc::Version;

#[tokio::test]
async fn a_repeated_start_has_the_same_transaction_and_is_not_judged_again() {
    let site = Site::with(|config| config.refuse_concurrent = true);
    site.tag("default", "TAG", TokenStatus::Accepted, None).await;
    let payload = start(1, "TAG", "2026-01-01T10:00:00Z", 100);
    let first = site.v16("CP1").call("StartTransaction", payload.clone()).await;
    assert_eq!(first["idTagInfo"]["status"], "Accepted");
    // Neither that the token charges (here) nor that it was barred meanwhile changes the answer.
    site.tag("default", "TAG", TokenStatus::Blocked, None).await;
    let again = site.v16("CP1").call("StartTransaction", payload).await;
    assert_eq!(again, first);
    // The same instant in another zone is the same message.
    let elsewhere = start(1, "TAG", "2026-01-01T12:00:00+02:00", 100);
    assert_eq!(site.v16("CP1").call("StartTransaction", elsewhere).await, first);
    assert_eq!(site.transactions().await.len(), 1);
    assert_eq!(site.alarms().await, []);
}

#[tokio::test]
async fn a_start_that_differs_in_any_part_of_its_key_is_another_one() {
    let site = Site::new();
    let station = site.v16("CP1");
    let mut ids = vec![station.start(start(1, "TAG", "2026-01-01T10:00:00Z", 100)).await];
    for other in [
        start(2, "TAG", "2026-01-01T10:00:00Z", 100),
        start(1, "OTHER", "2026-01-01T10:00:00Z", 100),
        start(1, "TAG", "2026-01-01T10:00:00.000001Z", 100),
        start(1, "TAG", "2026-01-01T10:00:00Z", 101),
    ] {
        ids.push(station.start(other).await);
    }
    ids.push(site.v16("CP2").start(start(1, "TAG", "2026-01-01T10:00:00Z", 100)).await);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 6);
}

#[tokio::test]
async fn a_repeated_stop_is_answered_alike_and_a_different_one_is_kept_beside() {
    let site = Site::new();
    let station = site.v16("CP1");
    let id = station.start(start(1, "TAG", "2026-01-01T10:00:00Z", 100)).await;
    let end = with(stop(id, "2026-01-01T11:00:00Z", 900), json!({"idTag": "TAG"}));
    let first = station.call("StopTransaction", end.clone()).await;
    site.tag("default", "TAG", TokenStatus::Blocked, None).await;
    let station = site.v16("CP1");
    assert_eq!(station.call("StopTransaction", end.clone()).await, first);
    // No reason means Local.
    let written_out = with(end.clone(), json!({"reason": "Local"}));
    assert_eq!(station.call("StopTransaction", written_out).await, first);
    assert_eq!(site.alarms().await, []);
    for _ in 0..2 {
        let other = with(end.clone(), json!({"meterStop": 950}));
        assert_eq!(station.call("StopTransaction", other).await, first);
    }
    assert_eq!(site.alarms().await, [(AlarmKind::StopVariant, 1)]);
    assert_eq!(site.central.meter_total(id).await.unwrap().unwrap().to_string(), "800");
    let odd = site.central.odd_stops(10).await.unwrap();
    assert_eq!((odd.len(), odd[0].role.as_str(), odd[0].claimed), (1, "variant", id));
    assert!(odd[0].content.contains("950"), "{}", odd[0].content);
}

#[tokio::test]
async fn meter_values_are_kept_once_per_sample() {
    let site = Site::new();
    let station = site.v16("CP1");
    let id = station.start(start(1, "TAG", "2026-01-01T10:00:00Z", 0)).await;
    let time = "2026-01-01T10:10:00Z";
    let volts = json!({"value": "230.1", "measurand": "Voltage", "phase": "L1"});
    let energy = json!({"value": "95.0", "unit": "Wh"});
    let first = meter(1, Some(id), time, json!([volts]));
    station.call("MeterValues", first.clone()).await;
    let once = site.central.readings(id).await.unwrap();
    let station = site.v16("CP1");
    station.call("MeterValues", first).await;
    assert_eq!(site.central.readings(id).await.unwrap(), once);
    // A message that mixes an old sample with a new one.
    station.call("MeterValues", meter(1, Some(id), time, json!([volts, energy]))).await;
    // And the end, which repeats samples, with the defaults written out.
    let written_out = json!({"value": "95.0", "unit": "Wh", "measurand": "Energy.Active.Import.Register", "location": "Outlet"});
    let end = with(
        stop(id, "2026-01-01T11:00:00Z", 900),
        json!({"transactionData": [
            {"timestamp": time, "sampledValue": [written_out]},
            {"timestamp": "2026-01-01T11:00:00Z", "sampledValue": [{"value": "900", "context": "Transaction.End"}]},
        ]}),
    );
    station.call("StopTransaction", end).await;
    let readings = site.central.readings(id).await.unwrap();
    assert_eq!(readings.len(), 2);
    let samples: Vec<serde_json::Value> = serde_json::from_str(&readings[0].samples).unwrap();
    assert_eq!(samples.len(), 2, "{samples:?}");
    assert_eq!(readings[0].energy.unwrap().to_string(), "95.0");
    // Other connectors and no transaction are other readings.
    station.call("MeterValues", meter(2, Some(id), time, json!([volts]))).await;
    station.call("MeterValues", meter(1, None, time, json!([volts]))).await;
    assert_eq!(site.central.readings(id).await.unwrap().len(), 3);
    assert_eq!(site.central.loose_readings("default", "CP1", 0).await.unwrap().len(), 1);
}

/// In a file their keys follow some time after them, which nobody can tell.
#[tokio::test]
async fn readings_of_many_stations_at_once_are_found_and_their_repeats_recognised() {
    let site = Site::new();
    let stations: Vec<_> = (0..64).map(|number| site.v16(&format!("CP{number}"))).collect();
    let said = |minutes: std::ops::Range<usize>, value: &str| {
        let readings: Vec<_> = minutes
            .map(|minute| {
                let time = format!("2026-01-01T{:02}:{:02}:00Z", minute / 60, minute % 60);
                json!({"timestamp": time, "sampledValue": [{"value": value}]})
            })
            .collect();
        json!({"connectorId": 1, "meterValue": readings})
    };
    // Some thousands, which is more than may wait for their keys; then repeats, and old ones together with new ones.
    for (minutes, value, known) in [(0..30, "1", 30), (30..70, "2", 70), (10..70, "3", 70), (60..80, "4", 80)]
    {
        let payload = said(minutes.clone(), value);
        let calls = stations.iter().map(|station| station.call("MeterValues", payload.clone()));
        futures_util::future::join_all(calls).await;
        for station in ["CP0", "CP31", "CP63"] {
            let readings = site.central.loose_readings("default", station, 0).await.unwrap();
            assert_eq!(readings.len(), known, "{station}");
            assert!(readings.is_sorted_by_key(|reading| reading.at.ms), "{station}");
            assert!(
                readings[minutes.clone()].iter().all(|reading| reading.samples.contains(value)),
                "{station}"
            );
        }
    }
    let site = site.reopened(|_| ()).await;
    assert_eq!(site.v16("CP5").call("MeterValues", said(0..85, "5")).await, json!({}));
    assert_eq!(site.central.loose_readings("default", "CP5", 0).await.unwrap().len(), 85);
}

#[tokio::test]
async fn a_repeated_event_is_answered_alike_also_when_it_was_queued_meanwhile() {
    let site = Site::with(|config| config.refuse_concurrent = true);
    let station = site.v201("CS1").await;
    let token = json!({"idToken": {"idToken": "TAG", "type": "Central"}});
    let begin = with(event("Started", "tx", 0, "2026-01-01T10:00:00Z"), token);
    let first = station.call("TransactionEvent", begin.clone()).await;
    assert_eq!(first["idTokenInfo"]["status"], "Accepted");
    site.tag("default", "TAG", TokenStatus::Blocked, None).await;
    let queued = with(begin, json!({"offline": true}));
    assert_eq!(site.connect("CS1", Version::V201).call("TransactionEvent", queued).await, first);
    assert_eq!(site.transactions().await.len(), 1);
    assert_eq!(site.alarms().await, []);
}

#[tokio::test]
async fn another_event_under_a_used_number_is_kept_and_counts() {
    let site = Site::new();
    let station = site.v201("CS1").await;
    // A station that numbers all its events 0.
    station.call("TransactionEvent", event("Started", "tx", 0, "2026-01-01T10:00:00Z")).await;
    for _ in 0..2 {
        station.call("TransactionEvent", event("Ended", "tx", 0, "2026-01-01T11:00:00Z")).await;
    }
    assert_eq!(site.alarms().await, [(AlarmKind::EventVariant, 1)]);
    let booked = site.transactions().await.remove(0);
    assert!(booked.ended && booked.started.is_some());
}

#[tokio::test]
async fn repeated_notifications_are_kept_once() {
    let site = Site::new();
    let (old, new) = (site.v16("CP1"), site.v201("CS1").await);
    let security =
        json!({"type": "SettingSystemTime", "timestamp": "2024-05-15T01:44:34.000Z", "techInfo": "x"});
    let limits = json!([{"eventId": 1, "timestamp": "2024-05-15T01:44:34Z", "trigger": "Delta", "actualValue": "1", "eventNotificationType": "HardWiredNotification", "component": {"name": "C"}, "variable": {"name": "V"}}]);
    let notify = json!({"generatedAt": "2024-05-15T01:44:34Z", "seqNo": 0, "eventData": limits});
    for _ in 0..3 {
        old.call("SecurityEventNotification", security.clone()).await;
        new.call("SecurityEventNotification", security.clone()).await;
        new.call("NotifyEvent", notify.clone()).await;
    }
    old.call("SecurityEventNotification", with(security, json!({"techInfo": "y"}))).await;
    new.call("NotifyEvent", with(notify, json!({"seqNo": 1}))).await;
    assert_eq!(site.central.notices("default", "CP1", None, 10).await.unwrap().len(), 2);
    assert_eq!(site.central.notices("default", "CS1", None, 10).await.unwrap().len(), 3);
}

#[tokio::test]
async fn what_has_no_natural_key_is_answered_anew() {
    let site = Site::new();
    let boot = json!({"chargePointVendor": "V", "chargePointModel": "M"});
    for _ in 0..3 {
        let station = site.v16("CP1");
        assert_eq!(station.call("BootNotification", boot.clone()).await["status"], "Accepted");
        station.call("Heartbeat", json!({})).await;
        station.call("Authorize", json!({"idTag": "TAG"})).await;
        station.call("StatusNotification", json!({"connectorId": 1, "errorCode": "NoError", "status": "Available", "timestamp": "2025-12-31T10:00:00Z"})).await;
    }
    assert_eq!(site.central.stations().await.unwrap().len(), 1);
}

/// S02
#[tokio::test]
async fn a_call_that_is_handed_over_twice_has_one_effect_and_one_answer() {
    let site = Site::new();
    let station = site.v16("CP1");
    let context = station.next();
    let status = json!({"status": "Uploaded"});
    let first = station.call_as(&context, "DiagnosticsStatusNotification", &status).await;
    let mut repeated = context.clone();
    repeated.attempt = 2;
    assert_eq!(station.call_as(&repeated, "DiagnosticsStatusNotification", &status).await, first);
    assert_eq!(site.central.notices("default", "CP1", None, 10).await.unwrap().len(), 1);
    // A later call of the station makes it stale: nobody waits for it, and it has no effect.
    station.call("DiagnosticsStatusNotification", status.clone()).await;
    let silence = station.frame(&repeated, "DiagnosticsStatusNotification", &status.to_string()).await;
    assert!(silence.is_null(), "{silence}");
    assert_eq!(site.central.notices("default", "CP1", None, 10).await.unwrap().len(), 2);
    // Worked off from the journal, it is recognised by that.
    let mut journalled = station.next();
    journalled.journal = Some(7);
    station.call("Heartbeat", json!({})).await;
    for _ in 0..2 {
        station.call_as(&journalled, "DiagnosticsStatusNotification", &status).await;
    }
    assert_eq!(site.central.notices("default", "CP1", None, 10).await.unwrap().len(), 3);
}

#[tokio::test]
async fn without_a_gateway_that_counts_calls_natural_keys_alone_decide() {
    let site = Site::new();
    let mut station = site.v16("CP1");
    station.context.generation = 0;
    let mut context = station.next();
    (context.generation, context.seq) = (0, 0);
    let payload = start(1, "TAG", "2026-01-01T10:00:00Z", 100);
    let first = station.call_as(&context, "StartTransaction", &payload).await;
    assert_eq!(station.call_as(&context, "StartTransaction", &payload).await, first);
    let end = stop(first["transactionId"].as_i64().unwrap(), "2026-01-01T11:00:00Z", 900);
    assert_eq!(station.call_as(&context, "StopTransaction", &end).await, json!({}));
    assert!(site.transactions().await[0].ended);
}
