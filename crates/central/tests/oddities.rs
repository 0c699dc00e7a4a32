//! Real stations: messages about money are never refused for what they say.

mod common;

use common::{Site, event, meter, start, stop, with};
use serde_json::json;
use switchboard_central::AlarmKind;
use switchboard_rpc::Version;

#[tokio::test]
async fn the_end_of_an_unknown_transaction_waits_for_a_person() {
    let site = Site::new();
    let station = site.v16("CP1");
    let running = station.start(start(1, "TAG", "2026-01-01T10:00:00Z", 100)).await;
    let theirs = site.v16("CP2").start(start(1, "TAG", "2026-01-01T10:00:00Z", 100)).await;
    for claimed in [-1, 0, 424_242, i64::MAX, theirs] {
        let end = with(stop(claimed, "2026-01-01T11:00:00Z", 900), json!({"idTag": "tag"}));
        for _ in 0..2 {
            let answer = station.call("StopTransaction", end.clone()).await;
            assert_eq!(answer["idTagInfo"]["status"], "Accepted", "{claimed}");
        }
    }
    assert_eq!(site.alarms().await, [(AlarmKind::OrphanStop, 1); 5]);
    let orphans = site.central.odd_stops(10).await.unwrap();
    assert_eq!(orphans.len(), 5);
    for orphan in orphans {
        assert_eq!(orphan.role, "orphan");
        assert_eq!(orphan.candidate, Some(running), "named for whoever settles it");
    }
    for id in [running, theirs] {
        assert!(!site.central.transaction(id).await.unwrap().unwrap().ended, "nothing is ended on a guess");
    }
}

#[tokio::test]
async fn an_orphan_that_fits_no_or_several_transactions_has_no_candidate() {
    let site = Site::new();
    let station = site.v16("CP1");
    station.start(start(1, "TAG", "2026-01-01T10:00:00Z", 1000)).await;
    let end = |time: &str, meter: i64| with(stop(-1, time, meter), json!({"idTag": "TAG"}));
    station.call("StopTransaction", end("2026-01-01T11:00:00Z", 900)).await;
    station.call("StopTransaction", end("2026-01-01T09:00:00Z", 2000)).await;
    station.call("StopTransaction", stop(-1, "2026-01-01T11:30:00Z", 2000)).await;
    station.start(start(2, "TAG", "2026-01-01T10:00:00Z", 1000)).await;
    station.call("StopTransaction", end("2026-01-01T12:00:00Z", 2000)).await;
    let orphans = site.central.odd_stops(10).await.unwrap();
    assert_eq!(orphans.len(), 4);
    assert!(orphans.iter().all(|orphan| orphan.candidate.is_none()), "{orphans:?}");
}

#[tokio::test]
async fn meter_values_of_an_unknown_transaction_are_kept_and_alarmed() {
    let site = Site::new();
    let station = site.v16("CP1");
    // Alfen keeps its transactions over a change of central systems, and counts beyond 32 bits.
    for claimed in [-1, i64::MAX, 1_662_160_391] {
        let sample = json!([{"value": "3058620.000", "context": "Sample.Periodic", "unit": "Wh"}]);
        assert_eq!(
            station.call("MeterValues", meter(1, Some(claimed), "2022-09-04T18:39:12Z", sample)).await,
            json!({})
        );
        let kept = site.central.loose_readings("default", "CP1", claimed).await.unwrap();
        assert_eq!(kept[0].energy.unwrap().to_string(), "3058620.000");
    }
    assert_eq!(site.alarms().await, [(AlarmKind::OrphanReading, 1); 3]);
}

