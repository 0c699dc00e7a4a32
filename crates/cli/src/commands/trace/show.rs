//! Lines of the trace for people.

use super::summary::{pretty, summary};
use crate::output::printable;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// How lines are shown.
#[derive(Debug)]
pub(super) struct Show {
    pub(super) colours: bool,
    /// Characters of a line; none: as many as it takes.
    pub(super) width: Option<usize>,
    /// Requests and responses in full, on lines of their own.
    pub(super) full: bool,
    /// The day beside the time of day.
    pub(super) with_date: bool,
}

/// One line of the stream. What is missing is not there.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    #[serde(borrow)]
    at: Cow<'a, str>,
    event: Cow<'a, str>,
    station: Option<Cow<'a, str>>,
    version: Option<Cow<'a, str>>,
    direction: Option<Cow<'a, str>>,
    from: Option<Cow<'a, str>>,
    kind: Option<Cow<'a, str>>,
    action: Option<Cow<'a, str>>,
    outcome: Option<Cow<'a, str>>,
    latency_ms: Option<f64>,
    attempts: Option<u32>,
    note: Option<Cow<'a, str>>,
    reason: Option<Cow<'a, str>>,
    status: Option<u16>,
    close_code: Option<u16>,
    path: Option<Cow<'a, str>>,
    address: Option<Cow<'a, str>>,
    #[serde(borrow)]
    request: Option<&'a RawValue>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    #[serde(borrow)]
    frame: Option<&'a RawValue>,
    error: Option<Refusal<'a>>,
}

/// A CALLERROR.
#[derive(Deserialize)]
struct Refusal<'a> {
    #[serde(borrow)]
    code: Cow<'a, str>,
    #[serde(default)]
    description: Cow<'a, str>,
    #[serde(borrow)]
    details: Option<&'a RawValue>,
}

/// A piece of a line, and its colour.
struct Piece {
    colour: &'static str,
    text: String,
}

const PLAIN: &str = "";
const DIM: &str = "2";
const BOLD: &str = "1";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const MAGENTA: &str = "35";
const CYAN: &str = "36";

impl Show {
    /// A line of JSON as it is shown; what is none is shown as it is.
    pub(super) fn line(&self, json: &str) -> String {
        let Ok(line) = serde_json::from_str::<Line<'_>>(json) else { return printable(json) };
        let mut pieces = vec![piece(DIM, self.time(&line.at))];
        // Narrow terminals have no room to waste.
        let is_narrow = self.width.is_some_and(|width| width < 100);
        let station = line.station.as_deref().unwrap_or("-");
        pieces.push(piece(PLAIN, pad(station, if is_narrow { 8 } else { 16 })));
        let action_width = if is_narrow { 16 } else { 26 };
        match &*line.event {
            "call" | "send" => Self::call(&line, action_width, &mut pieces),
            "frame" => Self::frame(&line, action_width, &mut pieces),
            _ => Self::event(&line, &mut pieces),
        }
        let mut text = self.join(&pieces);
        if self.full {
            self.append_full(&line, &mut text);
        }
        text
    }

