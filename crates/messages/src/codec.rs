//! Reading and writing of whole messages: the typed reader in front, the schema check behind.

use crate::check::{self, not_json};
use crate::contract::{Decoded, Mode, Violation, ViolationKind, Violations};
use crate::read::{Value, read};
use crate::schema::Schema;
use crate::write::{Write, Writer};
use std::borrow::Cow;

pub(crate) fn decode<T: Value>(
    payload: &[u8],
    mode: Mode,
    schema: &Schema,
) -> Result<Decoded<T>, Violations> {
    let Ok(text) = str::from_utf8(payload) else { return Err(Violations(vec![not_json()])) };
    if schema.exact
        && let Ok(value) = read(text, false)
    {
        return Ok(Decoded { value, warnings: Vec::new() });
    }
    let warnings = check::check(text, mode, schema).into_result()?;
    // F07: `null` in the place of the payload counts as an empty object.
    let text = if text.trim_ascii() == "null" { "{}" } else { text };
    match read(text, true) {
        Ok(value) => Ok(Decoded { value, warnings }),
        Err(_) => Err(unreadable()),
    }
}

pub(crate) fn encode(value: &dyn Write, out: &mut Vec<u8>, schema: &Schema) -> Result<(), Violations> {
    let before = out.len();
    value.write(&mut Writer::new(out));
    // What was written is judged, not what was meant: nothing else can promise V09.
    let verdict = validate(out.get(before..).unwrap_or_default(), Mode::Strict, schema);
    match verdict.into_result() {
        Ok(_) => Ok(()),
        Err(violations) => {
            out.truncate(before);
            Err(violations)
        }
    }
}

pub(crate) fn validate(payload: &[u8], mode: Mode, schema: &Schema) -> check::Findings {
    match str::from_utf8(payload) {
        Ok(text) => check::check(text, mode, schema),
        Err(_) => check::Findings { violations: vec![not_json()], warnings: Vec::new() },
    }
}

/// The check found nothing that refuses the message, and yet it cannot be read into its type. Tests hold that this
/// does not happen; if it ever does, the message is refused and not half read.
fn unreadable() -> Violations {
    Violations(vec![Violation {
        kind: ViolationKind::NotAnObject,
        pointer: String::new(),
        expected: Cow::Borrowed("a message that can be read"),
    }])
}

#[cfg(test)]
#[cfg(all(feature = "v16", feature = "v201"))]
mod tests {
    use super::*;
    use crate::generated::{v16, v201};
    use crate::scan::Scanner;
    use proptest::prelude::*;
    use std::fmt::Debug;

    /// Payloads that the mutations start from: all kinds of values are among them.
    const METER_VALUES: &str = r#"{"connectorId":1,"transactionId":7,"meterValue":[{"timestamp":"2024-01-01T00:00:00Z","sampledValue":[{"value":"1","unit":"Wh","context":"Trigger"},{"value":"2"}]}]}"#;
    const PROFILE: &str = r#"{"connectorId":0,"csChargingProfiles":{"chargingProfileId":1,"stackLevel":0,"chargingProfilePurpose":"TxProfile","chargingProfileKind":"Absolute","validFrom":"2024-01-01T00:00:00Z","chargingSchedule":{"chargingRateUnit":"A","chargingSchedulePeriod":[{"startPeriod":0,"limit":16.5,"numberPhases":3}],"minChargingRate":0.1}}}"#;
    const EVENT: &str = r#"{"eventType":"Started","timestamp":"2024-01-01T00:00:00Z","triggerReason":"Authorized","seqNo":0,"offline":true,"transactionInfo":{"transactionId":"t"},"idToken":{"idToken":"A1","type":"Central"},"meterValue":[{"timestamp":"2024-01-01T00:00:00Z","sampledValue":[{"value":1.10,"unitOfMeasure":{"unit":"Wh"}}]}],"customData":{"vendorId":"v","x":[1,null]}}"#;
    const DATA: &str =
        r#"{"vendorId":"v","messageId":"m","data":{"a":[1.0,null]},"customData":{"vendorId":"w"}}"#;
    const STOP: &str = r#"{"meterStop":5,"timestamp":"2024-01-01T00:00:00Z","transactionId":7,"reason":"Local","transactionData":[{"timestamp":"2024-01-01T00:00:00Z","sampledValue":[{"value":"1","unit":"Wh"}]}]}"#;

    /// What may come in the place of a token, or between two.
    const TOKENS: &[&str] = &[
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "null",
        "true",
        "0",
        "-1.5",
        "5.0",
        "21.45",
        "1e400",
        "\"\"",
        "\"x\"",
        "\"Wh\"",
        "\"Hertz\"",
        "\"value\"",
        "\"unit\"",
        "\"timestamp\"",
        "\"2024-01-01T00:00:00Z\"",
        "\"2024-01-01 00:00:00\"",
        "\"vendorId\"",
        "\"connectorId\"",
        "\"\\u0075nit\"",
        "\"unknown\"",
        "\"unknown\":1,",
        "\"connectorId\":2,",
        "\"reason\":null,",
        "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"",
        "\"unit\":\"\",",
    ];

