//! What an operator asks of stations, from the request to the station's last word, over a line that the test plays.

#![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "helpers of tests")]

mod common;

use common::{Site, event, start, with};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use switchboard_central::{
    Attendance, Central, FirmwareRequest, Job, Line, LogKind, LogRequest, OperationError, Order,
    ProfileMatch, ProfileRequest, Purpose, ReportBase, Reservation, ReservationRequest,
};
use switchboard_router::Outcome;
use switchboard_rpc::{StationId, Version};

/// The other end: what it speaks, what it answers, and what it got.
#[derive(Debug, Default)]
struct Played {
    spoken: Mutex<Option<Version>>,
    answers: Mutex<Vec<(&'static str, Value)>>,
    got: Mutex<Vec<(String, Value)>>,
    /// What answers have to wait for.
    held: Mutex<Option<Arc<tokio::sync::Notify>>>,
}

impl Line for Played {
    fn spoken<'a>(
        &'a self,
        _: &'a bytestring::ByteString,
        _: &'a StationId,
    ) -> BoxFuture<'a, Result<Option<Version>, String>> {
        let spoken = *self.spoken.lock().unwrap();
        Box::pin(async move { Ok(spoken) })
    }

    fn call(&self, order: Order) -> BoxFuture<'_, Outcome> {
        let action = order.action.to_string();
        self.got.lock().unwrap().push((action.clone(), serde_json::from_slice(&order.payload).unwrap()));
        let answers = self.answers.lock().unwrap();
        let answer = answers.iter().rev().find(|(of, _)| *of == action).map(|(_, answer)| answer.clone());
        let outcome = match answer {
            Some(Value::Null) => Outcome::Unknown,
            Some(answer) => Outcome::Answered(answer.to_string().into()),
            None => Outcome::Refused {
                code: "NotImplemented".into(),
                description: "no".into(),
                details: "{}".into(),
            },
        };
        let held = self.held.lock().unwrap().clone();
        Box::pin(async move {
            if let Some(held) = held {
                held.notified().await;
            }
            outcome
        })
    }
}

struct Scene {
    site: Site,
    line: Arc<Played>,
    attendance: Option<Attendance>,
}

impl Scene {
    async fn new(version: Version) -> Self {
        let site = Site::new();
        let line = Arc::new(Played::default());
        *line.spoken.lock().unwrap() = Some(version);
        let station = site.connect("CP1", version);
        let boot = if version == Version::V16 {
            json!({"chargePointVendor": "V", "chargePointModel": "M", "firmwareVersion": "1"})
        } else {
            json!({"reason": "PowerUp", "chargingStation": {"vendorName": "V", "model": "M", "firmwareVersion": "1"}})
        };
        station.call("BootNotification", boot).await;
        let attendance = Some(site.central.attend(Arc::clone(&line) as _).await.unwrap());
        Self { site, line, attendance }
    }

    fn central(&self) -> &Central {
        &self.site.central
    }

    fn answers(&self, action: &'static str, answer: Value) {
        self.line.answers.lock().unwrap().push((action, answer));
    }

    fn got(&self) -> Vec<String> {
        self.line.got.lock().unwrap().iter().map(|(action, _)| action.clone()).collect()
    }

    fn last(&self) -> Value {
        self.line.got.lock().unwrap().last().unwrap().1.clone()
    }

    async fn says(&self, version: Version, action: &str, payload: Value) {
        self.site.connect("CP1", version).call(action, payload).await;
    }

    async fn job(&self, kind: &'static str, id: i64) -> Job {
        let jobs = self.central().jobs("default", kind, Some("CP1"), 100).await.unwrap().jobs;
        jobs.into_iter().find(|job| job.id == id).unwrap()
    }

    async fn reservation(&self, id: i64) -> Reservation {
        let all = self.central().reservations("default", None, 100).await.unwrap();
        all.into_iter().find(|reservation| reservation.id == id).unwrap()
    }

    async fn profile(&self, id: i64) -> (String, Option<String>) {
        let all = self.central().profiles("default", "CP1").await.unwrap().desired;
        let one = all.into_iter().find(|profile| profile.id == id).unwrap();
        (one.state, one.detail)
    }
}

fn cp1() -> StationId {
    StationId::new("CP1", 48).unwrap()
}

async fn until<T: PartialEq + std::fmt::Debug>(expected: T, look: impl AsyncFn() -> T) {
    let mut found = look().await;
    for _ in 0..3000 {
        if found == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        found = look().await;
    }
    assert_eq!(found, expected);
}

