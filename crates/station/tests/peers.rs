//! The client against central systems that others wrote, which judge by the official schemas: PyPI's `ocpp` in all
//! versions, npm's `ocpp-rpc` in 1.6 and 2.0.1.
#![expect(clippy::unwrap_used, reason = "what a test needs and does not get fails it")]

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::time::Duration;
use switchboard_messages::{v16, v21, v201};
use switchboard_router::{CallError, Router, State};
use switchboard_rpc::Version;
use switchboard_station::client::{BackOff, Config, Event, MemoryQueue, Registration, Station, Transaction};
use switchboard_testkit::{Central, CentralSoftware};
use tokio::sync::mpsc;

/// A scenario takes seconds; this is for a machine that has much else to do.
const LIMIT: Duration = Duration::from_secs(120);
const TIME: &str = "2026-01-01T00:00:00Z";

/// What the handlers tell the test.
type Told = mpsc::Sender<&'static str>;

async fn start_v16(
    State(told): State<Told>,
    request: v16::RemoteStartTransactionRequest,
) -> Result<v16::RemoteStartTransactionResponse, CallError> {
    told.send(if request.id_tag == "TAG1" { "started" } else { "?" }).await?;
    Ok(v16::RemoteStartTransactionResponse::new(v16::RemoteStartStopStatus::Accepted))
}

async fn start_v201(
    State(told): State<Told>,
    request: v201::RequestStartTransactionRequest,
) -> Result<v201::RequestStartTransactionResponse, CallError> {
    told.send(if request.id_token.id_token == "TAG1" { "started" } else { "?" }).await?;
    Ok(v201::RequestStartTransactionResponse::new(v201::RequestStartStopStatus::Accepted))
}

async fn start_v21(
    State(told): State<Told>,
    request: v21::RequestStartTransactionRequest,
) -> Result<v21::RequestStartTransactionResponse, CallError> {
    told.send(if request.id_token.id_token == "TAG1" { "started" } else { "?" }).await?;
    Ok(v21::RequestStartTransactionResponse::new(v21::RequestStartStopStatus::Accepted))
}

fn config(url: String, version: Version) -> Result<Config> {
    let (vendor, model) = ("Example".to_owned(), "One".to_owned());
    let mut config = match version {
        Version::V16 => Config::new(url, "CP1", &v16::BootNotificationRequest::new(model, vendor)),
        Version::V201 => {
            let about = v201::ChargingStation::new(model, vendor);
            Config::new(url, "CP1", &v201::BootNotificationRequest::new(about, v201::BootReason::PowerUp))
        }
        Version::V21 => {
            let about = v21::ChargingStation::new(model, vendor);
            Config::new(url, "CP1", &v21::BootNotificationRequest::new(about, v21::BootReason::PowerUp))
        }
    }?;
    config.back_off = BackOff {
        wait_minimum: Duration::from_millis(20),
        random_range: Duration::from_millis(20),
        repeat_times: 3,
    };
    config.message_retry_interval = Duration::from_millis(20);
    Ok(config)
}

