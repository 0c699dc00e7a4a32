//! What makes a station behave like a charger: limits, batteries, reservations, jobs, faults, lists, reports.

use super::*;
use crate::{Quirk, Scenario};
use std::sync::Arc;

const ALL: [Version; 3] = Version::ALL;

fn scenario(text: &str) -> Option<Arc<Scenario>> {
    Some(Arc::new(Scenario::read(&format!("about = 'a test'\n{text}")).unwrap()))
}

fn start(version: Version, token: &str) -> (&'static str, Value) {
    match version {
        Version::V16 => ("RemoteStartTransaction", json!({ "idTag": token })),
        _ => (
            "RequestStartTransaction",
            json!({ "remoteStartId": 1, "idToken": { "idToken": token, "type": "Central" } }),
        ),
    }
}

/// A station at whose only connector a car charges.
fn charging(version: Version) -> Bench {
    let mut bench = Bench::accepted(version, |config| {
        config.visited = 0;
        config.session = Duration::from_secs(86_400 * 7);
    });
    let (action, payload) = start(version, "A");
    assert_eq!(bench.status(action, payload), "Accepted");
    bench.settle();
    bench.said.clear();
    bench
}

fn profile(version: Version, purpose: &str, unit: &str, limit: f64, transaction: Option<&Value>) -> Value {
    let schedule =
        json!({ "chargingRateUnit": unit, "chargingSchedulePeriod": [{ "startPeriod": 0, "limit": limit }] });
    let mut profile =
        json!({ "stackLevel": 1, "chargingProfilePurpose": purpose, "chargingProfileKind": "Absolute" });
    if let Some(transaction) = transaction {
        profile["transactionId"] = transaction.clone();
    }
    if version == Version::V16 {
        profile["chargingProfileId"] = 5.into();
        profile["chargingSchedule"] = schedule;
        return json!({ "connectorId": 1, "csChargingProfiles": profile });
    }
    profile["id"] = 5.into();
    let mut schedule = schedule;
    schedule["id"] = 1.into();
    profile["chargingSchedule"] = json!([schedule]);
    json!({ "evseId": 1, "chargingProfile": profile })
}

/// What flows in an hour, in Wh.
fn an_hour(bench: &mut Bench) -> u64 {
    let before = bench.books().energy_wh();
    bench.pass(MINUTE * 60);
    bench.books().energy_wh() - before
}

fn of<'a>(bench: &'a Bench, action: &str) -> Vec<&'a Value> {
    bench.said.iter().filter(|(one, _)| one == action).map(|(_, payload)| payload).collect()
}

#[test]
fn a_profile_limits_what_flows_and_zero_suspends() {
    for version in ALL {
        let mut bench = charging(version);
        let free = an_hour(&mut bench);
        assert!(free >= 4_000, "{version}: {free}");
        let id = bench.books().transactions[&1].id.clone().unwrap();
        let id: Value = if version == Version::V16 { id.parse::<i64>().unwrap().into() } else { id.into() };
        let set = |bench: &mut Bench, unit: &str, limit: f64| {
            bench.status("SetChargingProfile", profile(version, "TxProfile", unit, limit, Some(&id)))
        };
        // Below 6 A on each of three phases nothing flows at all, so the limit is above.
        assert_eq!(set(&mut bench, "A", 6.0), "Accepted");
        let limited = an_hour(&mut bench);
        assert!((4_000..=4_141).contains(&limited), "{version}: {limited}");
        bench.said.clear();
        assert_eq!(set(&mut bench, "W", 0.0), "Accepted");
        assert_eq!(an_hour(&mut bench), 0, "{version}");
        match version {
            Version::V16 => assert_eq!(of(&bench, "StatusNotification")[0]["status"], "SuspendedEVSE"),
            _ => {
                let event = of(&bench, "TransactionEvent")[0];
                assert_eq!(event["triggerReason"], "ChargingStateChanged");
                assert_eq!(event["transactionInfo"]["chargingState"], "SuspendedEVSE");
            }
        }
        let composite = match version {
            Version::V16 => json!({ "connectorId": 1, "duration": 60, "chargingRateUnit": "W" }),
            _ => json!({ "evseId": 1, "duration": 60, "chargingRateUnit": "W" }),
        };
        let Reply::Result(told) = bench.called("GetCompositeSchedule", composite) else {
            panic!("{version}")
        };
        let schedule = if version == Version::V16 { &told["chargingSchedule"] } else { &told["schedule"] };
        assert_eq!(schedule["chargingSchedulePeriod"][0]["limit"], 0.0, "{told}");
        let clear = match version {
            Version::V16 => json!({ "id": 5 }),
            _ => json!({ "chargingProfileId": 5 }),
        };
        assert_eq!(bench.status("ClearChargingProfile", clear.clone()), "Accepted");
        assert_eq!(bench.status("ClearChargingProfile", clear), "Unknown");
        assert!(an_hour(&mut bench).abs_diff(free) <= 1, "{version}");
        let wrong = profile(
            version,
            "TxProfile",
            "A",
            6.0,
            Some(&if version == Version::V16 { json!(4711) } else { json!("other") }),
        );
        assert_eq!(bench.status("SetChargingProfile", wrong), "Rejected");
    }
}

