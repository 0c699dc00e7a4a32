//! `GET /v1/duties`: what is owed to stations, and what became of it.

use crate::parts::Query;
use crate::{State, problem::Problem, time};
use axum::{Json, extract::State as FromState};
use serde::Deserialize;
use serde_json::{Value, json};
use switchboard_central::Duty;

/// How many an answer holds, unless the caller says otherwise, and at most.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    station: Option<String>,
    #[serde(default)]
    open: bool,
    limit: Option<usize>,
}

/// `GET /v1/duties`
pub(crate) async fn list(
    FromState(state): FromState<State>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Value>, Problem> {
    let limit = query.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX);
    let duties = state.central()?.duties(state.tenant(), query.station.as_deref(), query.open, limit).await?;
    let duties: Vec<Value> = duties.iter().map(view).collect();
    Ok(Json(json!({ "duties": duties })))
}

fn view(duty: &Duty) -> Value {
    json!({
        "id": duty.id,
        "station": duty.station,
        "kind": duty.kind,
        "key": duty.key,
        "action": duty.action,
        "state": duty.state,
        "attempts": duty.attempts,
        "outcome": duty.outcome,
        "reason": duty.reason,
        "dueAt": (!duty.state.is_final()).then(|| time(duty.due_ms)),
        "expiresAt": duty.expires_ms.map(time),
        "owedAt": time(duty.owed_ms),
        "changedAt": time(duty.changed_ms),
    })
}
