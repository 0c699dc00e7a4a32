//! `POST /v1/stations/{id}/commands`: one command, and its true outcome.

use crate::parts::Path;
use crate::{
    State,
    judge::{faults, judge},
    problem::{Place, Problem},
    stations::station_id,
};
use axum::{
    Json,
    body::Bytes,
    extract::State as FromState,
    http::{HeaderMap, StatusCode},
};
use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::time::Duration;
use switchboard_bus::{
    Lane, OutcomeKind,
    command::{Options, Outcome},
};
use switchboard_directory::{OutboxState, StationKey};
use switchboard_rpc::Version;

/// How long a station may be waited for.
const TIMEOUT_MAX: Duration = Duration::from_secs(600);
/// How long a command may wait for an offline station.
const TIME_TO_LIVE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// Characters of a key or a context.
const TEXT_CHARACTERS_MAX: usize = 255;
/// How often, and after which pause each time, is looked whether a command was taken back.
const LOOKS_MAX: u32 = 20;
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Request {
    action: String,
    payload: Option<Box<RawValue>>,
    timeout_ms: Option<u64>,
    time_to_live_ms: Option<u64>,
    key: Option<String>,
    context: Option<String>,
    lane: Option<LaneName>,
    #[serde(default)]
    raw: bool,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
enum LaneName {
    Urgent,
    Normal,
}

/// The outcome as the API tells it. Payloads are the station's own text.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OutcomeView {
    station: String,
    action: String,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<String>,
    /// Why the station's answer cannot be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    faults: Vec<Place>,
}

/// Sends a command and answers when its outcome is known.
pub(crate) async fn send(
    FromState(state): FromState<State>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<OutcomeView>, Problem> {
    let key = state.key(station_id(id)?);
    let request: Request = crate::json_body(&headers, &body)?;
    let options = options(&request)?;
    let payload = request.payload.as_ref().map_or("{}", |payload| payload.get());
    let location = state.directory().locate(&key, crate::now_ms()).await?;
    let spoken = location.map(|location| location.version);
    // Without a schema only what every CALL must be can be asked: the commander refuses what is no object.
    if !request.raw {
        let versions = spoken.as_ref().map_or(&Version::ALL[..], std::slice::from_ref);
        judge(versions, &request.action, payload.as_bytes())?;
    }
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    let outcome = state.command(&key, &request.action, payload, options).await?;
    tracing::info!(station = %key.station, action = request.action, outcome = name(&outcome), "command");
    let faults = match (&outcome, spoken) {
        (Outcome::Answered(payload), Some(version)) => faults(version, &request.action, payload.as_bytes()),
        _ => Vec::new(),
    };
    Ok(Json(OutcomeView {
        station: key.station.to_string(),
        outcome: name(&outcome),
        key: request.key,
        context: request.context,
        action: request.action,
        faults,
        ..view(outcome)
    }))
}

/// `DELETE /v1/stations/{id}/commands/{key}`: takes back a command that was sent with this key and waits for its turn or
/// its station. Whoever waits for it is told `cancelled`.
pub(crate) async fn cancel(
    FromState(state): FromState<State>,
    Path((id, name)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let key = state.key(station_id(id)?);
    let command = ByteString::from(name);
    // The gateway that has it says so in the directory; one that is just taking it up may miss the first request.
    for _ in 0..LOOKS_MAX {
        match state.directory().outbox_get(&key, &command).await?.map(|entry| entry.state) {
            None => {
                let detail = format!(
                    "no command with the key {command:?} was sent to {} in the last day",
                    key.station
                );
                return Err(Problem::new(StatusCode::NOT_FOUND, "unknown_command", detail));
            }
            Some(OutboxState::Ended { outcome: OutcomeKind::Cancelled, .. }) => {
                return Ok(StatusCode::NO_CONTENT);
            }
            Some(OutboxState::Ended { outcome, .. }) => {
                let detail = format!("the command has ended already: {}", outcome.as_str());
                return Err(Problem::new(StatusCode::CONFLICT, "command_ended", detail));
            }
            Some(OutboxState::Waiting | OutboxState::Sending { .. }) => {}
        }
        state.commander().cancel(&key.tenant, &key.station, &command).await?;
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let detail = format!("the command was written to {}, which may act on it", key.station);
    Err(Problem::new(StatusCode::CONFLICT, "command_written", detail))
}

impl State {
    /// Sends a command, whoever asks for it.
    pub(crate) async fn command(
        &self,
        key: &StationKey,
        action: &str,
        payload: Bytes,
        options: Options,
    ) -> Result<Outcome, Problem> {
        if let Some(central) = &self.0.central {
            // What this asks a pending station to send must be let through.
            let noted = central.before_call(&key.tenant, &key.station, action, &payload).await;
            if let Err(error) = noted {
                tracing::warn!(station = %key.station, error = &error as &dyn std::error::Error, "what is asked for could not be noted");
            }
        }
        Ok(self.commander().command(&key.tenant, &key.station, action, payload, options).await?)
    }
}

fn options(request: &Request) -> Result<Options, Problem> {
    let mut options = Options::default();
    let refuse = |detail: String| Err(Problem::bad_request("invalid_option", detail));
    if let Some(timeout) = request.timeout_ms.map(Duration::from_millis) {
        if timeout.is_zero() || timeout > TIMEOUT_MAX {
            return refuse(format!("the timeout must be between 1 ms and {} s", TIMEOUT_MAX.as_secs()));
        }
        options.timeout = timeout;
    }
    if let Some(time_to_live) = request.time_to_live_ms.map(Duration::from_millis) {
        if time_to_live > TIME_TO_LIVE_MAX {
            return refuse("the time to live must be at most 30 days".to_owned());
        }
        options.time_to_live = time_to_live;
    }
    for text in [&request.key, &request.context].into_iter().flatten() {
        if text.is_empty() || text.chars().count() > TEXT_CHARACTERS_MAX || text.chars().any(char::is_control)
        {
            return refuse(format!(
                "key and context must have 1 to {TEXT_CHARACTERS_MAX} characters, none of them control characters"
            ));
        }
    }
    options.key = request.key.as_deref().map(ByteString::from);
    options.context = request.context.as_deref().map(ByteString::from);
    options.lane = match request.lane {
        Some(LaneName::Urgent) => Lane::Urgent,
        Some(LaneName::Normal) | None => Lane::Normal,
    };
    Ok(options)
}

/// An outcome's name.
pub(crate) const fn name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Answered(_) => "answered",
        Outcome::Refused { .. } => "refused",
        Outcome::Offline => "offline",
        Outcome::Busy => "busy",
        Outcome::Expired => "expired",
        Outcome::Cancelled => "cancelled",
        Outcome::NotSent => "notSent",
        Outcome::Unknown => "unknown",
    }
}

fn view(outcome: Outcome) -> OutcomeView {
    let mut view = OutcomeView {
        station: String::new(),
        action: String::new(),
        outcome: "",
        payload: None,
        code: None,
        description: None,
        details: None,
        key: None,
        context: None,
        faults: Vec::new(),
    };
    // The station's text was found to be a frame, whose insides need not be JSON: then it is told as a text.
    let raw = |text: &str| {
        RawValue::from_string(text.to_owned()).or_else(|_| serde_json::value::to_raw_value(text)).ok()
    };
    match outcome {
        Outcome::Answered(payload) => view.payload = raw(&payload),
        Outcome::Refused { code, description, details } => {
            view.code = Some(code.to_string());
            view.description = Some(description.to_string());
            view.details = raw(&details);
        }
        _ => {}
    }
    view
}