async fn authorized(station: &Station, version: Version) -> Result<bool> {
    let tag = "TAG1".to_owned();
    Ok(match version {
        Version::V16 => {
            let answer = station.call(v16::AuthorizeRequest::new(tag)).await?;
            answer.id_tag_info.status == v16::AuthorizationStatus::Accepted
        }
        Version::V201 => {
            let token = v201::IdToken::new(tag, v201::IdTokenEnum::ISO14443);
            let answer = station.call(v201::AuthorizeRequest::new(token)).await?;
            answer.id_token_info.status == v201::AuthorizationStatus::Accepted
        }
        Version::V21 => {
            let answer =
                station.call_raw("Authorize", r#"{"idToken":{"idToken":"TAG1","type":"ISO14443"}}"#).await?;
            serde_json::from_str::<Value>(&answer)?["idTokenInfo"]["status"] == "Accepted"
        }
    })
}

/// Bills the message at this place of a transaction of five: a start, three readings, an end.
fn bill(station: &Station, version: Version, transaction: &Transaction, place: u64) -> Result<()> {
    let (action, payload) = message(version, transaction, place);
    station.bill_raw(transaction, action, &payload.to_string())?;
    Ok(())
}

fn message(version: Version, transaction: &Transaction, place: u64) -> (&'static str, Value) {
    if version != Version::V16 {
        let (kind, trigger) = match place {
            0 => ("Started", "Authorized"),
            4 => ("Ended", "StopAuthorized"),
            _ => ("Updated", "MeterValuePeriodic"),
        };
        let event = json!({
            "eventType": kind, "triggerReason": trigger, "seqNo": place, "timestamp": TIME,
            "transactionInfo": { "transactionId": transaction.name() },
        });
        return ("TransactionEvent", event);
    }
    match place {
        0 => (
            "StartTransaction",
            json!({ "connectorId": 1, "idTag": "TAG1", "meterStart": 0, "timestamp": TIME }),
        ),
        4 => ("StopTransaction", json!({ "transactionId": 0, "meterStop": 4, "timestamp": TIME })),
        _ => {
            let value = json!({ "timestamp": TIME, "sampledValue": [{ "value": place.to_string() }] });
            ("MeterValues", json!({ "connectorId": 1, "transactionId": 0, "meterValue": [value] }))
        }
    }
}

/// Everything that a station does on the line, once.
async fn lives_through_a_day(test: &str, software: CentralSoftware, version: Version) -> Result<()> {
    let Some(mut central) = Central::start(test, software, version.as_str()).await? else { return Ok(()) };
    central.does("wish", json!({ "boot": ["Rejected", "Pending", "Accepted"], "interval": 1 })).await?;

    let (told, mut heard) = mpsc::channel(8);
    let handlers = Router::new().on_command(start_v16).on_command(start_v201).on_command(start_v21);
    let config = config(central.url(), version)?;
    let station = Station::connect(config, MemoryQueue, |_| handlers.with_state(told))?;
    let mut events = station.events();

    // Not accepted at first; what happens meanwhile is billed later.
    let transaction = Transaction::new();
    bill(&station, version, &transaction, 0)?;
    let mut registrations = Vec::new();
    while registrations.len() < 3 {
        if let Some(Event::Registered { registration, .. }) = events.next().await {
            registrations.push(registration);
        }
    }
    assert_eq!(registrations, [Registration::Rejected, Registration::Pending, Registration::Accepted]);
    for _ in 0..3 {
        assert_eq!(central.called().await?.0, "BootNotification");
    }
    assert!(station.accepted().await);

    // In both directions.
    assert!(station.until(|status| status.unbilled == 0).await.online);
    let mut arrived = vec![central.called().await?];
    assert!(authorized(&station, version).await?);
    let (action, payload) = match (version, software) {
        (Version::V16, CentralSoftware::Python) => ("RemoteStartTransaction", json!({ "id_tag": "TAG1" })),
        (Version::V16, CentralSoftware::Node) => ("RemoteStartTransaction", json!({ "idTag": "TAG1" })),
        (_, CentralSoftware::Python) => (
            "RequestStartTransaction",
            json!({ "remote_start_id": 1, "id_token": { "id_token": "TAG1", "type": "Central" } }),
        ),
        (_, CentralSoftware::Node) => (
            "RequestStartTransaction",
            json!({ "remoteStartId": 1, "idToken": { "idToken": "TAG1", "type": "Central" } }),
        ),
    };
    assert_eq!(central.call("CP1", action, payload).await?["status"], "Accepted");
    assert_eq!(heard.recv().await, Some("started"));
    let name = if software == CentralSoftware::Python { "requested_message" } else { "requestedMessage" };
    let answer = central.call("CP1", "TriggerMessage", json!({ name: "Heartbeat" })).await?;
    assert_eq!(answer["status"], "Accepted");
    while central.event("called").await?["action"] != "Heartbeat" {}

    // The line breaks, and comes again; two messages are refused at first.
    central.does("wish", json!({ "refuse": 2 })).await?;
    central.does("drop", json!({ "station": "CP1" })).await?;
    for place in 1..5 {
        bill(&station, version, &transaction, place)?;
    }
    let settled = station.until(|status| status.unbilled == 0 && status.online).await;
    assert!(!settled.stopped);
    station.close().await;
    assert!(station.status().stopped);

    // What arrived: nothing but what was billed, in order; repeats only of what was refused or lost.
    while arrived.last().is_none_or(|(action, payload)| place_of(action, payload) != 4) {
        let (action, payload) = central.called().await?;
        if action != "Authorize" {
            arrived.push((action, payload));
        }
    }
    let mut places: Vec<u64> = arrived.iter().map(|(action, payload)| place_of(action, payload)).collect();
    ensure!(places.len() >= 7, "two were refused, so that seven arrive at least: {places:?}");
    places.dedup();
    assert_eq!(places, [0, 1, 2, 3, 4]);
    for (action, payload) in &arrived {
        match action.as_str() {
            "MeterValues" | "StopTransaction" => assert_eq!(payload["transactionId"], 1000, "{payload}"),
            "TransactionEvent" => {
                assert_eq!(payload["transactionInfo"]["transactionId"], transaction.name());
            }
            _ => {}
        }
    }
    assert_eq!(central.event("closed").await?["station"], "CP1");
    Ok(())
}

fn place_of(action: &str, payload: &Value) -> u64 {
    match action {
        "StartTransaction" => 0,
        "StopTransaction" => 4,
        "MeterValues" => {
            payload["meterValue"][0]["sampledValue"][0]["value"].as_str().unwrap().parse().unwrap()
        }
        _ => payload["seqNo"].as_u64().unwrap(),
    }
}

macro_rules! days {
    ($($name:ident: $software:ident $version:ident)*) => {
        $(
            #[tokio::test]
            async fn $name() -> Result<()> {
                let day = lives_through_a_day(stringify!($name), CentralSoftware::$software, Version::$version);
                tokio::time::timeout(LIMIT, day).await.context("it took too long")?
            }
        )*
    };
}

days! {
    a_day_with_pypi_ocpp_in_1_6: Python V16
    a_day_with_pypi_ocpp_in_2_0_1: Python V201
    a_day_with_pypi_ocpp_in_2_1: Python V21
    a_day_with_npm_ocpp_rpc_in_1_6: Node V16
    a_day_with_npm_ocpp_rpc_in_2_0_1: Node V201
}
