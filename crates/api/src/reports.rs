//! What stations tell: reports, the device model, events and alarms.

use crate::parts::{Path, Query};
use crate::{State, json_body, problem::Problem, stations::station_id, time, transactions::moment};
use axum::{
    Json, Router,
    body::Bytes,
    extract::State as FromState,
    http::{HeaderMap, StatusCode},
    routing::get,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use switchboard_central::{Alarm, EventFilter, ReportBase, StationEvent, WholeReport};

/// How many of a list an answer holds, unless the caller says otherwise.
const LIMIT: usize = 50;
/// And at most.
const LIMIT_MAX: usize = 1000;

/// The routes.
pub(crate) fn routes() -> Router<State> {
    Router::new()
        .route("/v1/stations/{id}/reports", get(list).post(request))
        .route("/v1/stations/{id}/reports/{request}", get(one))
        .route("/v1/stations/{id}/device-model", get(device_model))
        .route("/v1/events", get(events))
        .route("/v1/alarms", get(alarms))
}

async fn list(FromState(state): FromState<State>, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    let reports = state.central()?.reports(state.tenant(), station_id(id)?.as_str(), LIMIT_MAX).await?;
    Ok(Json(json!({ "reports": reports })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    base: ReportBase,
}

async fn request(
    FromState(state): FromState<State>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let Asked { base } = json_body(&headers, &body)?;
    let request = state.central()?.request_report(state.tenant(), &station_id(id)?, base).await?;
    Ok(Json(json!({ "request": request })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Personal {
    #[serde(default)]
    personal: bool,
}

async fn one(
    FromState(state): FromState<State>,
    Path((id, request)): Path<(String, i64)>,
    Query(query): Query<Personal>,
) -> Result<Json<WholeReport>, Problem> {
    let found = state.central()?.whole_report(state.tenant(), station_id(id)?.as_str(), request).await?;
    let Some(mut found) = found else {
        let detail = format!("there is no report {request} of this station; only the latest ones are kept");
        return Err(Problem::new(StatusCode::NOT_FOUND, "unknown_report", detail));
    };
    for payload in &mut found.payloads {
        *payload = shown(&state, &found.report.action, payload, query.personal);
    }
    Ok(Json(found))
}

/// A payload without secrets, and without what is personal unless that is asked for.
fn shown(state: &State, action: &str, payload: &RawValue, personal: bool) -> Box<RawValue> {
    let redacted = state.redactor().redact(payload.get(), Some(action), personal);
    redacted.ok().and_then(|text| RawValue::from_string(text.into_owned()).ok()).unwrap_or_default()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelQuery {
    component: Option<String>,
    variable: Option<String>,
}

async fn device_model(
    FromState(state): FromState<State>,
    Path(id): Path<String>,
    Query(query): Query<ModelQuery>,
) -> Result<Json<Value>, Problem> {
    let id = station_id(id)?;
    let (component, variable) = (query.component.as_deref(), query.variable.as_deref());
    let mut variables =
        state.central()?.device_model(state.tenant(), id.as_str(), component, variable).await?;
    for variable in &mut variables {
        // Passwords can only be written, but not every station knows.
        if SECRET.iter().any(|secret| variable.variable.eq_ignore_ascii_case(secret)) {
            variable.attributes.iter_mut().for_each(|attribute| attribute.value = None);
        }
    }
    Ok(Json(json!({ "station": id.to_string(), "variables": variables })))
}

/// Variables whose values are never shown.
const SECRET: [&str; 4] = ["BasicAuthPassword", "APNPassword", "SimPin", "VpnPassword"];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EventQuery {
    station: Option<String>,
    kind: Option<String>,
    since: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    personal: bool,
}

async fn events(
    FromState(state): FromState<State>,
    Query(query): Query<EventQuery>,
) -> Result<Json<Value>, Problem> {
    if let Some(kind) = query.kind.as_deref().filter(|kind| !EventFilter::KINDS.contains(kind)) {
        let detail = format!("there is no kind {kind:?}; there are {}", EventFilter::KINDS.join(", "));
        return Err(Problem::bad_request("unknown_kind", detail));
    }
    let mut filter = EventFilter::default();
    filter.station = query.station;
    filter.kind = query.kind;
    filter.since_ms = query.since.as_deref().map(moment).transpose()?;
    filter.limit = query.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX);
    let mut events = state.central()?.events(state.tenant(), filter).await?;
    for event in &mut events {
        let StationEvent { action, payload, .. } = event;
        *payload = shown(&state, action, payload, query.personal);
    }
    Ok(Json(json!({ "events": events })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AlarmQuery {
    station: Option<String>,
    limit: Option<usize>,
}

async fn alarms(
    FromState(state): FromState<State>,
    Query(query): Query<AlarmQuery>,
) -> Result<Json<Value>, Problem> {
    let limit = query.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX);
    let alarms = state.central()?.alarms_of(state.tenant(), query.station.as_deref(), limit).await?;
    let view = |alarm: Alarm| {
        json!({
            "id": alarm.id,
            "station": alarm.station,
            "kind": alarm.kind,
            "subject": alarm.subject,
            "detail": alarm.detail,
            "firstAt": time(alarm.first_ms),
            "lastAt": time(alarm.last_ms),
            "count": alarm.count,
        })
    };
    Ok(Json(json!({ "alarms": alarms.into_iter().map(view).collect::<Vec<_>>() })))
}
