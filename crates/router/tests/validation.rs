//! The rows V01 to V11: what is wrong with a message, and how the station learns it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{answer, assert_refused, context, frame, now, strict};
use std::sync::{Arc, Mutex};
use switchboard_messages::{v16, v21, v201};
use switchboard_router::{CallError, FromCall, Parts, Payload, Router, Unreadable, Warnings};
use switchboard_rpc::Version;

/// A router that accepts what can be read, in all versions.
fn router() -> Router {
    Router::new()
        .on(async |_: v16::BootNotificationRequest| {
            v16::BootNotificationResponse::new(v16::RegistrationStatus::Accepted, now(), 300)
        })
        .on(async |_: v201::BootNotificationRequest| {
            v201::BootNotificationResponse::new(now(), 300, v201::RegistrationStatus::Accepted)
        })
        .on(async |_: v21::BootNotificationRequest| {
            v21::BootNotificationResponse::new(now(), 300, v21::RegistrationStatus::Accepted)
        })
        .on(async |_: v16::MeterValuesRequest| v16::MeterValuesResponse {})
        .on(async |_: v16::StopTransactionRequest| v16::StopTransactionResponse { id_tag_info: None })
        .on(async |_: v16::StartTransactionRequest| -> v16::StartTransactionResponse {
            panic!("nothing sound comes here")
        })
        .on(async |_: v201::TransactionEventRequest| -> Result<v201::TransactionEventResponse, CallError> {
            panic!("nothing sound comes here")
        })
        .on(async |_: v201::MeterValuesRequest| v201::MeterValuesResponse { custom_data: None })
        .on(async |_: v21::TransactionEventRequest| -> Result<v21::TransactionEventResponse, CallError> {
            panic!("nothing sound comes here")
        })
}

fn call(action: &str, payload: &str) -> String {
    format!("[2,\"1\",\"{action}\",{payload}]")
}

#[test]
fn v01_what_is_unknown_is_not_implemented_and_what_is_not_served_is_not_supported() {
    let router = router();
    for (version, action, code) in [
        (Version::V16, "Nonsense", "NotImplemented"),
        (Version::V16, "bootNotification", "NotImplemented"),
        (Version::V16, "TransactionEvent", "NotImplemented"),
        (Version::V16, "Heartbeat", "NotSupported"),
        (Version::V16, "Reset", "NotSupported"),
        (Version::V16, "SignCertificate", "NotSupported"),
        (Version::V201, "StartTransaction", "NotImplemented"),
        (Version::V201, "BatterySwap", "NotImplemented"),
        (Version::V201, "Heartbeat", "NotSupported"),
        (Version::V201, "RequestStartTransaction", "NotSupported"),
        (Version::V21, "BatterySwap", "NotSupported"),
        (Version::V21, "", "NotImplemented"),
    ] {
        let row = format!("{version} {action}");
        assert_refused(&frame(&router, &context(version), &call(action, "{}")), code, &row);
        assert_refused(&frame(&router, &strict(version), &call(action, "{}")), code, &row);
    }
}

