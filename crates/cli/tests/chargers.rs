//! The real server seen by chargers that others wrote: PyPI's `ocpp` in 1.6, 2.0.1 and 2.1, npm's `ocpp-rpc` in 1.6.
//!
//! Each scenario is written once and is one test for each of them. They check all that we send against the official
//! schemas by themselves, and whatever they find wrong fails the test.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::time::Duration;
use switchboard_testkit::{Charger, Software, Switchboard, wait};

const BINARY: &str = env!("CARGO_BIN_EXE_switchboard");
/// A scenario takes seconds; this is for a machine that has much else to do.
const LIMIT: Duration = Duration::from_secs(180);

macro_rules! scenarios {
    ($software:ident, $module:ident: $($scenario:ident)*) => {
        mod $module {
            $(
                #[tokio::test]
                async fn $scenario() -> anyhow::Result<()> {
                    let test = concat!(stringify!($module), "::", stringify!($scenario));
                    let scenario = super::$scenario(test, switchboard_testkit::Software::$software);
                    tokio::time::timeout(super::LIMIT, scenario).await?
                }
            )*
        }
    };
    ($($scenario:ident)*) => {
        scenarios!(Python16, python_1_6: $($scenario)*);
        scenarios!(Python201, python_2_0_1: $($scenario)*);
        scenarios!(Python21, python_2_1: $($scenario)*);
        scenarios!(Node16, node_1_6: $($scenario)*);
    };
}

scenarios! {
    boots_authorizes_and_charges
    starts_and_stops_when_told_from_our_side
    refuses_what_it_does_not_know
    is_reported_as_unknown_when_it_falls_silent
    reconnects_in_the_middle_of_a_transaction
    is_let_in_with_its_password_only
    is_turned_away_without_a_common_subprotocol
    loses_its_line_to_its_own_newer_one
    has_one_transaction_although_the_server_was_killed_in_the_middle
    is_pending_or_rejected_until_it_is_accepted
}

/// A server, and a charger that is connected to it; none if the test is skipped.
async fn connected(test: &str, software: Software, station: &str) -> Result<Option<(Switchboard, Charger)>> {
    let Some(mut charger) = Charger::start(test, software)? else { return Ok(None) };
    let server = Switchboard::start(BINARY, &[]).await?;
    connect(&server, &mut charger, software, station).await?;
    Ok(Some((server, charger)))
}

async fn connect(
    server: &Switchboard,
    charger: &mut Charger,
    software: Software,
    station: &str,
) -> Result<()> {
    let with = json!({ "url": server.url(station), "protocols": [software.subprotocol()] });
    let answer = charger.does("connect", with).await?;
    ensure!(answer["status"] == 101 && answer["protocol"] == software.subprotocol(), "{answer}");
    Ok(())
}

async fn boots_authorizes_and_charges(test: &str, software: Software) -> Result<()> {
    let Some((server, mut charger)) = connected(test, software, "CP001").await? else { return Ok(()) };
    let boot = charger.does("boot", json!({})).await?;
    assert_eq!(boot["status"], "Accepted");
    assert!(boot["interval"].as_u64().is_some_and(|seconds| seconds > 0), "{boot}");
    assert!(charger.does("heartbeat", json!({})).await?["time"].is_string());
    assert_eq!(charger.does("authorize", json!({ "tag": "A1" })).await?["status"], "Accepted");
    charger.does("report", json!({ "status": "Available" })).await?;

    let start = charger.does("start", started("A1", 1_000)).await?;
    assert_eq!(start["status"], "Accepted");
    charger.does("report", json!({ "status": "Charging" })).await?;
    let running = books(&server, "CP001").await?;
    assert_eq!(running.len(), 1, "{running:?}");
    assert_eq!(text(&running[0]["transactionId"]), text(&start["transaction"]));
    assert_eq!(running[0]["state"], "running");

    for value in [2_000, 3_000, 4_000] {
        charger.does("meter", metered(value)).await?;
    }
    charger.does("stop", stopped(5_500)).await?;
    let ended = books(&server, "CP001").await?;
    assert_eq!(ended.len(), 1, "{ended:?}");
    assert_eq!(ended[0]["state"], "ended", "{ended:?}");
    assert_eq!(ended[0]["energyWh"].as_f64(), Some(4_500.0), "{ended:?}");

    let stations = server.run(&["stations", "--json"]).await?.json()?;
    let station =
        stations["stations"].as_array().and_then(|stations| stations.first()).context("no station")?;
    assert_eq!(station["id"], "CP001");
    assert_eq!(station["connected"], true);
    assert_eq!(station["registration"], "accepted");
    // Both libraries offer it, so that all of this went compressed.
    assert_eq!(station["compressed"], true);
    Ok(())
}

