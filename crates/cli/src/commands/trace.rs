//! `switchboard trace`.

use crate::{
    arguments::Trace,
    client::{Client, RequestError, segment},
    exit::{Exit, Failure},
    output,
    settings::Settings,
};
use http_body_util::BodyExt;
use hyper::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// A line of the stream is never longer: the largest frame, and what is said beside it.
const LINE_BYTES_MAX: usize = 8 << 20;

/// Prints traffic until it is interrupted or the process ends.
pub(crate) async fn trace(command: Trace, settings: &Settings) -> Result<Exit, Failure> {
    let mut path = String::from("/v1/trace?");
    if let Some(station) = &command.station {
        path.push_str(&format!("station={}&", segment(station)));
    }
    if command.show_personal {
        path.push_str("personal=true");
    }
    let client = Client::new(settings);
    let response = client.open(Method::GET, &path, None).await?;
    if !response.status().is_success() {
        // Asked again as a plain request, which reads the reason.
        client.request(Method::GET, &path, None).await?;
        return Err(Failure::new(Exit::Internal, "the stream was refused"));
    }
    if !command.json {
        output::note(match &command.station {
            Some(station) => format!("what {station} says and is told, as it happens; Ctrl-C ends it"),
            None => "what all stations say and are told, as it happens; Ctrl-C ends it".to_owned(),
        })?;
    }
    let colours = output::colours();
    let mut body = response.into_body();
    let mut pending: Vec<u8> = Vec::new();
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            // Ctrl-C is how one ends it: no failure.
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Done),
        };
        let Some(frame) = frame else { break };
        let frame = frame
            .map_err(|error| Failure::new(Exit::Unreachable, format!("the stream broke off: {error}")))?;
        let Some(data) = frame.data_ref() else { continue };
        pending.extend_from_slice(data);
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line[..end]);
            if line.is_empty() {
                continue;
            }
            if command.json {
                output::line(&*line)?;
            } else {
                output::line(match serde_json::from_str::<Event<'_>>(&line) {
                    Ok(event) => event.show(colours),
                    Err(_) => output::printable(&line),
                })?;
            }
        }
        if pending.len() > LINE_BYTES_MAX {
            return Err(RequestError::Broken(settings.api_listen, "a line without an end".to_owned()).into());
        }
    }
    output::note("the process has ended the stream")?;
    Ok(Exit::Unreachable)
}

/// One line of the stream.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    at: Option<Cow<'a, str>>,
    station: Option<Cow<'a, str>>,
    event: Cow<'a, str>,
    from: Option<Cow<'a, str>>,
    kind: Option<Cow<'a, str>>,
    action: Option<Cow<'a, str>>,
    detail: Option<Cow<'a, str>>,
    #[serde(borrow)]
    frame: Option<&'a RawValue>,
    count: Option<u64>,
}

impl Event<'_> {
    /// One line for people.
    fn show(&self, colours: bool) -> String {
        let paint = |code: &str, text: &str| {
            if colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
        };
        // The time of day is enough for eyes; --json has all.
        let at = self.at.as_deref().unwrap_or_default();
        let time = at.get(11..23).unwrap_or(at);
        let station = output::printable(self.station.as_deref().unwrap_or("-"));
        let start = format!("{} {station:<12}", paint("2", time));
        if self.event != "frame" {
            let what = match self.count {
                Some(count) => format!("{} ({count})", self.event),
                None => self.event.to_string(),
            };
            let detail = output::printable(self.detail.as_deref().unwrap_or_default());
            return format!("{start}   {} {detail}", paint("35", &what)).trim_end().to_owned();
        }
        let arrow =
            if self.from.as_deref() == Some("station") { paint("36", "→") } else { paint("33", "←") };
        let kind = self.kind.as_deref().unwrap_or_default();
        let action = output::printable(self.action.as_deref().unwrap_or(kind));
        let action = match kind {
            "call" | "send" => paint("1", &action),
            "error" => paint("31", &format!("{action} ✗")),
            _ => format!("{action} ✓"),
        };
        let frame = self.frame.map(RawValue::get).unwrap_or_default();
        format!("{start} {arrow} {action} {}", output::printable(&payload(frame)))
    }
}

/// What of a frame is worth reading once its type, id and action are known: the rest of its elements.
fn payload(frame: &str) -> String {
    let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(frame) else { return frame.to_owned() };
    let skip = match elements.first().map(|first| first.get()) {
        Some("2" | "6") => 3,
        Some("3" | "4" | "5") => 2,
        _ => 0,
    };
    elements.iter().skip(skip).map(|element| element.get()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_readable_with_and_without_colours() {
        for (json, expected) in [
            (
                r#"{"at":"2026-11-23T02:03:04.567Z","station":"CP1","event":"frame","from":"station","kind":"call","action":"Heartbeat","frame":[2,"a","Heartbeat",{}]}"#,
                "02:03:04.567 CP1          → Heartbeat {}",
            ),
            (
                r#"{"at":"2026-11-23T02:03:04.567Z","station":"CP1","event":"frame","from":"csms","kind":"result","action":"Heartbeat","frame":[3,"a",{"currentTime":"x"}]}"#,
                r#"02:03:04.567 CP1          ← Heartbeat ✓ {"currentTime":"x"}"#,
            ),
            (
                r#"{"at":"2026-11-23T02:03:04.567Z","station":"CP1","event":"frame","from":"station","kind":"error","action":"Reset","frame":[4,"a","NotSupported","",{}]}"#,
                r#"02:03:04.567 CP1          → Reset ✗ "NotSupported" "" {}"#,
            ),
            (
                r#"{"at":"2026-11-23T02:03:04.567Z","event":"lagged","count":12}"#,
                "02:03:04.567 -              lagged (12)",
            ),
            (
                r#"{"at":"2026-11-23T02:03:04.567Z","station":"C\u001b[2J","event":"connected"}"#,
                "02:03:04.567 C\u{fffd}[2J          connected",
            ),
        ] {
            let event: Event<'_> = serde_json::from_str(json).unwrap();
            assert_eq!(event.show(false), expected, "{json}");
            assert!(event.show(true).contains("\u{1b}["), "{json}");
        }
    }
}