#[test]
fn the_limit_of_the_station_is_one_on_the_sum() {
    let mut bench = Bench::accepted(Version::V16, |config| {
        config.visited = 0;
        config.connectors = 2;
        config.session = Duration::from_secs(86_400);
    });
    let mut max = profile(Version::V16, "ChargePointMaxProfile", "W", 10_000.0, None);
    max["connectorId"] = 0.into();
    assert_eq!(bench.status("SetChargingProfile", max), "Accepted");
    for connector in 1..=2 {
        let start = json!({ "idTag": "A", "connectorId": connector });
        assert_eq!(bench.status("RemoteStartTransaction", start), "Accepted");
    }
    bench.settle();
    let sold = an_hour(&mut bench);
    assert!((8_000..=10_000).contains(&sold), "{sold}");
}

#[test]
fn a_full_battery_suspends_and_its_charge_is_told() {
    for version in ALL {
        let mut bench = Bench::accepted(version, |config| {
            config.scenario = scenario(
                "[arrivals]\nper_connector = 20\n[session]\nenergy_kwh = [5, 5, 5]\nstay_minutes = [600, 600, 600]",
            );
            config.power_w = Some(22_000.0);
        });
        let (action, payload) = match version {
            Version::V16 => (
                "ChangeConfiguration",
                json!({ "key": "MeterValuesSampledData", "value": "SoC,Power.Active.Import" }),
            ),
            _ => (
                "SetVariables",
                json!({ "setVariableData": [{ "attributeValue": "SoC,Power.Active.Import",
                    "component": { "name": "SampledDataCtrlr" }, "variable": { "name": "TxUpdatedMeasurands" } }] }),
            ),
        };
        assert!(matches!(bench.called(action, payload), Reply::Result(_)));
        bench.pass(MINUTE * 60 * 20);
        let book = bench.books().transactions.values().next().unwrap().clone();
        assert!(book.energy_wh().abs_diff(5_000) <= 2, "{version}: {}", book.energy_wh());
        let readings = if version == Version::V16 { "MeterValues" } else { "TransactionEvent" };
        let shares: Vec<f64> = of(&bench, readings)
            .into_iter()
            .flat_map(|payload| payload["meterValue"][0]["sampledValue"].as_array().unwrap().clone())
            .filter(|sample| sample["measurand"] == "SoC")
            .map(|sample| {
                sample["value"]
                    .as_str()
                    .map_or_else(|| sample["value"].as_f64().unwrap(), |text| text.parse().unwrap())
            })
            .collect();
        assert!(shares.len() > 3 && shares.iter().all(|share| (0.0..=100.0).contains(share)), "{shares:?}");
        let suspended = match version {
            Version::V16 => of(&bench, "StatusNotification").iter().any(|one| one["status"] == "SuspendedEV"),
            _ => of(&bench, "TransactionEvent")
                .iter()
                .any(|one| one["transactionInfo"]["chargingState"] == "SuspendedEV"),
        };
        assert!(suspended, "{version}");
    }
}

