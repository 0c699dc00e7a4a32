//! `switchboard send`.

use crate::{
    arguments::Send,
    client::{Client, segment},
    exit::{Exit, Failure},
    output,
    settings::Settings,
};
use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::{io::Read, time::Duration};

/// More is no payload.
const PAYLOAD_BYTES_MAX: u64 = 1 << 20;

/// Sends a command through the API and prints its outcome.
pub(crate) async fn send(command: Send, settings: &Settings) -> Result<Exit, Failure> {
    let text = if command.payload == "-" {
        let mut text = String::new();
        std::io::stdin()
            .take(PAYLOAD_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(|error| Failure::new(Exit::Data, format!("the payload cannot be read: {error}")))?;
        text
    } else {
        command.payload
    };
    let payload: &RawValue = serde_json::from_str(&text)
        .map_err(|error| Failure::new(Exit::Data, format!("the payload is not JSON: {error}")))?;
    let request = Request {
        action: &command.action,
        payload,
        timeout_ms: milliseconds(command.timeout),
        time_to_live_ms: command.ttl.map(milliseconds),
        key: command.key.as_deref(),
        lane: if command.urgent { "urgent" } else { "normal" },
        raw: command.raw,
    };
    let request = serde_json::to_string(&request).map_err(anyhow::Error::from)?;
    let path = format!("/v1/stations/{}/commands", segment(&command.station));
    // It may wait for its station, then for its turn, then for the answer.
    let longer = command.timeout.saturating_mul(2).saturating_add(command.ttl.unwrap_or_default());
    let client = Client::new(settings).patient(longer);
    let answer = tokio::select! {
        answer = client.request(Method::POST, &path, Some(request)) => answer?,
        _ = tokio::signal::ctrl_c() => {
            return Err(Failure::new(Exit::Interrupted, interrupted(&command.station, &command.action, command.ttl)));
        }
    };
    let outcome: Outcome<'_> = serde_json::from_str(&answer.text).map_err(|error| {
        Failure::new(Exit::Internal, format!("an outcome that nobody understands: {error}"))
    })?;
    if command.json {
        output::line(&answer.text)?;
    } else {
        output::note(sentence(&command.station, &command.action, &outcome))?;
        if let Some(payload) = outcome.payload {
            output::line(output::printable(payload.get()))?;
        }
    }
    exit(&outcome)
}

/// What the API is asked for. Numbers of the payload keep their digits.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    action: &'a str,
    payload: &'a RawValue,
    timeout_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_to_live_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    lane: &'static str,
    raw: bool,
}

/// What the API answers.
#[derive(Deserialize)]
struct Outcome<'a> {
    outcome: String,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    code: Option<String>,
    description: Option<String>,
    #[serde(default)]
    faults: Vec<Fault>,
}

/// Why an answer cannot be read.
#[derive(Deserialize)]
struct Fault {
    pointer: String,
    expected: String,
}

/// What is true of a command whose sender no longer waits.
fn interrupted(station: &str, action: &str, ttl: Option<Duration>) -> String {
    output::printable(&match ttl {
        Some(ttl) => format!(
            "no longer waiting; {action} is still sent to {station} if it comes within {}. With --key the same command \
             again tells what became of it, and `switchboard cancel` takes it back",
            crate::settings::duration_text(ttl)
        ),
        None => format!(
            "no longer waiting; {action} may have been sent to {station}, which may or may not have acted on it"
        ),
    })
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The outcome in a sentence.
fn sentence(station: &str, action: &str, outcome: &Outcome<'_>) -> String {
    let sentence = match outcome.outcome.as_str() {
        "answered" => format!("{station} answered {action}:"),
        "refused" => format!(
            "{station} refused {action}: {} {}",
            outcome.code.as_deref().unwrap_or_default(),
            outcome.description.as_deref().unwrap_or_default()
        ),
        "offline" => format!("{station} is not connected; {action} was not sent"),
        "busy" => format!("too many commands wait for {station}; {action} was not sent"),
        "expired" => format!("{action} waited too long for {station} and was never sent"),
        "cancelled" => format!("{action} was taken back before it was sent to {station}"),
        "notSent" => {
            format!(
                "{action} was not sent to {station}: the connection went before, or it may not be sent now"
            )
        }
        "unknown" => {
            format!("{action} was sent to {station} and no answer came; it may or may not have acted on it")
        }
        other => format!("{station}: {other}"),
    };
    let mut sentence = output::printable(sentence.trim_end());
    for Fault { pointer, expected } in &outcome.faults {
        sentence.push_str(&format!("\n  not a valid answer: {}: {expected}", output::printable(pointer)));
    }
    sentence
}

/// The exit code that tells the outcome.
fn exit(outcome: &Outcome<'_>) -> Result<Exit, Failure> {
    Ok(match outcome.outcome.as_str() {
        "answered" => Exit::Done,
        "refused" => Exit::Refused,
        "offline" => Exit::Offline,
        "busy" => Exit::Busy,
        "expired" => Exit::Expired,
        "cancelled" => Exit::Cancelled,
        "notSent" => Exit::NotSent,
        "unknown" => Exit::Unknown,
        other => {
            return Err(Failure::new(Exit::Internal, format!("an outcome that nobody knows: {other:?}")));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_exit_code_and_its_sentence() {
        for (outcome, code) in [
            ("answered", 0),
            ("refused", 1),
            ("offline", 3),
            ("busy", 4),
            ("expired", 5),
            ("cancelled", 6),
            ("notSent", 7),
            ("unknown", 8),
        ] {
            let text = format!(
                r#"{{"outcome":"{outcome}","code":"InternalError","description":"no","commandId":"x"}}"#
            );
            let outcome = serde_json::from_str(&text).unwrap();
            assert_eq!(exit(&outcome).unwrap() as u8, code, "{text}");
            let sentence = sentence("CP1", "Reset", &outcome);
            assert!(sentence.contains("CP1") && sentence.contains("Reset"), "{sentence}");
        }
        assert_eq!(
            exit(&serde_json::from_str(r#"{"outcome":"new"}"#).unwrap()).unwrap_err().exit,
            Exit::Internal
        );
    }

    #[test]
    fn numbers_of_the_payload_keep_their_digits() {
        let outcome: Outcome<'_> = serde_json::from_str(
            r#"{"outcome":"answered","payload":{"b":1.10,"a":12345678901234567890123}}"#,
        )
        .unwrap();
        assert_eq!(outcome.payload.unwrap().get(), r#"{"b":1.10,"a":12345678901234567890123}"#);
    }
}
