//! `/v1/journal`: calls that were answered before they were processed, and those of them that processing refused.

use crate::parts::{Path, Query};
use crate::{State, problem::Problem, time};
use axum::{Json, extract::State as FromState, http::StatusCode};
use serde::{Deserialize, Serialize};
use switchboard_directory::RefusedEntry;

const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
    #[serde(default)]
    personal: bool,
}

/// The answer.
#[derive(Serialize)]
pub(crate) struct List {
    /// How many wait to be processed.
    waiting: u64,
    refused: Vec<Shown>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    id: u64,
    station: String,
    version: &'static str,
    action: String,
    received_at: String,
    refused_at: String,
    why: String,
    /// As the station sent it; it may hold personal data.
    #[serde(skip_serializing_if = "Option::is_none")]
    frame: Option<String>,
}

/// `GET /v1/journal`
pub(crate) async fn list(
    FromState(state): FromState<State>,
    Query(query): Query<ListQuery>,
) -> Result<Json<List>, Problem> {
    let limit = query.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX);
    let waiting = state.directory().journal_count(None).await?;
    let refused = state.directory().journal_refused(query.after, limit).await?;
    let refused = refused.into_iter().map(|one| show(one, query.personal)).collect();
    Ok(Json(List { waiting, refused }))
}

/// `DELETE /v1/journal/{id}`: people have dealt with it.
pub(crate) async fn settle(
    FromState(state): FromState<State>,
    Path(id): Path<u64>,
) -> Result<StatusCode, Problem> {
    if state.directory().journal_settle(id).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    let detail = format!("no call of the journal that was refused has the number {id}");
    Err(Problem::new(StatusCode::NOT_FOUND, "unknown_entry", detail))
}

fn show(one: RefusedEntry, personal: bool) -> Shown {
    let RefusedEntry { entry, why, refused_ms } = one;
    Shown {
        id: entry.id,
        station: entry.key.station.as_str().to_owned(),
        version: entry.version.as_str(),
        action: entry.action.to_string(),
        received_at: time(entry.received_ms),
        refused_at: time(refused_ms),
        why,
        frame: personal.then(|| String::from_utf8_lossy(&entry.frame).into_owned()),
    }
}
