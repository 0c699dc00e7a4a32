//! `GET /v1/transactions`: what whoever processes the calls knows of transactions.

use crate::{State, problem::Problem, stations::station_id, time};
use axum::{
    Json,
    extract::{Query, State as FromState},
    http::StatusCode,
};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use std::fmt;
use switchboard_rpc::StationId;

/// How many transactions an answer holds, unless the caller says otherwise.
const LIMIT: usize = 50;
/// And at most.
const LIMIT_MAX: usize = 1000;

/// Knows transactions: the processing side. The API shows what it says.
pub trait Transactions: Send + Sync + fmt::Debug + 'static {
    /// The newest transactions, of one station or of all, at most `limit`, the newest first.
    ///
    /// # Errors
    /// A sentence for people about why they cannot be had now.
    fn newest<'a>(
        &'a self,
        station: Option<&'a StationId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<TransactionView>, String>>;
}

/// A transaction as the API shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct TransactionView {
    /// At which station.
    pub station: String,
    /// Its id, as the station knows it.
    pub transaction_id: String,
    /// At which connector (1.6) or EVSE (2.x), if that is known.
    pub connector: Option<i64>,
    /// The driver's tag. Shown only to those who ask for personal data.
    pub token: Option<String>,
    /// Whether it has ended.
    pub ended: bool,
    /// When it began, in milliseconds since 1970.
    pub started_ms: Option<i64>,
    /// When it ended.
    pub ended_ms: Option<i64>,
    /// What was charged so far, in Wh, as a decimal number; none if nothing is known.
    pub energy_wh: Option<String>,
    /// Why it ended, in the station's word.
    pub reason: Option<String>,
}

/// The answer.
#[derive(Serialize)]
pub(crate) struct List {
    transactions: Vec<Shown>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    station: String,
    transaction_id: String,
    connector: Option<i64>,
    token: Option<String>,
    state: &'static str,
    started_at: Option<String>,
    ended_at: Option<String>,
    energy_wh: Option<Box<serde_json::value::RawValue>>,
    reason: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    station: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    personal: bool,
}

/// `GET /v1/transactions`
pub(crate) async fn list(
    FromState(state): FromState<State>,
    Query(query): Query<ListQuery>,
) -> Result<Json<List>, Problem> {
    let Some(transactions) = state.transactions() else {
        let detail = "no processing that knows transactions runs in this process";
        return Err(Problem::new(StatusCode::NOT_FOUND, "no_transactions", detail));
    };
    let station = query.station.map(station_id).transpose()?;
    let limit = query.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX);
    let away = |detail: String| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "away", detail);
    let list = transactions.newest(station.as_ref(), limit).await.map_err(away)?;
    Ok(Json(List { transactions: list.into_iter().map(|one| show(one, query.personal)).collect() }))
}

fn show(one: TransactionView, personal: bool) -> Shown {
    let number = |text: String| serde_json::value::RawValue::from_string(text).ok();
    Shown {
        station: one.station,
        transaction_id: one.transaction_id,
        connector: one.connector,
        token: one.token.map(|token| if personal { token } else { "…".to_owned() }),
        state: if one.ended { "ended" } else { "running" },
        started_at: one.started_ms.map(time),
        ended_at: one.ended_ms.map(time),
        energy_wh: one.energy_wh.and_then(number),
        reason: one.reason,
    }
}
