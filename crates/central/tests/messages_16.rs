//! Every message of a 1.6 station, answered and kept.

mod common;

use common::{NOW_MS, Site, meter, start, stop, with};
use serde_json::{Value, json};
use switchboard_central::{BootPolicy, TokenStatus};
use switchboard_router::Registration;

#[tokio::test]
async fn a_boot_is_answered_with_the_time_and_the_station_is_known() {
    let site = Site::new();
    let station = site.v16("CP1");
    let boot = json!({"chargePointVendor": "V", "chargePointModel": "M", "chargeBoxSerialNumber": "S", "firmwareVersion": "F", "iccid": ""});
    let answer = station.answer(&station.next(), "BootNotification", &boot.to_string()).await;
    assert_eq!(answer.registration, Some(Registration::Accepted));
    let frame: serde_json::Value = serde_json::from_slice(&answer.frame.unwrap()).unwrap();
    let told = frame[2]["currentTime"].as_str().unwrap().to_owned();
    assert!(told.starts_with("2026-01-01T00:00:00") && told.ends_with('Z'), "{told}");
    assert_eq!(frame[2]["status"], "Accepted");
    assert_eq!(frame[2]["interval"], 300);
    let stations = site.central.stations().await.unwrap();
    let known = &stations[0];
    assert_eq!((known.identity.as_str(), known.version.as_str()), ("CP1", "1.6"));
    assert_eq!(known.vendor.as_deref(), Some("V"));
    assert_eq!(known.serial.as_deref(), Some("S"));
    assert_eq!(known.firmware.as_deref(), Some("F"));
    assert_eq!(known.booted_ms, Some(NOW_MS));
    assert_eq!(known.registration.as_deref(), Some("Accepted"));
}

#[tokio::test]
async fn a_boot_is_answered_as_configured_and_as_laid_down_for_the_station() {
    let site = Site::with(|config| config.registration = Registration::Pending);
    let station = site.v16("CP1");
    let boot = json!({"chargePointVendor": "V", "chargePointModel": "M"});
    assert_eq!(station.call("BootNotification", boot.clone()).await["status"], "Pending");
    let context = station.next();
    let (tenant, id) = (context.tenant.clone(), context.station.clone());
    let accept = Some(BootPolicy::new(Registration::Accepted));
    site.central.set_boot_policy(&tenant, &id, accept).await.unwrap();
    assert_eq!(station.call("BootNotification", boot.clone()).await["status"], "Accepted");
    site.central.set_boot_policy(&tenant, &id, Some(BootPolicy::new(Registration::Rejected))).await.unwrap();
    assert_eq!(station.call("BootNotification", boot).await["status"], "Rejected");
}

/// L08: the interval of one that is not accepted is how long it waits before it boots again.
#[tokio::test]
async fn the_interval_of_a_boot_follows_its_answer_and_what_was_laid_down() {
    let site = Site::new();
    let station = site.v16("CP1");
    let boot = async || {
        let boot = json!({"chargePointVendor": "V", "chargePointModel": "M"});
        let answer = station.call("BootNotification", boot).await;
        (answer["status"].as_str().unwrap().to_owned(), answer["interval"].as_i64().unwrap())
    };
    assert_eq!(boot().await, ("Accepted".to_owned(), 300));
    let id = station.next().station;
    let mut policy = BootPolicy::new(Registration::Pending);
    site.central.set_boot_policy("default", &id, Some(policy)).await.unwrap();
    assert_eq!(boot().await, ("Pending".to_owned(), 60));
    policy.interval = Some(std::time::Duration::from_secs(5));
    site.central.set_boot_policy("default", &id, Some(policy)).await.unwrap();
    assert_eq!(boot().await, ("Pending".to_owned(), 5));
    assert_eq!(site.central.boot_policy("default", &id).await.unwrap(), Some(policy));
    site.central.set_boot_policy("default", &id, None).await.unwrap();
    assert_eq!(boot().await, ("Accepted".to_owned(), 300));
    // It may be laid down before the station says anything.
    let other = switchboard_rpc::StationId::new("CP2", 48).unwrap();
    site.central
        .set_boot_policy("default", &other, Some(BootPolicy::new(Registration::Rejected)))
        .await
        .unwrap();
    let boot = json!({"chargePointVendor": "V", "chargePointModel": "M"});
    assert_eq!(site.v16("CP2").call("BootNotification", boot).await["status"], "Rejected");
}

#[tokio::test]
async fn a_heartbeat_is_told_the_time_each_time() {
    let site = Site::new();
    let station = site.v16("CP1");
    let first = station.call("Heartbeat", json!({})).await;
    site.pass(1500);
    let second = station.call("Heartbeat", json!({})).await;
    assert_ne!(first, second);
    assert!(second["currentTime"].as_str().unwrap().starts_with("2026-01-01T00:00:01.5"), "{second}");
}

