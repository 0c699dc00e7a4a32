//! What an operator asks of a station: `/v1/firmware`, `/v1/logs`, `/v1/reservations` and profiles.

use crate::parts::{Path, Query};
use crate::{State, json_body, problem::Problem, stations::station_id};
use axum::{
    Json, Router,
    body::Bytes,
    extract::State as FromState,
    http::HeaderMap,
    routing::{delete, get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};
use switchboard_central::{
    FirmwareRequest, Jobs, LogRequest, ProfileMatch, ProfileRequest, Profiles, Reservation,
    ReservationRequest,
};

/// How many of a list an answer holds, unless the caller says otherwise.
const LIMIT: usize = 50;
/// And at most.
const LIMIT_MAX: usize = 1000;

/// The routes.
pub(crate) fn routes() -> Router<State> {
    Router::new()
        .route("/v1/firmware", get(firmware_list))
        .route("/v1/stations/{id}/firmware", post(firmware).merge(delete(firmware_cancel)))
        .route("/v1/logs", get(log_list))
        .route("/v1/stations/{id}/logs", post(log).merge(delete(log_cancel)))
        .route("/v1/reservations", get(reservations))
        .route("/v1/stations/{id}/reservations", post(reserve))
        .route("/v1/stations/{id}/reservations/{number}", delete(cancel))
        .route("/v1/stations/{id}/profiles", get(profiles).post(set_profile).merge(delete(clear_profiles)))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    station: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    personal: bool,
}

impl ListQuery {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX)
    }
}

async fn jobs(state: &State, kind: &'static str, query: &ListQuery) -> Result<Json<Jobs>, Problem> {
    Ok(Json(state.central()?.jobs(state.tenant(), kind, query.station.as_deref(), query.limit()).await?))
}

async fn firmware_list(
    FromState(state): FromState<State>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Jobs>, Problem> {
    jobs(&state, "firmware", &query).await
}

async fn log_list(
    FromState(state): FromState<State>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Jobs>, Problem> {
    jobs(&state, "log", &query).await
}

async fn firmware(
    FromState(state): FromState<State>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let request: FirmwareRequest = json_body(&headers, &body)?;
    let id = state.central()?.update_firmware(state.tenant(), &station_id(id)?, request).await?;
    Ok(Json(json!({ "id": id })))
}

async fn firmware_cancel(
    FromState(state): FromState<State>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let ids = state.central()?.cancel_jobs(state.tenant(), &station_id(id)?, "firmware").await?;
    Ok(Json(json!({ "cancelled": ids })))
}

async fn log(
    FromState(state): FromState<State>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let request: LogRequest = json_body(&headers, &body)?;
    let id = state.central()?.get_log(state.tenant(), &station_id(id)?, request).await?;
    Ok(Json(json!({ "id": id })))
}

async fn log_cancel(
    FromState(state): FromState<State>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let ids = state.central()?.cancel_jobs(state.tenant(), &station_id(id)?, "log").await?;
    Ok(Json(json!({ "cancelled": ids })))
}

async fn reservations(
    FromState(state): FromState<State>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Value>, Problem> {
    let list = state.central()?.reservations(state.tenant(), query.station.as_deref(), query.limit()).await?;
    let shown = |one: Reservation| if query.personal { one } else { one.anonymous() };
    Ok(Json(json!({ "reservations": list.into_iter().map(shown).collect::<Vec<_>>() })))
}

async fn reserve(
    FromState(state): FromState<State>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let request: ReservationRequest = json_body(&headers, &body)?;
    let id = state.central()?.reserve(state.tenant(), &station_id(id)?, request).await?;
    Ok(Json(json!({ "id": id })))
}

async fn cancel(
    FromState(state): FromState<State>,
    Path((id, number)): Path<(String, i64)>,
) -> Result<Json<Value>, Problem> {
    state.central()?.cancel_reservation(state.tenant(), &station_id(id)?, number).await?;
    Ok(Json(json!({ "id": number })))
}

async fn profiles(
    FromState(state): FromState<State>,
    Path(id): Path<String>,
) -> Result<Json<Profiles>, Problem> {
    Ok(Json(state.central()?.profiles(state.tenant(), station_id(id)?.as_str()).await?))
}

async fn set_profile(
    FromState(state): FromState<State>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let request: ProfileRequest = json_body(&headers, &body)?;
    let id = state.central()?.set_profile(state.tenant(), &station_id(id)?, request).await?;
    Ok(Json(json!({ "id": id })))
}

async fn clear_profiles(
    FromState(state): FromState<State>,
    Path(id): Path<String>,
    Query(which): Query<ProfileMatch>,
) -> Result<Json<Value>, Problem> {
    let ids = state.central()?.clear_profiles(state.tenant(), &station_id(id)?, which).await?;
    Ok(Json(json!({ "clearing": ids })))
}
