//! `POST /v1/stations/{id}/trigger` and `GET /v1/stations/{id}/schedule`: questions that are only worth asking now.

use crate::parts::{Path, Query};
use crate::{State, commands::name, json_body, problem::Problem, stations::station_id};
use axum::{
    Json, Router,
    body::Bytes,
    extract::State as FromState,
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use switchboard_bus::command::{Options, Outcome};
use switchboard_central::{Trigger, Unit, composite_schedule};
use switchboard_directory::StationKey;
use switchboard_rpc::Version;

/// How long the message may be waited for.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// The routes.
pub(crate) fn routes() -> Router<State> {
    Router::new()
        .route("/v1/stations/{id}/trigger", post(trigger))
        .route("/v1/stations/{id}/schedule", get(schedule))
}

/// What the station speaks: it must be there for this.
async fn spoken(state: &State, key: &StationKey) -> Result<Version, Problem> {
    let location = state.directory().locate(key, crate::now_ms()).await?;
    location.map(|location| location.version).ok_or_else(|| {
        let detail = format!("{} is not connected", key.station);
        Problem::new(StatusCode::CONFLICT, "offline", detail)
    })
}

async fn ask(
    state: &State,
    key: &StationKey,
    action: &str,
    payload: String,
) -> Result<(Outcome, Value), Problem> {
    let outcome = state.command(key, action, payload.into(), Options::default()).await?;
    let mut shown = json!({"station": key.station.as_str(), "action": action, "outcome": name(&outcome)});
    match &outcome {
        Outcome::Answered(payload) => {
            shown["payload"] = serde_json::from_str(payload).unwrap_or(Value::Null);
        }
        Outcome::Refused { code, description, .. } => {
            shown["code"] = json!(&**code);
            shown["description"] = json!(&**description);
        }
        _ => {}
    }
    Ok((outcome, shown))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wanted {
    message: String,
    connector: Option<i64>,
    #[serde(default)]
    extended: bool,
    #[serde(default = "wait_default")]
    wait_ms: u64,
}

const fn wait_default() -> u64 {
    10_000
}

async fn trigger(
    FromState(state): FromState<State>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let key = state.key(station_id(id)?);
    let wanted: Wanted = json_body(&headers, &body)?;
    let version = spoken(&state, &key).await?;
    let trigger = Trigger::new(version, &wanted.message, wanted.connector, wanted.extended)
        .map_err(|why| Problem::bad_request("invalid_request", why))?;
    // From before it is asked for: it may come before the answer.
    let mut watch = state.central()?.watch(&key.tenant, &key.station, &trigger.expected);
    let (_, mut shown) = ask(&state, &key, trigger.action, trigger.payload).await?;
    shown["expected"] = json!(trigger.expected);
    let accepted = shown["payload"]["status"] == "Accepted";
    let wait = if accepted { Duration::from_millis(wanted.wait_ms).min(WAIT_MAX) } else { Duration::ZERO };
    shown["came"] = json!(tokio::time::timeout(wait, watch.came()).await.is_ok());
    Ok(Json(shown))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScheduleQuery {
    connector: i64,
    duration: i64,
    unit: Option<Unit>,
}

async fn schedule(
    FromState(state): FromState<State>,
    Path(id): Path<String>,
    Query(query): Query<ScheduleQuery>,
) -> Result<Json<Value>, Problem> {
    let key = state.key(station_id(id)?);
    let version = spoken(&state, &key).await?;
    let (action, payload) = composite_schedule(version, query.connector, query.duration, query.unit)
        .map_err(|why| Problem::bad_request("invalid_request", why))?;
    let (_, mut shown) = ask(&state, &key, action, payload).await?;
    // One form for all versions.
    let answer = &shown["payload"];
    let inner = if version == Version::V16 { &answer["chargingSchedule"] } else { &answer["schedule"] };
    let start = [&inner["scheduleStart"], &answer["scheduleStart"], &inner["startSchedule"]]
        .into_iter()
        .find(|start| !start.is_null())
        .cloned()
        .unwrap_or_default();
    // Some stations refuse and fill the schedule with nothing all the same.
    shown["schedule"] = if inner.is_null() || answer["status"] != "Accepted" {
        Value::Null
    } else {
        json!({
            "start": start,
            "duration": inner["duration"],
            "unit": inner["chargingRateUnit"],
            "periods": inner["chargingSchedulePeriod"],
        })
    };
    Ok(Json(shown))
}