#[tokio::test]
async fn tokens_are_known_without_regard_to_case_and_unknown_ones_as_configured() {
    let site = Site::with(|config| config.unknown_tokens = switchboard_central::UnknownTokens::Refuse);
    let station = site.v16("CP1");
    let tokens = [
        ("GOOD", TokenStatus::Accepted, Some(NOW_MS + 1000)),
        ("OVER", TokenStatus::Accepted, Some(NOW_MS)),
        ("BAD", TokenStatus::Blocked, None),
    ];
    for (token, status, expiry) in tokens {
        site.tag("default", token, status, expiry).await;
    }
    for (token, told) in [("good", "Accepted"), ("OVER", "Expired"), ("BAD", "Blocked"), ("WHO", "Invalid")] {
        let answer = station.call("Authorize", json!({"idTag": token})).await;
        assert_eq!(answer["idTagInfo"]["status"], told, "{token}");
    }
    let answer = station.call("Authorize", json!({"idTag": "GOOD"})).await;
    assert!(answer["idTagInfo"]["expiryDate"].as_str().unwrap().starts_with("2026-01-01T00:00:01"));
    let open = Site::new();
    let answer = open.v16("CP1").call("Authorize", json!({"idTag": "WHO"})).await;
    assert_eq!(answer["idTagInfo"]["status"], "Accepted");
}