#[tokio::test]
async fn a_transaction_that_goes_backwards_is_booked_and_alarmed() {
    let site = Site::new();
    let station = site.v16("CP1");
    let less = station.start(start(1, "TAG", "2026-01-01T10:00:00Z", 1000)).await;
    station.call("StopTransaction", stop(less, "2026-01-01T11:00:00Z", 10)).await;
    assert_eq!(site.central.meter_total(less).await.unwrap().unwrap().to_string(), "-990");
    let earlier = station.start(start(1, "TAG", "2026-01-01T12:00:00Z", 1000)).await;
    station.call("StopTransaction", stop(earlier, "1970-01-01T00:00:00Z", 2000)).await;
    assert_eq!(site.alarms().await, [(AlarmKind::Backwards, 1); 2]);
}

#[tokio::test]
async fn a_transaction_that_was_left_open_is_alarmed_when_the_next_begins() {
    let site = Site::new();
    let station = site.v16("CP1");
    let open = station.start(start(1, "TAG", "2026-01-01T10:00:00Z", 0)).await;
    station.start(start(2, "TAG", "2026-01-01T10:30:00Z", 0)).await;
    assert_eq!(site.alarms().await, []);
    station.start(start(1, "TAG", "2026-01-01T11:00:00Z", 0)).await;
    let alarms = site.central.alarms(10).await.unwrap();
    assert_eq!((alarms.len(), alarms[0].kind), (1, AlarmKind::LeftOpen));
    assert_eq!(alarms[0].subject, open.to_string());
}

#[tokio::test]
async fn a_start_that_cannot_be_read_begins_a_real_transaction_once() {
    let site = Site::new();
    let station = site.v16("CP1");
    let unreadable = json!({"connectorId": 1, "idTag": "TAG", "timestamp": "yesterday", "meterStart": "x"});
    let first = station.call("StartTransaction", unreadable.clone()).await;
    assert_eq!(first["idTagInfo"]["status"], "Accepted");
    let id = first["transactionId"].as_i64().unwrap();
    assert!(id > 0);
    assert_eq!(site.v16("CP1").call("StartTransaction", unreadable).await, first);
    let booked = site.central.transaction(id).await.unwrap().unwrap();
    assert_eq!(booked.token.unwrap().as_str(), "TAG");
    assert_eq!((booked.evse, booked.meter_start), (Some(1), None));
    assert_eq!(booked.started.unwrap().ms, None);
    assert_eq!(site.alarms().await, [(AlarmKind::Unreadable, 1)]);
    let kept = site.central.unreadable(10).await.unwrap();
    assert_eq!(kept.len(), 1);
    assert!(kept[0].payload.contains("yesterday"));
    // And it ends like any other.
    site.v16("CP1").call("StopTransaction", stop(id, "2026-01-01T11:00:00Z", 10)).await;
    assert!(site.central.transaction(id).await.unwrap().unwrap().ended);
}

/// V10
#[tokio::test]
async fn nothing_about_money_is_refused_for_its_content() {
    let site = Site::new();
    let (old, new) = (site.v16("CP1"), site.v201("CS1").await);
    for payload in ["{}", r#"{"connectorId":[],"idTag":{},"timestamp":7,"meterStart":null}"#] {
        let answer = old.call_text(&old.next(), "StartTransaction", payload).await;
        assert!(answer["transactionId"].as_i64().unwrap() > 0);
    }
    for action in ["StopTransaction", "MeterValues"] {
        for payload in ["{}", r#"{"transactionId":"x","meterValue":[7],"transactionData":{}}"#] {
            assert_eq!(old.call_text(&old.next(), action, payload).await, json!({}), "{action}");
        }
    }
    for action in ["TransactionEvent", "MeterValues"] {
        for payload in ["{}", r#"{"seqNo":"x","transactionInfo":[],"meterValue":7}"#] {
            assert_eq!(new.call_text(&new.next(), action, payload).await, json!({}), "{action}");
        }
    }
    assert_eq!(site.central.unreadable(100).await.unwrap().len(), 10);
}