fn firmware(url: &str) -> FirmwareRequest {
    serde_json::from_value(json!({"url": url, "retries": 2})).unwrap()
}

#[tokio::test]
async fn a_firmware_update_goes_through_its_states_and_never_back() {
    let scene = Scene::new(Version::V16).await;
    scene.answers("UpdateFirmware", json!({}));
    let request = firmware("ftp://user:secret@host/file");
    let id = scene.central().update_firmware("default", &cp1(), request).await.unwrap();
    until("accepted".to_owned(), async || scene.job("firmware", id).await.phase).await;
    assert_eq!(scene.last()["location"], "ftp://user:secret@host/file");
    let says = async |status: &str| {
        scene.says(Version::V16, "FirmwareStatusNotification", json!({"status": status})).await;
        let job = scene.job("firmware", id).await;
        let remark = job.steps.last().unwrap().remark.clone();
        (job.phase, job.status.unwrap_or_default(), remark.unwrap_or_default())
    };
    let now =
        |phase: &str, status: &str, remark: &str| (phase.to_owned(), status.to_owned(), remark.to_owned());
    assert_eq!(says("Downloading").await, now("running", "Downloading", ""));
    assert_eq!(says("DownloadFailed").await, now("failed", "DownloadFailed", ""));
    // It may try twice.
    assert_eq!(says("Downloading").await, now("running", "Downloading", ""));
    assert_eq!(says("Downloaded").await, now("running", "Downloaded", ""));
    assert_eq!(says("Downloading").await, now("running", "Downloaded", "late"));
    assert_eq!(says("Installing").await, now("running", "Installing", ""));
    assert_eq!(says("Idle").await, now("running", "Installing", "not working on it now"));
    let boot = json!({"chargePointVendor": "V", "chargePointModel": "M", "firmwareVersion": "2"});
    scene.says(Version::V16, "BootNotification", boot).await;
    let job = scene.job("firmware", id).await;
    assert_eq!((job.firmware_before.as_deref(), job.firmware_after.as_deref()), (Some("1"), Some("2")));
    assert_eq!(job.steps.last().unwrap().remark.as_deref(), Some("with firmware 2; before: 1"));
    assert_eq!(says("Installed").await, now("done", "Installed", ""));
    assert_eq!(says("Installed").await, now("done", "Installed", "repeated"));
    assert_eq!(says("Downloaded").await, now("done", "Installed", "late"));
    assert_eq!(scene.job("firmware", id).await.url, "ftp://…@host/file");
    drop(scene.attendance);
}

#[tokio::test]
async fn a_job_of_2_x_is_found_by_its_number_and_a_newer_one_cancels_it() {
    for version in [Version::V201, Version::V21] {
        let scene = Scene::new(version).await;
        scene.answers("UpdateFirmware", json!({"status": "Accepted"}));
        let first =
            scene.central().update_firmware("default", &cp1(), firmware("https://host/1")).await.unwrap();
        until("accepted".to_owned(), async || scene.job("firmware", first).await.phase).await;
        assert_eq!(scene.last()["requestId"], first);
        scene.answers("UpdateFirmware", json!({"status": "AcceptedCanceled"}));
        let second =
            scene.central().update_firmware("default", &cp1(), firmware("https://host/2")).await.unwrap();
        until("accepted".to_owned(), async || scene.job("firmware", second).await.phase).await;
        assert_eq!(scene.job("firmware", first).await.phase, "cancelled");
        let status = |id: i64, status: &str| json!({"status": status, "requestId": id});
        scene.says(version, "FirmwareStatusNotification", status(first, "Downloading")).await;
        scene.says(version, "FirmwareStatusNotification", status(second, "SignatureVerified")).await;
        scene.says(version, "FirmwareStatusNotification", status(999, "Installed")).await;
        assert_eq!(scene.job("firmware", first).await.phase, "cancelled");
        assert_eq!(scene.job("firmware", second).await.status.as_deref(), Some("SignatureVerified"));
        let stray = scene.central().jobs("default", "firmware", None, 10).await.unwrap().stray;
        assert_eq!(stray.len(), 1, "{stray:?}");
        scene.answers(
            "UpdateFirmware",
            json!({"status": "InvalidCertificate", "statusInfo": {"reasonCode": "Old"}}),
        );
        let third =
            scene.central().update_firmware("default", &cp1(), firmware("https://host/3")).await.unwrap();
        until("rejected".to_owned(), async || scene.job("firmware", third).await.phase).await;
        assert_eq!(scene.job("firmware", third).await.detail.as_deref(), Some("InvalidCertificate: Old"));
        assert_eq!(scene.job("firmware", second).await.phase, "running");
    }
}