    fn tokens(text: &str) -> Vec<String> {
        let mut tokens = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let length = if "{}[],:".contains(first) {
                1
            } else {
                let mut scanner = Scanner::new(rest);
                scanner.value().unwrap().len()
            };
            tokens.push(rest[..length].to_owned());
            rest = &rest[length..];
        }
        tokens
    }

    fn mutated(seed: &'static str) -> impl Strategy<Value = String> {
        let edit = (any::<prop::sample::Index>(), 0..4, 0..TOKENS.len());
        prop::collection::vec(edit, 0..4).prop_map(move |edits| {
            let mut tokens = tokens(seed);
            for (place, kind, token) in edits {
                let at = place.index(tokens.len());
                match kind {
                    0 => tokens[at] = TOKENS[token].to_owned(),
                    1 => tokens.insert(at, TOKENS[token].to_owned()),
                    2 => tokens.insert(at, tokens[at].clone()),
                    _ if tokens.len() > 1 => drop(tokens.remove(at)),
                    _ => {}
                }
            }
            tokens.concat()
        })
    }

    fn reader_and_check_agree<T: Value + Write + PartialEq + Debug>(text: &str, schema: &Schema) {
        let strict = check::check(text, Mode::Strict, schema);
        let fast = read::<T>(text, false);
        assert!(strict.warnings.is_empty());
        if schema.exact {
            assert_eq!(fast.is_ok(), strict.violations.is_empty(), "{:?}", strict.violations);
        }
        let decoded = decode::<T>(text.as_bytes(), Mode::Strict, schema);
        assert_eq!(decoded.is_ok(), strict.violations.is_empty(), "{:?}", strict.violations);
        if let Ok(decoded) = decoded {
            let mut out = Vec::new();
            encode(&decoded.value, &mut out, schema).unwrap();
            assert_eq!(decode::<T>(&out, Mode::Strict, schema).unwrap().value, decoded.value);
        }

        let lenient = check::check(text, Mode::Lenient, schema);
        let decoded = decode::<T>(text.as_bytes(), Mode::Lenient, schema);
        match decoded {
            Ok(decoded) => {
                assert!(lenient.violations.is_empty());
                assert_eq!(decoded.warnings, lenient.warnings);
                assert_eq!(decoded.warnings.is_empty(), strict.violations.is_empty());
                // What was read leniently is written strictly, or not at all.
                let mut out = b"kept".to_vec();
                match encode(&decoded.value, &mut out, schema) {
                    Ok(()) => {
                        assert_eq!(
                            decode::<T>(&out[4..], Mode::Strict, schema).unwrap().value,
                            decoded.value
                        );
                    }
                    Err(violations) => assert!(!violations.0.is_empty() && out == b"kept"),
                }
            }
            // The very violations of the check, so that there is no message which passes it and cannot be read.
            Err(violations) => assert_eq!(violations.0, lenient.violations),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn meter_values_are_read_as_they_are_checked(text in mutated(METER_VALUES)) {
            reader_and_check_agree::<v16::MeterValuesRequest>(&text, &v16::schema::METER_VALUES_REQUEST_SCHEMA);
        }

        #[test]
        fn profiles_are_read_as_they_are_checked(text in mutated(PROFILE)) {
            reader_and_check_agree::<v16::SetChargingProfileRequest>(&text, &v16::schema::SET_CHARGING_PROFILE_REQUEST_SCHEMA);
        }

        #[test]
        fn transaction_events_are_read_as_they_are_checked(text in mutated(EVENT)) {
            reader_and_check_agree::<v201::TransactionEventRequest>(&text, &v201::schema::TRANSACTION_EVENT_REQUEST_SCHEMA);
        }

        #[test]
        fn open_data_is_read_as_it_is_checked(text in mutated(DATA)) {
            reader_and_check_agree::<v201::DataTransferRequest>(&text, &v201::schema::DATA_TRANSFER_REQUEST_SCHEMA);
        }

        #[test]
        fn messages_that_share_a_type_are_read_as_they_are_checked(text in mutated(STOP)) {
            reader_and_check_agree::<v16::StopTransactionRequest>(&text, &v16::schema::STOP_TRANSACTION_REQUEST_SCHEMA);
        }

        #[test]
        fn no_text_is_too_strange(text in ".{0,60}") {
            reader_and_check_agree::<v16::BootNotificationRequest>(&text, &v16::schema::BOOT_NOTIFICATION_REQUEST_SCHEMA);
        }
    }
}
