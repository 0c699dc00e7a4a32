//! Every message of a station of 2.0.1 and 2.1, answered and kept. What both have is tried in both.

mod common;

use common::{Site, event, with};
use serde_json::{Value, json};
use switchboard_central::{BootPolicy, TokenStatus};
use switchboard_router::Registration;
use switchboard_rpc::Version;

const TWO: [Version; 2] = [Version::V201, Version::V21];

#[tokio::test]
async fn a_boot_is_answered_and_the_station_is_known() {
    for version in TWO {
        let site = Site::new();
        let station = site.connect("CS1", version);
        let boot = json!({"reason": "PowerUp", "chargingStation": {"model": "M", "vendorName": "V", "serialNumber": "S", "firmwareVersion": "F"}});
        let answer = station.answer(&station.next(), "BootNotification", &boot.to_string()).await;
        assert_eq!(answer.registration, Some(Registration::Accepted));
        let known = site.central.stations().await.unwrap().remove(0);
        assert_eq!((known.version.as_str(), known.vendor.as_deref()), (version.as_str(), Some("V")));
        assert_eq!((known.serial.as_deref(), known.firmware.as_deref()), (Some("S"), Some("F")));
    }
}

/// L08
#[tokio::test]
async fn until_it_is_accepted_a_station_may_only_boot() {
    for version in TWO {
        let site = Site::with(|config| config.registration = Registration::Pending);
        let station = site.connect("CS1", version);
        let report = json!({"requestId": 1, "generatedAt": "2026-01-01T00:00:00Z", "seqNo": 0});
        let status = json!({"timestamp": "2026-01-01T00:00:00Z", "connectorStatus": "Available", "evseId": 1, "connectorId": 1});
        let calls = || {
            [
                ("Heartbeat", json!({})),
                ("Authorize", json!({"idToken": {"idToken": "T", "type": "Central"}})),
                ("StatusNotification", status.clone()),
            ]
        };
        for (action, payload) in calls() {
            assert_eq!(station.refusal(action, payload).await, "SecurityError", "{action}");
        }
        assert_eq!(station.refusal("NotifyReport", report.clone()).await, "SecurityError");
        let boot = json!({"reason": "PowerUp", "chargingStation": {"model": "M", "vendorName": "V"}});
        assert_eq!(station.call("BootNotification", boot.clone()).await["status"], "Pending");
        for (action, payload) in calls() {
            assert_eq!(station.refusal(action, payload).await, "SecurityError", "{action}");
        }
        // What we asked for while it was pending (B02.FR.02).
        station.call("NotifyReport", report).await;
        let begin = event("Started", "tx", 0, "2026-01-01T10:00:00Z");
        assert_eq!(station.refusal("TransactionEvent", begin).await, "SecurityError");
        let context = station.next();
        let accept = Some(BootPolicy::new(Registration::Accepted));
        site.central.set_boot_policy("default", &context.station, accept).await.unwrap();
        assert_eq!(station.call("BootNotification", boot.clone()).await["status"], "Accepted");
        for (action, payload) in calls() {
            station.call(action, payload).await;
        }
        let reject = Some(BootPolicy::new(Registration::Rejected));
        site.central.set_boot_policy("default", &context.station, reject).await.unwrap();
        assert_eq!(station.call("BootNotification", boot).await["status"], "Rejected");
        for (action, payload) in calls() {
            assert_eq!(station.refusal(action, payload).await, "SecurityError", "{action}");
        }
    }
}

