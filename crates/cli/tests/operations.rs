//! What an operator asks of stations, by the command line and with PyPI's `ocpp` as the station: firmware, logs,
//! reservations, charging profiles, triggers and reports.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::time::Duration;
use switchboard_testkit::{Charger, Software, Switchboard, wait};

const BINARY: &str = env!("CARGO_BIN_EXE_switchboard");
/// A scenario takes seconds; this is for a machine that has much else to do.
const LIMIT: Duration = Duration::from_secs(240);

struct Scene {
    server: Switchboard,
    charger: Charger,
    software: Software,
}

impl Scene {
    /// A server and a charger that has booted there; none if the test is skipped.
    async fn new(test: &str, software: Software) -> Result<Option<Self>> {
        let Some(charger) = Charger::start(test, software)? else { return Ok(None) };
        let server = Switchboard::start(BINARY, &[]).await?;
        let mut scene = Self { server, charger, software };
        scene.connect().await?;
        scene.charger.does("boot", json!({})).await?;
        Ok(Some(scene))
    }

    async fn connect(&mut self) -> Result<()> {
        let with = json!({ "url": self.server.url("CP001"), "protocols": [self.software.subprotocol()] });
        let answer = self.charger.does("connect", with).await?;
        ensure!(answer["status"] == 101, "{answer}");
        Ok(())
    }

    fn is_16(&self) -> bool {
        self.software == Software::Python16
    }

    /// Has the charger send a message, in the library's names.
    async fn says(&mut self, action: &str, payload: Value) -> Result<Value> {
        self.charger.does("say", json!({ "action": action, "payload": payload })).await
    }

    /// How the charger answers from now on.
    async fn answers(&mut self, action: &str, answer: Value) -> Result<()> {
        self.charger.does("answer", json!({ "action": action, "answer": answer })).await.map(|_| ())
    }

    /// What the charger was asked next; it must be this.
    async fn called(&mut self, action: &str) -> Result<Value> {
        let called = self.charger.event("called").await?;
        ensure!(called["action"] == action, "{called} instead of {action}");
        Ok(called["payload"].clone())
    }

    /// A command that must succeed, with `--json`.
    async fn does(&self, words: &[&str]) -> Result<Value> {
        let ran = self.server.run(&[words, &["--json"]].concat()).await?;
        ensure!(ran.code == 0, "{words:?}: {ran:?}");
        ran.json()
    }

    /// Waits until what a command shows is as it should be.
    async fn shows(&self, words: &[&str], right: impl Fn(&Value) -> bool) -> Result<Value> {
        let last = std::sync::Mutex::new(Value::Null);
        let found = wait::until(format_args!("{words:?}"), async || {
            let shown = self.does(words).await.ok()?;
            let found = right(&shown).then(|| shown.clone());
            if let Ok(mut last) = last.lock() {
                *last = shown;
            }
            found
        })
        .await;
        found.with_context(|| format!("the last was {:?}", last.lock().map(|last| last.clone())))
    }
}

async fn within(scenario: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::time::timeout(LIMIT, scenario).await?
}

async fn updates_its_firmware_and_uploads_a_log(test: &str, software: Software) -> Result<()> {
    let Some(mut scene) = Scene::new(test, software).await? else { return Ok(()) };
    let url = "https://user:secret@example.com/fw";
    let id =
        scene.does(&["firmware", "update", "CP001", "--url", url, "--retries", "2"]).await?["id"].clone();
    let asked = scene.called("UpdateFirmware").await?;
    assert!(asked.to_string().contains(url), "{asked}");
    let numbered = |status: &str| {
        if software == Software::Python16 {
            json!({ "status": status })
        } else {
            json!({ "status": status, "request_id": id })
        }
    };
    let is = |phase: &'static str, status: &'static str| {
        move |shown: &Value| shown["jobs"][0]["phase"] == phase && shown["jobs"][0]["status"] == status
    };
    for status in ["Downloading", "Downloaded", "Installing", "Downloading"] {
        scene.says("FirmwareStatusNotification", numbered(status)).await?;
    }
    scene.shows(&["firmware", "status", "CP001"], is("running", "Installing")).await?;
    scene.charger.does("boot", json!({ "firmware": "2.0" })).await?;
    scene.says("FirmwareStatusNotification", numbered("Installed")).await?;
    let shown = scene.shows(&["firmware", "status", "CP001"], is("done", "Installed")).await?;
    assert_eq!(shown["jobs"][0]["firmwareAfter"], "2.0", "{shown}");
    assert!(!shown.to_string().contains("secret"), "{shown}");
    let table = scene.server.run(&["firmware", "status", "CP001"]).await?;
    assert!(table.stdout.contains("late") && table.stdout.contains("Boot"), "{table:?}");

    let id = scene.does(&["logs", "get", "CP001", "--url", "ftp://example.com/logs/"]).await?["id"].clone();
    scene.called(if scene.is_16() { "GetDiagnostics" } else { "GetLog" }).await?;
    for status in ["Uploading", "Uploaded"] {
        if scene.is_16() {
            scene.says("DiagnosticsStatusNotification", json!({ "status": status })).await?;
        } else {
            scene.says("LogStatusNotification", json!({ "status": status, "request_id": id })).await?;
        }
    }
    let shown = scene.shows(&["logs", "status", "CP001"], is("done", "Uploaded")).await?;
    assert_eq!(shown["jobs"][0]["file"], "log.zip", "{shown}");

    // What it is triggered to send comes, or it says why not.
    let trigger = ["trigger", "CP001", "StatusNotification", "--connector", "1", "--wait", "60s", "--json"];
    let Scene { server, charger, .. } = &mut scene;
    let (ran, sent) = tokio::join!(server.run(&trigger), async {
        charger.event("called").await?;
        charger.does("report", json!({ "status": "Available" })).await
    });
    sent?;
    let ran = ran?;
    assert_eq!((ran.code, &ran.json()?["came"]), (0, &json!(true)), "{ran:?}");
    scene.answers("TriggerMessage", json!({ "status": "NotImplemented" })).await?;
    let ran = scene.server.run(&["trigger", "CP001", "Heartbeat"]).await?;
    assert!(ran.code == 1 && ran.stderr.contains("NotImplemented"), "{ran:?}");
    Ok(())
}

