//! `/v1/stations/{id}/policy`: how a station's BootNotifications are answered (L08).

use crate::parts::Path;
use crate::{State, problem::Problem, stations::station_id};
use axum::{Json, body::Bytes, extract::State as FromState, http::HeaderMap};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use switchboard_bus::command::Options;
use switchboard_central::{BootPolicy, Central, Registration};
use switchboard_directory::StationKey;

/// The longest interval.
const INTERVAL_MAX: Duration = Duration::from_secs(24 * 3600);
/// How long a station may take to answer that it will boot again.
const TRIGGER_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewPolicy {
    registration: Name,
    interval_ms: Option<u64>,
}

/// A registration by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Name {
    Accepted,
    Pending,
    Rejected,
}

/// What is laid down, and what is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PolicyView {
    station: String,
    /// How its boots are answered; null: as configured.
    policy: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval_ms: Option<u64>,
    /// How the last one was answered; null: it never booted here.
    registration: Option<Name>,
    /// Whether it was asked to boot now.
    asked_to_boot: bool,
}

/// `GET /v1/stations/{id}/policy`
pub(crate) async fn show(
    FromState(state): FromState<State>,
    Path(id): Path<String>,
) -> Result<Json<PolicyView>, Problem> {
    let key = state.key(station_id(id)?);
    Ok(Json(view(state.central()?, &key, false).await?))
}

/// `PUT /v1/stations/{id}/policy`
pub(crate) async fn set(
    FromState(state): FromState<State>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<PolicyView>, Problem> {
    let new: NewPolicy = crate::json_body(&headers, &body)?;
    let interval = new.interval_ms.map(Duration::from_millis);
    if interval.is_some_and(|interval| interval < Duration::from_secs(1) || interval > INTERVAL_MAX) {
        let detail = "the interval must be between 1 s and 24 h";
        return Err(Problem::bad_request("invalid_interval", detail));
    }
    let mut policy = BootPolicy::new(match new.registration {
        Name::Accepted => Registration::Accepted,
        Name::Pending => Registration::Pending,
        Name::Rejected => Registration::Rejected,
    });
    policy.interval = interval;
    lay_down(&state, id, Some(policy)).await
}

/// `DELETE /v1/stations/{id}/policy`
pub(crate) async fn clear(
    FromState(state): FromState<State>,
    Path(id): Path<String>,
) -> Result<Json<PolicyView>, Problem> {
    lay_down(&state, id, None).await
}

async fn lay_down(
    state: &State,
    id: String,
    policy: Option<BootPolicy>,
) -> Result<Json<PolicyView>, Problem> {
    let key = state.key(station_id(id)?);
    let central = state.central()?;
    central.set_boot_policy(&key.tenant, &key.station, policy).await?;
    tracing::info!(station = %key.station, ?policy, "boot policy");
    let asked = ask_to_boot(state, central, &key, policy).await?;
    Ok(Json(view(central, &key, asked).await?))
}

/// Has a pending station boot again now rather than after its interval. Others cannot be asked: an accepted one refuses
/// that (F06.FR.17), a rejected one must not be called (B03.FR.03).
async fn ask_to_boot(
    state: &State,
    central: &Central,
    key: &StationKey,
    policy: Option<BootPolicy>,
) -> Result<bool, Problem> {
    let pending = Some(Registration::Pending);
    if policy.map(|policy| policy.registration) == pending
        || central.registration(&key.tenant, &key.station).await? != pending
        || state.directory().locate(key, crate::now_ms()).await?.is_none()
    {
        return Ok(false);
    }
    let (commander, key) = (state.commander().clone(), key.clone());
    tokio::spawn(async move {
        let options = Options { timeout: TRIGGER_TIMEOUT, ..Options::default() };
        let payload = r#"{"requestedMessage":"BootNotification"}"#;
        let outcome = commander.command(&key.tenant, &key.station, "TriggerMessage", payload, options).await;
        // It boots by itself when its interval is over, whatever it says to this.
        tracing::info!(station = %key.station, ?outcome, "the station was asked to boot");
    });
    Ok(true)
}

async fn view(central: &Central, key: &StationKey, asked_to_boot: bool) -> Result<PolicyView, Problem> {
    let policy = central.boot_policy(&key.tenant, &key.station).await?;
    let registration = central.registration(&key.tenant, &key.station).await?;
    Ok(PolicyView {
        station: key.station.to_string(),
        policy: policy.map(|policy| name(policy.registration)),
        interval_ms: policy
            .and_then(|policy| policy.interval)
            .map(|interval| u64::try_from(interval.as_millis()).unwrap_or(u64::MAX)),
        registration: registration.map(name),
        asked_to_boot,
    })
}

const fn name(registration: Registration) -> Name {
    match registration {
        Registration::Accepted => Name::Accepted,
        Registration::Pending => Name::Pending,
        Registration::Rejected => Name::Rejected,
    }
}
