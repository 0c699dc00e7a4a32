//! `GET /v1/trace`: live traffic, one JSON object a line.

use crate::{State, now_ms, problem::Problem, redact::redact, stations::station_id, time};
use axum::{
    body::{Body, Bytes},
    extract::{Query, State as FromState},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bytestring::ByteString;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::{collections::HashMap, convert::Infallible, time::Duration};
use switchboard_gateway::{Heard, Listener, Record, Seen};
use switchboard_rpc::{Frame, StationId};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

/// How often an empty line tells that the stream is alive, and finds out whether anybody reads it.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// How many calls are remembered so that their answers can be told with their action. Beyond it all are forgotten.
const CALLS_MAX: usize = 4096;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WatchQuery {
    station: Option<String>,
    #[serde(default)]
    personal: bool,
}

/// Streams what stations say and are told until the caller goes or the process ends.
pub(crate) async fn watch(
    FromState(state): FromState<State>,
    Query(query): Query<WatchQuery>,
) -> Result<Response, Problem> {
    let station = query.station.map(station_id).transpose()?;
    let watchers = std::sync::Arc::clone(&state.0.watchers);
    let Ok(permit) = watchers.try_acquire_owned() else {
        let detail = "too many watch the traffic already";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail));
    };
    let watcher = Watcher {
        listener: state.tap().listen(),
        shutdown: state.0.api.shutdown.clone(),
        lines: Lines { station, personal: query.personal, calls: HashMap::new() },
        _permit: permit,
    };
    let lines = stream::unfold(watcher, |mut watcher| async {
        let line = watcher.next_line().await?;
        Some((Ok::<_, Infallible>(Bytes::from(line)), watcher))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

struct Watcher {
    listener: Listener,
    shutdown: CancellationToken,
    lines: Lines,
    _permit: OwnedSemaphorePermit,
}

impl Watcher {
    async fn next_line(&mut self) -> Option<String> {
        loop {
            tokio::select! {
                heard = self.listener.next() => {
                    if let Some(line) = self.lines.line(heard?) {
                        return Some(line);
                    }
                }
                () = tokio::time::sleep(SIGN_OF_LIFE) => return Some("\n".to_owned()),
                () = self.shutdown.cancelled() => return None,
            }
        }
    }
}

/// Makes lines of records.
struct Lines {
    station: Option<StationId>,
    personal: bool,
    /// Action by connection, side that called, and message id.
    calls: HashMap<(StationId, u64, bool, String), String>,
}

/// One line.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    station: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frame: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    close_code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
}

impl Lines {
    /// The line of what was heard; none if nobody asked for it.
    fn line(&mut self, heard: Heard) -> Option<String> {
        let record = match heard {
            Heard::Record(record) => record,
            Heard::Missed(count) => {
                let missed = "the reader is too slow; this many records are missing here";
                let at = time(now_ms());
                return write(&Line {
                    at,
                    event: "lagged",
                    count: Some(count),
                    detail: Some(missed),
                    ..Line::default()
                });
            }
        };
        if self.station.as_ref().is_some_and(|station| *station != record.station) {
            return None;
        }
        let line = Line {
            at: time(record.time_ms),
            station: Some(record.station.as_str()),
            version: Some(record.version.as_str()),
            generation: Some(record.generation),
            ..Line::default()
        };
        match &record.seen {
            Seen::Connected => write(&Line { event: "connected", ..line }),
            Seen::Disconnected { reason, code } => {
                let line = Line { event: "disconnected", detail: Some(reason), close_code: *code, ..line };
                self.forget(&record);
                write(&line)
            }
            Seen::Received(text) => {
                let (kind, action) = self.describe(&record, text, true);
                let frame = self.frame(text);
                write(&Line { event: "frame", from: Some("station"), kind, action, frame, ..line })
            }
            Seen::Sent(text) => {
                let (kind, action) = self.describe(&record, text, false);
                let frame = self.frame(text);
                write(&Line { event: "frame", from: Some("csms"), kind, action, frame, ..line })
            }
        }
    }

    /// The frame as it may be shown: JSON as it is, everything else as a text.
    fn frame(&self, text: &str) -> Option<Box<RawValue>> {
        let shown = redact(text, self.personal);
        RawValue::from_string(one_line(&shown)).or_else(|_| serde_json::value::to_raw_value(&*shown)).ok()
    }

    /// What kind of frame it is and to which action it belongs.
    fn describe(
        &mut self,
        record: &Record,
        text: &ByteString,
        from_station: bool,
    ) -> (Option<&'static str>, Option<String>) {
        let Ok(frame) = Frame::parse(text, record.version) else { return (Some("bad"), None) };
        let id = |caller: bool| {
            (record.station.clone(), record.generation, caller, frame.id().as_json().to_owned())
        };
        match &frame {
            Frame::Call { action, .. } => {
                if self.calls.len() >= CALLS_MAX {
                    self.calls.clear();
                }
                self.calls.insert(id(from_station), action.to_string());
                (Some("call"), Some(action.to_string()))
            }
            Frame::Result { .. } => (Some("result"), self.calls.remove(&id(!from_station))),
            Frame::Error { .. } => (Some("error"), self.calls.remove(&id(!from_station))),
            Frame::ResultError { .. } => (Some("resultError"), None),
            Frame::Send { action, .. } => (Some("send"), Some(action.to_string())),
            _ => (None, None),
        }
    }

    fn forget(&mut self, record: &Record) {
        self.calls.retain(|(station, generation, ..), _| {
            *station != record.station || *generation != record.generation
        });
    }
}

/// White space between the parts of a frame may hold line ends, which would end the line of the stream. Within strings
/// JSON has none.
fn one_line(frame: &str) -> String {
    frame.replace(['\n', '\r'], " ")
}

fn write(line: &Line<'_>) -> Option<String> {
    let mut text = serde_json::to_string(line).ok()?;
    text.push('\n');
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use switchboard_rpc::Version;

    fn record(seen: Seen) -> Heard {
        Heard::Record(Record {
            tenant: "default".into(),
            station: StationId::new("CP1", 48).unwrap(),
            generation: 7,
            version: Version::V16,
            time_ms: 0,
            seen,
        })
    }

    fn lines(personal: bool) -> Lines {
        Lines { station: None, personal, calls: HashMap::new() }
    }

    fn said(lines: &mut Lines, heard: Heard) -> Value {
        let line = lines.line(heard).unwrap();
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        serde_json::from_str(&line).unwrap()
    }

    #[test]
    fn an_answer_is_told_with_the_action_of_its_call() {
        let mut lines = lines(false);
        let call =
            said(&mut lines, record(Seen::Received("[2,\"a\",\n\"Authorize\",{\"idTag\":\"X\"}]".into())));
        assert_eq!(
            (&call["from"], &call["kind"], &call["action"]),
            (&"station".into(), &"call".into(), &"Authorize".into())
        );
        assert_eq!(call["frame"][3]["idTag"], "…");
        // The same id in the other direction is another call.
        let other = said(&mut lines, record(Seen::Received(r#"[3,"a",{}]"#.into())));
        assert_eq!(other["action"], Value::Null);
        let answer = said(&mut lines, record(Seen::Sent(r#"[4,"a","InternalError","",{}]"#.into())));
        assert_eq!(
            (&answer["from"], &answer["kind"], &answer["action"]),
            (&"csms".into(), &"error".into(), &"Authorize".into())
        );
    }

    #[test]
    fn what_is_no_frame_is_shown_without_its_contents_unless_asked_for() {
        let bad = said(&mut lines(false), record(Seen::Received("{\"idTag\":\"secret\"".into())));
        assert!(!bad.to_string().contains("secret"), "{bad}");
        assert_eq!(bad["kind"], "bad");
        let bad = said(&mut lines(true), record(Seen::Received("{\"idTag\":\"secret\"".into())));
        assert!(bad.to_string().contains("secret"), "{bad}");
    }

    #[test]
    fn who_lags_is_told_so() {
        assert_eq!(said(&mut lines(false), Heard::Missed(12))["count"], 12);
    }

    #[test]
    fn only_the_station_that_was_asked_for_is_shown() {
        let mut lines = lines(false);
        lines.station = Some(StationId::new("CP2", 48).unwrap());
        assert!(lines.line(record(Seen::Connected)).is_none());
    }
}