/// L08
#[tokio::test]
async fn what_a_pending_station_was_asked_for_is_let_through_for_a_while() {
    for version in TWO {
        let site = Site::with(|config| config.registration = Registration::Pending);
        let station = site.connect("CS1", version);
        let id = station.next().station;
        let trigger = async |message: &str| {
            let payload = json!({"requestedMessage": message}).to_string();
            site.central.before_call("default", &id, "TriggerMessage", payload.as_bytes()).await.unwrap();
        };
        let status = json!({"timestamp": "2026-01-01T00:00:00Z", "connectorStatus": "Available", "evseId": 1, "connectorId": 1});
        trigger("StatusNotification").await;
        assert_eq!(station.refusal("StatusNotification", status.clone()).await, "SecurityError");

        let boot = json!({"reason": "PowerUp", "chargingStation": {"model": "M", "vendorName": "V"}});
        assert_eq!(station.call("BootNotification", boot.clone()).await["status"], "Pending");
        assert_eq!(station.refusal("StatusNotification", status.clone()).await, "SecurityError");
        trigger("StatusNotification").await;
        trigger("Heartbeat").await;
        // One for each connector.
        for _ in 0..2 {
            station.call("StatusNotification", status.clone()).await;
        }
        station.call("Heartbeat", json!({})).await;
        let authorize = json!({"idToken": {"idToken": "T", "type": "Central"}});
        assert_eq!(station.refusal("Authorize", authorize).await, "SecurityError");
        site.pass(121_000);
        assert_eq!(station.refusal("StatusNotification", status.clone()).await, "SecurityError");
        assert_eq!(station.refusal("Heartbeat", json!({})).await, "SecurityError");

        let reject = Some(BootPolicy::new(Registration::Rejected));
        site.central.set_boot_policy("default", &id, reject).await.unwrap();
        assert_eq!(station.call("BootNotification", boot).await["status"], "Rejected");
        trigger("StatusNotification").await;
        assert_eq!(station.refusal("StatusNotification", status).await, "SecurityError");
    }
}

/// L07
#[tokio::test]
async fn a_registration_outlives_connections_and_restarts() {
    for version in TWO {
        let site = Site::new();
        site.v2x("CS1", version).await;
        let site = site.reopened(|_| ()).await;
        site.connect("CS1", version).call("Heartbeat", json!({})).await;
    }
}

#[tokio::test]
async fn events_of_a_station_that_never_booted_are_money_and_kept() {
    for version in TWO {
        let site = Site::new();
        let station = site.connect("CS1", version);
        station.call("TransactionEvent", event("Started", "tx", 0, "2026-01-01T10:00:00Z")).await;
        assert_eq!(site.transactions().await.len(), 1);
    }
}

#[expect(clippy::unwrap_used, reason = "a helper of tests")]
fn energy(seq: i64, kind: &str, time: &str, wh: &str) -> Value {
    let sample: Value = serde_json::from_str(&format!(r#"[{{"value":{wh}}}]"#)).unwrap();
    with(event(kind, "tx-1", seq, time), json!({"meterValue": [{"timestamp": time, "sampledValue": sample}]}))
}

#[tokio::test]
async fn a_whole_transaction_is_booked_whichever_way_its_events_come() {
    for version in TWO {
        let token =
            json!({"idToken": {"idToken": "TAG", "type": "ISO14443"}, "evse": {"id": 2, "connectorId": 1}});
        let events = [
            with(energy(0, "Started", "2026-01-01T10:00:00Z", "1000.5"), token),
            energy(1, "Updated", "2026-01-01T10:10:00Z", "1500"),
            with(
                energy(2, "Updated", "2026-01-01T10:20:00Z", "1600.25"),
                json!({"transactionInfo": {"transactionId": "tx-1", "chargingState": "SuspendedEV", "remoteStartId": 9}}),
            ),
            with(
                energy(3, "Ended", "2026-01-01T10:30:00Z", "1700.75"),
                json!({"transactionInfo": {"transactionId": "tx-1", "stoppedReason": "EVDisconnected"}}),
            ),
        ];
        let mut books = Vec::new();
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]] {
            let site = Site::new();
            let station = site.v2x("CS1", version).await;
            for position in order {
                station.call("TransactionEvent", events[position].clone()).await;
            }
            let booked = site.transactions().await.remove(0);
            assert_eq!(site.alarms().await, []);
            books.push(booked);
        }
        assert_eq!(books[0], books[1]);
        assert_eq!(books[0], books[2]);
        let booked = &books[0];
        assert_eq!(booked.energy.unwrap().to_string(), "700.25");
        assert_eq!(booked.remote_id.as_deref(), Some("tx-1"));
        assert_eq!((booked.evse, booked.connector, booked.remote_start), (Some(2), Some(1), Some(9)));
        assert_eq!(booked.token.as_ref().unwrap().as_str(), "TAG");
        assert_eq!(booked.charging_state.as_deref(), Some("SuspendedEV"));
        assert_eq!(booked.stop_reason.as_deref(), Some("EVDisconnected"));
        assert_eq!(booked.started.as_ref().unwrap().text, "2026-01-01T10:00:00Z");
        let events = booked.events.as_ref().unwrap();
        assert_eq!((events.count, events.first, events.last, events.complete), (4, 0, 3, true));
    }
}