async fn keeps_a_place_free_and_obeys_a_limit(test: &str, software: Software) -> Result<()> {
    let Some(mut scene) = Scene::new(test, software).await? else { return Ok(()) };
    let make = ["reservations", "make", "CP001", "--connector", "1", "--tag", "A1", "--until"];
    let used = scene.does(&[&make[..], &["1h"]].concat()).await?["id"].clone();
    scene.called("ReserveNow").await?;
    let over = scene.does(&[&make[..], &["3s"]].concat()).await?["id"].clone();
    let state = |id: &Value, state: &'static str| {
        let id = id.clone();
        move |shown: &Value| {
            let all = shown["reservations"].as_array();
            all.is_some_and(|all| all.iter().any(|one| one["id"] == id && one["state"] == state))
        }
    };
    scene.shows(&["reservations"], state(&used, "accepted")).await?;
    if scene.is_16() {
        let start = json!({"connector_id": 1, "id_tag": "A1", "meter_start": 0, "timestamp": "2026-11-22T10:00:00Z", "reservation_id": used});
        scene.says("StartTransaction", start).await?;
    } else {
        let start = json!({"event_type": "Started", "timestamp": "2026-11-22T10:00:00Z", "trigger_reason": "Authorized", "seq_no": 0,
            "transaction_info": {"transaction_id": "tx-1"}, "reservation_id": used});
        scene.says("TransactionEvent", start).await?;
    }
    scene.shows(&["reservations"], state(&used, "used")).await?;
    scene.shows(&["reservations", "--station", "CP001"], state(&over, "expired")).await?;
    let open = scene.does(&["transactions", "--open", "--since", "3650d"]).await?;
    let id = open["transactions"][0]["id"].to_string();
    let one = scene.does(&["transactions", "show", &id]).await?;
    assert_eq!(one["reservation"], used, "{one}");
    let csv = scene.server.run(&["transactions", "--csv"]).await?;
    assert!(csv.stdout.starts_with("id,station,") && csv.stdout.lines().count() == 2, "{csv:?}");

    // A profile for a station that is away reaches it when it is back.
    scene.charger.does("drop", json!({})).await?;
    let set = ["profiles", "set", "CP001", "--connector", "1", "--purpose", "tx-default", "--limit"];
    let id = scene.does(&[&set[..], &["10A"]].concat()).await?["id"].clone();
    assert_eq!(scene.does(&[&set[..], &["16A"]].concat()).await?["id"], id);
    scene.connect().await?;
    scene.charger.does("boot", json!({})).await?;
    // The second reservation may have been asked for as well.
    let mut asked = scene.charger.event("called").await?;
    while asked["action"] != "SetChargingProfile" {
        asked = scene.charger.event("called").await?;
    }
    assert!(asked["payload"].to_string().contains("16.0"), "{asked}");
    let desired = |state: &'static str| move |shown: &Value| shown["desired"][0]["state"] == state;
    scene.shows(&["profiles", "CP001"], desired("accepted")).await?;
    scene.answers("SetChargingProfile", json!({ "status": "Rejected" })).await?;
    scene.does(&[&set[..], &["6A"]].concat()).await?;
    let shown = scene.shows(&["profiles", "CP001"], desired("rejected")).await?;
    assert_eq!(shown["desired"][0]["detail"], "Rejected", "{shown}");
    scene.does(&["profiles", "clear", "CP001", "--purpose", "tx-default"]).await?;
    scene.shows(&["profiles", "CP001"], desired("cleared")).await?;
    let ran = scene
        .server
        .run(&["profiles", "schedule", "CP001", "--connector", "1", "--duration", "3600"])
        .await?;
    assert!(ran.code == 0 && ran.stdout.contains("16.0 A"), "{ran:?}");
    let wrong =
        ["profiles", "set", "CP001", "--connector", "1", "--purpose", "station-max", "--limit", "16A"];
    let ran = scene.server.run(&wrong).await?;
    assert!(ran.code == 65 && ran.stderr.contains("connector 0"), "{ran:?}");
    Ok(())
}

