//! `/v1/stations`: who there is, and the register of accounts.

use crate::parts::{Path, Query};
use crate::{State, problem::Problem, time};
use axum::{
    Json,
    body::Bytes,
    extract::State as FromState,
    http::{HeaderMap, StatusCode},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use switchboard_bus::Registration;
use switchboard_directory::{Account, StationKey, StationRecord, password::hash};
use switchboard_rpc::StationId;

/// How many stations an answer holds, unless the caller says less.
const PAGE: usize = 1000;
/// Characters of an identity.
const ID_CHARACTERS_MAX: usize = 255;
/// Bytes of a password: OCPP 2.1 says 64 at most, others nothing.
const PASSWORD_BYTES_MAX: usize = 256;

/// A station as the API shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StationView {
    id: String,
    registered: bool,
    has_password: bool,
    connected: bool,
    version: Option<&'static str>,
    compressed: Option<bool>,
    since: Option<String>,
    registration: Option<&'static str>,
    last_seen: Option<String>,
}

/// Shows a station. Also for those who read the directory without a running process.
impl From<StationRecord> for StationView {
    fn from(record: StationRecord) -> Self {
        Self {
            id: record.key.station.to_string(),
            registered: record.registered,
            has_password: record.has_password,
            connected: record.location.is_some(),
            version: record.location.as_ref().map(|location| location.version.as_str()),
            compressed: record.location.as_ref().map(|location| location.compressed),
            since: record.location.as_ref().map(|location| time(location.since_ms)),
            registration: record.registration.map(|registration| match registration {
                Registration::Accepted => "accepted",
                Registration::Pending => "pending",
                Registration::Rejected => "rejected",
            }),
            last_seen: record.seen_ms.map(time),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    after: Option<String>,
    limit: Option<usize>,
}

/// `GET /v1/stations`
pub(crate) async fn list(
    FromState(state): FromState<State>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Value>, Problem> {
    let after = query.after.filter(|after| !after.is_empty()).map(station_id).transpose()?;
    let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE);
    let records = state.directory().stations(state.tenant(), after.as_ref(), limit, crate::now_ms()).await?;
    let stations: Vec<StationView> = records.into_iter().map(StationView::from).collect();
    Ok(Json(json!({ "stations": stations })))
}

/// `GET /v1/stations/{id}`
pub(crate) async fn one(
    FromState(state): FromState<State>,
    Path(id): Path<String>,
) -> Result<Json<StationView>, Problem> {
    let key = state.key(station_id(id)?);
    match state.directory().station(&key, crate::now_ms()).await? {
        Some(record) => Ok(Json(record.into())),
        None => Err(nobody(&key)),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewStation {
    id: String,
    password: Option<String>,
}

/// `POST /v1/stations`
pub(crate) async fn register(
    FromState(state): FromState<State>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let new: NewStation = crate::json_body(&headers, &body)?;
    let account = account(state.tenant(), &new.id, new.password.as_deref(), crate::now_ms()).await?;
    let has_password = account.password.is_some();
    state.directory().put_account(account).await?;
    tracing::info!(station = new.id, has_password, "station registered");
    Ok((StatusCode::CREATED, Json(json!({ "id": new.id, "hasPassword": has_password }))))
}

/// `DELETE /v1/stations/{id}`
pub(crate) async fn remove(
    FromState(state): FromState<State>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let key = state.key(station_id(id)?);
    if !state.directory().remove_account(&key).await? {
        return Err(nobody(&key));
    }
    tracing::info!(station = %key.station, "station removed");
    Ok(StatusCode::NO_CONTENT)
}

/// Why there can be no account.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccountError {
    /// The id cannot be one.
    #[error(transparent)]
    Station(#[from] switchboard_rpc::IdentityError),
    /// The password cannot be one.
    #[error("the password must have 1 to {PASSWORD_BYTES_MAX} bytes")]
    Password,
    /// There is no randomness or memory.
    #[error("the password could not be hashed")]
    Hash,
}

/// The account of a station with this password, hashed. For those, too, who register without a running process.
///
/// # Errors
/// When id or password cannot be used.
pub async fn account(
    tenant: &str,
    id: &str,
    password: Option<&str>,
    now_ms: i64,
) -> Result<Account, AccountError> {
    let station = StationId::new(id, ID_CHARACTERS_MAX)?;
    let password = match password {
        None => None,
        Some(password) if password.is_empty() || password.len() > PASSWORD_BYTES_MAX => {
            return Err(AccountError::Password);
        }
        Some(password) => {
            let password = password.as_bytes().to_vec();
            // Some 20 ms of work, which would hold up others.
            let hash = tokio::task::spawn_blocking(move || hash(&password)).await;
            Some(hash.ok().and_then(Result::ok).ok_or(AccountError::Hash)?)
        }
    };
    Ok(Account { key: StationKey { tenant: tenant.into(), station }, password, created_ms: now_ms })
}

impl From<AccountError> for Problem {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::Station(_) => Self::bad_request("invalid_station", error.to_string()),
            AccountError::Password => Self::bad_request("invalid_password", error.to_string()),
            AccountError::Hash => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string()),
        }
    }
}

/// An identity from a path or a body.
pub(crate) fn station_id(text: String) -> Result<StationId, Problem> {
    StationId::new(text, ID_CHARACTERS_MAX)
        .map_err(|error| Problem::bad_request("invalid_station", error.to_string()))
}

fn nobody(key: &StationKey) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "unknown_station", format!("there is no station {}", key.station))
}
