//! Rows V01 to V09 of the behaviours, one test each, with the codes as each version spells them.
#![cfg(all(feature = "v16", feature = "v201", feature = "v21"))]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails panics")]

use switchboard_messages::{
    Decimal, DecodeError, Json, Message, Mode, Request, Sender, Timestamp, Version, Violation, ViolationKind,
    v16, v21, v201,
};

const START: &str = r#"{"connectorId":1,"idTag":"A1","meterStart":0,"timestamp":"2024-01-01T00:00:00Z"}"#;
const EVENT: &str = r#"{"eventType":"Started","timestamp":"2024-01-01T00:00:00Z","triggerReason":"Authorized","seqNo":0,"transactionInfo":{"transactionId":"t"}}"#;

/// What strict reading answers: the first violation's code as the version spells it, and its place.
fn refusal<T: Message>(payload: &str) -> (&'static str, String) {
    let violations = T::decode(payload.as_bytes(), Mode::Strict).map(|_| ()).expect_err(payload);
    (violations.code().as_str(T::VERSION), violations.0[0].pointer.clone())
}

/// What was found, and where.
type Places = Vec<(ViolationKind, String)>;

/// What lenient reading says: the warnings, or the violations.
fn lenient<T: Message>(payload: &str) -> Result<(T, Places), Places> {
    let places = |violations: Vec<Violation>| -> Places {
        violations.into_iter().map(|violation| (violation.kind, violation.pointer)).collect()
    };
    match T::decode(payload.as_bytes(), Mode::Lenient) {
        Ok(decoded) => Ok((decoded.value, places(decoded.warnings))),
        Err(violations) => Err(places(violations.0)),
    }
}

fn forgiven<T: Message>(payload: &str, kind: ViolationKind, pointer: &str) -> T {
    let (value, warnings) =
        lenient::<T>(payload).unwrap_or_else(|violations| panic!("{payload}: {violations:?}"));
    assert_eq!(warnings, [(kind, pointer.to_owned())], "{payload}");
    value
}