async fn starts_and_stops_when_told_from_our_side(test: &str, software: Software) -> Result<()> {
    let Some((server, mut charger)) = connected(test, software, "CP002").await? else { return Ok(()) };
    charger.does("boot", json!({})).await?;

    let (start, payload) = match software {
        Software::Python201 | Software::Python21 => (
            "RequestStartTransaction",
            json!({ "idToken": { "idToken": "R1", "type": "ISO14443" }, "remoteStartId": 7, "evseId": 1 }),
        ),
        Software::Python16 | Software::Node16 => {
            ("RemoteStartTransaction", json!({ "idTag": "R1", "connectorId": 1 }))
        }
    };
    let answer = send(&server, "CP002", start, &payload, &[]).await?;
    assert_eq!((answer.0, &answer.1["payload"]["status"]), (0, &json!("Accepted")), "{answer:?}");
    let called = charger.event("called").await?;
    assert_eq!((&called["action"], &called["tag"]), (&json!(start), &json!("R1")));

    let transaction = charger.does("start", started("R1", 0)).await?["transaction"].clone();
    let (stop, wrong) = match software {
        Software::Python201 | Software::Python21 => ("RequestStopTransaction", json!("no-such-transaction")),
        Software::Python16 | Software::Node16 => ("RemoteStopTransaction", json!(2_000_000_000)),
    };
    let answer = send(&server, "CP002", stop, &json!({ "transactionId": wrong }), &[]).await?;
    assert_eq!((answer.0, &answer.1["payload"]["status"]), (0, &json!("Rejected")), "{answer:?}");
    let answer = send(&server, "CP002", stop, &json!({ "transactionId": transaction }), &[]).await?;
    assert_eq!((answer.0, &answer.1["payload"]["status"]), (0, &json!("Accepted")), "{answer:?}");
    charger.does("stop", stopped(700)).await?;
    let books = books(&server, "CP002").await?;
    assert_eq!((books.len(), &books[0]["state"]), (1, &json!("ended")), "{books:?}");
    Ok(())
}

async fn refuses_what_it_does_not_know(test: &str, software: Software) -> Result<()> {
    let Some((server, mut charger)) = connected(test, software, "CP003").await? else { return Ok(()) };
    charger.does("boot", json!({})).await?;
    let (code, outcome) = send(&server, "CP003", "Frobnicate", &json!({}), &["--raw"]).await?;
    assert_eq!((code, &outcome["outcome"]), (1, &json!("refused")), "{outcome}");
    // Its own code comes through as it is: the Python library has NotImplemented and NotSupported the other way round,
    // the strict Node one finds no schema.
    let code = if software == Software::Node16 { "ProtocolError" } else { "NotSupported" };
    assert_eq!(outcome["code"], code, "{outcome}");
    // Refusing costs nothing: the line goes on.
    let (ask, payload) = match software {
        Software::Python201 | Software::Python21 => {
            let wanted = json!({ "component": { "name": "OCPPCommCtrlr" }, "variable": { "name": "HeartbeatInterval" } });
            ("GetVariables", json!({ "getVariableData": [wanted] }))
        }
        Software::Python16 | Software::Node16 => {
            ("GetConfiguration", json!({ "key": ["HeartbeatInterval"] }))
        }
    };
    let (code, outcome) = send(&server, "CP003", ask, &payload, &[]).await?;
    assert_eq!((code, &outcome["outcome"]), (0, &json!("answered")), "{outcome}");
    assert!(outcome["payload"].to_string().contains("300"), "{outcome}");
    Ok(())
}

