//! `/v1/stations/{id}/configuration`: what a station shall be set to, and what it reports; `/v1/configuration`: what all
//! shall be set to.

use crate::parts::Path;
use crate::{State, problem::Problem, stations::station_id, time};
use axum::{
    Json, Router,
    body::Bytes,
    extract::State as FromState,
    http::HeaderMap,
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use switchboard_central::{Desired, Setting, setting_name};
use switchboard_rpc::StationId;

/// The routes.
pub(crate) fn routes() -> Router<State> {
    Router::new()
        .route("/v1/configuration", get(all).patch(change_all))
        .route("/v1/stations/{id}/configuration", get(one).patch(change))
        .route("/v1/stations/{id}/configuration/refresh", post(refresh))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    #[serde(default)]
    set: BTreeMap<String, String>,
    #[serde(default)]
    unset: Vec<String>,
    #[serde(default)]
    reboot: bool,
}

async fn all(FromState(state): FromState<State>) -> Result<Json<Value>, Problem> {
    shown_for_all(&state).await
}

async fn shown_for_all(state: &State) -> Result<Json<Value>, Problem> {
    let desired = state.central()?.settings_for_all(state.tenant()).await?;
    let settings: Vec<Value> =
        desired.into_iter().map(|(name, value)| json!({ "name": name, "desired": value })).collect();
    Ok(Json(json!({ "settings": settings })))
}

async fn one(FromState(state): FromState<State>, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    shown(&state, &station_id(id)?).await
}

async fn shown(state: &State, station: &StationId) -> Result<Json<Value>, Problem> {
    let location = state.directory().locate(&state.key(station.clone()), crate::now_ms()).await?;
    let settings = state.central()?.settings(state.tenant(), station).await?;
    let settings: Vec<Value> = settings.iter().map(view).collect();
    Ok(Json(json!({
        "station": station.as_str(),
        "connected": location.is_some(),
        "version": location.map(|location| location.version.as_str()),
        "settings": settings,
    })))
}

fn view(setting: &Setting) -> Value {
    json!({
        "name": setting.name,
        "desired": setting.desired,
        "forAll": setting.for_all,
        "reported": setting.reported,
        "reportedAt": setting.reported_ms.map(time),
        "readonly": setting.readonly,
        "state": setting.state,
        "reason": setting.reason,
    })
}

async fn change(
    FromState(state): FromState<State>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let station = station_id(id)?;
    apply(&state, Some(&station), &headers, &body).await?;
    shown(&state, &station).await
}

async fn change_all(
    FromState(state): FromState<State>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    apply(&state, None, &headers, &body).await?;
    shown_for_all(&state).await
}

async fn apply(
    state: &State,
    station: Option<&StationId>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(), Problem> {
    let change: Change = crate::json_body(headers, body)?;
    let wrong = |detail: String| Problem::bad_request("invalid_setting", detail);
    let set: Result<Vec<Desired>, String> =
        change.set.iter().map(|(name, value)| Desired::new(name, value)).collect();
    let set = set.map_err(wrong)?;
    let unset: Result<Vec<String>, String> = change.unset.iter().map(|name| setting_name(name)).collect();
    let unset = unset.map_err(wrong)?;
    let central = state.central()?;
    if !unset.is_empty() {
        central.undesire(state.tenant(), station, unset).await?;
    }
    if !set.is_empty() {
        central.desire(state.tenant(), station, set, change.reboot).await?;
    }
    Ok(())
}

async fn refresh(FromState(state): FromState<State>, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    let station = station_id(id)?;
    state.central()?.refresh_settings(state.tenant(), &station).await?;
    shown(&state, &station).await
}
