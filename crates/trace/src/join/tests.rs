//! Calls and their answers are brought together, in every order in which they may come.

use super::*;
use crate::{line, redact::Redactor};
use serde_json::Value;

struct Watched {
    joiner: Joiner,
    now: Instant,
    start: Instant,
    frames: bool,
    seen: Vec<Entry>,
}

#[expect(clippy::disallowed_methods, reason = "an arbitrary beginning of fake time")]
fn watched() -> Watched {
    let now = Instant::now();
    Watched { joiner: Joiner::new(Duration::from_secs(25)), now, start: now, frames: false, seen: Vec::new() }
}

impl Watched {
    fn record(&self, seen: Seen) -> Record {
        Record {
            tenant: "default".into(),
            station: StationId::new("CP1", 48).ok(),
            generation: 7,
            version: Some(Version::V21),
            at: self.now,
            time_ms: i64::try_from((self.now - self.start).as_millis()).unwrap(),
            seen,
        }
    }

    fn see(&mut self, after_ms: u64, seen: Seen) -> &mut Self {
        self.now += Duration::from_millis(after_ms);
        let record = self.record(seen);
        self.joiner.see(record, self.frames, &mut |entry| self.seen.push(entry));
        self
    }

    fn received(&mut self, after_ms: u64, text: &str) -> &mut Self {
        self.see(after_ms, Seen::Received(text.into()))
    }

    fn sent(&mut self, after_ms: u64, text: &str) -> &mut Self {
        self.see(after_ms, Seen::Sent(text.into()))
    }

    fn sweep(&mut self, after_ms: u64) -> &mut Self {
        self.now += Duration::from_millis(after_ms);
        self.joiner.sweep(self.now, false, &mut |entry| self.seen.push(entry));
        self
    }

    /// What has been told since the last time, as its lines.
    fn told(&mut self) -> Vec<Value> {
        let redactor = Redactor::random();
        let lines =
            std::mem::take(&mut self.seen).into_iter().map(|entry| line::line(&entry, &redactor, true));
        lines.map(|line| serde_json::from_str(&line).expect(&line)).collect()
    }
}

/// Checks one line by some of its members.
fn check(lines: &[Value], expected: &[&[(&str, Value)]]) {
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, expected) in lines.iter().zip(expected) {
        for (name, value) in *expected {
            assert_eq!(line[*name], *value, "{name} of {line}");
        }
    }
}

