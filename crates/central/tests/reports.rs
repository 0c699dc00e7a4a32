//! Answers in parts, the device model that comes of them, and what stations tell by themselves.

#![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "helpers of tests")]

mod common;

use common::{Site, Station, with};
use serde_json::{Value, json};
use switchboard_central::{AlarmKind, EventFilter};
use switchboard_rpc::Version;

fn part(request: i64, seq: i64, tbc: bool, data: Value) -> Value {
    json!({"requestId": request, "generatedAt": "2026-01-01T00:00:00Z", "seqNo": seq, "tbc": tbc, "reportData": data})
}

fn variable(component: &str, name: &str, value: &str) -> Value {
    json!([{
        "component": {"name": component},
        "variable": {"name": name},
        "variableAttribute": [{"value": value, "mutability": "ReadWrite"}],
        "variableCharacteristics": {"dataType": "string", "supportsMonitoring": false},
    }])
}

async fn state(site: &Site, request: i64) -> (String, String) {
    let reports = site.central.reports("default", "CS1", 100).await.unwrap();
    let report = reports.into_iter().find(|report| report.request == request).unwrap();
    (report.state.to_owned(), report.detail)
}

/// `component.variable=value` of everything that is known.
async fn model(site: &Site) -> Vec<String> {
    let variables = site.central.device_model("default", "CS1", None, None).await.unwrap();
    let value = |one: &switchboard_central::DeviceVariable| {
        one.attributes.first().and_then(|first| first.value.clone()).unwrap_or_default()
    };
    variables.iter().map(|one| format!("{}.{}={}", one.component, one.variable, value(one))).collect()
}

async fn notify(station: &Station<'_>, payload: Value) {
    assert_eq!(station.call("NotifyReport", payload).await, json!({}));
}

#[tokio::test]
async fn a_report_is_put_together_whatever_the_order_the_repeats_and_the_reconnects() {
    let site = Site::new();
    let station = site.v201("CS1").await;
    let parts: Vec<Value> =
        (0..6).map(|seq| part(7, seq, seq < 5, variable("C", &format!("V{seq}"), "x"))).collect();
    notify(&station, parts[4].clone()).await;
    assert_eq!(state(&site, 7).await.1, "waiting for parts 0–3, 5 and on");
    notify(&station, parts[0].clone()).await;
    notify(&station, parts[0].clone()).await;
    let station = site.connect("CS1", Version::V201);
    notify(&station, parts[5].clone()).await;
    notify(&station, parts[2].clone()).await;
    assert_eq!(state(&site, 7).await, ("receiving".to_owned(), "waiting for parts 1, 3".to_owned()));
    assert_eq!(model(&site).await, Vec::<String>::new(), "half a report changes nothing");
    let site = { site }.reopened(|_| ()).await;
    let station = site.connect("CS1", Version::V201);
    notify(&station, parts[3].clone()).await;
    // Written anew for the repeat: another time in it, and the same part.
    notify(&station, with(parts[3].clone(), json!({"generatedAt": "2026-01-01T00:01:00Z"}))).await;
    notify(&station, parts[1].clone()).await;
    assert_eq!(state(&site, 7).await.0, "complete");
    assert_eq!(model(&site).await.len(), 6);
    for late in &parts {
        notify(&station, late.clone()).await;
    }
    assert_eq!(state(&site, 7).await.0, "complete", "repeats begin nothing");
    let whole = site.central.whole_report("default", "CS1", 7).await.unwrap().unwrap();
    assert_eq!(whole.payloads.len(), 6);
    // Names are compared as the specification wants: without regard to case.
    let one = site.central.device_model("default", "CS1", Some("c"), Some("v3")).await.unwrap();
    assert_eq!(one.len(), 1, "{one:?}");
}

#[tokio::test]
async fn an_unasked_report_adds_to_the_device_model_and_the_same_number_may_come_again() {
    let site = Site::new();
    let station = site.v201("CS1").await;
    notify(&station, part(1, 0, false, variable("A", "X", "1"))).await;
    notify(&station, part(2, 0, false, variable("a", "Y", "2"))).await;
    assert_eq!(model(&site).await, ["A.X=1", "a.Y=2"]);
    // A station that counts its requests anew after a boot.
    notify(&station, part(1, 0, true, variable("A", "X", "3"))).await;
    assert_eq!(state(&site, 1).await.1, "waiting for parts 1 and on");
    assert_eq!(model(&site).await, ["A.X=1", "a.Y=2"]);
    notify(&station, part(1, 1, false, variable("B", "Z", "4"))).await;
    assert_eq!(model(&site).await, ["A.X=3", "a.Y=2", "B.Z=4"]);
}

/// No index of PostgreSQL takes a text of any length.
#[tokio::test]
async fn a_variable_whose_name_is_absurdly_long_costs_the_others_nothing() {
    let site = Site::new();
    let station = site.v201("CS1").await;
    // Nothing that could be packed.
    let long: String =
        (0..6_000u32).map(|n| char::from(b'a' + (n.wrapping_mul(2_654_435_761) >> 27) as u8 % 26)).collect();
    let data = [("C", long.as_str()), (&long, "V"), ("C", "V")].map(|(c, v)| variable(c, v, "1")[0].clone());
    notify(&station, part(1, 0, false, json!(data))).await;
    assert_eq!(model(&site).await, ["C.V=1"]);
}

