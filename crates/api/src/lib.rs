//! The HTTP interface of a running Switchboard: stations, commands, live traffic, transactions; health and metrics.
//!
//! [`router`] serves the API (JSON, `/v1/…`), [`admin::router`] what machines ask about the process itself. Neither reads
//! files or the environment. What the books know and what an operator asks of stations goes to the [`Central`] system, if
//! one runs in the process. Without a token the API serves programs of this machine only, and must be bound to a loopback address.

pub mod admin;
mod body;
mod commands;
mod configuration;
mod duties;
mod guard;
mod jobs;
mod journal;
mod judge;
mod parts;
mod policy;
mod problem;
mod reports;
mod stations;
mod tags;
mod trace;
mod transactions;
mod trigger;

pub use stations::{AccountError, StationView, account};
pub use trace::{Watched, traffic};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{HeaderMap, StatusCode, header},
    middleware,
    routing::{delete, get, post},
};
use bytestring::ByteString;
use problem::Problem;
use serde::de::DeserializeOwned;
use std::{
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use switchboard_bus::command::Commander;
use switchboard_central::Central;
use switchboard_directory::{Directory, StationKey};
use switchboard_rpc::StationId;
use switchboard_trace::{Redactor, Trace};
use tokio_util::sync::CancellationToken;

/// Bytes of a request's body.
const BODY_BYTES_MAX: usize = 2 << 20;

/// Where the traffic of stations can be seen.
#[derive(Debug)]
pub enum Traffic {
    /// In this process.
    Here(Trace),
    /// At the gateways, which are other processes. What makes texts of stations fit to be shown here.
    Elsewhere(Redactor),
}

/// What the API serves.
pub struct Api {
    /// Where stations are, and their accounts.
    pub directory: Arc<dyn Directory>,
    /// Sends commands.
    pub commander: Commander,
    /// The traffic, live and recorded.
    pub traffic: Traffic,
    /// The central system, if it runs in this process.
    pub central: Option<Arc<Central>>,
    /// The bearer token; none: loopback only.
    pub token: Option<String>,
    /// Where the process keeps its data, for those who want to know whether it is the one that they mean.
    pub data_dir: String,
    /// Where stations connect, if they do so in this process.
    pub stations_listen: Option<String>,
    /// Cancelled when the process is about to end; it ends what streams.
    pub shutdown: CancellationToken,
}

impl fmt::Debug for Api {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Api").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

/// The API as an axum router.
pub fn router(api: Api) -> Router {
    let token = guard::Token::new(api.token.as_deref());
    let trace = match &api.traffic {
        Traffic::Here(trace) => trace::routes(Watched::here(trace.clone()), api.shutdown.clone()),
        Traffic::Elsewhere(_) => trace::routes_elsewhere(),
    };
    let state = State(Arc::new(api));
    Router::new()
        .route("/v1/info", get(info))
        .route("/v1/stations", get(stations::list).post(stations::register))
        .route("/v1/stations/{id}", get(stations::one).merge(delete(stations::remove)))
        .route("/v1/stations/{id}/commands", post(commands::send))
        .route("/v1/stations/{id}/commands/{key}", delete(commands::cancel))
        .route("/v1/stations/{id}/policy", get(policy::show).put(policy::set).delete(policy::clear))
        .merge(transactions::routes())
        .merge(jobs::routes())
        .merge(reports::routes())
        .merge(trigger::routes())
        .merge(trace)
        .route("/v1/journal", get(journal::list))
        .route("/v1/journal/{id}", delete(journal::settle))
        .route("/v1/duties", get(duties::list))
        .merge(configuration::routes())
        .merge(tags::routes())
        .fallback(nowhere)
        .method_not_allowed_fallback(not_so)
        .layer(middleware::from_fn(body::in_time))
        .layer(middleware::from_fn_with_state(token, guard::guard))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(state)
}

/// What every handler sees.
#[derive(Clone)]
struct State(Arc<Api>);

impl State {
    fn directory(&self) -> &dyn Directory {
        &*self.0.directory
    }

    fn commander(&self) -> &Commander {
        &self.0.commander
    }

    /// The central system.
    fn central(&self) -> Result<&Central, Problem> {
        self.0.central.as_deref().ok_or_else(|| {
            let detail = "no central system runs in this process";
            Problem::new(StatusCode::NOT_FOUND, "no_central", detail)
        })
    }

    /// What makes texts of stations fit to be shown.
    fn redactor(&self) -> &Redactor {
        match &self.0.traffic {
            Traffic::Here(trace) => trace.redactor(),
            Traffic::Elsewhere(redactor) => redactor,
        }
    }

    /// Tenants are not in the paths yet.
    fn tenant(&self) -> &'static str {
        TENANT
    }

    fn key(&self, station: StationId) -> StationKey {
        StationKey { tenant: ByteString::from_static(TENANT), station }
    }
}

/// The only tenant so far.
const TENANT: &str = "default";

async fn info(axum::extract::State(state): axum::extract::State<State>) -> axum::Json<serde_json::Value> {
    let api = &state.0;
    axum::Json(serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "dataDir": api.data_dir,
        "stationsListen": api.stations_listen,
    }))
}

async fn nowhere() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "unknown_path", "there is nothing at this path")
}

async fn not_so() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "unknown_method", "this path has no such method")
}

/// Reads a JSON body. Its type must be said: a web page cannot say it to another site without being asked first.
fn json_body<T: DeserializeOwned>(headers: &HeaderMap, body: &[u8]) -> Result<T, Problem> {
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        let detail = "the body must be JSON, with content-type: application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", detail));
    }
    serde_json::from_slice(body).map_err(|error| Problem::bad_request("invalid_body", error.to_string()))
}

/// Milliseconds since 1970 as RFC 3339 in UTC, always with three digits of fraction, so that columns align.
fn time(unix_ms: i64) -> String {
    let timestamp = jiff::Timestamp::from_millisecond(unix_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{timestamp:.3}")
}

#[expect(clippy::disallowed_methods, reason = "what the directory and the stream tell is as of now")]
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