#[tokio::test]
async fn a_gap_is_seen_and_numbers_may_begin_anywhere() {
    for version in TWO {
        let site = Site::new();
        let station = site.v2x("CS1", version).await;
        for (seq, kind) in [(7, "Started"), (9, "Ended")] {
            station.call("TransactionEvent", event(kind, "tx", seq, "2026-01-01T10:00:00Z")).await;
        }
        let complete = async || site.transactions().await[0].events.clone().unwrap().complete;
        assert!(!complete().await);
        station.call("TransactionEvent", event("Updated", "tx", 8, "2026-01-01T10:00:00Z")).await;
        assert!(complete().await);
    }
}

#[tokio::test]
async fn the_token_of_an_event_is_judged_and_nothing_else_is_said() {
    for version in TWO {
        let site = Site::with(|config| config.unknown_tokens = switchboard_central::UnknownTokens::Refuse);
        site.tag("default", "BAD", TokenStatus::Blocked, None).await;
        let station = site.v2x("CS1", version).await;
        let token = |token: &str, kind: &str| json!({"idToken": {"idToken": token, "type": kind}});
        for (id, kind, told) in [
            ("BAD", "ISO14443", "Blocked"),
            ("WHO", "ISO14443", "Unknown"),
            ("", "NoAuthorization", "Accepted"),
        ] {
            let authorized = station.call("Authorize", token(id, kind)).await;
            assert_eq!(authorized["idTokenInfo"]["status"], told, "{id}");
            let begin =
                with(event("Started", &format!("tx {id}"), 0, "2026-01-01T10:00:00Z"), token(id, kind));
            let answer = station.call("TransactionEvent", begin).await;
            assert_eq!(answer["idTokenInfo"]["status"], told, "{id}");
        }
        let update = event("Updated", "tx BAD", 1, "2026-01-01T10:01:00Z");
        assert_eq!(station.call("TransactionEvent", update).await, json!({}));
    }
}

#[tokio::test]
async fn a_contract_that_nobody_can_check_is_not_accepted() {
    for version in TWO {
        let site = Site::new();
        let station = site.v2x("CS1", version).await;
        let contract =
            json!({"idToken": {"idToken": "DE-ABC-1", "type": "eMAID"}, "certificate": "-----BEGIN"});
        let answer = station.call("Authorize", contract).await;
        assert_eq!(answer["idTokenInfo"]["status"], "Invalid");
        assert_ne!(answer["certificateStatus"], "Accepted");
    }
}

#[tokio::test]
async fn meter_values_and_statuses_outside_of_transactions_are_kept() {
    for version in TWO {
        let site = Site::new();
        let station = site.v2x("CS1", version).await;
        let values = json!({"evseId": 0, "meterValue": [{"timestamp": "2026-01-01T10:00:00Z", "sampledValue": [{"value": 12.50, "unitOfMeasure": {"unit": "kWh"}}]}]});
        station.call("MeterValues", values).await;
        let readings = site.central.loose_readings("default", "CS1", 0).await.unwrap();
        assert_eq!(readings[0].energy.unwrap().to_string(), "12500");
        let status = json!({"timestamp": "2026-01-01T00:00:00Z", "connectorStatus": "Occupied", "evseId": 1, "connectorId": 2});
        station.call("StatusNotification", status).await;
        let stations = site.central.stations().await.unwrap();
        let connector = &stations[0].connectors[0];
        assert_eq!((connector.evse, connector.connector, connector.status.as_str()), (1, 2, "Occupied"));
    }
}