#[tokio::test]
async fn a_whole_transaction_is_booked_exactly() {
    let site = Site::new();
    let station = site.v16("CP1");
    let id = station
        .start(with(start(2, "TAG", "2026-01-01T10:00:00+02:00", 1000), json!({"reservationId": 7})))
        .await;
    let sample = json!([{"value": "1.5004", "unit": "kWh"}, {"value": "230.1", "measurand": "Voltage", "phase": "L1"}]);
    station.call("MeterValues", meter(2, Some(id), "2026-01-01T08:10:00Z", sample)).await;
    assert_eq!(site.central.meter_total(id).await.unwrap().unwrap().to_string(), "500.4");
    assert_eq!(site.central.stations().await.unwrap()[0].running, 1);
    let end =
        with(stop(id, "2026-01-01T08:20:00Z", 2600), json!({"idTag": "TAG", "reason": "EVDisconnected"}));
    assert_eq!(station.call("StopTransaction", end).await["idTagInfo"]["status"], "Accepted");
    let booked = site.central.transaction(id).await.unwrap().unwrap();
    assert_eq!(booked.energy.unwrap().to_string(), "1600");
    assert_eq!((booked.evse, booked.connector, booked.reservation), (Some(2), None, Some(7)));
    assert_eq!(booked.token.unwrap().as_str(), "TAG");
    assert_eq!(booked.authorization, Some(TokenStatus::Accepted));
    let begun = booked.started.unwrap();
    assert_eq!(begun.text, "2026-01-01T10:00:00+02:00", "the station's own text is kept");
    assert_eq!(begun.ms, Some(NOW_MS + 8 * 3600 * 1000));
    assert_eq!(booked.stop_reason.as_deref(), Some("EVDisconnected"));
    assert!(booked.ended);
    let readings = site.central.readings(id).await.unwrap();
    assert_eq!(readings.len(), 1);
    assert!(readings[0].samples.contains(r#""value":"1.5004""#));
    assert_eq!(site.alarms().await, []);
    assert_eq!(site.central.stations().await.unwrap()[0].running, 0);
}

#[tokio::test]
async fn transaction_ids_rise_over_all_stations_and_restarts() {
    let mut site = Site::new();
    let mut last = 0;
    for round in 0..3 {
        for identity in ["CP1", "CP2"] {
            let time = format!("2026-01-01T1{round}:00:00Z");
            let id = site.v16(identity).start(start(1, "TAG", &time, 0)).await;
            assert!(id > last);
            last = id;
        }
        site = site.reopened(|_| ()).await;
    }
    assert_eq!(site.transactions().await.len(), 6);
}

#[tokio::test]
async fn a_status_is_kept_and_an_older_one_does_not_undo_it() {
    let site = Site::new();
    let station = site.v16("CP1");
    let status = |connector: i64, status: &str, time: Option<&str>| {
        let payload = json!({"connectorId": connector, "errorCode": "NoError", "status": status});
        match time {
            Some(time) => with(payload, json!({"timestamp": time})),
            None => payload,
        }
    };
    let shown = async || -> Vec<(i64, String)> {
        let stations = site.central.stations().await.unwrap();
        stations[0].connectors.iter().map(|connector| (connector.evse, connector.status.clone())).collect()
    };
    station.call("StatusNotification", status(0, "Available", None)).await;
    station.call("StatusNotification", status(1, "Charging", Some("2025-12-31T10:00:00Z"))).await;
    station.call("StatusNotification", status(1, "Preparing", Some("2025-12-31T09:00:00Z"))).await;
    assert_eq!(shown().await, [(0, "Available".to_owned()), (1, "Charging".to_owned())]);
    // A clock that was never set tells nothing about order.
    station.call("StatusNotification", status(1, "Finishing", Some("1970-01-01T00:00:07Z"))).await;
    assert_eq!(shown().await[1].1, "Finishing");
    site.pass(1000);
    station.call("StatusNotification", status(1, "Faulted", Some("2099-01-01T00:00:00Z"))).await;
    assert_eq!(shown().await[1].1, "Faulted");
    site.pass(1000);
    station.call("StatusNotification", status(1, "Available", None)).await;
    assert_eq!(shown().await[1].1, "Available");
}

#[tokio::test]
async fn notifications_are_kept_and_promise_nothing() {
    let site = Site::new();
    let station = site.v16("CP1");
    for (action, payload, answer) in [
        ("DiagnosticsStatusNotification", json!({"status": "Uploaded"}), json!({})),
        ("FirmwareStatusNotification", json!({"status": "Installed"}), json!({})),
        ("SignedFirmwareStatusNotification", json!({"status": "Installed", "requestId": 3}), json!({})),
        ("LogStatusNotification", json!({"status": "Uploaded", "requestId": 3}), json!({})),
        (
            "SecurityEventNotification",
            json!({"type": "SettingSystemTime", "timestamp": "2024-05-15T01:44:34.000Z"}),
            json!({}),
        ),
        ("SignCertificate", json!({"csr": "-----BEGIN"}), json!({"status": "Rejected"})),
        (
            "DataTransfer",
            json!({"vendorId": "com.example", "data": "x"}),
            json!({"status": "UnknownVendorId"}),
        ),
    ] {
        assert_eq!(station.call(action, payload.clone()).await, answer, "{action}");
        let kept = site.central.notices("default", "CP1", Some(action), 10).await.unwrap();
        assert_eq!(kept.len(), 1, "{action}");
        let kept: serde_json::Value = serde_json::from_str(&kept[0].payload).unwrap();
        assert_eq!(kept, payload);
    }
    assert_eq!(site.central.notices("default", "CP1", None, 100).await.unwrap().len(), 7);
}

/// L08
#[tokio::test]
async fn only_with_the_setting_a_1_6_station_must_boot_first() {
    let site = Site::with(|config| config.refuse_unregistered_16 = true);
    let station = site.v16("CP1");
    for (action, payload) in [
        ("Heartbeat", json!({})),
        ("Authorize", json!({"idTag": "TAG"})),
        ("StatusNotification", json!({"connectorId": 1, "errorCode": "NoError", "status": "Available"})),
    ] {
        assert_eq!(station.refusal(action, payload).await, "SecurityError", "{action}");
    }
    // Money first: a charger that goes on after we lost our data is listened to.
    station.start(start(1, "TAG", "2026-01-01T10:00:00Z", 0)).await;
    station.call("BootNotification", json!({"chargePointVendor": "V", "chargePointModel": "M"})).await;
    station.call("Heartbeat", json!({})).await;
}

#[tokio::test]
async fn one_token_charges_once_if_so_configured() {
    let site = Site::with(|config| config.refuse_concurrent = true);
    let (first, second) = (site.v16("CP1"), site.v16("CP2"));
    let began = first.call("StartTransaction", start(1, "TAG", "2026-01-01T10:00:00Z", 0)).await;
    assert_eq!(began["idTagInfo"]["status"], "Accepted");
    let again = second.call("StartTransaction", start(1, "tag", "2026-01-01T10:05:00Z", 0)).await;
    assert_eq!(again["idTagInfo"]["status"], "ConcurrentTx");
    assert_ne!(again["transactionId"], began["transactionId"]);
    first
        .call("StopTransaction", stop(began["transactionId"].as_i64().unwrap(), "2026-01-01T11:00:00Z", 5))
        .await;
    let free = second.call("StartTransaction", start(2, "TAG", "2026-01-01T11:05:00Z", 0)).await;
    assert_eq!(free["idTagInfo"]["status"], "Accepted");
}

#[tokio::test]
async fn after_closing_nothing_is_answered_so_that_the_station_tries_again() {
    let site = Site::new();
    let station = site.v16("CP1");
    site.central.close().await;
    // An error would be the end of the message for most stations.
    let payload = start(1, "TAG", "2026-01-01T10:00:00Z", 0).to_string();
    assert_eq!(station.frame(&station.next(), "StartTransaction", &payload).await, Value::Null);
}
