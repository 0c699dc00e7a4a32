//! The API over HTTP requests, with an embedded directory and no station.
#![expect(clippy::unwrap_used, reason = "what a test needs and does not get fails it")]

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, header},
};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use std::sync::Arc;
use switchboard_api::{Api, admin, router};
use switchboard_bus::{Bus, Commander, InProcess};
use switchboard_central::Central;
use switchboard_directory::{Directory, Embedded, Locations};
use switchboard_gateway::{Config, Gateway};
use switchboard_router::Context;
use switchboard_rpc::{StationId, Version};
use switchboard_trace::Trace;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// Books with one transaction in them.
async fn books() -> Central {
    let path = tempfile::tempdir().unwrap().keep().join("central.db");
    let central = Central::open(switchboard_central::Config::at(path)).unwrap();
    let context = Context::new(StationId::new("CP1", 48).unwrap(), Version::V201);
    for (seq, kind, value) in [(0, "Started", "0"), (1, "Ended", "1234567890.10")] {
        let payload = format!(
            r#"{{"eventType":"{kind}","timestamp":"2026-01-01T10:0{seq}:00Z","triggerReason":"Authorized","seqNo":{seq},
                "transactionInfo":{{"transactionId":"tx-7"}},"idToken":{{"idToken":"SECRETTAG","type":"ISO14443"}},
                "meterValue":[{{"timestamp":"2026-01-01T10:0{seq}:00Z","sampledValue":[{{"value":{value}}}]}}]}}"#
        );
        let frame = format!(r#"[2,"{seq}","TransactionEvent",{payload}]"#);
        assert!(central.router().answer(&context, frame.into()).await.frame.is_some());
    }
    central
}

async fn api(token: Option<&str>) -> Router {
    let bus: Arc<dyn Bus> = Arc::new(InProcess::new());
    let directory: Arc<dyn Directory> = Arc::new(Embedded::in_memory().unwrap());
    let locations = Arc::new(Locations::new(Arc::clone(&directory)));
    let commander = Commander::new(Arc::clone(&bus), "api", locations).await.unwrap();
    let mut registry = Registry::default();
    let gateway = Gateway::new(Config::default(), bus, Arc::clone(&directory), &mut registry).unwrap();
    let trace =
        Trace::start(gateway.tap().clone(), switchboard_trace::Config::default(), &mut registry).unwrap();
    router(Api {
        directory,
        commander,
        traffic: switchboard_api::Traffic::Here(trace),
        central: Some(Arc::new(books().await)),
        token: token.map(str::to_owned),
        data_dir: "/data".to_owned(),
        stations_listen: Some("127.0.0.1:8180".to_owned()),
        shutdown: CancellationToken::new(),
    })
}

/// Makes a request as a program on this machine would; a body goes as JSON.
async fn ask(api: &Router, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "127.0.0.1:8181")
        .header(header::CONTENT_TYPE, "application/json")
        .body(body.map_or_else(Body::empty, |body| Body::from(body.to_string())))
        .unwrap();
    answer(api, request).await
}

async fn answer(api: &Router, request: Request<Body>) -> (u16, Value) {
    let response = api.clone().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() })
}