#[tokio::test]
async fn a_station_that_is_quicker_than_the_way_of_its_answer_is_understood() {
    let scene = Scene::new(Version::V16).await;
    let held = Arc::new(tokio::sync::Notify::new());
    *scene.line.held.lock().unwrap() = Some(Arc::clone(&held));
    scene.answers("GetDiagnostics", json!({"fileName": "log.zip"}));
    let request: LogRequest = serde_json::from_value(json!({"url": "ftp://host/logs/"})).unwrap();
    let id = scene.central().get_log("default", &cp1(), request).await.unwrap();
    until(1, async || scene.got().len()).await;
    for status in ["Uploading", "Uploaded"] {
        scene.says(Version::V16, "DiagnosticsStatusNotification", json!({"status": status})).await;
    }
    assert_eq!(scene.job("log", id).await.phase, "done");
    held.notify_one();
    until(Some("log.zip".to_owned()), async || scene.job("log", id).await.file).await;
    let job = scene.job("log", id).await;
    assert_eq!((job.phase.as_str(), job.status.as_deref()), ("done", Some("Uploaded")));
    assert!(scene.central().jobs("default", "log", None, 10).await.unwrap().stray.is_empty());
}

#[tokio::test]
async fn a_log_is_uploaded_or_there_is_none() {
    let scene = Scene::new(Version::V16).await;
    let diagnostics: LogRequest = serde_json::from_value(json!({"url": "ftp://host/logs/"})).unwrap();
    scene.answers("GetDiagnostics", json!({"fileName": "log.zip"}));
    let id = scene.central().get_log("default", &cp1(), diagnostics.clone()).await.unwrap();
    until("accepted".to_owned(), async || scene.job("log", id).await.phase).await;
    for status in ["Uploading", "Uploaded"] {
        scene.says(Version::V16, "DiagnosticsStatusNotification", json!({"status": status})).await;
    }
    let job = scene.job("log", id).await;
    assert_eq!((job.phase.as_str(), job.file.as_deref()), ("done", Some("log.zip")));
    scene.answers("GetDiagnostics", json!({}));
    let id = scene.central().get_log("default", &cp1(), diagnostics.clone()).await.unwrap();
    until("done".to_owned(), async || scene.job("log", id).await.phase).await;
    assert_eq!(scene.job("log", id).await.detail.as_deref(), Some("the station has nothing to upload"));
    // The security log of 1.6 is asked for by the extension, which this station does not have.
    let mut security = diagnostics.clone();
    security.kind = LogKind::Security;
    let id = scene.central().get_log("default", &cp1(), security).await.unwrap();
    until("rejected".to_owned(), async || scene.job("log", id).await.phase).await;
    assert!(scene.job("log", id).await.detail.unwrap().contains("NotImplemented"));
    assert_eq!(scene.got(), ["GetDiagnostics", "GetDiagnostics", "GetLog"]);
    // No answer: nobody knows, and it is not asked twice. What the station then says still counts.
    scene.answers("GetDiagnostics", Value::Null);
    let id = scene.central().get_log("default", &cp1(), diagnostics).await.unwrap();
    until("unknown".to_owned(), async || scene.job("log", id).await.phase).await;
    scene.says(Version::V16, "DiagnosticsStatusNotification", json!({"status": "Uploading"})).await;
    assert_eq!(scene.job("log", id).await.phase, "running");
    let wrong: LogRequest = serde_json::from_value(json!({"url": "not a url"})).unwrap();
    let error = scene.central().get_log("default", &cp1(), wrong).await.unwrap_err();
    assert!(matches!(&error, OperationError::Invalid(why) if why.contains("no URL")), "{error}");
}