#[test]
fn v02_to_v05_each_violation_has_its_code_in_the_spelling_of_the_version() {
    let router = router();
    let boot_16 = |more: &str| format!("{{\"chargePointVendor\":\"V\"{more}}}");
    let boot_2 =
        |more: &str| format!("{{\"reason\":\"PowerUp\",\"chargingStation\":{{\"vendorName\":\"V\"{more}}}}}");
    let long = "x".repeat(21);
    let rows = [
        (
            "V02",
            boot_16(""),
            boot_2(""),
            "OccurenceConstraintViolation",
            "OccurrenceConstraintViolation",
            "odel",
        ),
        (
            "V03",
            boot_16(",\"chargePointModel\":7"),
            boot_2(",\"model\":7"),
            "TypeConstraintViolation",
            "TypeConstraintViolation",
            "odel",
        ),
        (
            "V04",
            boot_16(&format!(",\"chargePointModel\":\"{long}\"")),
            boot_2(&format!(",\"model\":\"{long}\"")),
            "PropertyConstraintViolation",
            "PropertyConstraintViolation",
            "odel",
        ),
        (
            "V05",
            boot_16(",\"chargePointModel\":\"M\",\"extra\":1"),
            boot_2(",\"model\":\"M\",\"extra\":1"),
            "FormationViolation",
            "FormatViolation",
            "/extra",
        ),
        ("V05", "[]".into(), "[]".into(), "FormationViolation", "FormatViolation", ""),
        ("V05", "\"x\"".into(), "7".into(), "FormationViolation", "FormatViolation", ""),
    ];
    for (row, payload_16, payload_2, code_16, code_2, place) in rows {
        for (version, payload, code) in [
            (Version::V16, &payload_16, code_16),
            (Version::V201, &payload_2, code_2),
            (Version::V21, &payload_2, code_2),
        ] {
            let answered = frame(&router, &strict(version), &call("BootNotification", payload));
            let row = format!("{row} {version} {payload}");
            assert_refused(&answered, code, &row);
            assert!(answered.contains(place), "{row}: {answered}");
            assert!(!answered.contains(&long), "{row}: {answered}");
        }
    }
}

#[test]
fn v06_a_handler_that_fails_shows_nothing_of_its_inside() {
    struct Bad;
    impl<S> FromCall<S> for Bad {
        fn from_call(_: &Parts<'_>, _: &S) -> Result<Self, CallError> {
            panic!("secret in an extractor")
        }
    }
    let secret = || std::io::Error::other("secret: password of the database");
    let routers = [
        (
            "an error",
            Router::new().on(move |_: v16::HeartbeatRequest| async move {
                Err::<v16::HeartbeatResponse, CallError>(secret().into())
            }),
        ),
        (
            "an error of its own type",
            Router::new().on(move |_: v16::HeartbeatRequest| async move {
                Err::<v16::HeartbeatResponse, std::io::Error>(secret())
            }),
        ),
        (
            "a panic",
            Router::new().on(async |_: v16::HeartbeatRequest| -> v16::HeartbeatResponse { panic!("secret") }),
        ),
        (
            "a panic before its future",
            Router::new().on(|_: v16::HeartbeatRequest| {
                if true {
                    panic!("secret");
                }
                async { v16::HeartbeatResponse { current_time: now() } }
            }),
        ),
        (
            "a panic in an extractor",
            Router::new()
                .on(async |_: Bad, _: v16::HeartbeatRequest| v16::HeartbeatResponse { current_time: now() }),
        ),
    ];
    for (row, router) in routers {
        let answered = frame(&router, &context(Version::V16), &call("Heartbeat", "{}"));
        assert_refused(&answered, "InternalError", row);
        assert!(!answered.contains("secret"), "{row}: {answered}");
    }
}

#[test]
fn v08_lenient_reading_passes_what_can_be_read_and_warns() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let pointers = seen.clone();
    let router =
        Router::new().on(move |Warnings(warnings): Warnings, request: v16::BootNotificationRequest| {
            pointers.lock().unwrap().extend(warnings.into_iter().map(|warning| warning.pointer));
            async move {
                assert_eq!(request.charge_point_vendor.len(), 30);
                v16::BootNotificationResponse::new(v16::RegistrationStatus::Accepted, now(), 300)
            }
        });
    let payload = format!(
        "{{\"chargePointVendor\":\"{}\",\"chargePointModel\":\"M\",\"imsi\":null,\"extra\":1}}",
        "x".repeat(30)
    );
    let answered = frame(&router, &context(Version::V16), &call("BootNotification", &payload));
    assert!(answered.starts_with("[3,"), "{answered}");
    assert_eq!(*seen.lock().unwrap(), ["/chargePointVendor", "/imsi", "/extra"]);
    let refused = frame(&router, &strict(Version::V16), &call("BootNotification", &payload));
    assert_refused(&refused, "PropertyConstraintViolation", "strict");
}