    fn time<'a>(&self, at: &'a str) -> Cow<'a, str> {
        match (at.get(..10), at.get(11..23)) {
            (Some(day), Some(time)) if self.with_date => format!("{day} {time}").into(),
            (_, Some(time)) => time.into(),
            _ => at.into(),
        }
    }

    fn call(line: &Line<'_>, action_width: usize, pieces: &mut Vec<Piece>) {
        pieces.push(if line.direction.as_deref() == Some("out") {
            piece(YELLOW, "←")
        } else {
            piece(CYAN, "→")
        });
        let outcome = line.outcome.as_deref().unwrap_or_default();
        let is_bad = matches!(outcome, "error" | "timeout" | "unanswered");
        let action = line.action.as_deref().unwrap_or("?");
        pieces.push(piece(if is_bad { RED } else { BOLD }, pad(action, action_width)));
        pieces.push(piece(PLAIN, format!("{:>9}", line.latency_ms.map_or_else(|| "-".to_owned(), duration))));
        let outcome = match (outcome, &line.error) {
            ("error", Some(error)) => error.code.clone().into_owned(),
            ("timeout" | "unanswered", _) => "no answer".to_owned(),
            (other, _) => other.to_owned(),
        };
        pieces.push(piece(if is_bad { RED } else { GREEN }, pad(&outcome, 4)));
        let mut rest = line.request.map_or_else(String::new, |request| summary(request.get()));
        let response = line.response.map_or_else(String::new, |response| summary(response.get()));
        if !response.is_empty() {
            rest.push_str(" ⇒ ");
            rest.push_str(&response);
        }
        if let Some(error) = &line.error {
            let details = error.details.map(|details| summary(details.get())).unwrap_or_default();
            rest = [rest.as_str(), "⇒", &error.description, &details].join(" ");
        }
        if let Some(attempts) = line.attempts {
            pieces.push(piece(YELLOW, format!("{attempts} attempts")));
        }
        if let Some(note) = &line.note {
            pieces.push(piece(YELLOW, format!("({note})")));
        }
        pieces.push(piece(PLAIN, rest.trim().to_owned()));
    }

    fn frame(line: &Line<'_>, action_width: usize, pieces: &mut Vec<Piece>) {
        let is_theirs = line.from.as_deref() == Some("station");
        pieces.push(if is_theirs { piece(CYAN, "→") } else { piece(YELLOW, "←") });
        let kind = line.kind.as_deref().unwrap_or_default();
        let is_bad = matches!(kind, "error" | "resultError" | "bad");
        let colour = if is_bad {
            RED
        } else if kind == "result" {
            PLAIN
        } else {
            BOLD
        };
        pieces.push(piece(colour, pad(line.action.as_deref().unwrap_or(kind), action_width)));
        pieces.push(piece(PLAIN, format!("{:>9}", line.latency_ms.map_or_else(String::new, duration))));
        pieces.push(piece(if is_bad { RED } else { DIM }, pad(kind, 6)));
        pieces.push(piece(PLAIN, line.frame.map_or_else(String::new, |frame| frame.get().to_owned())));
    }

    fn event(line: &Line<'_>, pieces: &mut Vec<Piece>) {
        let (colour, sign) = match &*line.event {
            "connected" => (GREEN, "●"),
            "disconnected" | "replaced" => (MAGENTA, "○"),
            "lost" | "lagged" | "unrecorded" | "damaged" | "note" => (YELLOW, "!"),
            _ => (RED, "✗"),
        };
        pieces.push(piece(colour, sign));
        pieces.push(piece(colour, line.event.clone()));
        if let Some(status) = line.status {
            pieces.push(piece(colour, status.to_string()));
        }
        if let (Some(version), "connected") = (&line.version, &*line.event) {
            pieces.push(piece(PLAIN, format!("OCPP {version}")));
        }
        if let Some(action) = &line.action {
            pieces.push(piece(BOLD, action.clone()));
        }
        if let Some(error) = &line.error {
            pieces.push(piece(RED, error.code.clone()));
            pieces.push(piece(PLAIN, error.description.clone()));
        }
        if let Some(reason) = &line.reason {
            pieces.push(piece(PLAIN, reason.clone()));
        }
        if let Some(code) = line.close_code {
            pieces.push(piece(DIM, format!("(close {code})")));
        }
        if let (Some(path), Some(address)) = (&line.path, &line.address) {
            pieces.push(piece(DIM, format!("({path} from {address})")));
        }
        if let Some(frame) = line.frame {
            pieces.push(piece(PLAIN, frame.get().to_owned()));
        }
    }

    /// Puts the pieces together, cut to the width.
    fn join(&self, pieces: &[Piece]) -> String {
        let mut out = String::new();
        let mut room = self.width.unwrap_or(usize::MAX);
        for (index, Piece { colour, text }) in pieces.iter().enumerate() {
            if text.is_empty() {
                continue;
            }
            let mut text = printable(text);
            if index > 0 {
                if room < 3 {
                    break;
                }
                out.push(' ');
                room -= 1;
            }
            let length = text.chars().count();
            let is_cut = length > room;
            if is_cut {
                text = text.chars().take(room.saturating_sub(1)).chain(['…']).collect();
            }
            room = room.saturating_sub(length);
            if self.colours && !colour.is_empty() {
                out.push_str(&format!("\u{1b}[{colour}m{text}\u{1b}[0m"));
            } else {
                out.push_str(&text);
            }
            if is_cut {
                break;
            }
        }
        out.trim_end().to_owned()
    }

    fn append_full(&self, line: &Line<'_>, out: &mut String) {
        let details = line.error.as_ref().and_then(|error| error.details);
        let parts = [
            ("request", line.request),
            ("response", line.response),
            ("details", details),
            ("frame", line.frame),
        ];
        for (name, json) in parts {
            if let Some(json) = json {
                let name =
                    if self.colours { format!("\u{1b}[{DIM}m{name}\u{1b}[0m") } else { name.to_owned() };
                out.push_str(&format!("\n    {name}\n{}", pretty(json.get(), "      ")));
            }
        }
    }
}

fn piece(colour: &'static str, text: impl Into<String>) -> Piece {
    Piece { colour, text: text.into() }
}

/// The text, at least so wide.
fn pad(text: &str, width: usize) -> String {
    format!("{text:<width$}")
}