#[tokio::test]
async fn a_reservation_is_used_cancelled_or_over() {
    let reserve = |until: &str| -> ReservationRequest {
        serde_json::from_value(json!({"connector": 1, "tag": "A1", "until": until})).unwrap()
    };
    let (soon, later) = ("2026-01-01T00:10:00Z", "2026-01-01T09:00:00Z");
    for version in [Version::V16, Version::V201] {
        let scene = Scene::new(version).await;
        scene.answers("ReserveNow", json!({"status": "Accepted"}));
        let make = async |until: &str| scene.central().reserve("default", &cp1(), reserve(until)).await;
        let state = async |id: i64| scene.reservation(id).await.state;
        let [used, over, cancelled] =
            [make(later).await, make(soon).await, make(later).await].map(Result::unwrap);
        for id in [used, over, cancelled] {
            until("accepted".to_owned(), async || state(id).await).await;
        }
        assert_eq!(scene.last()[if version == Version::V16 { "reservationId" } else { "id" }], cancelled);
        if version == Version::V16 {
            let begin = with(start(1, "A1", "2026-01-01T00:05:00Z", 0), json!({"reservationId": used}));
            let transaction = scene.site.v16("CP1").start(begin).await;
            assert_eq!(scene.reservation(used).await.transaction, Some(transaction));
        } else {
            let begin =
                with(event("Started", "tx", 0, "2026-01-01T00:05:00Z"), json!({"reservationId": used}));
            scene.says(version, "TransactionEvent", begin).await;
            let late = |id: i64| json!({"reservationId": id, "reservationUpdateStatus": "Expired"});
            scene.says(version, "ReservationStatusUpdate", late(used)).await;
            scene.says(version, "ReservationStatusUpdate", late(over)).await;
            assert_eq!(state(over).await, "expired");
        }
        assert_eq!(state(used).await, "used");
        scene.answers("CancelReservation", json!({"status": "Accepted"}));
        scene.central().cancel_reservation("default", &cp1(), cancelled).await.unwrap();
        until("cancelled".to_owned(), async || state(cancelled).await).await;
        scene.site.pass(3_600_000);
        assert_eq!(state(over).await, "expired");
        for (id, why) in [(used, "is used"), (over, "is expired"), (77, "no reservation")] {
            let error = scene.central().cancel_reservation("default", &cp1(), id).await.unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
        // A station that is away is told of neither.
        *scene.line.spoken.lock().unwrap() = None;
        let calls = scene.got().len();
        let unsent = make(later).await.unwrap();
        scene.central().cancel_reservation("default", &cp1(), unsent).await.unwrap();
        assert_eq!(state(unsent).await, "cancelled");
        assert_eq!(scene.got().len(), calls);
        assert!(make(soon).await.unwrap_err().to_string().contains("over already"));
    }
}

fn profile(limit: f64) -> ProfileRequest {
    serde_json::from_value(json!({
        "connector": 1, "purpose": "tx-default", "relative": true, "chargingRateUnit": "A",
        "chargingSchedulePeriod": [{"startPeriod": 0, "limit": limit}],
    }))
    .unwrap()
}

#[tokio::test]
async fn a_profile_reaches_a_station_that_was_away_and_what_it_says_is_told() {
    for version in [Version::V16, Version::V201, Version::V21] {
        let scene = Scene::new(version).await;
        *scene.line.spoken.lock().unwrap() = None;
        scene.answers("SetChargingProfile", json!({"status": "Accepted"}));
        let set =
            async |limit: f64| scene.central().set_profile("default", &cp1(), profile(limit)).await.unwrap();
        let id = set(10.0).await;
        assert_eq!(set(16.0).await, id, "one place, one number");
        assert_eq!(scene.profile(id).await.0, "requested");
        *scene.line.spoken.lock().unwrap() = Some(version);
        scene.says(version, "Heartbeat", json!({})).await;
        until("accepted".to_owned(), async || scene.profile(id).await.0).await;
        assert_eq!(scene.got(), ["SetChargingProfile"], "the first one is not sent any more");
        assert!(scene.last().to_string().contains("16.0"), "{}", scene.last());

        scene.answers("SetChargingProfile", json!({"status": "Rejected"}));
        set(6.0).await;
        until("rejected".to_owned(), async || scene.profile(id).await.0).await;
        scene.answers("SetChargingProfile", json!({"status": "Accepted"}));
        set(6.0).await;
        scene.answers("ClearChargingProfile", json!({"status": "Accepted"}));
        let mut which = ProfileMatch::default();
        which.purpose = Some(Purpose::TxDefault);
        until("accepted".to_owned(), async || scene.profile(id).await.0).await;
        assert_eq!(scene.central().clear_profiles("default", &cp1(), which).await.unwrap(), [id]);
        until("cleared".to_owned(), async || scene.profile(id).await.0).await;
        let all = scene.central().clear_profiles("default", &cp1(), ProfileMatch::default()).await;
        assert_eq!(all.is_ok(), version == Version::V16, "{all:?}");
    }
}

#[tokio::test]
async fn a_profile_that_a_station_reports_is_shown_and_one_of_no_transaction_is_refused() {
    let scene = Scene::new(Version::V201).await;
    scene.answers("GetChargingProfiles", json!({"status": "Accepted"}));
    let request = scene.central().request_report("default", &cp1(), ReportBase::Profiles).await.unwrap();
    until(vec!["GetChargingProfiles".to_owned()], async || scene.got()).await;
    let one = |id: i64| {
        json!({"id": id, "stackLevel": 0, "chargingProfilePurpose": "TxDefaultProfile", "chargingProfileKind": "Relative",
        "chargingSchedule": [{"id": 1, "chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 6.0}]}]})
    };
    let part = |id: i64, tbc: bool| json!({"requestId": request, "chargingLimitSource": "CSO", "evseId": 1, "tbc": tbc, "chargingProfile": [one(id)]});
    scene.says(Version::V201, "ReportChargingProfiles", part(1, true)).await;
    scene.says(Version::V201, "ReportChargingProfiles", part(1, true)).await;
    scene.says(Version::V201, "ReportChargingProfiles", part(2, false)).await;
    let profiles = scene.central().profiles("default", "CP1").await.unwrap().reported;
    assert_eq!(profiles.iter().map(|profile| profile.id).collect::<Vec<_>>(), [1, 2]);
    scene.answers("GetChargingProfiles", json!({"status": "NoProfiles"}));
    scene.central().request_report("default", &cp1(), ReportBase::Profiles).await.unwrap();
    until(0, async || scene.central().profiles("default", "CP1").await.unwrap().reported.len()).await;
    let mut wrong = profile(6.0);
    wrong.purpose = Purpose::Tx;
    let error = scene.central().set_profile("default", &cp1(), wrong).await.unwrap_err();
    assert!(error.to_string().contains("needs the id"), "{error}");
    let nobody = StationId::new("CP2", 48).unwrap();
    let error = scene.central().set_profile("default", &nobody, profile(6.0)).await.unwrap_err();
    assert!(matches!(error, OperationError::UnknownStation(_)), "{error}");
}

#[tokio::test]
async fn a_full_report_replaces_the_device_model_and_a_refused_one_says_so() {
    let scene = Scene::new(Version::V201).await;
    scene.answers("GetBaseReport", json!({"status": "Accepted"}));
    let data = |names: &[&str]| -> Value {
        names
            .iter()
            .map(|name| {
                json!({"component": {"name": name}, "variable": {"name": "V"},
                    "variableAttribute": [{"value": "1"}]})
            })
            .collect()
    };
    let report = async |base: ReportBase, names: &[&str]| {
        let request = scene.central().request_report("default", &cp1(), base).await.unwrap();
        until(request, async || {
            scene.line.got.lock().unwrap().last().map_or(0, |got| got.1["requestId"].as_i64().unwrap())
        })
        .await;
        let payload = json!({"requestId": request, "generatedAt": "2026-01-01T00:00:00Z", "seqNo": 0, "reportData": data(names)});
        scene.says(Version::V201, "NotifyReport", payload).await;
        let known = scene.central().device_model("default", "CP1", None, None).await.unwrap();
        known.into_iter().map(|variable| variable.component).collect::<Vec<_>>()
    };
    assert_eq!(report(ReportBase::Full, &["A", "B"]).await, ["A", "B"]);
    assert_eq!(report(ReportBase::Summary, &["C"]).await, ["A", "B", "C"]);
    assert_eq!(report(ReportBase::Full, &["B", "D"]).await, ["B", "D"]);
    scene.answers("GetBaseReport", json!({"status": "NotSupported"}));
    let refused = scene.central().request_report("default", &cp1(), ReportBase::Configuration).await.unwrap();
    let state = async || {
        let reports = scene.central().reports("default", "CP1", 10).await.unwrap();
        let one = reports.into_iter().find(|report| report.request == refused).unwrap();
        (one.state, one.detail)
    };
    until(("refused", "NotSupported".to_owned()), state).await;

    let old = Scene::new(Version::V16).await;
    let error = old.central().request_report("default", &cp1(), ReportBase::Full).await.unwrap_err();
    assert!(error.to_string().contains("1.6 make no reports"), "{error}");
}