async fn is_reported_as_unknown_when_it_falls_silent(test: &str, software: Software) -> Result<()> {
    let Some((server, mut charger)) = connected(test, software, "CP004").await? else { return Ok(()) };
    charger.does("boot", json!({})).await?;
    charger.does("misbehave", json!({})).await?;
    let kind = if matches!(software, Software::Python201 | Software::Python21) { "OnIdle" } else { "Soft" };
    let (code, outcome) =
        send(&server, "CP004", "Reset", &json!({ "type": kind }), &["--timeout", "2s"]).await?;
    charger.event("called").await?;
    assert_eq!((code, &outcome["outcome"]), (8, &json!("unknown")), "{outcome}");

    let (code, outcome) = send(&server, "CP-NOWHERE", "Reset", &json!({ "type": kind }), &["--raw"]).await?;
    assert_eq!((code, &outcome["outcome"]), (3, &json!("offline")), "{outcome}");
    Ok(())
}

async fn reconnects_in_the_middle_of_a_transaction(test: &str, software: Software) -> Result<()> {
    let Some((server, mut charger)) = connected(test, software, "CP005").await? else { return Ok(()) };
    charger.does("boot", json!({})).await?;
    charger.does("start", started("A1", 100)).await?;
    charger.does("meter", metered(200)).await?;
    charger.does("drop", json!({})).await?;
    // It does not boot again: a line that comes back is the same station.
    connect(&server, &mut charger, software, "CP005").await?;
    charger.does("meter", metered(300)).await?;
    charger.does("stop", stopped(400)).await?;
    let books = books(&server, "CP005").await?;
    assert_eq!((books.len(), &books[0]["state"]), (1, &json!("ended")), "{books:?}");
    assert_eq!(books[0]["energyWh"].as_f64(), Some(300.0), "{books:?}");
    Ok(())
}

async fn is_let_in_with_its_password_only(test: &str, software: Software) -> Result<()> {
    let Some(mut charger) = Charger::start(test, software)? else { return Ok(()) };
    let server = Switchboard::start(BINARY, &[]).await?;
    let password = "correct:horse:battery";
    let added = server.run(&["stations", "add", "CP006", "--password", password]).await?;
    assert_eq!(added.code, 0, "{added:?}");
    let url = server.url("CP006");
    for (user, password, status) in [
        (None, Some("wrong-horse-battery"), 401),
        (None, None, 401),
        (Some("CP999"), Some(password), 401),
        (None, Some(password), 101),
    ] {
        let mut with = json!({ "url": url, "protocols": [software.subprotocol()] });
        if let Some(password) = password {
            with["password"] = json!(password);
        }
        if let Some(user) = user {
            with["user"] = json!(user);
        }
        let answer = charger.does("connect", with).await?;
        assert_eq!(answer["status"], status, "as {user:?} with {password:?}: {answer}");
    }
    charger.does("boot", json!({})).await?;
    assert!(!server.log().contains(password), "the password stands in the log");
    Ok(())
}

async fn is_turned_away_without_a_common_subprotocol(test: &str, software: Software) -> Result<()> {
    let Some(mut charger) = Charger::start(test, software)? else { return Ok(()) };
    let server = Switchboard::start(BINARY, &[]).await?;
    let with = json!({ "url": server.url("CP007"), "protocols": ["ocpp1.5", "OCPP1.6"] });
    assert_eq!(charger.does("connect", with).await?["status"], 400);
    // With one that is known among them it is let in, and that one is chosen.
    if software != Software::Node16 {
        let with = json!({ "url": server.url("CP007"), "protocols": ["ocpp1.5", software.subprotocol()] });
        assert_eq!(charger.does("connect", with).await?["protocol"], software.subprotocol());
    }
    Ok(())
}