async fn reports_itself_although_line_and_server_break(test: &str, software: Software) -> Result<()> {
    let Some(mut scene) = Scene::new(test, software).await? else { return Ok(()) };
    let request = scene.does(&["reports", "request", "CP001", "--base", "full"]).await?["request"].clone();
    let asked = scene.called("GetBaseReport").await?;
    assert_eq!(asked, json!({ "request_id": request, "report_base": "FullInventory" }));
    let part = |seq: i64| {
        let variable = json!({
            "component": { "name": "EVSE", "evse": { "id": 1 } },
            "variable": { "name": format!("Power{seq}") },
            "variable_attribute": [{ "value": seq.to_string() }],
        });
        json!({ "request_id": request, "generated_at": "2026-11-22T10:00:00Z", "seq_no": seq, "tbc": seq < 4, "report_data": [variable] })
    };
    for seq in [3, 0, 0] {
        scene.says("NotifyReport", part(seq)).await?;
    }
    let detail = |words: &'static str| move |shown: &Value| shown["reports"][0]["detail"] == words;
    scene.shows(&["reports", "CP001"], detail("waiting for parts 1–2, 4 and on")).await?;
    scene.charger.does("drop", json!({})).await?;
    scene.connect().await?;
    scene.says("NotifyReport", part(4)).await?;
    scene.server.kill().await?;
    scene.charger.event("closed").await?;
    scene.charger.event("closed").await?;
    scene.server.start_again().await?;
    scene.connect().await?;
    for seq in [4, 2, 1, 3] {
        scene.says("NotifyReport", part(seq)).await?;
    }
    scene.shows(&["reports", "CP001"], detail("complete")).await?;
    let model = scene.does(&["device-model", "CP001", "--component", "evse"]).await?;
    assert_eq!(model["variables"].as_array().map(Vec::len), Some(5), "{model}");
    let event = json!({ "type": "TamperDetectionActivated", "timestamp": "2026-11-22T10:00:00Z" });
    scene.says("SecurityEventNotification", event).await?;
    let events = scene.does(&["events", "CP001", "--kind", "security", "--since", "1h"]).await?;
    assert_eq!(events["events"][0]["critical"], true, "{events}");
    let alarms = scene.does(&["alarms", "CP001"]).await?;
    assert_eq!(alarms["alarms"][0]["subject"], "TamperDetectionActivated", "{alarms}");
    Ok(())
}

#[tokio::test]
async fn a_station_of_1_6_updates_its_firmware_and_uploads_a_log() -> Result<()> {
    within(updates_its_firmware_and_uploads_a_log("1.6 firmware", Software::Python16)).await
}

#[tokio::test]
async fn a_station_of_2_0_1_updates_its_firmware_and_uploads_a_log() -> Result<()> {
    within(updates_its_firmware_and_uploads_a_log("2.0.1 firmware", Software::Python201)).await
}

#[tokio::test]
async fn a_station_of_1_6_keeps_a_place_free_and_obeys_a_limit() -> Result<()> {
    within(keeps_a_place_free_and_obeys_a_limit("1.6 profiles", Software::Python16)).await
}

#[tokio::test]
async fn a_station_of_2_0_1_keeps_a_place_free_and_obeys_a_limit() -> Result<()> {
    within(keeps_a_place_free_and_obeys_a_limit("2.0.1 profiles", Software::Python201)).await
}

#[tokio::test]
async fn a_station_of_2_0_1_reports_itself_although_line_and_server_break() -> Result<()> {
    within(reports_itself_although_line_and_server_break("2.0.1 report", Software::Python201)).await
}

#[tokio::test]
async fn a_station_of_2_1_updates_its_firmware_and_uploads_a_log() -> Result<()> {
    within(updates_its_firmware_and_uploads_a_log("2.1 firmware", Software::Python21)).await
}

#[tokio::test]
async fn a_station_of_2_1_keeps_a_place_free_and_obeys_a_limit() -> Result<()> {
    within(keeps_a_place_free_and_obeys_a_limit("2.1 profiles", Software::Python21)).await
}

#[tokio::test]
async fn a_station_of_2_1_reports_itself_although_line_and_server_break() -> Result<()> {
    within(reports_itself_although_line_and_server_break("2.1 report", Software::Python21)).await
}
