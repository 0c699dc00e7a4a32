//! What the rows F01–F16 promise, as far as a frame alone can show it.

use super::*;
use Version::{V16, V21, V201};
use serde_json::value::RawValue;

/// What is to become of a text.
enum Expected {
    /// It is a frame with these parts: kind, id as JSON, action or code, payload or details.
    Frame(FrameKind, &'static str, &'static str, &'static str),
    /// It is none, and this is the answer.
    Answer(&'static str),
    /// It is none, and nothing is said.
    Silence,
}
use Expected::{Answer, Frame as Sound, Silence};

fn check(version: Version, text: &str, expected: &Expected) {
    let parsed = Frame::parse(&ByteString::from(text), version);
    match (parsed, expected) {
        (Ok(frame), Sound(kind, id, name, payload)) => {
            let (found_name, found_payload) = match &frame {
                Frame::Call { action, payload, .. } | Frame::Send { action, payload, .. } => {
                    (&**action, payload)
                }
                Frame::Result { payload, .. } => ("", payload),
                Frame::Error { code, details, .. } | Frame::ResultError { code, details, .. } => {
                    (&**code, details)
                }
            };
            assert_eq!(
                (frame.kind(), frame.id().as_json(), found_name, &**found_payload),
                (*kind, *id, *name, *payload),
                "{version} {text}"
            );
        }
        (Err(error), Answer(answer)) => {
            let found = error.answer(version);
            assert_eq!(found.as_deref(), Some(answer.as_bytes()), "{version} {text}: {found:?}");
        }
        (Err(error), Silence) => assert_eq!(error.answer(version), None, "{version} {text}"),
        (found, _) => panic!("{version} {text}: {found:?}"),
    }
}

fn check_all(text: &str, expected_16: &Expected, expected_201: &Expected, expected_21: &Expected) {
    check(V16, text, expected_16);
    check(V201, text, expected_201);
    check(V21, text, expected_21);
}

const NO_FRAME: &str = r#"[4,"-1","RpcFrameworkError","#;

fn no_frame(text: &str, description: &str) {
    let answer = format!("{NO_FRAME}\"{description}\",{{}}]");
    check_all(text, &Silence, &Answer(answer.clone().leak()), &Answer(answer.leak()));
}

/// F01
#[test]
fn what_is_no_json_array_with_a_type_is_dropped_in_1_6_and_answered_without_id_in_2_x() {
    for text in
        ["hello", "{}", "2", "null", "\"[2]\"", "{\"a\":[2,\"1\",\"Heartbeat\",{}]}", "\u{feff}[]", "\0"]
    {
        no_frame(text, "the message is not a JSON array");
    }
    for text in [
        "[",
        "[2",
        "[2,",
        "[2,\"1",
        "[2,\"1\"",
        "[2,\"1\",\"A\",{}",
        "[2,\"1\",\"A\",{]",
        "[2,\"1\",\"A\",[}]",
        "[,2]",
        "[2,]",
        "[2,\"1\",\"A\",{},]",
        "[2 \"1\"]",
        "[02,\"1\",\"A\",{}]",
        "[2,\"1\",\"A\",nul]",
        "[2.,\"1\"]",
        "[2,\"\\x\",\"A\",{}]",
        "[2,\"\\u12g4\",\"A\",{}]",
        "[2,\"a\nb\",\"A\",{}]",
        "[+2]",
        "[2,'1','A',{}]",
        "[2,\"1\",\"A\",{\"a\":\"}]",
        "[2,\"1\",\"A\",{\"a\":\"\\\"}]",
        "[-]",
        "[1e]",
        "[tru]",
        r#"[2,"213","StartTransaction",{"idTag":"336699\\\","meterStart":1}]"#,
    ] {
        no_frame(text, "the message is not JSON");
    }
    for text in ["[]", " [ ] ", "[null]", "[true,\"1\",\"A\",{}]", "[[2],\"1\",\"A\",{}]", "[{},\"1\"]"] {
        no_frame(text, "the message type is not an integer");
    }
}

/// F02
#[test]
fn a_type_that_is_no_plain_integer_is_no_type() {
    for number in ["2.9", "2.0", "2e0", "\"2\"", "20e-1"] {
        no_frame(&format!("[{number},\"1\",\"Heartbeat\",{{}}]"), "the message type is not an integer");
    }
}

/// F03
#[test]
fn an_unknown_type_is_answered_in_2_0_1_only() {
    for (number, id) in
        [("1", "\"a\""), ("7", "\"a\""), ("-2", "7"), ("0", "\"a\""), ("99999999999999999999", "\"a\"")]
    {
        let text = format!("[{number},{id},\"StartTransaction\",{{}}]");
        let answer =
            format!("[4,{id},\"MessageTypeNotSupported\",\"the message type is not supported\",{{}}]").leak();
        check_all(&text, &Silence, &Answer(answer), &Silence);
    }
    let answer = r#"[4,"-1","MessageTypeNotSupported","the message type is not supported",{}]"#;
    check_all("[9]", &Silence, &Answer(answer), &Silence);
    check_all("[9,null]", &Silence, &Answer(answer), &Silence);
    let known_later = r#"[4,"a","MessageTypeNotSupported","the message type is not supported",{}]"#;
    for text in [r#"[5,"a","GenericError","",{}]"#, r#"[6,"a","NotifyPeriodicEventStream",{}]"#] {
        check(V16, text, &Silence);
        check(V201, text, &Answer(known_later));
    }
}

/// F04
#[test]
fn an_id_that_is_no_text_cannot_be_answered_and_an_integer_is_echoed_as_one() {
    for id in ["null", "true", "{}", "[\"1\"]", "1.5", "1e3"] {
        no_frame(&format!("[2,{id},\"Heartbeat\",{{}}]"), "the message id is missing or not a string");
    }
    no_frame("[2]", "the message id is missing or not a string");
    check_all(
        r#"[2,"","Heartbeat",{}]"#,
        &Answer(r#"[4,"","FormationViolation","the message id is empty",{}]"#),
        &Answer(r#"[4,"-1","RpcFrameworkError","the message id is empty",{}]"#),
        &Answer(r#"[4,"-1","RpcFrameworkError","the message id is empty",{}]"#),
    );
    for version in Version::ALL {
        check(version, r#"[2,42,"Heartbeat",{}]"#, &Sound(FrameKind::Call, "42", "Heartbeat", "{}"));
        check(version, r#"[2,-7,"Heartbeat",{}]"#, &Sound(FrameKind::Call, "-7", "Heartbeat", "{}"));
        let Ok(Frame::Call { id, .. }) = Frame::parse(&r#"[2,42,"Heartbeat",{}]"#.into(), version) else {
            panic!("{version}")
        };
        assert_eq!(write_result(&id, b""), "[3,42,{}]");
    }
}

/// F05
#[test]
fn an_id_of_36_characters_is_accepted_and_one_of_37_is_refused_with_that_id() {
    let refused = |id: &str| {
        let description = "the message id is longer than 36 characters";
        let text = format!("[2,{id},\"Heartbeat\",{{}}]");
        let answer_16 = format!("[4,{id},\"FormationViolation\",\"{description}\",{{}}]").leak();
        let answer_2x = format!("[4,{id},\"RpcFrameworkError\",\"{description}\",{{}}]").leak();
        check_all(&text, &Answer(answer_16), &Answer(answer_2x), &Answer(answer_2x));
    };
    let accepted = |id: &str| {
        let text = format!("[2,{id},\"Heartbeat\",{{}}]");
        for version in Version::ALL {
            check(version, &text, &Sound(FrameKind::Call, id.to_owned().leak(), "Heartbeat", "{}"));
        }
    };
    for character in ["x", "é", "€", "😀", "\\u00e9", "\\n", "\\\"", "\\ud83d\\ude00"] {
        accepted(&format!("\"{}\"", character.repeat(36)));
        refused(&format!("\"{}\"", character.repeat(37)));
    }
    accepted(&"7".repeat(36));
    refused(&"7".repeat(37));
    // Beyond reason, the id is not one that could be sent back.
    let endless = format!("[2,\"{}\",\"Heartbeat\",{{}}]", "x".repeat(100_000));
    no_frame(&endless, "the message id is longer than 36 characters");
}

/// F06
#[test]
fn a_call_has_four_elements() {
    for rest in
        ["", ",\"Heartbeat\"", ",\"Heartbeat\",{},{}", ",\"Heartbeat\",{},null", ",\"A\",{},1,2,3,4,5,6"]
    {
        let description = "the number of elements does not fit the message type";
        check_all(
            &format!("[2,\"a\"{rest}]"),
            &Answer(format!("[4,\"a\",\"FormationViolation\",\"{description}\",{{}}]").leak()),
            &Answer(format!("[4,\"a\",\"RpcFrameworkError\",\"{description}\",{{}}]").leak()),
            &Answer(format!("[4,\"a\",\"RpcFrameworkError\",\"{description}\",{{}}]").leak()),
        );
    }
    for action in ["null", "5", "{}", "[\"Heartbeat\"]"] {
        let description = "the third element of the message is not a string";
        check_all(
            &format!("[2,\"a\",{action},{{}}]"),
            &Answer(format!("[4,\"a\",\"FormationViolation\",\"{description}\",{{}}]").leak()),
            &Answer(format!("[4,\"a\",\"RpcFrameworkError\",\"{description}\",{{}}]").leak()),
            &Answer(format!("[4,\"a\",\"RpcFrameworkError\",\"{description}\",{{}}]").leak()),
        );
    }
}

/// F07
#[test]
fn no_payload_counts_as_an_empty_one_and_anything_but_an_object_is_refused() {
    for version in Version::ALL {
        check(version, r#"[2,"a","Heartbeat",null]"#, &Sound(FrameKind::Call, "\"a\"", "Heartbeat", "{}"));
        check(version, r#"[3,"a",null]"#, &Sound(FrameKind::Result, "\"a\"", "", "{}"));
    }
    for payload in ["[]", "[{}]", "\"{}\"", "0", "true"] {
        let description = "the payload is not a JSON object";
        check_all(
            &format!("[2,\"a\",\"Heartbeat\",{payload}]"),
            &Answer(format!("[4,\"a\",\"FormationViolation\",\"{description}\",{{}}]").leak()),
            &Answer(format!("[4,\"a\",\"FormatViolation\",\"{description}\",{{}}]").leak()),
            &Answer(format!("[4,\"a\",\"FormatViolation\",\"{description}\",{{}}]").leak()),
        );
    }
}

/// F08
#[test]
fn white_space_around_the_array_is_fine_and_anything_else_is_not() {
    let spaced = " \t\r\n[ 2 ,\n\"a\"\t, \"Heartbeat\" , { } ] \r\n";
    for version in Version::ALL {
        check(version, spaced, &Sound(FrameKind::Call, "\"a\"", "Heartbeat", "{ }"));
    }
    for rest in ["]", "x", "[]", "\0", ",", "\u{a0}", "[2,\"b\",\"Heartbeat\",{}]"] {
        no_frame(&format!("[2,\"a\",\"Heartbeat\",{{}}]{rest}"), "something follows the message");
    }
    for empty in ["", " ", "\r\n\t "] {
        check_all(empty, &Silence, &Silence, &Silence);
    }
}

/// F10: the depth; size and UTF-8 are the socket's.
#[test]
fn brackets_deeper_than_32_are_no_frame() {
    let nested = |depth: usize, open: &str, close: &str| {
        // The frame's own bracket and that of the payload are the first two.
        let inner = depth - 2;
        format!("[2,\"a\",\"A\",{{\"a\":{}0{}}}]", open.repeat(inner), close.repeat(inner))
    };
    for (open, close) in [("[", "]"), ("{\"\":", "}")] {
        for version in Version::ALL {
            let text = ByteString::from(nested(32, open, close));
            assert!(Frame::parse(&text, version).is_ok(), "{version} {text}");
        }
        no_frame(&nested(33, open, close), "the message is nested too deeply");
        no_frame(&nested(300_000, open, close), "the message is nested too deeply");
    }
    // Brackets in strings are text.
    let text = format!("[2,\"a\",\"A\",{{\"\\\"[\":\"{}\\\\\"}}]", "[{\\\"".repeat(100));
    assert!(Frame::parse(&text.into(), V16).is_ok());
}

/// F12
#[test]
fn the_payload_is_passed_on_byte_by_byte_and_without_a_copy() {
    let payload = r#"{"b":1.10,"a":9223372036854775808123,"a":-0.0E+5, "é":"\u00e9\/","x":[ ]}"#;
    let text = ByteString::from(format!("[2, \"a\", \"DataTransfer\", {payload} ]"));
    let Ok(Frame::Call { payload: found, action, id }) = Frame::parse(&text, V201) else { panic!() };
    assert_eq!(found, payload);
    let inside = |part: &str| text.as_bytes().as_ptr_range().contains(&part.as_ptr());
    assert!(inside(&found) && inside(&action) && inside(id.as_json()));
}

/// F13
#[test]
fn an_error_may_lack_its_end_and_carry_any_code() {
    for version in Version::ALL {
        for (rest, details) in [
            ("", "{}"),
            (",\"Something\"", "{}"),
            (",\"Something\",null", "{}"),
            (",null,null", "{}"),
            (",\"Something\",\"SQL [insert\"", "\"SQL [insert\""),
            (",\"\",{\"errorMsg\":\"x\"}", "{\"errorMsg\":\"x\"}"),
            (",17,[1]", "[1]"),
        ] {
            let text = format!("[4,\"a\",\"OccurenceOfWhatever\"{rest}]");
            check(version, &text, &Sound(FrameKind::Error, "\"a\"", "OccurenceOfWhatever", details));
        }
    }
    let Ok(Frame::Error { code, description, .. }) =
        Frame::parse(&r#"[4,"a","\u0047enericError","sa\"id",{}]"#.into(), V16)
    else {
        panic!()
    };
    assert_eq!((&*code, &*description), ("GenericError", "sa\"id"));
}

/// F14
#[test]
fn a_description_is_cut_at_255_characters_and_details_are_never_absent() {
    let id = MessageId::new("a");
    for character in ["x", "é", "😀", "\"", "\n", "\u{1}"] {
        let error = write_error(&id, crate::ErrorCode::GenericError, &character.repeat(300), b"", V16);
        let parts: Vec<serde_json::Value> = serde_json::from_slice(&error).unwrap();
        assert_eq!(parts[3], character.repeat(255));
        assert_eq!(parts[4], serde_json::json!({}));
    }
}

/// F14
#[test]
fn answers_to_bad_frames_do_not_repeat_what_was_sent() {
    let secret = "c0ffee-token";
    for version in Version::ALL {
        for text in [
            format!("[2,\"a\",\"{secret}\",\"{secret}\"]"),
            format!("[2,\"a\",\"{secret}\"]"),
            format!("[2,\"a\",[\"{secret}\"],{{}}]"),
            format!("[9,\"a\",\"{secret}\",{{}}]"),
            format!("{{\"{secret}\":1}}"),
        ] {
            let error = Frame::parse(&text.into(), version).unwrap_err();
            let answer = error.answer(version).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&answer).contains(secret), "{version} {answer:?}");
        }
    }
}

/// F16: and what is broken in them is answered as little as they are.
#[test]
fn sends_and_result_errors_are_frames_of_2_1() {
    check(
        V21,
        r#"[6,"a","NotifyPeriodicEventStream",{"id":1}]"#,
        &Sound(FrameKind::Send, "\"a\"", "NotifyPeriodicEventStream", "{\"id\":1}"),
    );
    check(
        V21,
        r#"[5,"a","FormatViolation","said",{}]"#,
        &Sound(FrameKind::ResultError, "\"a\"", "FormatViolation", "{}"),
    );
    for text in
        ["[6,\"a\"]", "[6,null,\"A\",{}]", "[6,\"a\",\"A\",[]]", "[5]", "[5,\"a\",1]", "[6,\"a\",\"A\",{"]
    {
        check(V21, text, &Silence);
    }
}

/// C05: not even when they are broken, in the middle or at the start.
#[test]
fn what_looks_like_an_answer_is_never_answered() {
    for text in [
        "[3]",
        "[3,\"a\"]",
        "[3,\"a\",{}",
        "[3,\"a\",[]]",
        "[3,null,{}]",
        "[3,\"a\",{},{}]",
        "[4]",
        "[4,\"a\"]",
        "[4,\"a\",null]",
        "[4,\"a\",\"b\",\"c\",{},{}]",
        "[4,\"\",\"b\"]",
        "[3,\"a\",{}]]",
        "[4,\"",
    ] {
        check_all(text, &Silence, &Silence, &Silence);
    }
}

#[test]
fn a_broken_answer_still_says_which_call_it_is_for() {
    for text in
        ["[3,\"a\",{\"status\":\"Acc", "[3,\"a\"]", "[4,\"a\"]", "[3,\"a\",{}] x", "[3,\"a\",\"\\x\"]"]
    {
        let error = Frame::parse(&text.into(), V16).unwrap_err();
        assert_eq!(error.id, Some(MessageId::new("a")), "{text}");
        assert!(matches!(error.kind, Some(FrameKind::Result | FrameKind::Error)), "{text}");
    }
}

/// An independent parser is the judge of where elements begin and end.
#[test]
fn elements_are_where_an_independent_parser_finds_them() {
    for text in [
        r#"[2,"a","A",{}]"#,
        r#"[2,"\"]\\","A",{"x":"]}\\\"","y":[{},[],"[",{"]":"}"}]}]"#,
        r#"[ 2 , "a" , "A\u0042" , {"k" : [ 1 , -2.5e+10 , true , null ] } ]"#,
        r#"[2,"12345678","12345678",{"12345678":"12345678","1234567":"\\234567","a":"1234567\\"}]"#,
    ] {
        let judge: Vec<&RawValue> = serde_json::from_str(text).unwrap();
        let (elements, outcome) = scan::scan(text);
        assert_eq!((elements.count(), outcome), (judge.len(), Ok(())), "{text}");
        for (index, value) in judge.iter().enumerate() {
            assert_eq!(elements.get(index).unwrap().of(text), value.get(), "{text}");
        }
    }
}

#[test]
fn an_action_with_escapes_is_read_as_what_it_says() {
    let frame = Frame::parse(&r#"[2,"a","\u0048eart\u0062eat",{}]"#.into(), V16).unwrap();
    let Frame::Call { action, .. } = frame else { panic!() };
    assert_eq!(action, "Heartbeat");
}

#[test]
fn ids_are_compared_by_what_they_say() {
    let id = |json: &str| match Frame::parse(&format!("[2,{json},\"A\",{{}}]").into(), V16).unwrap() {
        Frame::Call { id, .. } => id,
        other => panic!("{other:?}"),
    };
    assert_eq!(id("\"1\""), id("\"\\u0031\""));
    assert_ne!(id("\"1\""), id("1"));
    assert_ne!(id("\"a\""), id("\"A\""));
    assert_eq!(id("\"a\\\"b\"").text(), "a\"b");
    assert_eq!(id("\"a\\\"b\""), MessageId::new("a\"b"));
    assert_eq!(id("17").text(), "17");
}

/// What stations in the field were seen to send, in our own words.
#[test]
fn odd_frames_of_the_field_are_taken_as_they_are() {
    let call = |id, action, payload| Sound(FrameKind::Call, id, action, payload);
    for (text, expected) in [
        // An id that looks like a UUID and is none.
        (
            r#"[2,"0badc0de-xyzw-4ea9-96ee","BootNotification",{}]"#,
            call("\"0badc0de-xyzw-4ea9-96ee\"", "BootNotification", "{}"),
        ),
        // Three numbers as an id, and white space after each comma.
        (r#"[2, "26-162-68", "MeterValues", {"a":1}]"#, call("\"26-162-68\"", "MeterValues", "{\"a\":1}")),
        // A whole document in a string.
        (
            r#"[2,"1","BootNotification",{"m":"{\"s\":\"1\"}"}]"#,
            call("\"1\"", "BootNotification", r#"{"m":"{\"s\":\"1\"}"}"#),
        ),
        // A number that fits no integer type, and a member twice.
        (
            r#"[2,"4","MeterValues",{"t":9223372036854775807,"t":2}]"#,
            call("\"4\"", "MeterValues", r#"{"t":9223372036854775807,"t":2}"#),
        ),
        // Line breaks between the members.
        ("[2,\"5\",\"A\",{\n\"a\" : 1\n}]", call("\"5\"", "A", "{\n\"a\" : 1\n}")),
        // Payloads that are no JSON inside: their reader says so, with the id of the call.
        (
            r#"[2,"6","MeterValues",{"s":[,{"v":"1"}]}]"#,
            call("\"6\"", "MeterValues", r#"{"s":[,{"v":"1"}]}"#),
        ),
        (r#"[2,"7","MeterValues",{"t":,"v":1}]"#, call("\"7\"", "MeterValues", r#"{"t":,"v":1}"#)),
        // An error with a text for details, and one with an id longer than any id may be.
        (
            r#"[4,"8","InternalError","x","SQL ["]"#,
            Sound(FrameKind::Error, "\"8\"", "InternalError", "\"SQL [\""),
        ),
    ] {
        check(V16, text, &expected);
    }
    check(V16, &format!("[4,\"{}\",\"FormationViolation\",\"\",{{}}]", "9".repeat(37)), &Silence);
    check(V16, r#"[1,"a","StartTransaction",{"connectorId":1}]"#, &Silence);
}

#[test]
fn a_head_is_read_as_the_whole_would_be_or_not_at_all() {
    for (text, reads) in [
        (r#"[2,"1","A",{}]"#, true),
        (" [ 2 , \"1\" , \"A\" , {\"a\":[1,{}]} ] \n", true),
        (r#"[2,7,"A",{"b":"]"}]"#, true),
        (r#"[3,"1",{}]"#, false),
        (r#"[4,"1","A","",{}]"#, false),
        (r#"[9,"1","A",{}]"#, false),
        (r#"[2,"","A",{}]"#, false),
        (r#"[2,"1","A",[]]"#, false),
        (r#"[2,"1","A",null]"#, false),
        (r#"[2,"1","A",{}"#, false),
        (r#"[2,"1","A"]"#, false),
        (r#"[2,"1","A",]"#, false),
        (r#"[2"1","A",{}]"#, false),
        ("", false),
    ] {
        let text = ByteString::from(text);
        let head = Frame::parse_head(&text, Version::V16);
        assert_eq!(head.is_some(), reads, "{text}");
        if let Some(head) = head {
            assert_eq!(Ok(head), Frame::parse(&text, Version::V16).map_err(|_| ()), "{text}");
        }
    }
    // What only looks like a payload is left to its reader.
    let text = ByteString::from_static(r#"[2,"1","A",{},{}]"#);
    let Some(Frame::Call { payload, .. }) = Frame::parse_head(&text, Version::V16) else { panic!("no head") };
    assert_eq!(payload, "{},{}");
}
