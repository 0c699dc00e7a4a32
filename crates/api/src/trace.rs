//! `GET /v1/trace`: the traffic as it was recorded and as it happens, one JSON object a line.

use crate::{
    guard::{self, Token},
    now_ms,
    problem::Problem,
};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{RawQuery, State},
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::stream;
use std::{
    convert::Infallible,
    sync::{Arc, OnceLock},
    time::Duration,
};
use switchboard_trace::{Lines, Query, ReadError, Trace};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// How often an empty line tells that the stream is alive, and finds out whether anybody reads it.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// Bytes that are put together into one piece of the stream, if as many are there.
const PIECE_BYTES: usize = 16 << 10;
/// How many may watch the traffic at once.
const WATCHERS_MAX: usize = 64;

/// The traffic of this process, as soon as there is a gateway in it.
#[derive(Clone, Debug, Default)]
pub struct Watched(Arc<OnceLock<Trace>>);

impl Watched {
    /// That is there already.
    pub(crate) fn here(trace: Trace) -> Self {
        let watched = Self::default();
        watched.begin(trace);
        watched
    }

    /// The traffic can be watched from now on. Once.
    pub fn begin(&self, trace: Trace) {
        // A second one would be a second gateway in the process.
        drop(self.0.set(trace));
    }
}

/// What its routes see.
#[derive(Clone)]
struct Watching {
    watched: Watched,
    watchers: Arc<Semaphore>,
    shutdown: CancellationToken,
}

/// `/v1/trace`, and as much of `/v1/info` as tells that somebody is there, for a gateway whose API is elsewhere. Without a token it serves programs of this machine only, and
/// nobody unless it is `local`: bound to a loopback address.
pub fn traffic(watched: Watched, token: Option<&str>, local: bool, shutdown: CancellationToken) -> Router {
    if token.is_none() && !local {
        return Router::new().route("/v1/trace", get(closed));
    }
    routes(watched, shutdown)
        .route("/v1/info", get(info))
        .layer(middleware::from_fn_with_state(Token::new(token), guard::guard))
}

pub(crate) fn routes<S: Clone + Send + Sync + 'static>(
    watched: Watched,
    shutdown: CancellationToken,
) -> Router<S> {
    let watching = Watching { watched, watchers: Arc::new(Semaphore::new(WATCHERS_MAX)), shutdown };
    Router::new().route("/v1/trace", get(watch)).with_state(watching)
}

/// For a process whose stations are connected to others.
pub(crate) fn routes_elsewhere<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/v1/trace", get(elsewhere))
}

/// What tells those who look for a process that this is one.
async fn info() -> axum::Json<serde_json::Value> {
    axum::Json(serde_json::json!({ "version": env!("CARGO_PKG_VERSION") }))
}

async fn closed() -> Problem {
    let detail =
        "the admin port can be reached by others, so that the traffic is shown to holders of a token only";
    Problem::new(StatusCode::FORBIDDEN, "forbidden", detail)
        .hint("set api.token for this gateway too, or have admin.listen be a loopback address")
}

async fn elsewhere() -> Problem {
    let detail = "no gateway runs in this process, so that no traffic of stations is seen here";
    Problem::new(StatusCode::CONFLICT, "no_gateway", detail)
        .hint("ask the gateway that has the station, at its admin port: switchboard trace --all --api 127.0.0.1:8182")
}

/// Streams what stations say and are told until the caller goes, or all is said, or the process ends.
async fn watch(State(state): State<Watching>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let query = Query::parse_url(&query.unwrap_or_default(), now_ms())
        .map_err(|error| Problem::bad_request("invalid_query", error.to_string()))?;
    let Ok(permit) = Arc::clone(&state.watchers).try_acquire_owned() else {
        let detail = "too many watch the traffic already";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail));
    };
    let Some(trace) = state.watched.0.get() else {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "starting", "the gateway is starting"));
    };
    let lines = trace.read(query).await?;
    let reader = Reader { lines, shutdown: state.shutdown.clone(), _permit: permit };
    let pieces = stream::unfold(reader, |mut reader| async {
        let piece = reader.next_piece().await?;
        Some((Ok::<_, Infallible>(piece), reader))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(pieces)).into_response())
}

struct Reader {
    lines: Lines,
    shutdown: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    async fn next_piece(&mut self) -> Option<Bytes> {
        let first = tokio::select! {
            line = self.lines.next() => line?,
            () = tokio::time::sleep(SIGN_OF_LIFE) => return Some(Bytes::from_static(b"\n")),
            () = self.shutdown.cancelled() => return None,
        };
        let mut piece = Vec::with_capacity(first.len() + 1);
        piece.extend_from_slice(first.as_bytes());
        piece.push(b'\n');
        while piece.len() < PIECE_BYTES
            && let Some(line) = self.lines.ready()
        {
            piece.extend_from_slice(line.as_bytes());
            piece.push(b'\n');
        }
        Some(piece.into())
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NothingRecorded => {
                Self::new(StatusCode::CONFLICT, "nothing_recorded", error.to_string())
                    .hint("set trace.ring, for example to \"64MiB\", and restart; what happens now can be followed without it")
            }
            _ => Self::new(StatusCode::SERVICE_UNAVAILABLE, "away", error.to_string()),
        }
    }
}