#[tokio::test]
async fn stations_are_registered_shown_and_removed() {
    let api = api(None).await;
    let new = json!({ "id": "CP|1", "password": "sixteen or more letters" });
    assert_eq!(
        ask(&api, "POST", "/v1/stations", Some(new)).await,
        (201, json!({ "id": "CP|1", "hasPassword": true }))
    );
    assert_eq!(ask(&api, "POST", "/v1/stations", Some(json!({ "id": "CP2" }))).await.0, 201);
    let (_, list) = ask(&api, "GET", "/v1/stations?limit=1", None).await;
    assert_eq!(list["stations"][0]["id"], "CP2");
    let (_, list) = ask(&api, "GET", "/v1/stations?after=CP2", None).await;
    assert_eq!(list["stations"].as_array().unwrap().len(), 1, "{list}");
    let (status, one) = ask(&api, "GET", "/v1/stations/CP%7C1", None).await;
    assert_eq!((status, &one["hasPassword"], &one["connected"]), (200, &json!(true), &json!(false)));
    assert!(!one.to_string().contains("argon2"), "a hash is nobody's business: {one}");
    assert_eq!(ask(&api, "DELETE", "/v1/stations/CP%7C1", None).await, (204, Value::Null));
    assert_eq!(ask(&api, "DELETE", "/v1/stations/CP%7C1", None).await.0, 404);
    assert_eq!(ask(&api, "GET", "/v1/stations/CP%7C1", None).await.0, 404);
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_told_as_json() {
    let api = api(None).await;
    let command = "/v1/stations/CP1/commands";
    for (name, method, path, body, status, error) in [
        ("nowhere", "GET", "/v1/nothing", None, 404, "unknown_path"),
        ("another method", "PUT", "/v1/stations", None, 405, "unknown_method"),
        ("no number in the query", "GET", "/v1/stations?limit=x", None, 400, "invalid_query"),
        ("no number in the path", "DELETE", "/v1/journal/x", None, 400, "invalid_path"),
        ("no text in the path", "GET", "/v1/stations/%FF", None, 400, "invalid_path"),
        ("no body", "POST", "/v1/stations", None, 400, "invalid_body"),
        (
            "unknown member",
            "POST",
            "/v1/stations",
            Some(json!({ "id": "A", "pasword": "x" })),
            400,
            "invalid_body",
        ),
        ("bad id", "POST", "/v1/stations", Some(json!({ "id": "a/b" })), 400, "invalid_station"),
        (
            "empty password",
            "POST",
            "/v1/stations",
            Some(json!({ "id": "A", "password": "" })),
            400,
            "invalid_password",
        ),
        (
            "long password",
            "POST",
            "/v1/stations",
            Some(json!({ "id": "A", "password": "x".repeat(257) })),
            400,
            "invalid_password",
        ),
        ("unknown action", "POST", command, Some(json!({ "action": "Fly" })), 400, "unknown_action"),
        (
            "bad payload",
            "POST",
            command,
            Some(json!({ "action": "Reset", "payload": { "type": "x" } })),
            400,
            "invalid_payload",
        ),
        (
            "raw, no object",
            "POST",
            command,
            Some(json!({ "action": "Reset", "payload": [], "raw": true })),
            400,
            "invalid_payload",
        ),
        (
            "raw, no action",
            "POST",
            command,
            Some(json!({ "action": "", "raw": true })),
            400,
            "invalid_payload",
        ),
        (
            "no timeout",
            "POST",
            command,
            Some(json!({ "action": "ClearCache", "timeoutMs": 0 })),
            400,
            "invalid_option",
        ),
        (
            "bad lane",
            "POST",
            command,
            Some(json!({ "action": "ClearCache", "lane": "fast" })),
            400,
            "invalid_body",
        ),
        (
            "empty key",
            "POST",
            command,
            Some(json!({ "action": "ClearCache", "key": "" })),
            400,
            "invalid_option",
        ),
        ("no such time", "GET", "/v1/transactions?since=yesterday", None, 400, "invalid_time"),
        ("no such transaction", "GET", "/v1/transactions/tx-8", None, 404, "unknown_transaction"),
        ("no such kind", "GET", "/v1/events?kind=x", None, 400, "unknown_kind"),
        (
            "a job for nobody",
            "POST",
            "/v1/stations/NOBODY/firmware",
            Some(json!({ "url": "https://host/x" })),
            404,
            "unknown_station",
        ),
        (
            "a profile that no station understands",
            "POST",
            "/v1/stations/CP1/profiles",
            Some(
                json!({ "connector": 1, "purpose": "station-max", "chargingRateUnit": "A", "chargingSchedulePeriod": [] }),
            ),
            400,
            "invalid_request",
        ),
        (
            "a trigger for one who is away",
            "POST",
            "/v1/stations/CP1/trigger",
            Some(json!({ "message": "Heartbeat" })),
            409,
            "offline",
        ),
    ] {
        let (found, body) = ask(&api, method, path, body).await;
        assert_eq!((found, &body["error"]), (status, &json!(error)), "{name}: {body}");
        assert!(body["detail"].as_str().is_some_and(|detail| detail.len() > 5), "{name}: {body}");
    }
}

#[tokio::test]
async fn a_command_to_nobody_is_offline() {
    let api = api(None).await;
    let command = json!({ "action": "ClearCache", "context": "c" });
    let expected = json!({ "station": "CP1", "action": "ClearCache", "outcome": "offline", "context": "c" });
    assert_eq!(ask(&api, "POST", "/v1/stations/CP1/commands", Some(command)).await, (200, expected));
}

#[tokio::test]
async fn a_body_must_be_said_to_be_json() {
    let api = api(None).await;
    let request = Request::post("/v1/stations")
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "text/plain")
        .body(Body::from(r#"{"id":"A"}"#))
        .unwrap();
    assert_eq!(answer(&api, request).await.0, 415);
}

#[tokio::test]
async fn strangers_are_turned_away_everywhere() {
    for (name, token, host, authorization, status) in [
        ("a program", None, "127.0.0.1:8181", None, 200),
        ("DNS rebinding", None, "evil.example", None, 403),
        ("no token", Some("0123456789abcdef"), "127.0.0.1:8181", None, 401),
        ("a token", Some("0123456789abcdef"), "switchboard.example", Some("Bearer 0123456789abcdef"), 200),
    ] {
        let api = api(token).await;
        for path in ["/v1/stations", "/v1/info", "/v1/transactions", "/v1/nothing"] {
            let mut request = Request::get(path).header(header::HOST, host);
            if let Some(authorization) = authorization {
                request = request.header(header::AUTHORIZATION, authorization);
            }
            let (found, body) = answer(&api, request.body(Body::empty()).unwrap()).await;
            let expected = if status == 200 && path == "/v1/nothing" { 404 } else { status };
            assert_eq!(found, expected, "{name} {path}: {body}");
        }
    }
}

#[tokio::test]
async fn tokens_of_drivers_are_shown_to_who_asks_for_them_and_energy_keeps_its_digits() {
    let api = api(None).await;
    let request =
        |path: &str| Request::get(path).header(header::HOST, "localhost").body(Body::empty()).unwrap();
    let text = async |path: &str| {
        let response = api.clone().oneshot(request(path)).await.unwrap();
        String::from_utf8(to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec()).unwrap()
    };
    let shown = text("/v1/transactions?limit=7").await;
    assert!(
        shown.contains("\"tx-7\"") && shown.contains("1234567890.10") && !shown.contains("SECRETTAG"),
        "{shown}"
    );
    assert!(text("/v1/transactions?personal=true").await.contains("SECRETTAG"));
    let one = text("/v1/transactions/tx-7").await;
    assert!(
        one.contains("1234567890.10") && one.contains("\"Ended\"") && !one.contains("SECRETTAG"),
        "{one}"
    );
    for (query, found) in [
        ("tag=secrettag", true),
        ("tag=other", false),
        ("open=true", false),
        ("since=2026-01-02T00:00:00Z", false),
    ] {
        assert_eq!(text(&format!("/v1/transactions?{query}")).await.contains("tx-7"), found, "{query}");
    }
}

#[tokio::test]
async fn readiness_says_why_not() {
    let admin = admin::router(Arc::new(Registry::default().into()), Arc::new(|| Err("draining".to_owned())));
    let get = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    assert_eq!(admin.clone().oneshot(get("/healthz")).await.unwrap().status(), 200);
    let response = admin.clone().oneshot(get("/readyz")).await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(to_bytes(response.into_body(), 100).await.unwrap(), "draining\n");
    let metrics = admin.oneshot(get("/metrics")).await.unwrap();
    assert!(
        metrics.headers()[header::CONTENT_TYPE].to_str().unwrap().starts_with("application/openmetrics-text")
    );
}