#[test]
fn a_reservation_keeps_the_connector_until_it_expires() {
    for version in ALL {
        let mut bench = Bench::accepted(version, |config| config.visited = 0);
        let reserve = |bench: &mut Bench, id: i64, minutes: i64| {
            let expiry = super::super::outgoing::time(bench.now.unix_ms + minutes * 60_000);
            let payload = match version {
                Version::V16 => {
                    json!({ "connectorId": 1, "reservationId": id, "idTag": "MINE", "expiryDate": expiry })
                }
                _ => json!({ "id": id, "evseId": 1, "expiryDateTime": expiry,
                    "idToken": { "idToken": "MINE", "type": "ISO14443" } }),
            };
            bench.status("ReserveNow", payload)
        };
        assert_eq!(reserve(&mut bench, 1, 10), "Accepted");
        assert_eq!(reserve(&mut bench, 2, 10), "Occupied", "{version}: somebody else has it");
        let (action, payload) = start(version, "OTHER");
        assert_eq!(bench.status(action, payload), "Rejected");
        bench.settle();
        bench.said.clear();
        bench.pass(MINUTE * 11);
        let status = if version == Version::V16 { "status" } else { "connectorStatus" };
        assert_eq!(of(&bench, "StatusNotification")[0][status], "Available");
        assert_eq!(of(&bench, "ReservationStatusUpdate").len(), usize::from(version != Version::V16));
        assert_eq!(bench.status("CancelReservation", json!({ "reservationId": 1 })), "Rejected");

        assert_eq!(reserve(&mut bench, 3, 10), "Accepted");
        let (action, payload) = start(version, "mine");
        assert_eq!(bench.status(action, payload), "Accepted");
        bench.settle();
        let begun = if version == Version::V16 { "StartTransaction" } else { "TransactionEvent" };
        assert_eq!(of(&bench, begun)[0]["reservationId"], 3, "{version}");
        assert_eq!(reserve(&mut bench, 4, 10), "Occupied");
    }
}

#[test]
fn new_firmware_is_told_step_by_step_and_installed_after_a_boot() {
    for version in ALL {
        let mut bench = charging(version);
        let retrieve = super::super::outgoing::time(bench.now.unix_ms);
        let payload = match version {
            Version::V16 => json!({ "location": "http://x/f", "retrieveDate": retrieve }),
            _ => {
                json!({ "requestId": 8, "firmware": { "location": "http://x/f", "retrieveDateTime": retrieve } })
            }
        };
        assert!(matches!(bench.called("UpdateFirmware", payload), Reply::Result(_)));
        bench.pass_until(|step| matches!(step, Step::Close(_, "restarting")));
        bench.connect();
        bench.settle();
        let told: Vec<_> =
            of(&bench, "FirmwareStatusNotification").iter().map(|one| one["status"].clone()).collect();
        let (first, last) = (told.first().unwrap(), told.last().unwrap());
        assert_eq!((first, last), (&json!("Downloading"), &json!("Installed")), "{version}");
        let ended = match version {
            Version::V16 => of(&bench, "StopTransaction")[0]["reason"].clone(),
            _ => of(&bench, "TransactionEvent").last().unwrap()["transactionInfo"]["stoppedReason"].clone(),
        };
        assert_eq!(ended, "Reboot", "{version}");
        assert_eq!(bench.books().boots, 2);
    }
}

#[test]
fn logs_are_uploaded_in_steps() {
    for (version, action, payload, told) in [
        (Version::V16, "GetDiagnostics", json!({ "location": "ftp://x" }), "DiagnosticsStatusNotification"),
        (
            Version::V201,
            "GetLog",
            json!({ "logType": "DiagnosticsLog", "requestId": 3, "log": { "remoteLocation": "ftp://x" } }),
            "LogStatusNotification",
        ),
    ] {
        let mut bench = Bench::accepted(version, |config| config.visited = 0);
        assert!(matches!(bench.called(action, payload), Reply::Result(_)));
        bench.pass(MINUTE * 2);
        let states: Vec<_> = of(&bench, told).iter().map(|one| one["status"].clone()).collect();
        assert_eq!(states, ["Uploading", "Uploaded"], "{version}");
    }
}

