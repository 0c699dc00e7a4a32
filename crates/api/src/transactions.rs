//! `/v1/transactions`: what the books know of transactions.

use crate::parts::{Path, Query};
use crate::{State, problem::Problem, stations::station_id, time};
use axum::{Json, Router, extract::State as FromState, http::StatusCode, routing::get};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use switchboard_central::{
    Alarm, MeterReading, OddStop, Transaction, TransactionDetail, TransactionEvent, TransactionFilter,
};

/// How many transactions an answer holds, unless the caller says otherwise.
const LIMIT: usize = 50;
/// And at most.
const LIMIT_MAX: usize = 1000;

/// The routes.
pub(crate) fn routes() -> Router<State> {
    Router::new().route("/v1/transactions", get(list)).route("/v1/transactions/{id}", get(one))
}

/// A transaction as the API shows it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    id: i64,
    station: String,
    transaction_id: String,
    connector: Option<i64>,
    token: Option<String>,
    state: &'static str,
    started_at: Option<String>,
    ended_at: Option<String>,
    energy_wh: Option<Box<RawValue>>,
    reason: Option<String>,
    meter_start_wh: Option<Box<RawValue>>,
    meter_stop_wh: Option<Box<RawValue>>,
    duration_seconds: Option<i64>,
    authorization: Option<&'static str>,
    charging_state: Option<String>,
    reservation: Option<i64>,
}

/// The answer.
#[derive(Serialize)]
struct List {
    transactions: Vec<Shown>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    station: Option<String>,
    tag: Option<String>,
    open: Option<bool>,
    since: Option<String>,
    until: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    personal: bool,
}

async fn list(
    FromState(state): FromState<State>,
    Query(query): Query<ListQuery>,
) -> Result<Json<List>, Problem> {
    let mut filter = TransactionFilter::default();
    filter.tenant = Some(state.tenant().to_owned());
    filter.station = query.station.map(station_id).transpose()?.map(|station| station.to_string());
    filter.token = query.tag;
    filter.ended = query.open.map(|open| !open);
    filter.since_ms = query.since.as_deref().map(moment).transpose()?;
    filter.until_ms = query.until.as_deref().map(moment).transpose()?;
    filter.limit = query.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX);
    let list = state.central()?.transactions(filter).await?;
    Ok(Json(List { transactions: list.into_iter().map(|one| show(one, query.personal)).collect() }))
}

/// A time in a query, in milliseconds since 1970.
pub(crate) fn moment(text: &str) -> Result<i64, Problem> {
    text.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_millisecond).map_err(|_| {
        Problem::bad_request("invalid_time", format!("{text:?} is no time like 2026-11-23T10:00:00Z"))
    })
}

fn number(text: switchboard_central::Decimal) -> Option<Box<RawValue>> {
    RawValue::from_string(text.to_string()).ok()
}

fn show(one: Transaction, personal: bool) -> Shown {
    let moments = one
        .started
        .as_ref()
        .and_then(|moment| moment.ms)
        .zip(one.stopped.as_ref().and_then(|moment| moment.ms));
    Shown {
        // In 1.6 the number in the books is what the station was given.
        transaction_id: one.remote_id.unwrap_or_else(|| one.id.to_string()),
        id: one.id,
        station: one.station,
        connector: one.evse,
        token: one.token.map(|token| if personal { token.as_str().to_owned() } else { "…".to_owned() }),
        state: if one.ended { "ended" } else { "running" },
        started_at: one.started.and_then(|moment| moment.ms).map(time),
        ended_at: one.stopped.and_then(|moment| moment.ms).map(time),
        energy_wh: one.energy.and_then(number),
        reason: one.stop_reason,
        meter_start_wh: one.meter_start.and_then(number),
        meter_stop_wh: one.meter_stop.and_then(number),
        duration_seconds: moments.map(|(start, end)| (end - start) / 1000),
        authorization: one.authorization.map(switchboard_central::TokenStatus::as_str),
        charging_state: one.charging_state,
        reservation: one.reservation,
    }
}

/// One transaction with all that belongs to it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Detail {
    #[serde(flatten)]
    transaction: Shown,
    readings: Vec<Reading>,
    events: Vec<TransactionEvent>,
    oddities: Vec<Oddity>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reading {
    at: String,
    energy_wh: Option<Box<RawValue>>,
    samples: Option<Box<RawValue>>,
}

/// Something that somebody should look at.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Oddity {
    kind: String,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Box<RawValue>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OneQuery {
    #[serde(default)]
    personal: bool,
}

async fn one(
    FromState(state): FromState<State>,
    Path(id): Path<String>,
    Query(query): Query<OneQuery>,
) -> Result<Json<Detail>, Problem> {
    let found = state.central()?.transaction_detail(state.tenant(), &id).await?;
    let Some(found) = found else {
        let detail = format!("there is no transaction {id}; switchboard transactions lists them");
        return Err(Problem::new(StatusCode::NOT_FOUND, "unknown_transaction", detail));
    };
    Ok(Json(detail(found, query.personal)))
}

fn detail(found: TransactionDetail, personal: bool) -> Detail {
    let stop = |stop: OddStop| Oddity {
        kind: stop.role,
        detail: format!("a StopTransaction for transaction {} that ended nothing", stop.claimed),
        // Its token has a name that no message has.
        content: personal.then(|| RawValue::from_string(stop.content).ok()).flatten(),
    };
    let alarm = |alarm: Alarm| Oddity { kind: alarm.kind.to_string(), detail: alarm.detail, content: None };
    let reading = |reading: MeterReading| Reading {
        at: reading.at.ms.map_or(reading.at.text, time),
        energy_wh: reading.energy.and_then(number),
        samples: RawValue::from_string(reading.samples).ok(),
    };
    Detail {
        transaction: show(found.transaction, personal),
        readings: found.readings.into_iter().map(reading).collect(),
        events: found.events,
        oddities: found.odd_stops.into_iter().map(stop).chain(found.alarms.into_iter().map(alarm)).collect(),
    }
}