#[test]
fn a_call_and_its_answer_are_one_line_in_both_directions_and_ids_may_be_the_same() {
    let mut watched = watched();
    watched
        .received(0, r#"[2,"a","Heartbeat",{}]"#)
        .sent(5, r#"[2,"a","Reset",{"type":"Soft"}]"#)
        .sent(5, "[3,\"a\",{\"currentTime\":\n\"x\"}]")
        .received(100, "[4,")
        .received(0, r#"[4,"a","NotSupported","no",{}]"#);
    let told = watched.told();
    check(
        &told[..1],
        &[&[
            ("event", "call".into()),
            ("direction", "in".into()),
            ("action", "Heartbeat".into()),
            ("outcome", "ok".into()),
            ("latencyMs", 10.0.into()),
            ("request", serde_json::json!({})),
            ("response", serde_json::json!({ "currentTime": "x" })),
            ("at", "1970-01-01T00:00:00.000Z".into()),
        ]],
    );
    // What has no id is a bad frame, and no answer.
    check(
        &told[1..],
        &[
            &[("event", "bad".into()), ("reason", "the message is not JSON".into())],
            &[
                ("direction", "out".into()),
                ("action", "Reset".into()),
                ("outcome", "error".into()),
                ("latencyMs", 105.0.into()),
                ("error", serde_json::json!({ "code": "NotSupported", "description": "no", "details": {} })),
                ("at", "1970-01-01T00:00:00.005Z".into()),
            ],
        ],
    );
    assert_eq!(watched.joiner.open(), 0);
}

#[test]
fn what_has_no_answer_is_told_as_such() {
    let mut watched = watched();
    watched
        .sent(0, r#"[2,"1","Reset",{}]"#)
        .see(30_000, Seen::Unanswered)
        .received(5_000, r#"[3,"1",{}]"#)
        .received(0, r#"[3,"9",{}]"#)
        .received(0, r#"[2,"2","Heartbeat",{}]"#)
        .see(10, Seen::HandedOver { attempt: 2 })
        .see(25_000, Seen::Unprocessed(Unprocessed::Failed))
        .sent(1, r#"[4,"2","InternalError","",{}]"#)
        .received(0, r#"[2,"3","StartTransaction",{}]"#)
        .see(25_000, Seen::Unprocessed(Unprocessed::Silence))
        .received(0, r#"[2,"4","StatusNotification",{}]"#)
        .sweep(34_999)
        .sweep(1)
        .received(0, r#"[2,"5","StatusNotification",{}]"#)
        .see(2, Seen::Disconnected { reason: "lost".into(), code: None, replaced: false });
    let out = |outcome: &'static str| [("direction", Value::from("out")), ("outcome", outcome.into())];
    let told = watched.told();
    check(
        &told,
        &[
            &out("timeout"),
            &[
                ("event", "unmatched".into()),
                ("action", "Reset".into()),
                ("reason", "the answer came too late".into()),
            ],
            &[("event", "unmatched".into()), ("reason", "the answer belongs to no call".into())],
            &[("outcome", "error".into()), ("attempts", 2.into()), ("note", "not processed in time".into())],
            &[("outcome", "timeout".into()), ("id", "3".into()), ("latencyMs", 25_000.0.into())],
            &[("outcome", "unanswered".into()), ("id", "4".into()), ("note", "no answer was seen".into())],
            &[
                ("outcome", "unanswered".into()),
                ("id", "5".into()),
                ("note", "the connection ended first".into()),
            ],
            &[("event", "disconnected".into()), ("reason", "lost".into())],
        ],
    );
    assert_eq!((watched.joiner.open(), watched.joiner.bytes), (0, 0));
    assert!(watched.joiner.conversations.is_empty());
}

#[test]
fn what_was_lost_makes_nobody_look_guilty() {
    let mut watched = watched();
    watched.joiner.begin(watched.now);
    watched.received(10, r#"[3,"before",{}]"#).received(0, r#"[2,"1","Heartbeat",{}]"#);
    assert!(watched.told().is_empty());
    watched.now += Duration::from_millis(1);
    watched.joiner.lost(watched.now);
    watched.sweep(40_000);
    let note = "its answer may be among the records that are missing";
    check(&watched.told(), &[&[("outcome", "unanswered".into()), ("note", note.into())]]);
    watched.received(0, r#"[3,"x",{}]"#).received(20_000, r#"[3,"x",{}]"#);
    check(&watched.told(), &[&[("event", "unmatched".into())]]);
}

#[test]
fn a_repeated_call_is_told_with_each_of_its_answers() {
    let mut watched = watched();
    let (call, answer) = (r#"[2,"1","Heartbeat",{}]"#, r#"[3,"1",{}]"#);
    watched.received(0, call).received(1, call).sent(1, answer).sent(1, answer);
    check(&watched.told(), &[&[("latencyMs", 2.0.into())], &[("latencyMs", 2.0.into())]]);
}

#[test]
fn messages_of_2_1_and_single_frames() {
    let mut watched = watched();
    watched
        .received(0, r#"[6,"1","NotifyPeriodicEventStream",{"data":[]}]"#)
        .received(0, r#"[5,"9","FormatViolation","d",{}]"#);
    check(
        &watched.told(),
        &[
            &[("event", "send".into()), ("outcome", "sent".into()), ("latencyMs", Value::Null)],
            &[("event", "resultError".into()), ("direction", "in".into())],
        ],
    );
    watched.frames = true;
    watched.received(0, r#"[2,"1","Heartbeat",{}]"#).sent(3, r#"[3,"1",{}]"#).received(0, "{");
    let told = watched.told();
    let frames: Vec<Value> = told.into_iter().filter(|line| line["event"] == "frame").collect();
    check(
        &frames,
        &[
            &[("from", "station".into()), ("kind", "call".into()), ("action", "Heartbeat".into())],
            &[
                ("from", "csms".into()),
                ("kind", "result".into()),
                ("action", "Heartbeat".into()),
                ("latencyMs", 3.0.into()),
            ],
            &[("from", "station".into()), ("kind", "bad".into())],
        ],
    );
}

#[test]
fn refusals_and_beginnings_and_ends_are_told() {
    let mut watched = watched();
    let address = std::net::IpAddr::from([127, 0, 0, 1]);
    let refused = Seen::Refused { address, path: "/ocpp/CP1".into(), status: 401, reason: "No.".into() };
    let nobody = Record { station: None, version: None, generation: 0, ..watched.record(refused.clone()) };
    watched.joiner.see(nobody, false, &mut |entry| watched.seen.push(entry));
    let known = Record { version: None, generation: 0, ..watched.record(refused) };
    watched.joiner.see(known, false, &mut |entry| watched.seen.push(entry));
    watched
        .see(0, Seen::Connected)
        .see(1, Seen::Disconnected { reason: "newer".into(), code: Some(1008), replaced: true });
    let told = watched.told();
    check(
        &told,
        &[
            &[("event", "refused".into()), ("status", 401.into()), ("station", Value::Null)],
            &[("event", "refused".into()), ("station", "CP1".into()), ("path", "/ocpp/CP1".into())],
            &[("event", "connected".into()), ("version", "2.1".into()), ("connection", 7.into())],
            &[("event", "replaced".into()), ("closeCode", 1008.into())],
        ],
    );
}

#[test]
fn an_error_does_not_repeat_a_tag() {
    let mut watched = watched();
    watched.received(0, r#"[2,"1","Authorize",{"idTag":"TAG1"}]"#).sent(
        0,
        r#"[4,"1","PropertyConstraintViolation","idTag TAG1 is too long",{"idTag":"TAG1","x":"TAG1"}]"#,
    );
    let redactor = Redactor::random();
    let shown = line::line(&watched.seen[0], &redactor, false);
    assert!(!shown.contains("TAG1"), "{shown}");
    assert!(shown.contains(&format!("idTag {} is too long", redactor.digest("TAG1"))), "{shown}");
}