async fn loses_its_line_to_its_own_newer_one(test: &str, software: Software) -> Result<()> {
    let Some((server, mut old)) = connected(test, software, "CP008").await? else { return Ok(()) };
    old.does("boot", json!({})).await?;
    let Some(mut new) = Charger::start(test, software)? else { return Ok(()) };
    connect(&server, &mut new, software, "CP008").await?;
    assert_eq!(old.event("closed").await?["code"], 1008);
    new.does("boot", json!({})).await?;
    // The late end of the old one must not take the new one's place away.
    let (ask, payload) = match software {
        Software::Python201 | Software::Python21 => {
            ("TriggerMessage", json!({ "requestedMessage": "Heartbeat" }))
        }
        Software::Python16 | Software::Node16 => ("GetConfiguration", json!({})),
    };
    let (code, outcome) = send(&server, "CP008", ask, &payload, &[]).await?;
    assert!(code == 0 || code == 1, "reached the new one: {outcome}");
    new.does("heartbeat", json!({})).await?;
    Ok(())
}

async fn has_one_transaction_although_the_server_was_killed_in_the_middle(
    test: &str,
    software: Software,
) -> Result<()> {
    let Some((mut server, mut charger)) = connected(test, software, "CP009").await? else { return Ok(()) };
    charger.does("boot", json!({})).await?;
    let start = started("A1", 10);
    let first = charger.does("start", start.clone()).await?;
    server.kill().await?;
    charger.event("closed").await?;
    server.start_again().await?;

    // As far as the charger knows its start was never answered, so it sends it again.
    connect(&server, &mut charger, software, "CP009").await?;
    let again = charger.does("start", start).await?;
    assert_eq!(again["transaction"], first["transaction"]);
    assert_eq!(again["status"], "Accepted");
    charger.does("meter", metered(20)).await?;

    // Once more, with a call in hand this time: it is answered, or it fails and is sent again.
    charger.begins("stop", stopped(30)).await?;
    server.kill().await?;
    let answered = charger.ended("stop").await?.get("done").is_some();
    server.start_again().await?;
    if !answered {
        connect(&server, &mut charger, software, "CP009").await?;
        charger.does("stop", stopped(30)).await?;
    }
    let books = books(&server, "CP009").await?;
    assert_eq!(books.len(), 1, "{books:?}");
    assert_eq!(
        (&books[0]["state"], books[0]["energyWh"].as_f64()),
        (&json!("ended"), Some(20.0)),
        "{books:?}"
    );
    Ok(())
}

/// Every message that the central system answers, one valid instance of each: the table is `tests/peers/actions.json`.
async fn every_action_is_answered(test: &str, software: Software) -> Result<()> {
    let version = software.subprotocol().trim_start_matches("ocpp");
    let table = std::fs::read(switchboard_testkit::tools::root().join("tests/peers/actions.json"))?;
    let table: Vec<Value> = serde_json::from_slice(&table)?;
    let mut rows = table;
    rows.retain(|row| row["versions"].as_array().is_some_and(|versions| versions.contains(&json!(version))));

    // None that there is may be missing in the table.
    let number = switchboard_rpc::Version::from_number(version).context("the version")?;
    let sent = switchboard_messages::actions(number)
        .iter()
        .filter(|action| action.has_response && action.sender != switchboard_messages::Sender::Csms);
    for action in sent {
        ensure!(rows.iter().any(|row| row["action"] == action.name), "the table lacks {}", action.name);
    }

    let Some((server, mut charger)) = connected(test, software, "CP010").await? else { return Ok(()) };
    for row in &rows {
        let (action, payload) = (&row["action"], &row["payload"]);
        let answer = charger.does("act", json!({ "action": action, "payload": payload })).await;
        let answer = answer.with_context(|| format!("{action} in {version}"))?;
        let expected = &row["answer"];
        ensure!(holds(&answer["payload"], expected), "{action} in {version}: {answer} without {expected}");
    }
    // Nothing was only nearly right.
    let log = server.log();
    ensure!(!log.contains("ERROR"), "{log}");
    Ok(())
}