#[test]
fn v09_an_answer_that_is_not_valid_becomes_one_internal_error() {
    let router = Router::new().on(async |_: v16::AuthorizeRequest| v16::AuthorizeResponse {
        id_tag_info: v16::IdTagInfo {
            expiry_date: None,
            parent_id_tag: Some("x".repeat(21)),
            status: v16::AuthorizationStatus::Accepted,
        },
    });
    let answered = answer(&router, &context(Version::V16), &call("Authorize", "{\"idTag\":\"A\"}"));
    let text = String::from_utf8(answered.frame.unwrap().to_vec()).unwrap();
    assert_refused(&text, "InternalError", "V09");
    assert!(!text.contains('x'), "{text}");
}

/// The four, each with a payload that is an object and cannot be read into the type.
const UNREADABLE: [(Version, &str, &str); 6] = [
    (Version::V16, "StartTransaction", r#"{"connectorId":1,"idTag":"A","timestamp":"2023-11-14T22:13:20Z"}"#),
    (Version::V16, "StopTransaction", r#"{"transactionId":"seven","meterStop":1}"#),
    (Version::V16, "MeterValues", r#"{"connectorId":1}"#),
    (Version::V201, "TransactionEvent", "{}"),
    (Version::V201, "MeterValues", r#"{"evseId":"one","meterValue":[]}"#),
    (Version::V21, "TransactionEvent", r#"{"seqNo":[]}"#),
];

#[test]
fn v10_what_must_not_be_refused_goes_to_on_unreadable_and_is_answered_normally() {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let store = kept.clone();
    let router = router().on_unreadable(move |unreadable: Unreadable| {
        store.lock().unwrap().push(unreadable.payload.to_string());
        async move {
            assert!(!unreadable.violations.0.is_empty());
            if &*unreadable.action == "StartTransaction" {
                let accepted = v16::IdTagInfo::new(v16::AuthorizationStatus::Accepted);
                Payload::of(&v16::StartTransactionResponse { id_tag_info: accepted, transaction_id: 42 })
            } else {
                Ok(Payload::empty())
            }
        }
    });
    for (version, action, payload) in UNREADABLE {
        let answered = frame(&router, &context(version), &call(action, payload));
        let expected = if action == "StartTransaction" {
            r#"[3,"1",{"idTagInfo":{"status":"Accepted"},"transactionId":42}]"#
        } else {
            r#"[3,"1",{}]"#
        };
        assert_eq!(answered, expected, "{version} {action}");
        assert_eq!(kept.lock().unwrap().pop().as_deref(), Some(payload), "{version} {action}");
    }
}

#[test]
fn v10_without_on_unreadable_they_are_not_acknowledged_and_not_refused_for_their_content() {
    let router = router();
    for (version, action, payload) in UNREADABLE {
        let answered = frame(&router, &context(version), &call(action, payload));
        assert_refused(&answered, "InternalError", &format!("{version} {action}"));
    }
}

#[test]
fn v10_in_strict_mode_they_are_refused_like_everything_else() {
    let router = router().on_unreadable(async |_: Unreadable| -> Payload { panic!("strict") });
    for (version, action, payload) in UNREADABLE {
        let answered = frame(&router, &strict(version), &call(action, payload));
        assert!(
            answered.starts_with("[4,") && answered.contains("Violation"),
            "{version} {action}: {answered}"
        );
    }
}

#[test]
fn v10_covers_objects_only_and_these_four_only() {
    let router = router().on_unreadable(async |_: Unreadable| -> Payload { panic!("not for this") });
    for (version, action, payload, code) in [
        (Version::V16, "MeterValues", "[]", "FormationViolation"),
        (Version::V16, "MeterValues", r#"{"connectorId":}"#, "FormationViolation"),
        (Version::V201, "TransactionEvent", "7", "FormatViolation"),
        (Version::V16, "BootNotification", "{}", "OccurenceConstraintViolation"),
        (Version::V201, "BootNotification", "{}", "OccurrenceConstraintViolation"),
    ] {
        let answered = frame(&router, &context(version), &call(action, payload));
        assert_refused(&answered, code, &format!("{version} {action} {payload}"));
    }
}