fn written(message: &impl Message) -> String {
    let mut out = Vec::new();
    message.encode(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn v01_an_unknown_action_is_not_implemented_and_a_wrong_direction_not_supported() {
    let rows = [
        ("heartbeat", Sender::Station, DecodeError::UnknownAction, "NotImplemented"),
        ("TransactionEvent", Sender::Station, DecodeError::UnknownAction, "NotImplemented"),
        ("Reset", Sender::Station, DecodeError::WrongDirection, "NotSupported"),
        ("Heartbeat", Sender::Csms, DecodeError::WrongDirection, "NotSupported"),
    ];
    for (action, sender, error, code) in rows {
        let found = v16::decode(action, sender, b"{}", Mode::Strict).unwrap_err();
        assert_eq!(found, error, "{action}");
        assert_eq!(found.code().as_str(Version::V16), code, "{action}");
    }
    for sender in [Sender::Station, Sender::Csms, Sender::Either] {
        assert!(
            v16::decode("DataTransfer", sender, br#"{"vendorId":"v"}"#, Mode::Strict).is_ok(),
            "{sender:?}"
        );
    }
    assert!(v21::validate("NotifyPeriodicEventStream", true, b"{}").is_none());
    const { assert!(!v21::NotifyPeriodicEventStreamRequest::HAS_RESPONSE) };
}

#[test]
fn v02_a_missing_member_is_an_occurrence_violation_numbers_and_booleans_too() {
    for member in ["connectorId", "idTag", "meterStart", "timestamp"] {
        let payload = START.replace(&format!("\"{member}\":"), "\"x\":");
        let violations = v16::StartTransactionRequest::decode(payload.as_bytes(), Mode::Lenient).unwrap_err();
        assert_eq!(violations.0[0].kind, ViolationKind::MissingMember, "{member}");
        assert_eq!(violations.0[0].pointer, format!("/{member}"));
        assert_eq!(violations.code().as_str(Version::V16), "OccurenceConstraintViolation");
    }
    let no_value = r#"{"configurationKey":[{"key":"a"}]}"#;
    assert_eq!(
        refusal::<v16::GetConfigurationResponse>(no_value),
        ("OccurenceConstraintViolation", "/configurationKey/0/readonly".to_owned())
    );
    let no_sequence = EVENT.replace("\"seqNo\":0,", "");
    assert_eq!(
        refusal::<v201::TransactionEventRequest>(&no_sequence),
        ("OccurrenceConstraintViolation", "/seqNo".to_owned())
    );
    let no_items = r#"{"evseId":1,"meterValue":[]}"#;
    assert_eq!(
        refusal::<v201::MeterValuesRequest>(no_items),
        ("OccurrenceConstraintViolation", "/meterValue".to_owned())
    );
}

#[test]
fn v03_a_wrong_json_type_is_a_type_violation() {
    let rows = [
        (START.replace("\"A1\"", "7"), "/idTag"),
        (START.replace("\"meterStart\":0", "\"meterStart\":\"0\""), "/meterStart"),
        (START.replace("\"meterStart\":0", "\"meterStart\":0.5"), "/meterStart"),
        (START.replace("\"meterStart\":0", "\"meterStart\":null"), "/meterStart"),
        (START.replace("\"connectorId\":1", "\"connectorId\":[1]"), "/connectorId"),
    ];
    for (payload, pointer) in rows {
        assert_eq!(
            refusal::<v16::StartTransactionRequest>(&payload),
            ("TypeConstraintViolation", pointer.to_owned()),
            "{payload}"
        );
    }
    let array = r#"{"connectorId":1,"meterValue":{}}"#;
    assert_eq!(
        refusal::<v16::MeterValuesRequest>(array),
        ("TypeConstraintViolation", "/meterValue".to_owned())
    );
}

#[test]
fn v04_a_value_that_is_not_allowed_is_a_property_violation() {
    let rows = [
        (START.replace("A1", &"x".repeat(21)), "/idTag"),
        (START.replace("2024-01-01T00:00:00Z", "yesterday"), "/timestamp"),
        (START.replace("2024-01-01T00:00:00Z", "2024-01-01T00:00:00"), "/timestamp"),
        (START.replace("2024-01-01T00:00:00Z", "2023-02-29T00:00:00Z"), "/timestamp"),
    ];
    for (payload, pointer) in rows {
        assert_eq!(
            refusal::<v16::StartTransactionRequest>(&payload),
            ("PropertyConstraintViolation", pointer.to_owned()),
            "{payload}"
        );
    }
    let status = r#"{"connectorId":1,"errorCode":"NoError","status":"available"}"#;
    assert_eq!(
        refusal::<v16::StatusNotificationRequest>(status),
        ("PropertyConstraintViolation", "/status".to_owned())
    );
    let sequence = EVENT.replace("\"seqNo\":0", "\"seqNo\":-1");
    assert_eq!(
        refusal::<v21::TransactionEventRequest>(&sequence),
        ("PropertyConstraintViolation", "/seqNo".to_owned())
    );
}

#[test]
fn v04_lengths_are_counted_in_characters() {
    let plugs = START.replace("A1", &"\u{1f50c}".repeat(20));
    assert!(v16::StartTransactionRequest::decode(plugs.as_bytes(), Mode::Strict).is_ok());
    let escaped = START.replace("A1", &r"\ud83d\udd0c".repeat(21));
    assert_eq!(
        refusal::<v16::StartTransactionRequest>(&escaped),
        ("PropertyConstraintViolation", "/idTag".to_owned())
    );
}

#[test]
fn v05_no_object_or_an_unknown_member_is_a_format_violation() {
    for payload in ["[]", "\"{}\"", "1", "null", "", "{", "{}x", "{\"a\":}", "\u{feff}{}"] {
        assert_eq!(
            refusal::<v16::HeartbeatRequest>(payload),
            ("FormationViolation", String::new()),
            "{payload}"
        );
        assert_eq!(
            refusal::<v201::HeartbeatRequest>(payload),
            ("FormatViolation", String::new()),
            "{payload}"
        );
    }
    assert_eq!(
        refusal::<v16::HeartbeatRequest>("{\"a/b~\":1}"),
        ("FormationViolation", "/a~1b~0".to_owned())
    );
    assert_eq!(refusal::<v201::HeartbeatRequest>("{\"a\":1}"), ("FormatViolation", "/a".to_owned()));
    let twice = START.replace("\"connectorId\":1", "\"connectorId\":1,\"connectorId\":2");
    assert_eq!(
        refusal::<v16::StartTransactionRequest>(&twice),
        ("FormationViolation", "/connectorId".to_owned())
    );
    let no_utf8 = v16::HeartbeatRequest::decode(b"{\"\xff\":1}", Mode::Lenient).unwrap_err();
    assert_eq!(no_utf8.0[0].kind, ViolationKind::NotJson);
}

#[test]
fn v05_json_that_is_nested_too_deeply_is_refused_and_costs_no_stack() {
    let nested =
        |depth: usize| format!(r#"{{"vendorId":"v","data":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert!(v201::DataTransferRequest::decode(nested(31).as_bytes(), Mode::Strict).is_ok());
    for mode in [Mode::Strict, Mode::Lenient] {
        for depth in [32, 1_000_000] {
            let refused = v201::DataTransferRequest::decode(nested(depth).as_bytes(), mode).unwrap_err();
            assert_eq!(refused.0[0].kind, ViolationKind::NotJson);
        }
    }
}

#[test]
fn violations_come_in_the_order_of_the_text_and_missing_members_last() {
    let payload = r#"{"meterStart":"0","extra":1,"idTag":"A1","timestamp":"x"}"#;
    let violations = v16::StartTransactionRequest::decode(payload.as_bytes(), Mode::Strict).unwrap_err();
    let found: Vec<_> =
        violations.0.iter().map(|violation| (violation.kind, violation.pointer.as_str())).collect();
    assert_eq!(
        found,
        [
            (ViolationKind::WrongType, "/meterStart"),
            (ViolationKind::UnknownMember, "/extra"),
            (ViolationKind::BadDateTime, "/timestamp"),
            (ViolationKind::MissingMember, "/connectorId"),
        ]
    );
    assert_eq!(violations.to_string(), "/meterStart: an integer");
}

#[test]
fn violations_of_a_hostile_message_are_bounded_and_echo_no_values() {
    let members: Vec<String> =
        (0..5000).map(|index| format!("\"{}{index}\":\"secret\"", "k".repeat(1000))).collect();
    let payload = format!("{{{}}}", members.join(","));
    for mode in [Mode::Strict, Mode::Lenient] {
        let found = match v16::HeartbeatRequest::decode(payload.as_bytes(), mode) {
            Ok(decoded) => decoded.warnings,
            Err(violations) => violations.0,
        };
        assert_eq!(found.len(), 100);
        assert!(
            found
                .iter()
                .all(|violation| violation.pointer.len() < 100 && !violation.to_string().contains("secret"))
        );
    }
}

#[test]
fn v07_a_multiple_of_a_tenth_is_told_in_decimals() {
    let profile = |limit: &str| {
        format!(
            r#"{{"connectorId":1,"csChargingProfiles":{{"chargingProfileId":1,"stackLevel":0,"chargingProfilePurpose":"TxProfile","chargingProfileKind":"Absolute","chargingSchedule":{{"chargingRateUnit":"A","chargingSchedulePeriod":[{{"startPeriod":0,"limit":{limit}}}]}}}}}}"#
        )
    };
    for limit in ["21.4", "0.3", "16", "1e2", "32.10", "123456789012.7"] {
        let decoded =
            v16::SetChargingProfileRequest::decode(profile(limit).as_bytes(), Mode::Strict).unwrap();
        let schedule = &decoded.value.cs_charging_profiles.charging_schedule;
        assert_eq!(schedule.charging_schedule_period[0].limit.as_str(), limit);
        assert_eq!(written(&decoded.value), profile(limit));
    }
    let pointer = "/csChargingProfiles/chargingSchedule/chargingSchedulePeriod/0/limit";
    for limit in ["21.45", "0.01", "1e-2"] {
        assert_eq!(
            refusal::<v16::SetChargingProfileRequest>(&profile(limit)),
            ("PropertyConstraintViolation", pointer.to_owned())
        );
        let read: v16::SetChargingProfileRequest =
            forgiven(&profile(limit), ViolationKind::NotAMultiple, pointer);
        let schedule = &read.cs_charging_profiles.charging_schedule;
        assert_eq!(schedule.charging_schedule_period[0].limit, limit.parse().unwrap());
    }
}

#[test]
fn v08_lenient_reading_forgives_what_does_no_harm() {
    let null = START.replace('}', ",\"reservationId\":null}");
    let read: v16::StartTransactionRequest = forgiven(&null, ViolationKind::WrongType, "/reservationId");
    assert_eq!(read.reservation_id, None);

    let extra = START.replace('{', "{\"extra\":{\"a\":[1,null]},");
    let read: v16::StartTransactionRequest = forgiven(&extra, ViolationKind::UnknownMember, "/extra");
    assert_eq!(written(&read), START);

    let long = START.replace("A1", &"x".repeat(30));
    let read: v16::StartTransactionRequest = forgiven(&long, ViolationKind::TooLong, "/idTag");
    assert_eq!(read.id_tag.len(), 30);

    let status = r#"{"connectorId":1,"errorCode":"Error","status":"Faulted"}"#;
    let read: v16::StatusNotificationRequest = forgiven(status, ViolationKind::UnknownValue, "/errorCode");
    assert!(
        matches!(&read.error_code, v16::ChargePointErrorCode::Unlisted(text) if text.as_str() == "Error")
    );

    let zone = START.replace("00:00Z", "00:00+02");
    let read: v16::StartTransactionRequest = forgiven(&zone, ViolationKind::BadDateTime, "/timestamp");
    assert_eq!(read.timestamp.to_string(), "2023-12-31T22:00:00Z");

    let twice = START.replace("\"connectorId\":1", "\"connectorId\":1,\"connectorId\":2");
    let read: v16::StartTransactionRequest = forgiven(&twice, ViolationKind::DuplicateMember, "/connectorId");
    assert_eq!(read.connector_id, 2);

    let sequence = EVENT.replace("\"seqNo\":0", "\"seqNo\":-1");
    let read: v21::TransactionEventRequest = forgiven(&sequence, ViolationKind::OutOfRange, "/seqNo");
    assert_eq!(read.seq_no, -1);

    let _: v16::HeartbeatRequest = forgiven("null", ViolationKind::NotAnObject, "");
}

#[test]
fn v08_a_missing_or_null_number_never_becomes_zero() {
    for payload in
        [START.replace("\"meterStart\":0,", ""), START.replace("\"meterStart\":0", "\"meterStart\":null")]
    {
        let found = lenient::<v16::StartTransactionRequest>(&payload).unwrap_err();
        assert_eq!(found, [(ViolationKind::MissingMember, "/meterStart".to_owned())], "{payload}");
    }
    let overridden = START.replace("\"meterStart\":0", "\"meterStart\":5,\"meterStart\":null");
    let found = lenient::<v16::StartTransactionRequest>(&overridden).unwrap_err();
    assert_eq!(found, [(ViolationKind::MissingMember, "/meterStart".to_owned())]);
    let found = lenient::<v16::BootNotificationResponse>("null").unwrap_err();
    assert_eq!(found.len(), 3);
}

#[test]
fn v08_lenient_reading_changes_no_type_and_drops_no_value() {
    let rows = [
        START.replace("\"meterStart\":0", "\"meterStart\":\"0\""),
        START.replace("\"meterStart\":0", "\"meterStart\":true"),
        START.replace("\"A1\"", "7"),
        START.replace('}', ",\"reservationId\":\"\"}"),
        START.replace('}', ",\"reservationId\":1.5}"),
    ];
    for payload in rows {
        let found = lenient::<v16::StartTransactionRequest>(&payload).unwrap_err();
        assert_eq!(found[0].0, ViolationKind::WrongType, "{payload}");
    }
    let unreadable = START.replace("2024-01-01T00:00:00Z", "0");
    let found = lenient::<v16::StartTransactionRequest>(&unreadable).unwrap_err();
    assert_eq!(found, [(ViolationKind::BadDateTime, "/timestamp".to_owned())]);
    let null_item = r#"{"connectorId":1,"meterValue":[null]}"#;
    let found = lenient::<v16::MeterValuesRequest>(null_item).unwrap_err();
    assert_eq!(found, [(ViolationKind::WrongType, "/meterValue/0".to_owned())]);
}

#[test]
fn v08_an_empty_text_means_absent_where_nothing_else_can_be_meant() {
    let status = r#"{"connectorId":1,"errorCode":"NoError","status":"Available","timestamp":""}"#;
    let read: v16::StatusNotificationRequest = forgiven(status, ViolationKind::BadDateTime, "/timestamp");
    assert_eq!(read.timestamp, None);
    let stop = r#"{"meterStop":1,"timestamp":"2024-01-01T00:00:00Z","transactionId":1,"reason":""}"#;
    let read: v16::StopTransactionRequest = forgiven(stop, ViolationKind::UnknownValue, "/reason");
    assert_eq!(read.reason, None);
    // Required, it is a value that is not listed, and nothing is invented.
    let status = r#"{"connectorId":1,"errorCode":"","status":"Available"}"#;
    let read: v16::StatusNotificationRequest = forgiven(status, ViolationKind::UnknownValue, "/errorCode");
    assert_eq!(read.error_code.as_str(), "");
    // A text may be empty by the schema, and stays so.
    let boot = r#"{"chargePointVendor":"","chargePointModel":"m","iccid":""}"#;
    let (read, warnings) = lenient::<v16::BootNotificationRequest>(boot).unwrap();
    assert_eq!((read.charge_point_vendor.as_str(), read.iccid.as_deref(), warnings.len()), ("", Some(""), 0));
}

#[test]
fn v09_what_is_written_is_strictly_valid_or_nothing() {
    let mut out = b"before".to_vec();
    let long = v16::AuthorizeRequest::new("x".repeat(21));
    let violations = long.encode(&mut out).unwrap_err();
    assert_eq!((violations.0[0].kind, violations.0[0].pointer.as_str()), (ViolationKind::TooLong, "/idTag"));
    assert_eq!(out, b"before");

    let unlisted = v16::ResetResponse::new("Perhaps".into());
    assert_eq!(unlisted.encode(&mut out).unwrap_err().0[0].kind, ViolationKind::UnknownValue);
    let empty = v201::MeterValuesRequest::new(1, Vec::new());
    assert_eq!(empty.encode(&mut out).unwrap_err().0[0].kind, ViolationKind::TooFewItems);
    let uneven = v16::GetCompositeScheduleResponse {
        charging_schedule: Some(v16::ChargingSchedule::new(
            v16::ChargingRateUnit::A,
            vec![v16::ChargingSchedulePeriod::new(0, Decimal::from_f64(0.25).unwrap())],
        )),
        ..v16::GetCompositeScheduleResponse::new(v16::GetCompositeScheduleStatus::Accepted)
    };
    assert_eq!(uneven.encode(&mut out).unwrap_err().0[0].kind, ViolationKind::NotAMultiple);
    assert_eq!(out, b"before");
    long_enough().encode(&mut out).unwrap();
    assert_eq!(out, br#"before{"idTag":"A1"}"#);
}

fn long_enough() -> v16::AuthorizeRequest {
    v16::AuthorizeRequest::new("A1")
}

#[test]
fn numbers_timestamps_and_open_data_survive_a_round_trip() {
    let transfer = r#"{"data":{"b" : 1.10, "a":[123456789012345678901234567890],"b":null},"vendorId":"v"}"#;
    let read = v201::DataTransferRequest::decode(transfer.as_bytes(), Mode::Strict).unwrap().value;
    assert_eq!(written(&read), transfer);
    let null = r#"{"data":null,"vendorId":"v"}"#;
    let read = v201::DataTransferRequest::decode(null.as_bytes(), Mode::Lenient).unwrap();
    assert_eq!((written(&read.value).as_str(), read.warnings.len()), (null, 0));
    assert_eq!(read.value.data, Some(Json::parse("null").unwrap()));

    let custom = r#"{"customData":{"vendorId":"v","n":1.50,"o":{"x":null}}}"#;
    let read = v201::HeartbeatRequest::decode(custom.as_bytes(), Mode::Strict).unwrap().value;
    assert_eq!(written(&read), custom);
    assert_eq!(read.custom_data.unwrap().get("n").unwrap().as_str(), "1.50");

    let local = START.replace("00:00Z", "00:00.123456+02:00");
    let read = v16::StartTransactionRequest::decode(local.as_bytes(), Mode::Strict).unwrap().value;
    assert_eq!(read.timestamp.subsec_nanos(), 123_456_000);
    assert_eq!(written(&read), START.replace("2024-01-01T00:00:00Z", "2023-12-31T22:00:00.123Z"));

    let big = r#"{"connectorId":1,"transactionId":9223372036854775807,"meterValue":[{"timestamp":"2024-01-01T00:00:00Z","sampledValue":[{"value":"1"}]}]}"#;
    let read = v16::MeterValuesRequest::decode(big.as_bytes(), Mode::Strict).unwrap().value;
    assert_eq!(written(&read), big);
}

#[test]
fn messages_that_share_a_type_keep_their_own_rules() {
    let sample = |unit: &str| {
        format!(
            r#"[{{"timestamp":"2024-01-01T00:00:00Z","sampledValue":[{{"value":"50","unit":"{unit}"}}]}}]"#
        )
    };
    let meter = |values: &str| format!(r#"{{"connectorId":1,"meterValue":{values}}}"#);
    let stop = |values: &str| {
        format!(
            r#"{{"meterStop":1,"timestamp":"2024-01-01T00:00:00Z","transactionId":1,"transactionData":{values}}}"#
        )
    };
    for unit in ["Celcius", "Celsius"] {
        assert!(v16::MeterValuesRequest::decode(meter(&sample(unit)).as_bytes(), Mode::Strict).is_ok());
        assert!(v16::StopTransactionRequest::decode(stop(&sample(unit)).as_bytes(), Mode::Strict).is_ok());
    }
    assert!(v16::MeterValuesRequest::decode(meter(&sample("Hertz")).as_bytes(), Mode::Strict).is_ok());
    let pointer = "/transactionData/0/sampledValue/0/unit";
    let read: v16::StopTransactionRequest =
        forgiven(&stop(&sample("Hertz")), ViolationKind::UnknownValue, pointer);
    assert_eq!(read.transaction_data.unwrap()[0].sampled_value[0].unit, Some(v16::UnitOfMeasure::Hertz));
    // No sample at all is allowed in one and not in the other.
    let none = r#"[{"timestamp":"2024-01-01T00:00:00Z","sampledValue":[]}]"#;
    assert!(v16::StopTransactionRequest::decode(stop(none).as_bytes(), Mode::Strict).is_ok());
    assert_eq!(
        refusal::<v16::MeterValuesRequest>(&meter(none)),
        ("OccurenceConstraintViolation", "/meterValue/0/sampledValue".to_owned())
    );
}

#[test]
fn what_is_shown_in_logs_holds_no_tokens() {
    let shown =
        format!("{:?}", v16::StartTransactionRequest::decode(START.as_bytes(), Mode::Strict).unwrap().value);
    assert!(
        shown.starts_with("StartTransactionRequest {\"connectorId\":1,") && !shown.contains("A1"),
        "{shown}"
    );
    let change = v16::ChangeConfigurationRequest::new("AuthorizationKey", "hunter2");
    assert!(!format!("{change:?}").contains("hunter2"));
    let token = v201::AuthorizeRequest::new(v201::IdToken::new("DEADBEEF", v201::IdTokenEnum::ISO14443));
    assert!(!format!("{token:?}").contains("DEADBEEF"));
}

#[test]
fn any_message_is_read_by_the_name_of_its_action() {
    let read =
        v16::decode("StartTransaction", Sender::Station, START.as_bytes(), Mode::Strict).unwrap().value;
    assert_eq!(read.action(), "StartTransaction");
    let v16::AnyRequest::StartTransaction(start) = &read else { panic!("{read:?}") };
    assert_eq!(start.timestamp, Timestamp::from_unix_millis(1_704_067_200_000));
    let mut out = Vec::new();
    read.encode(&mut out).unwrap();
    assert_eq!(out, START.as_bytes());
    let answer = v16::decode_response("Reset", br#"{"status":"Accepted"}"#, Mode::Strict).unwrap().value;
    assert_eq!(answer, v16::AnyResponse::from(v16::ResetResponse::new(v16::ResetStatus::Accepted)));
}
