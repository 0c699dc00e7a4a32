//! What the rows C01–C11, F03, F15, F16, L04 and L06 promise.
#![expect(clippy::disallowed_methods, reason = "a clock that stands still begins somewhere")]

use super::*;
use crate::MessageId;
use crate::frame::{write_result, write_send};
use Version::{V16, V21, V201};
use std::time::Duration;

/// One side of a connection with a clock that moves by hand.
struct Side {
    connection: Connection,
    now: Instant,
}

impl Side {
    fn new(role: Role, version: Version, config: Config) -> Self {
        let now = Instant::now();
        Self { connection: Connection::new(role, version, config, now), now }
    }

    /// A central side that need not wait for the station's first call.
    fn csms(version: Version) -> Self {
        Self::new(Role::Csms, version, Config { hold_max: Duration::ZERO, ..Config::default() })
    }

    fn receive(&mut self, text: &str) {
        self.connection.handle_text(ByteString::from(text), self.now);
    }

    fn receive_call(&mut self, id: &str, action: &str) {
        self.receive(&format!("[2,\"{id}\",\"{action}\",{{}}]"));
    }

    fn answer(&mut self, seq: u64, id: &str, payload: &str) -> Result<(), AnswerError> {
        self.connection.answer(seq, write_result(&MessageId::new(id), payload.as_bytes()), self.now)
    }

    fn call(&mut self, key: u64, action: &'static str, lane: Lane) -> Result<(), CallRefused> {
        let call = Outgoing {
            key,
            id: MessageId::new(&format!("our-{key}")),
            action: ByteString::from_static(action),
            payload: Bytes::from_static(b"{}"),
            lane,
            answer_timeout: Duration::from_secs(30),
            queue_timeout: Duration::from_secs(100),
        };
        self.connection.call(call, self.now)
    }

    fn advance(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.connection.handle_timeout(self.now);
    }