#[tokio::test]
async fn notifications_are_kept_and_promise_nothing() {
    for version in TWO {
        let site = Site::new();
        let station = site.v2x("CS1", version).await;
        let schedule = json!({"id": 1, "chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 6.0}]});
        let now = "2026-01-01T00:00:00Z";
        let hash = json!({"hashAlgorithm": "SHA256", "issuerNameHash": "a", "issuerKeyHash": "b", "serialNumber": "c", "responderURL": "http://ocsp.example"});
        let monitored = json!([{"eventId": 1, "timestamp": now, "trigger": "Delta", "actualValue": "1", "eventNotificationType": "HardWiredNotification", "component": {"name": "C"}, "variable": {"name": "V"}}]);
        for (action, payload, answer) in [
            ("FirmwareStatusNotification", json!({"status": "Installed", "requestId": 1}), json!({})),
            (
                "PublishFirmwareStatusNotification",
                json!({"status": "Published", "location": ["http://x.example"]}),
                json!({}),
            ),
            ("LogStatusNotification", json!({"status": "Uploaded", "requestId": 1}), json!({})),
            (
                "ReservationStatusUpdate",
                json!({"reservationId": 1, "reservationUpdateStatus": "Expired"}),
                json!({}),
            ),
            ("SecurityEventNotification", json!({"type": "StartupOfTheDevice", "timestamp": now}), json!({})),
            ("NotifyEvent", json!({"generatedAt": now, "seqNo": 0, "eventData": monitored}), json!({})),
            ("NotifyChargingLimit", json!({"chargingLimit": {"chargingLimitSource": "EMS"}}), json!({})),
            ("ClearedChargingLimit", json!({"chargingLimitSource": "EMS"}), json!({})),
            (
                "NotifyEVChargingNeeds",
                json!({"evseId": 1, "chargingNeeds": {"requestedEnergyTransfer": "DC"}}),
                json!({"status": "Rejected"}),
            ),
            (
                "NotifyEVChargingSchedule",
                json!({"timeBase": now, "evseId": 1, "chargingSchedule": schedule}),
                json!({"status": "Accepted"}),
            ),
            ("SignCertificate", json!({"csr": "-----BEGIN"}), json!({"status": "Rejected"})),
            (
                "Get15118EVCertificate",
                json!({"iso15118SchemaVersion": "urn:iso:15118:2:2013:MsgDef", "action": "Install", "exiRequest": "AA=="}),
                json!({"status": "Failed", "exiResponse": ""}),
            ),
            ("GetCertificateStatus", json!({"ocspRequestData": hash}), json!({"status": "Failed"})),
            (
                "DataTransfer",
                json!({"vendorId": "com.example", "data": {"x": [1, 2]}}),
                json!({"status": "UnknownVendorId"}),
            ),
        ] {
            assert_eq!(station.call(action, payload.clone()).await, answer, "{action}");
            let kept = site.central.notices("default", "CS1", Some(action), 10).await.unwrap();
            assert_eq!(kept.len(), 1, "{action}");
            assert_eq!(serde_json::from_str::<Value>(&kept[0].payload).unwrap(), payload, "{action}");
        }
    }
}

#[tokio::test]
async fn answers_in_parts_are_put_together() {
    for version in TWO {
        let site = Site::new();
        let station = site.v2x("CS1", version).await;
        let now = "2026-01-01T00:00:00Z";
        let profiles = |limit: i64| {
            let period = json!([{"startPeriod": 0, "limit": limit}]);
            let schedule = json!([{"id": 1, "chargingRateUnit": "A", "chargingSchedulePeriod": period}]);
            let profile = json!([{"id": 1, "stackLevel": 0, "chargingProfilePurpose": "TxProfile", "chargingProfileKind": "Absolute", "chargingSchedule": schedule}]);
            json!({"requestId": 5, "chargingLimitSource": "CSO", "evseId": 1, "chargingProfile": profile})
        };
        let numbered = |seq: i64| json!({"requestId": 5, "generatedAt": now, "seqNo": seq});
        for (action, last, first) in [
            ("NotifyReport", numbered(1), numbered(0)),
            ("NotifyMonitoringReport", numbered(1), numbered(0)),
            (
                "NotifyCustomerInformation",
                with(numbered(1), json!({"data": "b"})),
                with(numbered(0), json!({"data": "a"})),
            ),
            (
                "NotifyDisplayMessages",
                json!({"requestId": 5}),
                json!({"requestId": 5, "messageInfo": [{"id": 1, "priority": "AlwaysFront", "message": {"format": "UTF8", "content": "x"}}]}),
            ),
            ("ReportChargingProfiles", profiles(6), profiles(7)),
        ] {
            let first = with(first, json!({"tbc": true}));
            let complete = async || {
                let report = site.central.report("default", "CS1", action, 5).await.unwrap();
                (report.parts.len(), report.complete)
            };
            assert_eq!(complete().await, (0, false));
            assert_eq!(station.call(action, first.clone()).await, json!({}), "{action}");
            assert_eq!(complete().await, (1, false), "{action}");
            station.call(action, last.clone()).await;
            assert_eq!(complete().await, (2, true), "{action}");
            station.call(action, last).await;
            station.call(action, first).await;
            assert_eq!(complete().await, (2, true), "{action}: repeats are no parts");
        }
        // The last part before the first one.
        let late =
            |seq: i64, tbc: bool| json!({"requestId": 6, "generatedAt": now, "seqNo": seq, "tbc": tbc});
        station.call("NotifyReport", late(1, false)).await;
        assert!(!site.central.report("default", "CS1", "NotifyReport", 6).await.unwrap().complete);
        station.call("NotifyReport", late(0, true)).await;
        assert!(site.central.report("default", "CS1", "NotifyReport", 6).await.unwrap().complete);
    }
}

#[tokio::test]
async fn what_2_1_says_more_of_a_transaction_is_kept_as_it_was_written() {
    let site = Site::new();
    let station = site.v2x("CS1", Version::V21).await;
    let info = |members: &str| format!(r#""transactionInfo":{{"transactionId":"tx"{members}}}"#);
    let event = |kind: &str, seq: i64, members: &str| {
        format!(
            r#"{{"eventType":"{kind}","timestamp":"2026-01-01T10:0{seq}:00Z","triggerReason":"Authorized","seqNo":{seq},{members}}}"#
        )
    };
    let cost = r#""costDetails":{"totalCost":{"currency":"EUR","typeOfCost":"NormalCost","total":{"exclTax":1.10}},"totalUsage":{"energy":1.50,"chargingTime":60,"idleTime":0}}"#;
    let events = [
        event(
            "Started",
            0,
            &info(
                r#","operationMode":"CentralV2X","tariffId":"night","transactionLimit":{"maxEnergy":10.0}"#,
            ),
        ),
        event("Ended", 2, &format!("{},{cost}", info(r#","operationMode":"Idle""#))),
        event("Updated", 1, &format!("{},\"evseSleep\":true", info(r#","operationMode":"ChargingOnly""#))),
    ];
    for event in events.iter().chain(&events) {
        station.call_text(&station.next(), "TransactionEvent", event).await;
    }
    let booked = site.transactions().await.remove(0);
    assert_eq!(site.alarms().await, [], "a repeat says the same");
    for (name, value) in [
        ("operationMode", r#""Idle""#),
        ("tariffId", r#""night""#),
        ("transactionLimit", r#"{"maxEnergy":10.0}"#),
        ("evseSleep", "true"),
        ("costDetails", cost.trim_start_matches("\"costDetails\":")),
    ] {
        assert_eq!(booked.details.get(name), Some(value), "{name}");
    }
    assert!(serde_json::to_string(&booked).unwrap().contains(r#""tariffId":"night""#));
}

#[tokio::test]
async fn what_only_2_1_has_is_kept_and_promises_nothing() {
    let site = Site::new();
    let station = site.v2x("CS1", Version::V21).await;
    let now = "2026-01-01T00:00:00Z";
    let hash =
        json!({"hashAlgorithm": "SHA256", "issuerNameHash": "a", "issuerKeyHash": "b", "serialNumber": "c"});
    let token = json!({"idToken": "TAG", "type": "ISO14443"});
    let battery = json!([{"evseId": 1, "serialNumber": "B1", "soC": 80, "soH": 95}]);
    for (action, payload, answer) in [
        (
            "BatterySwap",
            json!({"requestId": 1, "eventType": "BatteryIn", "idToken": token, "batteryData": battery}),
            json!({}),
        ),
        (
            "OpenPeriodicEventStream",
            json!({"constantStreamData": {"id": 1, "variableMonitoringId": 2, "params": {"interval": 5}}}),
            json!({"status": "Accepted"}),
        ),
        ("ClosePeriodicEventStream", json!({"id": 1}), json!({})),
        (
            "GetCertificateChainStatus",
            json!({"certificateStatusRequests": [{"certificateHashData": hash, "source": "OCSP", "urls": ["http://ocsp.example"]}]}),
            json!({"certificateStatus": [{"certificateHashData": hash, "source": "OCSP", "status": "Failed", "nextUpdate": now}]}),
        ),
        ("NotifyDERAlarm", json!({"controlType": "FreqDroop", "timestamp": now}), json!({})),
        ("NotifyDERStartStop", json!({"controlId": "c1", "started": true, "timestamp": now}), json!({})),
        ("NotifyPriorityCharging", json!({"transactionId": "tx", "activated": true}), json!({})),
        (
            "NotifySettlement",
            json!({"pspRef": "p1", "status": "Settled", "settlementAmount": 12.5, "settlementTime": now}),
            json!({}),
        ),
        ("PullDynamicScheduleUpdate", json!({"chargingProfileId": 1}), json!({"status": "Rejected"})),
        (
            "VatNumberValidation",
            json!({"vatNumber": "NL123", "evseId": 2}),
            json!({"vatNumber": "NL123", "evseId": 2, "status": "Rejected"}),
        ),
    ] {
        assert_eq!(station.call(action, payload.clone()).await, answer, "{action}");
        let kept = site.central.notices("default", "CS1", Some(action), 10).await.unwrap();
        assert_eq!(kept.len(), 1, "{action}");
        assert_eq!(serde_json::from_str::<Value>(&kept[0].payload).unwrap(), payload, "{action}");
    }
    let report = |tbc: bool| json!({"requestId": 3, "tbc": tbc, "gradient": [{"id": "g", "gradient": {"priority": 1, "gradient": 1.0, "softGradient": 1.0}}]});
    station.call("ReportDERControl", report(true)).await;
    station.call("ReportDERControl", report(false)).await;
    let report = site.central.report("default", "CS1", "ReportDERControl", 3).await.unwrap();
    assert!(report.complete && report.parts.len() == 2);
}

/// F16
#[tokio::test]
async fn a_send_is_kept_and_never_answered() {
    let site = Site::new();
    let station = site.v2x("CS1", Version::V21).await;
    let data = r#"{"id":1,"pending":0,"basetime":"2026-01-01T00:00:00Z","data":[{"t":0,"v":"1.10"}]}"#;
    for payload in [data, "{}"] {
        let frame = format!(r#"[6,"s","NotifyPeriodicEventStream",{payload}]"#);
        let mut context = station.next();
        context.keyed = false;
        for _ in ["first", "handed over again"] {
            let answer = site.router.answer(&context, frame.clone().into()).await;
            assert_eq!(answer.frame, None);
        }
    }
    let kept = site.central.notices("default", "CS1", Some("NotifyPeriodicEventStream"), 10).await.unwrap();
    assert_eq!(kept.iter().map(|notice| notice.payload.as_str()).collect::<Vec<_>>(), [data]);
}