#[test]
fn reports_come_in_numbered_parts_of_which_the_last_says_so() {
    for version in [Version::V201, Version::V21] {
        let mut bench = Bench::accepted(version, |config| config.visited = 0);
        bench.said.clear();
        let report = |base: &str| json!({ "requestId": 12, "reportBase": base });
        assert_eq!(bench.status("GetBaseReport", report("FullInventory")), "Accepted");
        bench.settle();
        let parts = of(&bench, "NotifyReport");
        assert!(parts.len() > 1);
        for (number, part) in parts.iter().enumerate() {
            assert_eq!((&part["requestId"], &part["seqNo"]), (&json!(12), &json!(number)));
            assert_eq!(part["tbc"], number + 1 < parts.len());
        }
        let asked = json!({ "requestId": 13, "componentVariable": [{ "component": { "name": "Nothing" } }] });
        assert_eq!(bench.status("GetReport", asked), "EmptyResultSet");
        let variable = json!({ "getVariableData": [{ "component": { "name": "EVSE", "evse": { "id": 1 } },
            "variable": { "name": "AvailabilityState" } }] });
        let Reply::Result(answer) = bench.called("GetVariables", variable) else { panic!() };
        assert_eq!(answer["getVariableResult"][0]["attributeValue"], "Available");
        // What is not modelled is refused and not pretended.
        let monitor = json!({ "setMonitoringData": [{ "value": 1, "type": "Delta", "severity": 1,
            "component": { "name": "EVSE" }, "variable": { "name": "Power" } }] });
        let Reply::Error(code, _) = bench.called("SetVariableMonitoring", monitor) else { panic!() };
        assert_eq!(code, ErrorCode::NotSupported);
    }
}

#[test]
fn the_list_decides_where_nobody_can_be_asked() {
    for (status, sold) in [("Accepted", true), ("Blocked", false)] {
        let mut bench = Bench::accepted(Version::V16, |config| config.tokens = Arc::new(["A1".to_owned()]));
        let list = json!({ "listVersion": 1, "updateType": "Full",
            "localAuthorizationList": [{ "idTag": "A1", "idTagInfo": { "status": status } }] });
        assert_eq!(bench.status("SendLocalList", list), "Accepted");
        let Reply::Result(version) = bench.called("GetLocalListVersion", json!({})) else { panic!() };
        assert_eq!(version["listVersion"], 1);
        bench.disconnect();
        bench.pass(MINUTE * 120);
        assert_eq!(!bench.books().transactions.is_empty(), sold, "{status}");
    }
    let mut bench = Bench::accepted(Version::V16, |_| {});
    let never = json!({ "key": "AllowOfflineTxForUnknownId", "value": "false" });
    assert_eq!(bench.status("ChangeConfiguration", never), "Accepted");
    bench.disconnect();
    bench.pass(MINUTE * 120);
    assert!(bench.books().transactions.is_empty(), "nobody knows this tag");
}

#[test]
fn availability_that_is_taken_away_under_a_car_waits_for_it() {
    let mut bench = charging(Version::V16);
    let change = |kind: &str| json!({ "connectorId": 1, "type": kind });
    assert_eq!(bench.status("ChangeAvailability", change("Inoperative")), "Scheduled");
    assert_eq!(bench.status("RemoteStopTransaction", json!({ "transactionId": 41 })), "Accepted");
    bench.settle();
    assert_eq!(of(&bench, "StatusNotification").last().unwrap()["status"], "Unavailable");
    let (action, payload) = start(Version::V16, "A");
    assert_eq!(bench.status(action, payload), "Rejected");
    assert_eq!(bench.status("ChangeAvailability", change("Operative")), "Accepted");
    bench.settle();
    assert_eq!(of(&bench, "StatusNotification").last().unwrap()["status"], "Available");
}