/// Whether all that is expected is there.
fn holds(found: &Value, expected: &Value) -> bool {
    match expected {
        Value::Null => true,
        Value::Object(members) => members.iter().all(|(name, value)| holds(&found[name], value)),
        other => found == other,
    }
}

mod every_action {
    use switchboard_testkit::Software;

    #[tokio::test]
    async fn of_1_6() -> anyhow::Result<()> {
        super::every_action_is_answered("every_action::of_1_6", Software::Python16).await
    }

    #[tokio::test]
    async fn of_2_0_1() -> anyhow::Result<()> {
        super::every_action_is_answered("every_action::of_2_0_1", Software::Python201).await
    }

    #[tokio::test]
    async fn of_2_1() -> anyhow::Result<()> {
        super::every_action_is_answered("every_action::of_2_1", Software::Python21).await
    }
}

/// L07, L08: what a station may do before it is accepted, what may be sent to it, and that all of it outlives its
/// connection and our process.
async fn is_pending_or_rejected_until_it_is_accepted(test: &str, software: Software) -> Result<()> {
    let Some(mut charger) = Charger::start(test, software)? else { return Ok(()) };
    let mut server = Switchboard::start(BINARY, &[]).await?;
    let gated = matches!(software, Software::Python201 | Software::Python21);
    policy(&server, &["pending", "--interval", "7"]).await?;
    connect(&server, &mut charger, software, "CP011").await?;
    let boot = charger.does("boot", json!({})).await?;
    assert_eq!((&boot["status"], &boot["interval"]), (&json!("Pending"), &json!(7)));

    // 2.x refuses all else; 1.6 is lenient unless a setting says otherwise.
    let heartbeat = charger.tries("heartbeat", json!({})).await?;
    assert_eq!(heartbeat.get("code") == Some(&json!("SecurityError")), gated, "{heartbeat}");
    // Only configuration and information go out.
    let (ask, asked, start, payload) = match software {
        Software::Python201 | Software::Python21 => {
            let wanted = json!({ "component": { "name": "OCPPCommCtrlr" }, "variable": { "name": "HeartbeatInterval" } });
            let start = json!({ "idToken": { "idToken": "R1", "type": "ISO14443" }, "remoteStartId": 7 });
            ("GetVariables", json!({ "getVariableData": [wanted] }), "RequestStartTransaction", start)
        }
        Software::Python16 | Software::Node16 => (
            "GetConfiguration",
            json!({ "key": ["HeartbeatInterval"] }),
            "RemoteStartTransaction",
            json!({ "idTag": "R1" }),
        ),
    };
    let (code, outcome) = send(&server, "CP011", ask, &asked, &[]).await?;
    assert_eq!((code, &outcome["outcome"]), (0, &json!("answered")), "{outcome}");
    let (code, outcome) = send(&server, "CP011", start, &payload, &[]).await?;
    assert_eq!((code, &outcome["outcome"]), (7, &json!("notSent")), "{outcome}");
    // What it is asked for is let through, whatever it says to the asking.
    let trigger = json!({ "requestedMessage": "Heartbeat" });
    send(&server, "CP011", "TriggerMessage", &trigger, &[]).await?;
    assert!(charger.does("heartbeat", json!({})).await?["time"].is_string());
    let authorize = charger.tries("authorize", json!({ "tag": "A1" })).await?;
    assert_eq!(authorize.get("code") == Some(&json!("SecurityError")), gated, "{authorize}");

    // By whichever command it is asked.
    let status = json!({ "status": "Available" });
    let report = charger.tries("report", status.clone()).await?;
    assert_eq!(report.get("code") == Some(&json!("SecurityError")), gated, "{report}");
    let ran = server
        .run(&["trigger", "CP011", "StatusNotification", "--connector", "1", "--wait", "100ms"])
        .await?;
    charger.does("report", status).await.with_context(|| format!("{ran:?}"))?;

    // It keeps its registration without another boot, on a new line and with a new process.
    server.kill().await?;
    charger.event("closed").await?;
    server.start_again().await?;
    connect(&server, &mut charger, software, "CP011").await?;
    let authorize = charger.tries("authorize", json!({ "tag": "A1" })).await?;
    assert_eq!(authorize.get("code") == Some(&json!("SecurityError")), gated, "{authorize}");
    let (code, outcome) = send(&server, "CP011", start, &payload, &[]).await?;
    assert_eq!((code, &outcome["outcome"]), (7, &json!("notSent")), "{outcome}");

    let shown = policy(&server, &["accepted"]).await?;
    assert_eq!(
        (&shown["policy"], &shown["registration"]),
        (&json!("accepted"), &json!("pending")),
        "{shown}"
    );
    assert_eq!(shown["askedToBoot"], true, "{shown}");
    assert_eq!(charger.does("boot", json!({})).await?["status"], "Accepted");
    assert_eq!(charger.does("authorize", json!({ "tag": "A1" })).await?["status"], "Accepted");
    let (code, outcome) = send(&server, "CP011", start, &payload, &[]).await?;
    assert!(code == 0 || code == 1, "it reached the station: {outcome}");

    policy(&server, &["rejected"]).await?;
    let boot = charger.does("boot", json!({})).await?;
    assert_eq!((&boot["status"], &boot["interval"]), (&json!("Rejected"), &json!(60)));
    let (code, outcome) = send(&server, "CP011", ask, &asked, &[]).await?;
    assert_eq!((code, &outcome["outcome"]), (7, &json!("notSent")), "{outcome}");
    let heartbeat = charger.tries("heartbeat", json!({})).await?;
    assert_eq!(heartbeat.get("code") == Some(&json!("SecurityError")), gated, "{heartbeat}");
    let shown = policy(&server, &["default"]).await?;
    assert_eq!((&shown["policy"], &shown["registration"]), (&Value::Null, &json!("rejected")), "{shown}");
    assert_eq!(charger.does("boot", json!({})).await?["status"], "Accepted");
    Ok(())
}

