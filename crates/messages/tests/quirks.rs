//! What stations in the field were seen to send, read leniently and strictly.
#![cfg(all(feature = "v16", feature = "v201", feature = "v21"))]
#![expect(clippy::panic, reason = "a test tells its findings")]

use switchboard_messages::{Mode, Sender, ViolationKind, v16, v201};

/// What reading gives: refused with a kind and place, or read with warnings of these kinds.
enum Reads {
    With(&'static [(ViolationKind, &'static str)]),
    Not(ViolationKind, &'static str),
}
use Reads::{Not, With};

#[test]
fn requests_of_the_field_are_read_as_far_as_they_go() {
    let rows: &[(&str, &str, &str, Reads)] = &[
        (
            "empty optional texts",
            "BootNotification",
            r#"{"chargePointVendor":"V","chargePointModel":"M","iccid":"","imsi":""}"#,
            With(&[]),
        ),
        (
            "a timestamp without zone, reservation 0",
            "StartTransaction",
            r#"{"connectorId":1,"idTag":"t","meterStart":0,"reservationId":0,"timestamp":"2023-10-19T15:28:07"}"#,
            With(&[(ViolationKind::BadDateTime, "/timestamp")]),
        ),
        (
            "a zone of two digits",
            "StatusNotification",
            r#"{"connectorId":2,"errorCode":"NoError","status":"Preparing","timestamp":"2024-04-26T14:35:02+02"}"#,
            With(&[(ViolationKind::BadDateTime, "/timestamp")]),
        ),
        (
            "an hour of one digit",
            "StartTransaction",
            r#"{"connectorId":1,"idTag":"t","timestamp":"2022-07-10T3:11:55Z","meterStart":0}"#,
            With(&[(ViolationKind::BadDateTime, "/timestamp")]),
        ),
        (
            "a sampled value as a number",
            "MeterValues",
            r#"{"connectorId":1,"meterValue":[{"timestamp":"2022-03-25T07:59:21.000Z","sampledValue":[{"value":0,"unit":"Wh"}]}]}"#,
            Not(ViolationKind::WrongType, "/meterValue/0/sampledValue/0/value"),
        ),
        (
            "empty sampled values",
            "MeterValues",
            r#"{"meterValue":[{"timestamp":"2024-12-20T16:02:16Z","sampledValue":[{"context":"Trigger","value":""}]}],"connectorId":1}"#,
            With(&[]),
        ),
        (
            "no samples",
            "MeterValues",
            r#"{"connectorId":1,"meterValue":[{"timestamp":"2022-04-01T10:00:00Z","sampledValue":[]}]}"#,
            With(&[(ViolationKind::TooFewItems, "/meterValue/0/sampledValue")]),
        ),
        (
            "the largest transaction id and a context of its own",
            "MeterValues",
            r#"{"connectorId":1,"transactionId":9223372036854775807,"meterValue":[{"timestamp":"2020-09-19T15:14:23Z","sampledValue":[{"value":"16.000","context":"CurrentMax","unit":"A"}]}]}"#,
            With(&[(ViolationKind::UnknownValue, "/meterValue/0/sampledValue/0/context")]),
        ),
        (
            "units of its own, and the other spelling of Celsius",
            "MeterValues",
            r#"{"connectorId":1,"meterValue":[{"timestamp":"2025-03-12T12:37:37Z","sampledValue":[{"value":"14","unit":"Celsius"},{"value":"50","unit":"Hz"}]}]}"#,
            With(&[(ViolationKind::UnknownValue, "/meterValue/0/sampledValue/1/unit")]),
        ),
        (
            "an error code of its own",
            "StatusNotification",
            r#"{"connectorId":0,"errorCode":"Error","status":"Faulted","timestamp":"2024-08-03T16:16:55Z"}"#,
            With(&[(ViolationKind::UnknownValue, "/errorCode")]),
        ),
        (
            "members of its own",
            "StopTransaction",
            r#"{"connectorId":1,"idTag":"F","meterStop":1625,"timestamp":"2024-04-12T14:15:37.427Z","disconnectReason":"EVDisconnected","transactionId":1}"#,
            With(&[
                (ViolationKind::UnknownMember, "/connectorId"),
                (ViolationKind::UnknownMember, "/disconnectReason"),
            ]),
        ),
        (
            "a member twice, and one of its own",
            "StartTransaction",
            r#"{"connectorId":1,"connectorId":2,"idTag":"D","meterStart":0,"timestamp":"2023-11-06T10:00:00Z","custom":"x"}"#,
            With(&[
                (ViolationKind::DuplicateMember, "/connectorId"),
                (ViolationKind::UnknownMember, "/custom"),
            ]),
        ),
        (
            "a model that is a whole document",
            "BootNotification",
            r#"{"chargePointModel":"{\"chargeBoxSerialNumber\":\"1\",\"x\":null}","chargePointVendor":"oem"}"#,
            With(&[(ViolationKind::TooLong, "/chargePointModel")]),
        ),
        (
            "a transaction id of null",
            "MeterValues",
            r#"{"connectorId":1,"transactionId":null,"meterValue":[{"timestamp":"2024-01-01T00:00:00Z","sampledValue":[{"value":"1"}]}]}"#,
            With(&[(ViolationKind::WrongType, "/transactionId")]),
        ),
        (
            "the shape of 1.5",
            "MeterValues",
            r#"{"connectorId":2,"transactionId":1,"values":[{"timestamp":"2016-09-17T15:47:37Z","value":["100"]}]}"#,
            Not(ViolationKind::MissingMember, "/meterValue"),
        ),
        (
            "an odd run of backslashes",
            "StartTransaction",
            r#"{"connectorId":2,"idTag":"336699\\\","meterStart":3,"timestamp":"2022-07-28T09:41:15Z"}"#,
            Not(ViolationKind::NotJson, ""),
        ),
        (
            "a comma too many",
            "MeterValues",
            r#"{"connectorId":1,"meterValue":[{"timestamp":"2024-02-06T08:09:37Z","sampledValue":[,{"value":"1"}]}]}"#,
            Not(ViolationKind::NotJson, ""),
        ),
    ];
    for (name, action, payload, expected) in rows {
        let read = v16::decode(action, Sender::Station, payload.as_bytes(), Mode::Lenient);
        check(name, read.map(|decoded| decoded.warnings), expected);
        let clean = matches!(expected, With([]));
        let strict = v16::decode(action, Sender::Station, payload.as_bytes(), Mode::Strict);
        assert_eq!(strict.is_ok(), clean, "{name}, strictly");
    }
}