#[test]
fn readings_follow_what_the_central_system_demands() {
    let mut bench = charging(Version::V16);
    let change = |key: &str, value: &str| json!({ "key": key, "value": value });
    assert_eq!(bench.status("ChangeConfiguration", change("MeterValueSampleInterval", "10")), "Accepted");
    bench.pass(MINUTE);
    assert_eq!(of(&bench, "MeterValues").len(), 6);
    assert_eq!(bench.status("ChangeConfiguration", change("MeterValueSampleInterval", "86400")), "Accepted");
    assert_eq!(bench.status("ChangeConfiguration", change("ClockAlignedDataInterval", "900")), "Accepted");
    bench.said.clear();
    bench.pass(MINUTE * 60);
    let readings = of(&bench, "MeterValues");
    assert_eq!(readings.len(), 4);
    for reading in readings {
        let value = &reading["meterValue"][0];
        assert_eq!(value["sampledValue"][0]["context"], "Sample.Clock");
        let at: jiff::Timestamp = value["timestamp"].as_str().unwrap().parse().unwrap();
        assert_eq!(at.as_millisecond() % 900_000, 0, "{at}");
    }
}

#[test]
fn a_fault_ends_the_session_and_is_repaired() {
    for version in ALL {
        let mut bench = Bench::accepted(version, |config| {
            config.scenario = scenario("[arrivals]\nper_connector = 60\n[faults]\nshare = 1");
        });
        bench.pass(MINUTE * 60 * 24);
        let status = if version == Version::V16 { "status" } else { "connectorStatus" };
        let told: Vec<_> = of(&bench, "StatusNotification").iter().map(|one| one[status].clone()).collect();
        let broken = told.iter().position(|one| one == "Faulted").unwrap();
        assert!(told[broken..].contains(&json!("Available")), "{version}: it is repaired");
        if version == Version::V16 {
            let status = of(&bench, "StatusNotification");
            let faults = status.iter().filter(|one| one["status"] == "Faulted");
            assert!(faults.clone().count() > 0 && faults.clone().all(|one| one["errorCode"] != "NoError"));
        } else {
            assert!(!of(&bench, "NotifyEvent").is_empty());
        }
        assert!(bench.books().transactions.values().filter(|book| book.ended).count() > 1);
    }
}

#[test]
fn power_that_fails_ends_all_and_brings_a_boot() {
    for version in ALL {
        let mut bench = Bench::accepted(version, |config| {
            config.scenario = scenario(
                "[arrivals]\nper_connector = 200\n[session]\nstay_minutes = [300, 300, 300]\n\
                 [[offline.together]]\nat_hour = 5\nminutes = 7\nshare = 1\npower = true",
            );
        });
        bench.pass_until(|step| *step == Step::Drop);
        let (begun, begin) = (bench.books().transactions.len(), bench.now.at);
        bench.said.clear();
        while bench.books().link == Link::Offline {
            assert_eq!(bench.books().transactions.len(), begun, "{version}: nobody charges without power");
            bench.step(bench.now.at + MINUTE);
        }
        let out = bench.now.at - begin;
        assert!(out >= MINUTE * 7 && out < MINUTE * 8, "{version}: {out:?}");
        bench.settle();
        assert_eq!(bench.said[0].0, "BootNotification", "{version}");
        let reason = match version {
            Version::V16 => of(&bench, "StopTransaction")[0]["reason"].clone(),
            _ => of(&bench, "TransactionEvent").iter().find(|one| one["eventType"] == "Ended").unwrap()
                ["transactionInfo"]["stoppedReason"]
                .clone(),
        };
        assert_eq!(reason, "PowerLoss", "{version}");
        assert!(bench.books().all_settled());
    }
}