#[tokio::test]
async fn what_is_kept_of_reports_is_bounded() {
    let site = Site::new();
    let station = site.v201("CS1").await;
    for request in 0..12 {
        notify(&station, part(request, 0, true, json!([]))).await;
        site.pass(1);
    }
    let reports = site.central.reports("default", "CS1", 100).await.unwrap();
    let numbers: Vec<i64> = reports.iter().map(|report| report.request).collect();
    assert_eq!(numbers, [11, 10, 9, 8, 7, 6, 5, 4]);
    notify(&station, part(11, 100_000, false, json!([]))).await;
    let large = variable("C", "V", &"x".repeat(900_000));
    for seq in 1..12 {
        notify(&station, part(11, seq, true, large.clone())).await;
    }
    assert_eq!(state(&site, 11).await.0, "tooLarge");
    let kept = site.central.reports("default", "CS1", 1).await.unwrap().remove(0);
    assert!(kept.bytes <= 8 << 20, "{kept:?}");
    assert_eq!(site.alarms().await, [(AlarmKind::ReportTooLarge, 3)]);
}

#[tokio::test]
async fn events_are_found_by_station_kind_and_time_and_grave_ones_raise_an_alarm() {
    let site = Site::new();
    let v16 = site.v16("CP1");
    let event = |kind: &str, at: &str| json!({"type": kind, "timestamp": at, "techInfo": "door"});
    v16.call("SecurityEventNotification", event("TamperDetectionActivated", "2026-01-01T00:00:00Z")).await;
    v16.call("SecurityEventNotification", event("TamperDetectionActivated", "2026-01-01T00:00:00Z")).await;
    v16.call("SecurityEventNotification", event("StartupOfTheDevice", "2026-01-01T00:00:01Z")).await;
    v16.call("SecurityEventNotification", event("InvalidMessages", "2026-01-01T00:00:02Z")).await;
    v16.call("DataTransfer", json!({"vendorId": "com.example", "messageId": "hello"})).await;
    site.pass(1000);
    let v201 = site.v201("CS1").await;
    let told = json!({
        "generatedAt": "2026-01-01T00:00:00Z", "seqNo": 0,
        "eventData": [{"eventId": 1, "timestamp": "2026-01-01T00:00:00Z", "trigger": "Alerting", "actualValue": "hot",
            "component": {"name": "Connector"}, "variable": {"name": "Temperature"}, "eventNotificationType": "HardWiredMonitor"}],
    });
    v201.call("NotifyEvent", told).await;

    let found = async |station: Option<&str>, kind: Option<&str>, since_ms: Option<i64>| {
        let mut filter = EventFilter::default();
        filter.station = station.map(str::to_owned);
        filter.kind = kind.map(str::to_owned);
        filter.since_ms = since_ms;
        filter.limit = 100;
        let events = site.central.events("default", filter).await.unwrap();
        events.into_iter().map(|event| (event.summary, event.critical)).collect::<Vec<_>>()
    };
    let summaries = |list: &[(&str, bool)]| -> Vec<(String, bool)> {
        list.iter().map(|(text, critical)| ((*text).to_owned(), *critical)).collect()
    };
    assert_eq!(
        found(Some("CP1"), Some("security"), None).await,
        summaries(&[
            ("InvalidMessages: door", false),
            ("StartupOfTheDevice: door", true),
            ("TamperDetectionActivated: door", true),
        ])
    );
    assert_eq!(
        found(None, None, Some(common::NOW_MS + 1000)).await,
        summaries(&[("Connector.Temperature = hot", false)])
    );
    assert_eq!(found(None, Some("data"), None).await, summaries(&[("com.example hello", false)]));
    assert_eq!(found(None, None, None).await.len(), 5);
    assert_eq!(site.alarms().await, [(AlarmKind::SecurityEvent, 1)]);
}

#[tokio::test]
async fn a_status_that_belongs_to_no_job_is_shown_as_such() {
    let site = Site::new();
    let v16 = site.v16("CP1");
    v16.call("FirmwareStatusNotification", json!({"status": "Downloading"})).await;
    v16.call("FirmwareStatusNotification", json!({"status": "Idle"})).await;
    v16.call("LogStatusNotification", json!({"status": "Uploading", "requestId": 5})).await;
    let stray = site.central.jobs("default", "firmware", Some("CP1"), 10).await.unwrap().stray;
    let told: Vec<_> = stray.iter().map(|step| (step.status.as_str(), step.remark.as_deref())).collect();
    assert_eq!(told, [("Downloading", Some("no job is running"))]);
    let stray = site.central.jobs("default", "log", None, 10).await.unwrap().stray;
    assert_eq!((stray[0].request, stray[0].remark.as_deref()), (Some(5), Some("no job of this number")));
}