#[tokio::test]
async fn an_end_without_its_trigger_still_ends_the_transaction() {
    let site = Site::new();
    let station = site.v201("CS1").await;
    station.call("TransactionEvent", event("Started", "f3c1b0e2", 0, "2025-03-10T09:00:00Z")).await;
    // MicroOcpp leaves out the trigger.
    let end = json!({"eventType": "Ended", "timestamp": "2025-03-10T10:00:00.000Z", "seqNo": 1, "transactionInfo": {"transactionId": "f3c1b0e2"}});
    for _ in 0..2 {
        assert_eq!(station.call("TransactionEvent", end.clone()).await, json!({}));
    }
    let booked = site.transactions().await.remove(0);
    assert!(booked.ended && booked.events.unwrap().complete);
    assert_eq!(site.alarms().await, [(AlarmKind::Unreadable, 1)]);
}

/// V10: what OCPP 2.0 called `transactionData` says which transaction it is, and numbers are texts.
#[tokio::test]
async fn events_in_the_shape_of_2_0_are_booked_with_their_energy() {
    for version in [Version::V201, Version::V21] {
        let site = Site::new();
        let station = site.v2x("CS1", version).await;
        // The members in either order: one station writes the readings first.
        for (seq, kind, wh) in [(0, "Started", "1000"), (1, "Updated", "1500"), (2, "Ended", "2000")] {
            let time = format!("2022-07-16T12:5{seq}:35Z");
            let readings =
                format!(r#""meterValue":[{{"timestamp":"{time}","sampledValue":[{{"value":"{wh}"}}]}}]"#);
            let data = r#""transactionData":{"id":"1","remoteStartId":"7","chargingState":"Charging"}"#;
            let both = if seq == 1 { format!("{readings},{data}") } else { format!("{data},{readings}") };
            let event = format!(
                r#"{{"eventType":"{kind}","timestamp":"{time}","triggerReason":"Authorized","seqNo":{seq},{both},"evse":{{"id":1}}}}"#
            );
            for _ in 0..2 {
                assert_eq!(
                    station.call_text(&station.next(), "TransactionEvent", &event).await,
                    json!({}),
                    "{event}"
                );
            }
        }
        let mut booked = site.transactions().await;
        assert_eq!(booked.len(), 1);
        let booked = booked.remove(0);
        assert!(booked.ended && booked.events.unwrap().complete);
        assert_eq!(booked.evse, Some(1));
        assert_eq!(site.central.meter_total(booked.id).await.unwrap().unwrap().to_string(), "1000");
        assert_eq!(site.alarms().await, [(AlarmKind::Unreadable, 3)]);
    }
}

/// V10: there the value was a bare text, of the energy register in Wh.
#[tokio::test]
async fn readings_in_the_shape_of_1_5_are_metered() {
    let site = Site::new();
    let station = site.v16("CP1");
    let id = station.start(start(2, "TAG", "2016-09-17T15:00:00Z", 0)).await;
    for (time, values, total) in [
        ("15:47:37", r#"["100"]"#, "100"),
        ("15:48:37", r#"["150"]"#, "150"),
        // Of the same second, and with an object as there are some.
        ("15:48:37", r#"["160"]"#, "160"),
        ("15:49:37", r#"[{"value":"0.2","unit":"kWh"},{"value":"230","measurand":"Voltage"}]"#, "200"),
        ("15:50:37", "[]", "200"),
    ] {
        let payload = format!(
            r#"{{"connectorId":2,"transactionId":{id},"values":[{{"timestamp":"2016-09-17T{time}Z","value":{values}}}]}}"#
        );
        for _ in 0..2 {
            assert_eq!(station.call_text(&station.next(), "MeterValues", &payload).await, json!({}));
        }
        let found = site.central.meter_total(id).await.unwrap().unwrap();
        assert_eq!(found.to_string(), total, "{payload}");
    }
    station.call("StopTransaction", stop(id, "2016-09-17T16:00:00Z", 250)).await;
    assert_eq!(site.central.meter_total(id).await.unwrap().unwrap().to_string(), "250");
}

/// V10: a station that is not answered would send it for ever.
#[tokio::test]
async fn samples_that_are_no_samples_can_come_twice_for_one_moment() {
    let site = Site::new();
    let station = site.v16("CP1");
    let id = station.start(start(1, "TAG", "2026-01-01T10:00:00Z", 0)).await;
    for samples in
        [json!(["x", 7]), json!(["y", 7, null, {"value": "50"}]), json!([{"measurand": 5, "value": "1"}])]
    {
        let payload = meter(1, Some(id), "2026-01-01T10:10:00Z", samples);
        assert_eq!(station.call("MeterValues", payload.clone()).await, json!({}), "{payload}");
    }
    assert_eq!(site.central.meter_total(id).await.unwrap().unwrap().to_string(), "50");
    let kept = site.central.readings(id).await.unwrap();
    assert_eq!(kept.len(), 1);
    let samples: Vec<serde_json::Value> = serde_json::from_str(&kept[0].samples).unwrap();
    assert_eq!(samples.len(), 4, "{samples:?}");
}

/// Stations that leave out the zero of hours below ten.
#[tokio::test]
async fn an_hour_of_one_digit_is_a_time() {
    let site = Site::new();
    let station = site.v16("CP1");
    let id = station.start(start(1, "TAG", "2022-07-10T3:11:55Z", 0)).await;
    let status = json!({"connectorId": 1, "errorCode": "NoError", "status": "Charging",
        "timestamp": "2022-07-10T3:12:00Z"});
    assert_eq!(station.call("StatusNotification", status).await, json!({}));
    let booked = site.central.transaction(id).await.unwrap().unwrap();
    assert_eq!(booked.started.unwrap().ms, Some(1_657_422_715_000));
    assert_eq!(site.alarms().await, []);
}

#[tokio::test]
async fn numbers_for_strings_are_metered_all_the_same() {
    let site = Site::new();
    let station = site.v16("CP1");
    let id = station.start(start(1, "TAG", "2021-11-22T20:00:00Z", 0)).await;
    // OpenEVSE writes values as numbers, Heidelberg leaves them empty.
    let payload = format!(
        r#"{{"connectorId":1,"transactionId":{id},"meterValue":[{{"timestamp":"2021-11-22T20:38:32.000Z","sampledValue":[{{"value":604.213,"measurand":"Energy.Active.Import.Register","unit":"Wh"}},{{"value":"","measurand":"Voltage"}}]}}]}}"#
    );
    assert_eq!(station.call_text(&station.next(), "MeterValues", &payload).await, json!({}));
    assert_eq!(site.central.meter_total(id).await.unwrap().unwrap().to_string(), "604.213");
}

#[tokio::test]
async fn a_register_that_is_no_number_is_alarmed_and_does_not_count() {
    let site = Site::new();
    let station = site.v16("CP1");
    let id = station.start(start(1, "TAG", "2026-01-01T10:00:00Z", 0)).await;
    station.call("MeterValues", meter(1, Some(id), "2026-01-01T10:10:00Z", json!([{"value": "50"}]))).await;
    station
        .call("MeterValues", meter(1, Some(id), "2026-01-01T10:20:00Z", json!([{"value": "fifty"}])))
        .await;
    assert_eq!(site.alarms().await, [(AlarmKind::NotANumber, 1)]);
    assert_eq!(site.central.meter_total(id).await.unwrap().unwrap().to_string(), "50");
    assert_eq!(site.central.readings(id).await.unwrap().len(), 2);
}

#[tokio::test]
async fn what_was_forgiven_is_told() {
    let site = Site::new();
    let station = site.v16("CP1");
    let boot =
        json!({"chargePointVendor": "V", "chargePointModel": "M".repeat(30), "iccid": null, "extra": 1});
    for _ in 0..2 {
        station.call("BootNotification", boot.clone()).await;
    }
    station.call("Heartbeat", json!({"extra": 1})).await;
    let warnings = site.central.warnings(10).await.unwrap();
    let told: Vec<_> = warnings
        .iter()
        .map(|warning| (warning.action.as_str(), warning.pointer.as_str(), warning.count))
        .collect();
    for expected in [
        ("BootNotification", "/chargePointModel", 2),
        ("BootNotification", "/iccid", 2),
        ("BootNotification", "/extra", 2),
        ("Heartbeat", "/extra", 1),
    ] {
        assert!(told.contains(&expected), "{expected:?} in {told:?}");
    }
}

#[tokio::test]
async fn a_token_is_never_printed() {
    let site = Site::new();
    site.v16("CP1").start(start(1, "SECRETTAG", "2026-01-01T10:00:00Z", 0)).await;
    let booked = site.transactions().await;
    assert!(!format!("{booked:?}").contains("SECRETTAG"));
    assert!(serde_json::to_string(&booked).unwrap().contains("SECRETTAG"));
}

#[tokio::test]
async fn tenants_do_not_see_one_another() {
    let site = Site::with(|config| {
        config.refuse_concurrent = true;
        config.unknown_tokens = switchboard_central::UnknownTokens::Refuse;
    });
    for tenant in ["acme", "other"] {
        site.tag(tenant, "TAG", switchboard_central::TokenStatus::Accepted, None).await;
    }
    let (mut ours, mut theirs) = (site.v16("CP1"), site.v16("CP1"));
    ours.context.tenant = "acme".into();
    theirs.context.tenant = "other".into();
    for station in [&ours, &theirs] {
        let answer = station.call("StartTransaction", start(1, "TAG", "2026-01-01T10:00:00Z", 0)).await;
        assert_eq!(answer["idTagInfo"]["status"], "Accepted");
    }
    assert_eq!(site.transactions().await.len(), 2);
}

/// Text that nothing can make shorter.
fn noise(seed: u64) -> String {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'!' + state.to_be_bytes()[3] % 90)
    };
    std::iter::repeat_with(next).filter(|letter| !matches!(letter, '"' | '\\')).take(12_000).collect()
}

/// A thousand times as long as the specification allows: no place of the books has a limit of its own.
#[tokio::test]
async fn what_is_far_too_long_is_kept_all_the_same() {
    let site = Site::new();
    let station = site.v16("CP1");
    let (tag, other) = (noise(1), noise(2));
    let id = station.start(start(1, &tag, "2026-01-01T10:00:00Z", 100)).await;
    let again = station.start(start(1, &tag, "2026-01-01T10:00:00Z", 100)).await;
    assert_eq!(id, again, "a repeat is known");
    let samples = json!([{"value": "150", "context": noise(3), "unit": "Wh"}]);
    station.call("MeterValues", meter(1, Some(id), "2026-01-01T10:30:00Z", samples)).await;
    for _ in 0..2 {
        let end = with(stop(-1, "2026-01-01T11:00:00Z", 900), json!({"idTag": tag, "reason": other}));
        station.call("StopTransaction", end).await;
    }
    assert_eq!(site.central.odd_stops(10).await.unwrap().len(), 1, "a repeat is known");
    station
        .call("StopTransaction", with(stop(id, "2026-01-01T11:00:00Z", 900), json!({"idTag": other})))
        .await;
    let status = json!({"connectorId": 1, "errorCode": other, "status": tag, "info": other, "vendorErrorCode": tag,
        "timestamp": "2026-01-01T11:00:00Z"});
    station.answer(&station.next(), "StatusNotification", &status.to_string()).await;
    let station = site.v201("CP2").await;
    for (kind, seq) in [("Started", 0), ("Updated", 1), ("Ended", 2)] {
        let token = json!({"idToken": {"idToken": tag, "type": "Central"}});
        let event = with(event(kind, &other, seq, "2026-01-01T10:00:00Z"), token);
        station.call("TransactionEvent", event).await;
    }
    let transactions = site.transactions().await;
    assert_eq!(transactions.len(), 2);
    assert!(transactions.iter().all(|transaction| transaction.ended), "{}", transactions.len());
}