#[test]
fn in_2_1_drivers_and_the_central_system_limit_what_is_charged() {
    let mut bench = Bench::accepted(Version::V21, |config| {
        config.power_w = Some(22_000.0);
        config.scenario = scenario(
            "[arrivals]\nper_connector = 20\n[session]\nenergy_kwh = [20, 20, 20]\nstay_minutes = [900, 900, 900]\n\
             limited = 1",
        );
    });
    bench.pass(MINUTE * 60 * 10);
    let told = of(&bench, "TransactionEvent");
    assert_eq!(told[0]["transactionInfo"]["operationMode"], "ChargingOnly");
    assert_eq!(told[0]["transactionInfo"]["transactionLimit"]["maxEnergy"], 10_000.0);
    let reached = told.iter().find(|one| one["triggerReason"] == "EnergyLimitReached").unwrap();
    assert_eq!(reached["transactionInfo"]["chargingState"], "SuspendedEVSE");
    let sold = bench.books().transactions[&1].energy_wh();
    assert!(sold.abs_diff(10_000) <= 2, "{sold}");

    // The central system's limit comes in an answer, and is acknowledged once.
    let mut bench = charging(Version::V21);
    bench.pass(MINUTE);
    let mut calls = 0;
    for _ in 0..20 {
        bench.step(bench.now.at + MINUTE);
        while let Some(call) = bench.next_call() {
            calls += 1;
            bench.end(call, End::Answered(json!({ "transactionLimit": { "maxEnergy": 2_000 } })));
        }
    }
    assert!(calls > 2);
    let told = of(&bench, "TransactionEvent");
    assert_eq!(told.iter().filter(|one| one["triggerReason"] == "LimitSet").count(), 1);
    bench.pass(MINUTE * 120);
    let sold = bench.books().energy_wh();
    assert!(sold.abs_diff(2_000) <= 2, "{sold}");
}

#[test]
fn in_2_1_what_is_drawn_is_streamed_without_answers() {
    for version in ALL {
        let mut bench = Bench::accepted(version, |config| {
            config.visited = 0;
            config.session = Duration::from_secs(86_400);
        });
        let asked = of(&bench, "OpenPeriodicEventStream").len();
        assert_eq!(asked, usize::from(version == Version::V21));
        let (action, payload) = start(version, "A");
        assert_eq!(bench.status(action, payload), "Accepted");
        bench.pass(MINUTE * 60 * 5);
        assert!(bench.sent.is_empty(), "{version}: nobody has allowed it");
    }
    let mut bench = Bench::new(Version::V21, |config| {
        config.visited = 0;
        config.session = Duration::from_secs(86_400);
    });
    while let Some(call) = bench.next_call() {
        let opens = call.action == "OpenPeriodicEventStream";
        let answer = if opens { json!({ "status": "Accepted" }) } else { bench.answer(&call) };
        bench.end(call, End::Answered(answer));
    }
    let (action, payload) = start(Version::V21, "A");
    assert_eq!(bench.status(action, payload), "Accepted");
    bench.pass(MINUTE * 41);
    assert_eq!(bench.sent.len(), 1, "eight readings");
    let (action, part) = bench.sent[0].clone();
    assert_eq!((action.as_str(), part["data"].as_array().unwrap().len()), ("NotifyPeriodicEventStream", 8));
    assert_eq!((&part["data"][0]["t"], &part["data"][1]["t"]), (&json!(0.0), &json!(300.0)));
    let Reply::Result(streams) = bench.called("GetPeriodicEventStream", json!({})) else { panic!() };
    assert_eq!(streams["constantStreamData"][0]["params"]["values"], 8);
    let adjust = json!({ "id": 1, "params": { "values": 2 } });
    assert_eq!(bench.status("AdjustPeriodicEventStream", adjust), "Accepted");
    bench.pass(MINUTE * 20);
    assert_eq!(bench.sent.len(), 3);
}

