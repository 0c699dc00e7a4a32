//! `GET /v1/trace`: the traffic as it was recorded and as it happens, one JSON object a line.

use crate::{State, now_ms, problem::Problem};
use axum::{
    body::{Body, Bytes},
    extract::{RawQuery, State as FromState},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use std::{convert::Infallible, sync::Arc, time::Duration};
use switchboard_trace::{Lines, Query, ReadError};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

/// How often an empty line tells that the stream is alive, and finds out whether anybody reads it.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// Bytes that are put together into one piece of the stream, if as many are there.
const PIECE_BYTES: usize = 16 << 10;

/// Streams what stations say and are told until the caller goes, or all is said, or the process ends.
pub(crate) async fn watch(
    FromState(state): FromState<State>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let query = Query::parse_url(&query.unwrap_or_default(), now_ms())
        .map_err(|error| Problem::bad_request("invalid_query", error.to_string()))?;
    let Ok(permit) = Arc::clone(&state.0.watchers).try_acquire_owned() else {
        let detail = "too many watch the traffic already";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail));
    };
    let lines = state.0.api.trace.read(query).await?;
    let reader = Reader { lines, shutdown: state.0.api.shutdown.clone(), _permit: permit };
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
