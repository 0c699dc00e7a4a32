//! An entry as the line of JSON that readers get. What the members mean stands in `docs/trace.md`.

use crate::{
    entry::{About, Direction, Entry, Exchange, Outcome, Passed, What},
    redact::Redactor,
};
use jiff::Timestamp;
use std::{fmt::Write as _, time::Duration};
use switchboard_rpc::FrameKind;

/// The line of an entry, without a line end; none for what only lines of another kind tell.
pub(crate) fn line(entry: &Entry, redactor: &Redactor, personal: bool) -> String {
    let mut line = Line { out: String::with_capacity(512), redactor, personal };
    line.about(&entry.about, event(&entry.what));
    match &entry.what {
        What::Exchange(exchange) => line.exchange(exchange),
        What::Frame(passed) => line.frame(passed),
        What::Connected => {}
        What::Disconnected { reason, code, .. } => {
            line.text("reason", reason);
            if let Some(code) = code {
                line.raw("closeCode", &code.to_string());
            }
        }
        What::Refused { address, path, status, reason } => {
            line.raw("status", &status.to_string());
            line.text("reason", reason);
            line.text("path", path);
            line.text("address", &address.to_string());
        }
        What::Bad { fault, text } => {
            line.text("direction", "in");
            line.text("reason", &fault.to_string());
            line.json("frame", text, None);
        }
        What::Unmatched { id, action, text } => {
            line.text("direction", "out");
            line.raw("id", id.as_json());
            if let Some(action) = action {
                line.text("action", action);
            }
            line.text(
                "reason",
                if action.is_some() { "the answer came too late" } else { "the answer belongs to no call" },
            );
            line.json("frame", text, action.as_deref());
        }
        What::ResultError { direction, id, code, description } => {
            line.text("direction", word(*direction));
            line.raw("id", id.as_json());
            line.out.push_str(",\"error\":{");
            line.member("code", code);
            line.text("description", description);
            line.out.push('}');
        }
        What::Lost(count) => {
            line.raw("count", &count.to_string());
            line.text("reason", &format!("{count} frames were not recorded: there was too much at once"));
        }
    }
    line.out.push('}');
    line.out
}

/// A line about the reading of the trace itself, without a line end.
pub(crate) fn remark(event: &str, time_ms: i64, reason: &str, count: Option<u64>) -> String {
    let mut out = format!("{{\"at\":\"{}\"", time(time_ms));
    quote_member(&mut out, ",", "event", event);
    if let Some(count) = count {
        write!(out, ",\"count\":{count}").unwrap_or_default();
    }
    quote_member(&mut out, ",", "reason", reason);
    out.push('}');
    out
}

const fn event(what: &What) -> &'static str {
    match what {
        What::Exchange(exchange) if matches!(exchange.outcome, Outcome::Sent) => "send",
        What::Exchange(_) => "call",
        What::Frame(_) => "frame",
        What::Connected => "connected",
        What::Disconnected { replaced: true, .. } => "replaced",
        What::Disconnected { replaced: false, .. } => "disconnected",
        What::Refused { .. } => "refused",
        What::Bad { .. } => "bad",
        What::Unmatched { .. } => "unmatched",
        What::ResultError { .. } => "resultError",
        What::Lost(_) => "lost",
    }
}

const fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::In => "in",
        Direction::Out => "out",
    }
}

struct Line<'a> {
    out: String,
    redactor: &'a Redactor,
    personal: bool,
}

