//! Judges a command before it goes out: V09, what we send is strictly valid.

use crate::problem::{Place, Problem};
use switchboard_messages::{Mode, Sender, Violation, action, actions, response_faults, v16, v21, v201};
use switchboard_rpc::Version;

const RAW: &str = "send it as it is with \"raw\": true, or --raw on the command line";

/// Whether a command of this action with this payload may be sent to a station that speaks one of these versions.
///
/// # Errors
/// What is wrong with it, by the version that comes nearest.
pub(crate) fn judge(versions: &[Version], name: &str, payload: &[u8]) -> Result<(), Problem> {
    let mut refusal = None;
    for version in versions.iter().copied() {
        let Some(found) = action(version, name) else { continue };
        if found.sender == Sender::Station {
            let detail = format!(
                "{name} is what stations send in OCPP {}; it cannot be sent to one",
                version.as_str()
            );
            refusal.get_or_insert_with(|| Problem::bad_request("wrong_direction", detail));
            continue;
        }
        let violations = match version {
            Version::V16 => v16::validate(name, false, payload),
            Version::V201 => v201::validate(name, false, payload),
            Version::V21 => v21::validate(name, false, payload),
        }
        .unwrap_or_default();
        if violations.is_empty() {
            return Ok(());
        }
        refusal.get_or_insert_with(|| invalid(version, name, &violations));
    }
    Err(refusal.unwrap_or_else(|| unknown(versions, name)))
}

/// What is wrong with what a station answered, read leniently; nothing if it can be read, or nobody knows what is right.
pub(crate) fn faults(version: Version, name: &str, payload: &[u8]) -> Vec<Place> {
    let faults = response_faults(version, name, payload, Mode::Lenient);
    faults.iter().flat_map(|violations| &violations.0).map(place).collect()
}

fn place(violation: &Violation) -> Place {
    Place { pointer: violation.pointer.clone(), expected: format!("expected {}", violation.expected) }
}

fn invalid(version: Version, name: &str, violations: &[Violation]) -> Problem {
    let detail = format!("the payload is no {name} of OCPP {}", version.as_str());
    Problem::bad_request("invalid_payload", detail).at(violations.iter().map(place).collect()).hint(RAW)
}

fn unknown(versions: &[Version], name: &str) -> Problem {
    let spoken: Vec<&str> = versions.iter().map(|version| version.as_str()).collect();
    let mut detail = format!("OCPP {} has no action {name:?}", spoken.join(" and "));
    let similar = |candidate: &str| {
        let (candidate, name) = (candidate.to_lowercase(), name.to_lowercase());
        !name.is_empty() && (candidate.contains(&name) || name.contains(&candidate))
    };
    let mut guesses: Vec<&str> = versions
        .iter()
        .flat_map(|version| actions(*version))
        .filter(|action| action.sender != Sender::Station && similar(action.name))
        .map(|action| action.name)
        .collect();
    guesses.dedup();
    if !guesses.is_empty() {
        detail.push_str(&format!("; did you mean {}?", guesses.join(" or ")));
    }
    Problem::bad_request("unknown_action", detail).hint(RAW)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse;
    use serde_json::Value;

    async fn refused(versions: &[Version], name: &str, payload: &str) -> Value {
        let Err(problem) = judge(versions, name, payload.as_bytes()) else { return Value::Null };
        let response = problem.into_response();
        assert_eq!(response.status(), 400);
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[tokio::test]
    async fn what_is_valid_in_one_of_the_versions_may_go() {
        let start = r#"{"idTag":"A1"}"#;
        assert_eq!(refused(&[Version::V16], "RemoteStartTransaction", start).await, Value::Null);
        assert_eq!(refused(&Version::ALL, "RemoteStartTransaction", start).await, Value::Null);
        assert_eq!(refused(&Version::ALL, "DataTransfer", r#"{"vendorId":"x"}"#).await, Value::Null);
    }

    #[test]
    fn an_answer_that_cannot_be_read_says_where() {
        for (version, action, answer, pointer) in [
            (Version::V16, "Reset", r#"{"status":"Accepted"}"#, None),
            (Version::V16, "Reset", "{}", Some("/status")),
            (Version::V21, "Reset", r#"{"status":1}"#, Some("/status")),
            (Version::V21, "Frobnicate", "{}", None),
        ] {
            let faults = faults(version, action, answer.as_bytes());
            assert_eq!(faults.first().map(|place| place.pointer.as_str()), pointer, "{action} {answer}");
        }
    }

    #[tokio::test]
    async fn what_is_wrong_is_told_with_its_place() {
        for (name, versions, action, payload, error, text) in [
            ("missing", &[Version::V16][..], "RemoteStartTransaction", "{}", "invalid_payload", "/idTag"),
            (
                "wrong type",
                &[Version::V16],
                "RemoteStopTransaction",
                r#"{"transactionId":"1"}"#,
                "invalid_payload",
                "/transactionId",
            ),
            ("unknown member", &[Version::V16], "Reset", r#"{"type":"Soft","x":1}"#, "invalid_payload", "/x"),
            ("bad value", &[Version::V201], "Reset", r#"{"type":"Soft"}"#, "invalid_payload", "/type"),
            ("no object", &[Version::V16], "ClearCache", "[]", "invalid_payload", "pointer"),
            ("unknown", &[Version::V16], "Fly", "{}", "unknown_action", "Fly"),
            (
                "of another version",
                &[Version::V201],
                "RemoteStartTransaction",
                "{}",
                "unknown_action",
                "2.0.1",
            ),
            ("wrong case", &[Version::V16], "reset", "{}", "unknown_action", "did you mean Reset?"),
            (
                "wrong direction",
                &[Version::V16],
                "BootNotification",
                "{}",
                "wrong_direction",
                "stations send",
            ),
        ] {
            let body = refused(versions, action, payload).await;
            assert_eq!(body["error"], error, "{name}: {body}");
            assert!(body.to_string().contains(text), "{name}: {body}");
        }
    }
}