#[test]
fn in_2_1_priority_takes_the_place_of_a_transactions_own_profile() {
    let mut bench = charging(Version::V21);
    let id = bench.books().transactions[&1].id.clone().unwrap();
    let prior = |bench: &mut Bench, activate: bool| {
        bench.status("UsePriorityCharging", json!({ "transactionId": id, "activate": activate }))
    };
    assert_eq!(prior(&mut bench, true), "NoProfile");
    let slow = profile(Version::V21, "TxProfile", "A", 6.0, Some(&json!(id)));
    assert_eq!(bench.status("SetChargingProfile", slow), "Accepted");
    let mut fast = profile(Version::V21, "PriorityCharging", "A", 16.0, None);
    fast["chargingProfile"]["id"] = 6.into();
    assert_eq!(bench.status("SetChargingProfile", fast), "Accepted");
    let slow = an_hour(&mut bench);
    assert_eq!(prior(&mut bench, true), "Accepted");
    let fast = an_hour(&mut bench);
    assert!(fast > slow + 500, "{slow} {fast}");
    assert_eq!(prior(&mut bench, false), "Accepted");
    assert!(an_hour(&mut bench).abs_diff(slow) <= 1);
    let other = json!({ "transactionId": "another", "activate": true });
    assert_eq!(bench.status("UsePriorityCharging", other), "Rejected");
}

#[test]
fn a_week_with_everything_is_valid_and_adds_up_in_every_version() {
    for version in ALL {
        let mut bench = Bench::accepted(version, |config| {
            config.connectors = 3;
            config.scenario = scenario(
                "[arrivals]\nper_connector = 12\n[session]\nno_show = 0.1\n[stations]\nstation_share = 0.5\n\
                 [offline]\na_day = 3\n[faults]\nshare = 0.1\npower_losses_a_day = 0.5",
            );
        });
        for hour in 0..24 * 7 {
            bench.pass(MINUTE * 60);
            if hour % 50 == 49 && bench.charger.client().is_online() {
                let reset = if version == Version::V16 { "Soft" } else { "Immediate" };
                assert_eq!(bench.status("Reset", json!({ "type": reset })), "Accepted");
                bench.settle();
            }
        }
        let losses = bench.steps.iter().filter(|step| **step == Step::Drop).count();
        assert!(losses > 7, "{version}: {losses} losses of line or power in a week");
        bench.connect();
        bench.settle();
        bench.charger.handle_shutdown(bench.now);
        bench.settle();
        let books = bench.books();
        assert!(
            books.all_settled() && books.transactions.len() > 50,
            "{version}: {}",
            books.transactions.len()
        );
        // The meters as they were told, beginning and end of each transaction.
        let told: u64 = match version {
            Version::V16 => {
                let sum = |action: &str, member: &str| {
                    of(&bench, action).iter().map(|one| one[member].as_u64().unwrap()).sum::<u64>()
                };
                sum("StopTransaction", "meterStop") - sum("StartTransaction", "meterStart")
            }
            _ => {
                let sum = |kind: &str| {
                    let events = of(&bench, "TransactionEvent");
                    let events = events.iter().filter(|one| one["eventType"] == kind);
                    events
                        .map(|one| one["meterValue"][0]["sampledValue"][0]["value"].as_u64().unwrap())
                        .sum::<u64>()
                };
                sum("Ended") - sum("Started")
            }
        };
        assert_eq!(told, books.energy_wh(), "{version}");
    }
}

#[test]
fn what_comes_unasked_with_a_boot_comes_before_or_after_the_status() {
    for version in ALL {
        let quirk = |quirk| move |config: &mut Config| config.quirks = vec![quirk];
        let mut early = Bench::accepted(version, quirk(Quirk::EarlyEvents));
        early.settle();
        let at = |bench: &Bench, wanted: &str| {
            bench.said.iter().position(|(action, _)| action == wanted).expect("it is said")
        };
        assert!(at(&early, "SecurityEventNotification") < at(&early, "StatusNotification"), "{version}");
        if version == Version::V16 {
            // What it tells of long ago is nothing that the schemas let pass.
            continue;
        }
        let mut old = Bench::accepted(version, quirk(Quirk::OldNews));
        old.settle();
        let told: Vec<&Value> = of(&old, "StatusNotification");
        let last = told.last().expect("it is said");
        assert_eq!(last["connectorStatus"], "Faulted", "{version}");
        assert!(last["timestamp"].as_str() < told[0]["timestamp"].as_str(), "{version}: {told:?}");
    }
}