/// Milliseconds as people read them.
fn duration(milliseconds: f64) -> String {
    if milliseconds >= 1000.0 {
        format!("{:.1} s", milliseconds / 1000.0)
    } else if milliseconds >= 10.0 {
        format!("{milliseconds:.0} ms")
    } else {
        format!("{milliseconds:.1} ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show() -> Show {
        Show { colours: false, width: None, full: false, with_date: false }
    }

    const OK: &str = r#"{"at":"2026-11-23T02:03:04.567Z","event":"call","station":"CP1","version":"1.6","connection":1,"direction":"in","id":"a","action":"Authorize","outcome":"ok","latencyMs":1.234,"request":{"idTag":"…0a1b2c3d"},"response":{"idTagInfo":{"status":"Accepted"}}}"#;
    const ERROR: &str = r#"{"at":"2026-11-23T02:03:04.567Z","event":"call","station":"CP1","direction":"out","id":"a","action":"Reset","outcome":"error","latencyMs":1234.5,"attempts":2,"request":{"type":"Soft"},"error":{"code":"NotSupported","description":"no","details":{}}}"#;

    #[test]
    fn lines_are_readable_with_and_without_colours() {
        for (json, expected) in [
            (
                OK,
                "02:03:04.567 CP1              → Authorize                     1.2 ms ok   idTag=…0a1b2c3d ⇒ idTagInfo.status=Accepted",
            ),
            (
                ERROR,
                "02:03:04.567 CP1              ← Reset                          1.2 s NotSupported 2 attempts type=Soft ⇒ no",
            ),
            (
                r#"{"at":"2026-11-23T02:03:04.567Z","event":"call","station":"CP1","direction":"in","action":"X","outcome":"unanswered","latencyMs":2,"note":"the connection ended first","request":{}}"#,
                "02:03:04.567 CP1              → X                             2.0 ms no answer (the connection ended first)",
            ),
            (
                r#"{"at":"2026-11-23T02:03:04.567Z","event":"frame","station":"CP1","from":"csms","kind":"result","action":"Heartbeat","latencyMs":12,"frame":[3,"a",{}]}"#,
                r#"02:03:04.567 CP1              ← Heartbeat                      12 ms result [3,"a",{}]"#,
            ),
            (
                r#"{"at":"2026-11-23T02:03:04.567Z","event":"connected","station":"CP1","version":"1.6"}"#,
                "02:03:04.567 CP1              ● connected OCPP 1.6",
            ),
            (
                r#"{"at":"2026-11-23T02:03:04.567Z","event":"replaced","station":"CP1","version":"1.6","reason":"a newer one","closeCode":1008}"#,
                "02:03:04.567 CP1              ○ replaced a newer one (close 1008)",
            ),
            (
                r#"{"at":"2026-11-23T02:03:04.567Z","event":"refused","status":401,"reason":"No.","path":"/ocpp/X","address":"127.0.0.1"}"#,
                "02:03:04.567 -                ✗ refused 401 No. (/ocpp/X from 127.0.0.1)",
            ),
            (
                r#"{"at":"2026-11-23T02:03:04.567Z","event":"lost","count":12,"reason":"12 frames were not recorded: there was too much at once"}"#,
                "02:03:04.567 -                ! lost 12 frames were not recorded: there was too much at once",
            ),
            (
                r#"{"at":"2026-11-23T02:03:04.567Z","station":"C\u001b[2J","event":"bad","reason":"no"}"#,
                "02:03:04.567 C\u{fffd}[2J            ✗ bad no",
            ),
            ("garbage \u{1b}", "garbage \u{fffd}"),
        ] {
            assert_eq!(show().line(json), expected, "{json}");
            let coloured = Show { colours: true, ..show() }.line(json);
            assert_eq!(coloured.contains("\u{1b}["), json.starts_with('{'), "{coloured}");
        }
        assert!(Show { with_date: true, ..show() }.line(OK).starts_with("2026-11-23 02:03:04.567 CP1"));
    }

    #[test]
    fn a_line_is_never_wider_than_the_terminal() {
        for width in [10, 20, 40, 60, 80, 99, 120] {
            let line = Show { width: Some(width), ..show() }.line(OK);
            assert!(line.chars().count() <= width, "{width}: {line}");
            assert!(width < 40 || line.contains("Authorize"), "{width}: {line}");
        }
        let wide = Show { width: Some(500), ..show() }.line(OK);
        assert_eq!(wide, show().line(OK));
    }

    #[test]
    fn in_full_everything_is_on_lines_of_its_own() {
        let shown = Show { full: true, ..show() }.line(OK);
        assert!(
            shown.contains(
                "\n    request\n      {\n        \"idTag\": \"…0a1b2c3d\"\n      }\n    response\n"
            ),
            "{shown}"
        );
    }
}