#[test]
fn responses_of_the_field_are_read_as_far_as_they_go() {
    let rows: &[(&str, &str, &str, Reads)] = &[
        (
            "dates of 0, an empty unit, no period",
            "GetCompositeSchedule",
            r#"{"status":"Rejected","connectorId":0,"chargingSchedule":{"duration":0,"chargingSchedulePeriod":[],"startSchedule":"0","chargingRateUnit":""},"scheduleStart":"0"}"#,
            Not(ViolationKind::BadDateTime, "/chargingSchedule/startSchedule"),
        ),
        (
            "a flag as a number",
            "GetConfiguration",
            r#"{"configurationKey":[{"key":"HeartbeatInterval","readonly":0,"value":"60"}]}"#,
            Not(ViolationKind::WrongType, "/configurationKey/0/readonly"),
        ),
        (
            "a flag as a text",
            "GetConfiguration",
            r#"{"configurationKey":[{"key":"AllowOfflineTxForUnknownId","readonly":false,"value":"0"}]}"#,
            With(&[]),
        ),
    ];
    for (name, action, payload, expected) in rows {
        let read = v16::decode_response(action, payload.as_bytes(), Mode::Lenient);
        check(name, read.map(|decoded| decoded.warnings), expected);
    }
}

#[test]
fn requests_of_2_0_1_are_read_as_far_as_they_go() {
    let rows: &[(&str, &str, &str, Reads)] = &[
        (
            "the shape of 2.0",
            "TransactionEvent",
            r#"{"eventType":"Started","timestamp":"2022-07-16T12:59:35Z","triggerReason":"Authorized","seqNo":0,"transactionData":{"id":"1"}}"#,
            Not(ViolationKind::MissingMember, "/transactionInfo"),
        ),
        (
            "no reason",
            "TransactionEvent",
            r#"{"eventType":"Ended","timestamp":"2025-03-10T10:00:00.000Z","seqNo":2,"transactionInfo":{"transactionId":"f3"}}"#,
            Not(ViolationKind::MissingMember, "/triggerReason"),
        ),
        (
            "the station itself as connector 0",
            "StatusNotification",
            r#"{"connectorId":0,"connectorStatus":"Available","evseId":0,"timestamp":"2023-11-09T11:41:29.225Z"}"#,
            With(&[]),
        ),
    ];
    for (name, action, payload, expected) in rows {
        let read = v201::decode(action, Sender::Station, payload.as_bytes(), Mode::Lenient);
        check(name, read.map(|decoded| decoded.warnings), expected);
    }
}

fn check(
    name: &str,
    read: Result<Vec<switchboard_messages::Violation>, switchboard_messages::DecodeError>,
    expected: &Reads,
) {
    match (read, expected) {
        (Ok(warnings), With(expected)) => {
            let found: Vec<_> =
                warnings.iter().map(|warning| (warning.kind, warning.pointer.as_str())).collect();
            assert_eq!(found, *expected, "{name}");
        }
        (Err(switchboard_messages::DecodeError::Violations(violations)), Not(kind, pointer)) => {
            let first = &violations.0[0];
            assert_eq!((first.kind, first.pointer.as_str()), (*kind, *pointer), "{name}");
        }
        (read, _) => panic!("{name}: {read:?}"),
    }
}