/// `switchboard stations policy CP011 …`: what it prints.
async fn policy(server: &Switchboard, what: &[&str]) -> Result<Value> {
    let mut arguments = vec!["stations", "policy", "CP011", "--json"];
    arguments.extend(what);
    let ran = server.run(&arguments).await?;
    ensure!(ran.code == 0, "{ran:?}");
    ran.json()
}

fn started(tag: &str, meter: u32) -> Value {
    json!({ "tag": tag, "meter": meter, "timestamp": "2026-11-22T10:00:00.000Z" })
}

fn metered(value: u32) -> Value {
    // Each sample has a time of its own, as a meter's have.
    let timestamp = format!("2026-11-22T10:{:02}:{:02}.000Z", value / 60 % 60, value % 60);
    json!({ "value": value, "timestamp": timestamp })
}

fn stopped(meter: u32) -> Value {
    json!({ "meter": meter, "timestamp": "2026-11-22T11:30:00.000Z" })
}

/// `switchboard send`: its exit code, and the outcome that it prints.
async fn send(
    server: &Switchboard,
    station: &str,
    action: &str,
    payload: &Value,
    options: &[&str],
) -> Result<(i32, Value)> {
    let payload = payload.to_string();
    let mut arguments = vec!["send", station, action, &payload, "--json"];
    arguments.extend(options);
    let ran = server.run(&arguments).await?;
    let outcome = ran.json()?;
    Ok((ran.code, outcome))
}

/// The transactions of a station. Waits for there to be any, as the books may be a moment behind the answers.
async fn books(server: &Switchboard, station: &str) -> Result<Vec<Value>> {
    wait::until(format_args!("transactions of {station}"), async || {
        let ran = server.run(&["transactions", "--station", station, "--json"]).await.ok()?;
        let transactions = ran.json().ok()?["transactions"].as_array()?.clone();
        (!transactions.is_empty()).then_some(transactions)
    })
    .await
}

/// A number or a text as text.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}