impl Line<'_> {
    fn about(&mut self, about: &About, event: &str) {
        write!(self.out, "{{\"at\":\"{}\",\"event\":\"{event}\"", time(about.time_ms)).unwrap_or_default();
        if about.tenant != "default" {
            self.text("tenant", &about.tenant);
        }
        if let Some(station) = &about.station {
            self.text("station", station.as_str());
        }
        if let Some(version) = about.version {
            write!(self.out, ",\"version\":\"{}\",\"connection\":{}", version.as_str(), about.generation)
                .unwrap_or_default();
        }
    }

    fn exchange(&mut self, exchange: &Exchange) {
        let Exchange { direction, id, action, request, outcome, latency, attempts, note } = exchange;
        write!(self.out, ",\"direction\":\"{}\",\"id\":", word(*direction)).unwrap_or_default();
        self.push_line(id.as_json());
        self.text("action", action);
        let word = match outcome {
            Outcome::Answered { .. } => "ok",
            Outcome::Refused { .. } => "error",
            Outcome::TimedOut => "timeout",
            Outcome::Unanswered => "unanswered",
            Outcome::Sent => "sent",
        };
        write!(self.out, ",\"outcome\":\"{word}\"").unwrap_or_default();
        self.latency(*latency);
        if *attempts > 1 {
            self.raw("attempts", &attempts.to_string());
        }
        if let Some(note) = note {
            self.text("note", note);
        }
        self.json("request", request, Some(action));
        match outcome {
            Outcome::Answered { response } => self.json("response", response, Some(action)),
            Outcome::Refused { code, description, details } => {
                let scrub = |text: &str| self.redactor.scrub(text, request, Some(action), self.personal);
                let (description, details) = (scrub(description), scrub(details));
                self.out.push_str(",\"error\":{");
                self.member("code", code);
                self.text("description", &description);
                self.json("details", &details, Some(action));
                self.out.push('}');
            }
            Outcome::TimedOut | Outcome::Unanswered | Outcome::Sent => {}
        }
    }

    fn frame(&mut self, passed: &Passed) {
        let kind = match passed.kind {
            Some(FrameKind::Call) => "call",
            Some(FrameKind::Result) => "result",
            Some(FrameKind::Error) => "error",
            Some(FrameKind::ResultError) => "resultError",
            Some(FrameKind::Send) => "send",
            None => "bad",
        };
        let from = if passed.from == Direction::In { "station" } else { "csms" };
        write!(self.out, ",\"from\":\"{from}\",\"kind\":\"{kind}\"").unwrap_or_default();
        if let Some(id) = &passed.id {
            self.raw("id", id.as_json());
        }
        if let Some(action) = &passed.action {
            self.text("action", action);
        }
        self.latency(passed.latency);
        match (&passed.request, passed.kind) {
            (Some(request), Some(FrameKind::Error)) => {
                let text =
                    self.redactor.scrub(&passed.text, request, passed.action.as_deref(), self.personal);
                self.json("frame", &text, passed.action.as_deref());
            }
            _ => self.json("frame", &passed.text, passed.action.as_deref()),
        }
    }

    fn latency(&mut self, latency: Option<Duration>) {
        if let Some(latency) = latency {
            write!(self.out, ",\"latencyMs\":{:.3}", latency.as_secs_f64() * 1e3).unwrap_or_default();
        }
    }

    /// A member whose value is JSON of a peer: redacted, and on one line. What is no JSON is a text instead.
    fn json(&mut self, name: &str, text: &str, action: Option<&str>) {
        if let Ok(shown) = self.redactor.redact(text, action, self.personal) {
            write!(self.out, ",\"{name}\":").unwrap_or_default();
            self.push_line(&shown);
            return;
        }
        match Redactor::broken(text).filter(|_| self.personal) {
            Some(text) => self.text(name, text),
            None => self.text(name, &format!("(no JSON, {} bytes)", text.len())),
        }
    }

    /// White space between the parts of JSON may hold line ends, which would end the line. Within strings it has none.
    fn push_line(&mut self, json: &str) {
        if json.contains(['\n', '\r']) {
            self.out.push_str(&json.replace(['\n', '\r'], " "));
        } else {
            self.out.push_str(json);
        }
    }

    fn raw(&mut self, name: &str, value: &str) {
        write!(self.out, ",\"{name}\":").unwrap_or_default();
        self.push_line(value);
    }

    fn text(&mut self, name: &str, value: &str) {
        quote_member(&mut self.out, ",", name, value);
    }

    /// The first member of an object.
    fn member(&mut self, name: &str, value: &str) {
        quote_member(&mut self.out, "", name, value);
    }
}

fn quote_member(out: &mut String, comma: &str, name: &str, value: &str) {
    write!(out, "{comma}\"{name}\":").unwrap_or_default();
    let is_simple = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    if value.bytes().all(is_simple) {
        out.push('"');
        out.push_str(value);
        out.push('"');
    } else {
        // A string can always be written.
        out.push_str(&serde_json::to_string(value).unwrap_or_default());
    }
}

/// Milliseconds since 1970 as RFC 3339 in UTC, always with three digits of fraction, so that columns align.
fn time(unix_ms: i64) -> String {
    let timestamp = Timestamp::from_millisecond(unix_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{timestamp:.3}")
}
