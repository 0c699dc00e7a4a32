//! Texts that mean harm, and texts that mean nothing. The check is that of the fuzz target; here a generator feeds it.
#![cfg(all(feature = "v16", feature = "v201", feature = "v21"))]
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a test fails by panicking, and the fuzz target's body lives elsewhere, too"
)]

#[path = "../../../fuzz/src/decode.rs"]
mod decode;

use proptest::prelude::*;
use switchboard_messages::{Mode, Sender, v16};

/// JSON of the shapes that messages have, with members that some of them know.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        "-?[0-9]{1,30}(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,5})?".prop_map(|value| value),
        "\"[ -!#-\\[\\]-~]{0,40}\"".prop_map(|value| value),
        Just("\"2024-02-29T23:59:60.123456789+05:45\"".to_owned()),
        Just("\"Accepted\"".to_owned()),
        Just("\"\\ud83d\\ude00\\u0000\"".to_owned()),
        ".{0,6}",
    ];
    let name = prop::sample::select(vec![
        "status",
        "idTag",
        "connectorId",
        "meterValue",
        "sampledValue",
        "value",
        "timestamp",
        "transactionId",
        "customData",
        "vendorId",
        "idToken",
        "evse",
        "id",
        "eventType",
        "seqNo",
        "transactionInfo",
        "x",
    ]);
    leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec((name.clone(), inner), 0..6).prop_map(|members| {
                let members: Vec<_> =
                    members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_is_read_can_be_written_and_read_again(which in any::<u16>(), text in json()) {
        decode::check(usize::from(which), &text);
    }
}

#[test]
fn a_mebibyte_of_malice_is_answered_with_few_words() {
    let large = 1 << 20;
    let sample = r#"{"value":"1"}"#;
    let wrong = r#"{"value":1,"x":null}"#;
    let fill = |piece: &str| vec![piece; large / piece.len()].join(",");
    for (name, payload) in [
        ("good samples", metered(&fill(sample))),
        ("bad samples", metered(&fill(wrong))),
        ("nulls", metered(&fill("null"))),
        ("one member again and again", format!("{{{}}}", fill(r#""connectorId":1"#))),
        (
            "unknown members",
            format!(
                "{{{}}}",
                (0..large / 12).map(|n| format!("\"m{n}\":{{}}")).collect::<Vec<_>>().join(",")
            ),
        ),
        (
            "a number of a million digits",
            format!(r#"{{"connectorId":{},"meterValue":[]}}"#, "9".repeat(large)),
        ),
        (
            "an exponent of a million digits",
            format!(r#"{{"connectorId":1e{},"meterValue":[]}}"#, "9".repeat(large)),
        ),
        ("brackets", format!(r#"{{"meterValue":{}"#, "[".repeat(large))),
        ("escapes", format!(r#"{{"meterValue":"{}"}}"#, "\\u0041".repeat(large / 6))),
    ] {
        for mode in [Mode::Strict, Mode::Lenient] {
            match v16::decode("MeterValues", Sender::Station, payload.as_bytes(), mode) {
                Ok(decoded) => assert!(decoded.warnings.len() <= 100, "{name}: {}", decoded.warnings.len()),
                Err(error) => {
                    assert!(error.to_string().len() < 64 * 1024, "{name}: {}", error.to_string().len());
                }
            }
        }
    }
}

fn metered(samples: &str) -> String {
    format!(
        r#"{{"connectorId":1,"meterValue":[{{"timestamp":"2024-01-01T00:00:00Z","sampledValue":[{samples}]}}]}}"#
    )
}