    fn transmits(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.connection.poll_transmit(self.now))
            .map(|transmit| transmit.text.to_string())
            .collect()
    }

    /// The events in few words.
    fn events(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.connection.poll_event())
            .map(|event| match event {
                Event::Called(called) => format!("called {} {} {}", called.seq, called.id, called.action),
                Event::Sent(sent) => format!("sent {} {} {}", sent.id, sent.action, sent.payload),
                Event::Written { key } => format!("written {key}"),
                Event::Close { code, .. } => format!("close {code}"),
                Event::ResultError { id, code, .. } => format!("result error {id} {code}"),
                Event::Refused { fault } => format!("refused {fault:?}"),
                Event::Ignored { reason } => format!("ignored {reason:?}"),
                Event::Ended { key, outcome } => match outcome {
                    Outcome::Answered { payload, .. } => format!("ended {key} answered {payload}"),
                    Outcome::Refused { code, description, .. } => {
                        format!("ended {key} refused {code} {description}")
                    }
                    Outcome::MalformedAnswer { fault, .. } => format!("ended {key} malformed {fault:?}"),
                    other => format!("ended {key} {other:?}"),
                },
            })
            .collect()
    }

    #[track_caller]
    fn expect(&mut self, transmits: &[&str], events: &[&str]) {
        assert_eq!((self.transmits(), self.events()), (owned(transmits), owned(events)));
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn an_idle_connection_is_small_and_holds_no_memory_besides() {
    assert!(size_of::<Connection>() <= 400, "{}", size_of::<Connection>());
    let mut side = Side::csms(V16);
    side.connection.config = Arc::new(Config { bad_frames_max: 100, ..Config::default() });
    for round in 0..100_u64 {
        // Two at once, so that every queue was used.
        side.receive_call(&format!("a{round}"), "StatusNotification");
        side.receive_call(&format!("b{round}"), "StatusNotification");
        side.receive("[]");
        side.call(round, "Reset", Lane::Normal).unwrap();
        let seq = round * 2 + 1;
        side.transmits();
        side.events();
        side.answer(seq, &format!("a{round}"), "{}").unwrap();
        side.events();
        side.answer(seq + 1, &format!("b{round}"), "{}").unwrap();
        side.receive(&format!("[3,\"our-{round}\",{{}}]"));
        side.transmits();
        side.events();
    }
    let kept = side.connection.inbound.kept_bytes();
    assert!(0 < kept && kept <= 1024, "{kept}");
    side.advance(60);
    side.advance(60);
    let connection = &side.connection;
    assert!(connection.is_idle() && connection.outbound.is_none());
    assert_eq!(connection.inbound.kept_bytes(), 0);
    assert_eq!(connection.inbound.waiting_capacity() + connection.transmits.capacity(), 0);
    assert_eq!(connection.events.capacity() + connection.bad_frames.capacity(), 0);
    assert_eq!(connection.poll_timeout(), None);
}

/// C01
#[test]
fn one_call_of_ours_is_outstanding_and_urgent_ones_go_first() {
    let mut side = Side::csms(V16);
    side.call(1, "Reset", Lane::Normal).unwrap();
    side.call(2, "ClearCache", Lane::Normal).unwrap();
    side.expect(&[r#"[2,"our-1","Reset",{}]"#], &["written 1"]);
    side.call(3, "UnlockConnector", Lane::Urgent).unwrap();
    side.call(4, "ReserveNow", Lane::Urgent).unwrap();
    side.expect(&[], &[]);
    side.receive(r#"[3,"our-1",{"status":"Accepted"}]"#);
    side.expect(
        &[r#"[2,"our-3","UnlockConnector",{}]"#],
        &[r#"ended 1 answered {"status":"Accepted"}"#, "written 3"],
    );
    side.receive(r#"[3,"our-3",{}]"#);
    side.expect(&[r#"[2,"our-4","ReserveNow",{}]"#], &["ended 3 answered {}", "written 4"]);
    side.receive(r#"[3,"our-4",{}]"#);
    side.expect(&[r#"[2,"our-2","ClearCache",{}]"#], &["ended 4 answered {}", "written 2"]);
}

/// C01
#[test]
fn the_deadline_counts_from_the_write_and_a_second_limit_from_the_queueing() {
    let mut side = Side::csms(V16);
    side.call(1, "Reset", Lane::Normal).unwrap();
    side.advance(99);
    side.expect(&[r#"[2,"our-1","Reset",{}]"#], &["written 1"]);
    assert_eq!(side.connection.poll_timeout(), Some(side.now + Duration::from_secs(30)));
    side.call(2, "Reset", Lane::Normal).unwrap();
    side.advance(29);
    side.expect(&[], &[]);
    side.advance(1);
    side.expect(&[r#"[2,"our-2","Reset",{}]"#], &["ended 1 TimedOut", "written 2"]);

    let mut side = Side::csms(V16);
    side.call(1, "Reset", Lane::Normal).unwrap();
    side.call(2, "Reset", Lane::Urgent).unwrap();
    side.advance(100);
    side.expect(
        &[],
        &["ended 1 Expired", "ended 2 Expired"].map(|text| text).into_iter().rev().collect::<Vec<_>>(),
    );
    assert!(side.connection.is_idle());
}

/// C01: also when the clock was not told.
#[test]
fn a_call_that_waited_too_long_is_not_written_even_before_the_timer_says_so() {
    let mut side = Side::csms(V16);
    side.call(1, "Reset", Lane::Normal).unwrap();
    side.now += Duration::from_secs(100);
    side.expect(&[], &["ended 1 Expired"]);
    assert!(side.connection.is_idle());
}

/// C01
#[test]
fn each_lane_is_bounded() {
    let mut side = Side::csms(V16);
    for key in 0..64 {
        side.call(key, "Reset", Lane::Normal).unwrap();
    }
    assert_eq!(side.call(64, "Reset", Lane::Normal), Err(CallRefused::Full));
    side.call(65, "Reset", Lane::Urgent).unwrap();
    assert_eq!(side.connection.calls_waiting(), 65);
}

#[test]
fn a_payload_that_is_no_object_is_refused_before_anyone_sees_it() {
    let mut side = Side::csms(V16);
    for payload in ["[]", "{", "{}}", "null", "{\"a\":\"}", "x"] {
        let call = Outgoing {
            key: 1,
            id: MessageId::new("1"),
            action: "Reset".into(),
            payload: Bytes::from(payload),
            lane: Lane::Normal,
            answer_timeout: Duration::from_secs(1),
            queue_timeout: Duration::from_secs(1),
        };
        let refused = side.connection.call(call.clone(), side.now);
        assert_eq!(refused, Err(CallRefused::PayloadNotObject), "{payload}");
        let not_utf8 = Outgoing { payload: Bytes::from_static(b"{\"\xff\":1}"), ..call };
        assert_eq!(side.connection.call(not_utf8, side.now), Err(CallRefused::PayloadNotObject));
    }
    assert!(side.connection.is_idle());
}

/// C03
#[test]
fn the_station_is_served_while_our_call_is_outstanding() {
    let mut side = Side::csms(V16);
    side.call(1, "Reset", Lane::Normal).unwrap();
    side.expect(&[r#"[2,"our-1","Reset",{}]"#], &["written 1"]);
    side.receive_call("a", "Heartbeat");
    side.expect(&[], &["called 1 a Heartbeat"]);
    side.answer(1, "a", "{}").unwrap();
    side.expect(&[r#"[3,"a",{}]"#], &[]);
    side.receive(r#"[3,"our-1",{}]"#);
    side.expect(&[], &["ended 1 answered {}"]);
}

/// C04
#[test]
fn answers_are_matched_by_id_and_unknown_late_and_second_ones_are_dropped_and_counted() {
    let mut side = Side::csms(V201);
    side.call(1, "Reset", Lane::Normal).unwrap();
    side.call(2, "ClearCache", Lane::Normal).unwrap();
    side.expect(&[r#"[2,"our-1","Reset",{}]"#], &["written 1"]);
    for stranger in [r#"[3,"our-2",{}]"#, r#"[3,"OUR-1",{}]"#, r#"[4,"-1","GenericError","",{}]"#, "[3,1,{}]"]
    {
        side.receive(stranger);
        side.expect(&[], &["ignored Unmatched"]);
    }
    side.receive("[3,\"\\u006fur-1\",{}]");
    side.expect(&[r#"[2,"our-2","ClearCache",{}]"#], &["ended 1 answered {}", "written 2"]);
    side.receive(r#"[3,"our-1",{}]"#);
    side.expect(&[], &["ignored Unmatched"]);
    side.advance(30);
    side.expect(&[], &["ended 2 TimedOut"]);
    side.receive(r#"[3,"our-2",{}]"#);
    side.expect(&[], &["ignored Unmatched"]);
    assert_eq!(side.connection.stats().answers_unmatched, 6);
    assert_eq!(side.connection.stats().bad_frames, 0);
}

/// F13
#[test]
fn an_error_of_the_station_is_told_as_it_came() {
    let mut side = Side::csms(V16);
    for (key, (rest, told)) in (0_u64..).zip([
        (r#""NotSupported""#, "NotSupported "),
        (r#""OccurrenceConstraintViolation","two r""#, "OccurrenceConstraintViolation two r"),
        (r#""Whatever","x",null"#, "Whatever x"),
        (r#""InternalError","x","SQL ["#, ""),
        (r#""InternalError","x","SQL [""#, "InternalError x"),
    ]) {
        side.call(key, "Reset", Lane::Normal).unwrap();
        side.transmits();
        side.receive(&format!("[4,\"our-{key}\",{rest}]"));
        let ended = if told.is_empty() {
            format!("ended {key} malformed NotJson")
        } else {
            format!("ended {key} refused {told}")
        };
        side.expect(&[], &[&format!("written {key}"), &ended]);
    }
}

/// C05
#[test]
fn no_error_answers_an_answer() {
    for version in Version::ALL {
        let mut side = Side::csms(version);
        for text in [
            "[3]",
            "[3,\"a\"]",
            "[3,\"a\",[]]",
            "[3,\"a\",{}",
            "[4,\"a\"]",
            "[4,null,\"x\",\"\",{}]",
            "[3,\"x\",{}]",
        ] {
            side.receive(text);
            assert_eq!(side.transmits(), owned(&[]), "{version} {text}");
        }
    }
}

/// C06
#[test]
fn a_malformed_answer_ends_our_call_at_once() {
    for (text, fault) in [
        (r#"[3,"our-1"]"#, "ElementCount"),
        (r#"[3,"our-1",{},{}]"#, "ElementCount"),
        (r#"[3,"our-1",[]]"#, "PayloadNotObject"),
        (r#"[3,"our-1","Accepted"]"#, "PayloadNotObject"),
        (r#"[3,"our-1",{"status":"Acc"#, "NotJson"),
        (r#"[3,"our-1",{}]]"#, "TrailingBytes"),
        (r#"[4,"our-1"]"#, "ElementCount"),
        (r#"[4,"our-1",null]"#, "NameNotText"),
    ] {
        let mut side = Side::csms(V16);
        side.call(1, "Reset", Lane::Normal).unwrap();
        side.call(2, "ClearCache", Lane::Normal).unwrap();
        side.expect(&[r#"[2,"our-1","Reset",{}]"#], &["written 1"]);
        side.receive(text);
        side.expect(
            &[r#"[2,"our-2","ClearCache",{}]"#],
            &[&format!("ended 1 malformed {fault}"), "written 2"],
        );
        assert_eq!(side.connection.stats().answers_malformed, 1);
    }
}

/// C07
#[test]
fn after_a_timeout_the_next_call_is_sent() {
    let mut side = Side::csms(V16);
    // A month of a station that never answers.
    for key in 0..86_400 {
        side.call(key, "Reset", Lane::Normal).unwrap();
        assert_eq!(side.transmits().len(), 1);
        side.advance(30);
        side.expect(&[], &[&format!("written {key}"), &format!("ended {key} TimedOut")]);
    }
    assert_eq!(side.connection.stats().calls_timed_out, 86_400);
}

/// C09
#[test]
fn the_same_call_again_gets_the_same_answer_and_is_handled_once() {
    let mut side = Side::csms(V16);
    side.receive_call("a", "StartTransaction");
    side.expect(&[], &["called 1 a StartTransaction"]);
    side.answer(1, "a", r#"{"transactionId":7}"#).unwrap();
    let answer = r#"[3,"a",{"transactionId":7}]"#;
    side.expect(&[answer], &[]);
    side.receive_call("a", "StartTransaction");
    side.expect(&[answer], &[]);
    side.advance(59);
    side.receive_call("a", "StartTransaction");
    side.expect(&[answer], &[]);
    // Sixty seconds after the answer it is a new call.
    side.advance(1);
    side.receive_call("a", "StartTransaction");
    side.expect(&[], &["called 4 a StartTransaction"]);
    side.answer(4, "a", "{}").unwrap();
    side.transmits();
    // Also when the clock was not told.
    side.now += Duration::from_secs(60);
    side.receive_call("a", "StartTransaction");
    side.expect(&[], &["called 5 a StartTransaction"]);
}

/// C09
#[test]
fn a_station_that_never_rests_is_remembered_for_a_minute_all_the_same() {
    let mut side = Side::csms(V16);
    // A month, one call in twenty seconds.
    for round in 0..130_000_u64 {
        side.receive_call(&round.to_string(), "MeterValues");
        assert_eq!(side.events().len(), 1, "{round}");
        side.answer(side.connection.last_seq(), &round.to_string(), "{}").unwrap();
        side.transmits();
        side.now += Duration::from_secs(20);
        if side.connection.poll_timeout().is_some_and(|timeout| timeout <= side.now) {
            side.connection.handle_timeout(side.now);
        }
        assert!(side.connection.inbound.kept_bytes() <= 1024);
        if round % 1000 == 999 {
            side.receive_call(&round.to_string(), "MeterValues");
            assert_eq!((side.transmits().len(), side.events().len()), (1, 0), "{round}");
            side.receive_call(&(round - 3).to_string(), "MeterValues");
            assert_eq!((side.transmits().len(), side.events().len()), (0, 1), "{round}");
            side.answer(side.connection.last_seq(), &(round - 3).to_string(), "{}").unwrap();
            side.transmits();
        }
    }
}

/// C09
#[test]
fn the_same_call_again_while_it_is_handled_waits_for_its_answer() {
    for action in ["StartTransaction", "Authorize", "Heartbeat"] {
        let mut side = Side::csms(V16);
        side.receive_call("a", action);
        side.receive_call("b", action);
        side.receive_call("a", action);
        side.receive_call("b", action);
        side.expect(&[], &[&format!("called 1 a {action}")]);
        side.answer(1, "a", r#"{"n":1}"#).unwrap();
        side.expect(&[r#"[3,"a",{"n":1}]"#], &[&format!("called 2 b {action}")]);
        // C10: the repeated answer does not overtake the answer to a call that came before it.
        side.connection
            .answer(2, Bytes::from_static(br#"[4,"b","InternalError","x",{}]"#), side.now)
            .unwrap();
        let refused = r#"[4,"b","InternalError","x",{}]"#;
        side.expect(&[refused, r#"[3,"a",{"n":1}]"#, refused], &[]);
        assert_eq!(side.connection.stats().calls_repeated, 2);
        assert!(side.connection.is_idle());
    }
}

/// C09
#[test]
fn the_same_id_with_other_content_is_processed_and_counted() {
    let mut side = Side::csms(V16);
    side.receive_call("a", "StatusNotification");
    side.receive_call("a", "MeterValues");
    side.expect(&[], &["called 1 a StatusNotification"]);
    side.answer(1, "a", r#"{"n":1}"#).unwrap();
    side.expect(&[r#"[3,"a",{"n":1}]"#], &["called 2 a MeterValues"]);
    side.answer(2, "a", r#"{"n":2}"#).unwrap();
    side.expect(&[r#"[3,"a",{"n":2}]"#], &[]);
    side.receive_call("a", "StopTransaction");
    side.expect(&[], &["called 3 a StopTransaction"]);
    assert_eq!(side.connection.stats().ids_reused, 3);
}

/// C09
#[test]
fn heartbeats_authorizations_and_errors_are_not_kept() {
    for action in ["Heartbeat", "Authorize"] {
        let mut side = Side::csms(V16);
        for seq in 1..=3 {
            side.receive_call("a", action);
            side.expect(&[], &[&format!("called {seq} a {action}")]);
            side.answer(seq, "a", "{}").unwrap();
            side.transmits();
        }
    }
    let mut side = Side::csms(V16);
    for seq in 1..=3 {
        side.receive_call("a", "StartTransaction");
        side.expect(&[], &[&format!("called {seq} a StartTransaction")]);
        let error = Bytes::from_static(br#"[4,"a","InternalError","",{}]"#);
        side.connection.answer(seq, error, side.now).unwrap();
        side.transmits();
    }
}

/// C09
#[test]
fn kept_answers_are_bounded_in_bytes() {
    let mut side = Side::csms(V16);
    for seq in 1..=1000_u64 {
        side.receive_call(&seq.to_string(), "MeterValues");
        side.events();
        let payload = format!("{{\"x\":\"{}\"}}", "x".repeat((seq % 7 * 300) as usize));
        side.answer(seq, &seq.to_string(), &payload).unwrap();
        side.transmits();
        assert!(side.connection.inbound.kept_bytes() <= 1024);
    }
    // 998 to 1000 had answers too large to be kept; 997 is the last one that was.
    side.receive_call("997", "MeterValues");
    assert!(side.transmits().concat().starts_with("[3,\"997\",{\"x\":\"xxx"));
    side.receive_call("7", "MeterValues");
    assert_eq!(side.events().len(), 1);
}

/// C10
#[test]
fn calls_are_given_out_one_at_a_time_in_the_order_of_arrival() {
    let mut side = Side::csms(V16);
    for id in ["a", "b", "c"] {
        side.receive_call(id, "MeterValues");
    }
    for (seq, id) in [(1, "a"), (2, "b"), (3, "c")] {
        side.expect(&[], &[&format!("called {seq} {id} MeterValues")]);
        assert_eq!(side.answer(seq + 1, id, "{}"), Err(AnswerError::NotInHand));
        side.answer(seq, id, "{}").unwrap();
        assert_eq!(side.transmits(), owned(&[&format!("[3,\"{id}\",{{}}]")]));
    }
    assert_eq!(side.connection.stats().answers_late, 3);
}

/// C10
#[test]
fn a_station_that_sends_faster_than_it_is_served_is_not_read() {
    let mut side = Side::csms(V16);
    let mut sent = 0;
    while side.connection.wants_input() {
        side.receive_call(&sent.to_string(), "MeterValues");
        sent += 1;
    }
    assert_eq!(sent, 17);
    // One that is read nevertheless is dropped, and nothing grows.
    for _ in 0..1000 {
        side.receive_call("x", "MeterValues");
    }
    side.events();
    assert_eq!(side.connection.stats().calls_received, 17);
    assert_eq!(side.connection.stats().overflowed, 1000);
    side.answer(1, "0", "{}").unwrap();
    assert!(side.connection.wants_input());

    let mut side = Side::csms(V16);
    let big = "x".repeat(100_000);
    let mut sent = 0;
    while side.connection.wants_input() {
        side.receive(&format!("[2,\"{sent}\",\"MeterValues\",{{\"x\":\"{big}\"}}]"));
        sent += 1;
    }
    assert_eq!(sent, 4);
}

/// C11, S10
#[test]
fn an_answer_after_the_end_reaches_nobody() {
    let mut side = Side::csms(V16);
    side.receive_call("a", "MeterValues");
    side.events();
    side.connection.handle_close(side.now);
    assert_eq!(side.answer(1, "a", "{}"), Err(AnswerError::Closed));
    side.expect(&[], &[]);
    assert_eq!(side.connection.stats().answers_late, 1);
}

#[test]
fn an_answer_must_be_one_to_this_call_and_is_brought_into_form() {
    let mut side = Side::csms(V16);
    side.receive(r#"[2,42,"MeterValues",{}]"#);
    side.events();
    for frame in [
        &b"[3,\"42\",{}]"[..],
        b"[3,43,{}]",
        b"[2,42,\"MeterValues\",{}]",
        b"[3,42]",
        b"[3,42,[]]",
        b"{}",
        b"",
        b"[3,42,{\"a\":\"\xff\"}]",
        b"[3,42,{}] x",
    ] {
        let refused = side.connection.answer(1, Bytes::from_static(frame), side.now);
        assert_eq!(refused, Err(AnswerError::NotAnAnswer), "{frame:?}");
    }
    assert_eq!(side.connection.answer(1, Bytes::from_static(b"[3,42,null]"), side.now), Ok(()));
    side.expect(&["[3,42,{}]"], &[]);

    // F04, F14 and the version's own spelling hold for answers from anywhere.
    let long = "é".repeat(300);
    for (id, answer, written) in [
        ("\"\\u0061\"", "[3,\"a\",{\"b\": 1}]".to_owned(), "[3,\"\\u0061\",{\"b\": 1}]".to_owned()),
        (
            "\"a\"",
            "[4,\"a\",\"OccurrenceConstraintViolation\"]".to_owned(),
            "[4,\"a\",\"OccurenceConstraintViolation\",\"\",{}]".to_owned(),
        ),
        (
            "\"b\"",
            format!("[4, \"b\", \"Own\\\"Code\", \"{long}\", \"details\"]"),
            format!("[4,\"b\",\"Own\\\"Code\",\"{}\",{{}}]", "é".repeat(255)),
        ),
        (
            "\"c\"",
            "[4,\"c\",\"FormatViolation\",\"x\",{\"y\":1}]".to_owned(),
            "[4,\"c\",\"FormationViolation\",\"x\",{\"y\":1}]".to_owned(),
        ),
    ] {
        side.receive(&format!("[2,{id},\"StopTransaction\",{{}}]"));
        side.events();
        side.connection.answer(side.connection.last_seq(), Bytes::from(answer), side.now).unwrap();
        side.expect(&[&written], &[]);
    }
}

#[test]
fn a_call_that_is_left_unanswered_makes_room_for_the_next() {
    let mut side = Side::csms(V16);
    for id in ["a", "b", "a", "a"] {
        side.receive_call(id, "MeterValues");
    }
    side.expect(&[], &["called 1 a MeterValues"]);
    assert!(!side.connection.leave_unanswered(2, side.now));
    assert!(side.connection.leave_unanswered(1, side.now));
    side.expect(&[], &["called 2 b MeterValues"]);
    side.answer(2, "b", "{}").unwrap();
    // Who repeated it gets a chance of its own, once.
    side.expect(&[r#"[3,"b",{}]"#], &["called 3 a MeterValues"]);
    side.answer(3, "a", "{}").unwrap();
    side.expect(&[r#"[3,"a",{}]"#, r#"[3,"a",{}]"#], &[]);
    assert!(side.connection.is_idle());
}

#[test]
fn a_call_of_ours_can_be_taken_back_until_it_is_written() {
    let mut side = Side::csms(V16);
    side.call(1, "Reset", Lane::Normal).unwrap();
    side.call(2, "Reset", Lane::Normal).unwrap();
    side.transmits();
    assert!(!side.connection.cancel(1));
    assert!(side.connection.cancel(2));
    assert!(!side.connection.cancel(2));
    side.expect(&[], &["written 1", "ended 2 Cancelled"]);
}

/// L04
#[test]
fn at_the_end_queued_calls_were_not_sent_and_the_outstanding_one_is_unknown() {
    let mut side = Side::csms(V16);
    side.call(1, "Reset", Lane::Normal).unwrap();
    side.transmits();
    side.call(2, "Reset", Lane::Normal).unwrap();
    side.call(3, "Reset", Lane::Urgent).unwrap();
    side.receive_call("a", "MeterValues");
    side.connection.handle_close(side.now);
    side.expect(&[], &["written 1", "ended 1 Unknown", "ended 3 NotSent", "ended 2 NotSent"]);
    assert_eq!(side.call(4, "Reset", Lane::Normal), Err(CallRefused::Closed));
    side.receive_call("b", "MeterValues");
    side.connection.handle_close(side.now);
    side.expect(&[], &[]);
    assert!(!side.connection.wants_input());
}

/// F08
#[test]
fn empty_messages_are_ignored() {
    let mut side = Side::csms(V201);
    for _ in 0..100 {
        side.receive(" \n");
    }
    side.expect(&[], &[]);
    assert_eq!((side.connection.stats().empty_frames, side.connection.stats().bad_frames), (100, 0));
}

/// F03
#[test]
fn a_station_that_counts_its_types_from_one_is_ignored_and_not_closed() {
    for version in [V16, V21] {
        let mut side = Side::csms(version);
        for _ in 0..100 {
            side.receive(r#"[1,"a","StartTransaction",{}]"#);
            side.expect(&[], &["ignored Bad(UnknownType)"]);
        }
        assert_eq!(side.connection.stats().unknown_types, 100);
    }
}

/// F15
#[test]
fn more_than_twenty_bad_frames_in_a_minute_close_the_connection() {
    let mut side = Side::csms(V16);
    for _ in 0..20 {
        side.receive("nonsense");
        side.expect(&[], &["ignored Bad(NotAnArray)"]);
    }
    side.call(1, "Reset", Lane::Normal).unwrap();
    side.receive_call("a", "Heartbeat");
    side.receive("nonsense");
    side.expect(&[], &["ignored Bad(NotAnArray)", "ended 1 NotSent", "close 1002"]);
    side.receive_call("b", "Heartbeat");
    side.expect(&[], &[]);
    assert_eq!(side.connection.stats().bad_frames, 21);
}

/// F15
#[test]
fn bad_frames_far_apart_and_bad_payloads_never_close_the_connection() {
    let mut side = Side::csms(V201);
    for _ in 0..100 {
        side.receive("nonsense");
        side.advance(3);
        side.transmits();
    }
    for _ in 0..100 {
        side.receive(r#"[2,"a","Heartbeat",[]]"#);
        side.transmits();
    }
    assert!(side.events().iter().all(|event| event.starts_with("refused")));
    assert!(side.connection.wants_input());
}

/// F15: the number is a setting.
#[test]
fn how_many_bad_frames_are_borne_is_a_setting() {
    for bad_frames_max in [0, 1, 5] {
        let mut side = Side::new(Role::Csms, V16, Config { bad_frames_max, ..Config::default() });
        for _ in 0..bad_frames_max {
            side.receive("[");
        }
        assert!(side.connection.wants_input());
        side.receive("[");
        assert!(!side.connection.wants_input());
    }
}

#[test]
fn errors_about_bad_frames_are_bounded_while_nobody_writes_them() {
    let mut side = Side::new(Role::Csms, V201, Config { bad_frames_max: usize::MAX, ..Config::default() });
    for _ in 0..10_000 {
        side.receive(r#"[2,"a"]"#);
    }
    assert!(!side.connection.wants_input());
    assert_eq!(side.transmits().len(), 32);
    assert!(side.events().len() <= 64);
}

/// F16
#[test]
fn a_send_is_handed_on_and_never_answered() {
    let mut side = Side::csms(V21);
    side.receive_call("a", "MeterValues");
    side.receive(r#"[6,"b","NotifyPeriodicEventStream",{"id":1}]"#);
    side.expect(&[], &[r#"sent b NotifyPeriodicEventStream {"id":1}"#, "called 1 a MeterValues"]);
    side.receive(r#"[6,"b"]"#);
    side.receive(r#"[6,"b","X",[]]"#);
    side.expect(&[], &["ignored Bad(ElementCount)", "ignored Bad(PayloadNotObject)"]);
    side.answer(1, "a", "{}").unwrap();
    side.expect(&[r#"[3,"a",{}]"#], &[]);
    assert_eq!(side.connection.stats().sends_received, 1);
}

/// F16
#[test]
fn a_result_error_completes_nothing_and_is_reported() {
    let mut side = Side::csms(V21);
    side.call(1, "Reset", Lane::Normal).unwrap();
    side.transmits();
    side.events();
    side.receive(r#"[5,"our-1","FormatViolation","x",{}]"#);
    side.expect(&[], &["result error our-1 FormatViolation"]);
    side.receive(r#"[5,"our-1"]"#);
    side.expect(&[], &["ignored Bad(ElementCount)"]);
    side.receive(r#"[3,"our-1",{}]"#);
    side.expect(&[], &["ended 1 answered {}"]);
}

/// F16: the other direction.
#[test]
fn sends_and_result_errors_go_out_past_waiting_calls_in_2_1_only() {
    let mut side = Side::new(Role::Station, V21, Config::default());
    side.call(1, "BootNotification", Lane::Normal).unwrap();
    side.transmits();
    side.events();
    side.call(2, "Heartbeat", Lane::Normal).unwrap();
    let send = write_send(&MessageId::new("s"), "NotifyPeriodicEventStream", b"");
    side.connection.send_unanswered(send.clone()).unwrap();
    side.expect(&[r#"[6,"s","NotifyPeriodicEventStream",{}]"#], &[]);
    let result_error =
        crate::frame::write_result_error(&MessageId::new("x"), crate::ErrorCode::FormatViolation, "", b"");
    side.connection.send_unanswered(result_error).unwrap();
    side.expect(&[r#"[5,"x","FormatViolation","",{}]"#], &[]);
    let call = Bytes::from_static(br#"[2,"c","Heartbeat",{}]"#);
    assert_eq!(side.connection.send_unanswered(call), Err(CallRefused::NotUnanswered));
    let mut older = Side::new(Role::Station, V201, Config::default());
    assert_eq!(older.connection.send_unanswered(send), Err(CallRefused::NotUnanswered));
}

/// L06
#[test]
fn our_calls_wait_for_the_first_call_of_the_station() {
    let mut side = Side::new(Role::Csms, V16, Config::default());
    side.call(1, "Reset", Lane::Normal).unwrap();
    side.expect(&[], &[]);
    side.receive("nonsense");
    side.receive(r#"[3,"x",{}]"#);
    side.events();
    side.expect(&[], &[]);
    side.receive_call("a", "Heartbeat");
    side.expect(&[r#"[2,"our-1","Reset",{}]"#], &["written 1", "called 1 a Heartbeat"]);
}

/// L06
#[test]
fn our_calls_wait_until_the_answer_to_the_boot_is_written() {
    let mut side = Side::new(Role::Csms, V16, Config::default());
    side.receive_call("a", "BootNotification");
    side.receive_call("b", "Heartbeat");
    side.call(1, "Reset", Lane::Normal).unwrap();
    side.expect(&[], &["called 1 a BootNotification"]);
    side.answer(1, "a", "{}").unwrap();
    side.expect(&[r#"[3,"a",{}]"#, r#"[2,"our-1","Reset",{}]"#], &["written 1", "called 2 b Heartbeat"]);
}

/// L06
#[test]
fn our_calls_wait_thirty_seconds_at_most() {
    let mut side = Side::new(Role::Csms, V16, Config::default());
    assert_eq!(side.connection.poll_timeout(), None);
    side.call(1, "Reset", Lane::Normal).unwrap();
    assert_eq!(side.connection.poll_timeout(), Some(side.now + Duration::from_secs(30)));
    side.receive_call("a", "BootNotification");
    side.events();
    side.advance(29);
    side.expect(&[], &[]);
    side.advance(1);
    side.expect(&[r#"[2,"our-1","Reset",{}]"#], &["written 1"]);
}

/// L06
#[test]
fn a_station_does_not_wait_with_its_own_calls() {
    let mut side = Side::new(Role::Station, V16, Config::default());
    side.connection.set_registration(Registration::Rejected);
    side.call(1, "BootNotification", Lane::Normal).unwrap();
    side.expect(&[r#"[2,"our-1","BootNotification",{}]"#], &["written 1"]);
}

/// L06
#[test]
fn the_registration_decides_what_goes_out() {
    let mut side = Side::new(Role::Csms, V16, Config::default());
    side.receive_call("a", "BootNotification");
    side.events();
    side.call(1, "RemoteStartTransaction", Lane::Normal).unwrap();
    side.call(2, "GetConfiguration", Lane::Normal).unwrap();
    side.connection.set_registration(Registration::Pending);
    side.answer(1, "a", "{}").unwrap();
    side.expect(
        &[r#"[3,"a",{}]"#, r#"[2,"our-2","GetConfiguration",{}]"#],
        &["ended 1 NotSent", "written 2"],
    );
    let refused = CallRefused::NotAllowedWhile(Registration::Pending);
    assert_eq!(side.call(3, "RemoteStartTransaction", Lane::Urgent), Err(refused));
    side.call(4, "ChangeConfiguration", Lane::Normal).unwrap();
    side.connection.set_registration(Registration::Rejected);
    let refused = CallRefused::NotAllowedWhile(Registration::Rejected);
    assert_eq!(side.call(5, "GetConfiguration", Lane::Normal), Err(refused));
    // What was written already is waited for.
    side.receive(r#"[3,"our-2",{}]"#);
    side.expect(&[], &["ended 4 NotSent", "ended 2 answered {}"]);
    side.connection.set_registration(Registration::Accepted);
    side.call(6, "RemoteStartTransaction", Lane::Normal).unwrap();
    assert_eq!(side.transmits().len(), 1);
}

/// F12
#[test]
fn what_is_given_out_is_the_frame_as_it_came() {
    let mut side = Side::csms(V16);
    let text = " [2 , \"a\",\"MeterValues\",{\"b\":1.10,\"a\":99999999999999999999,\"a\":null} ]\n";
    side.receive(text);
    let Some(Event::Called(called)) = side.connection.poll_event() else { panic!() };
    assert_eq!((&*called.frame, &*called.payload), (text, r#"{"b":1.10,"a":99999999999999999999,"a":null}"#));
    assert_eq!(called.received, side.now);
}

#[test]
fn counters_are_taken_once() {
    let mut side = Side::csms(V16);
    side.receive_call("a", "Heartbeat");
    assert_eq!(side.connection.take_stats().calls_received, 1);
    assert_eq!(*side.connection.stats(), Stats::default());
}
