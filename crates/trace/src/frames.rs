//! The frames of which a recorded call was made.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{json, value::RawValue};

/// A line of a call, as far as its frames need it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Call<'a> {
    at: &'a str,
    event: &'a str,
    tenant: Option<String>,
    station: Option<String>,
    version: Option<&'a str>,
    connection: Option<u64>,
    direction: Option<&'a str>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    action: Option<String>,
    outcome: Option<&'a str>,
    latency_ms: Option<f64>,
    #[serde(borrow)]
    request: Option<&'a RawValue>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    error: Option<Refusal<'a>>,
}

#[derive(Deserialize)]
struct Refusal<'a> {
    code: String,
    description: String,
    #[serde(borrow)]
    details: Option<&'a RawValue>,
}

/// The lines of the frames; none if the line is not about a call.
pub(crate) fn of(line: &str) -> Option<Vec<String>> {
    let call: Call<'_> = serde_json::from_str(line).ok()?;
    let is_send = call.event == "send";
    if call.event != "call" && !is_send {
        return None;
    }
    let (at, action, id) = (call.at.parse::<Timestamp>().ok()?, call.action.as_deref()?, call.id?);
    let is_inward = call.direction == Some("in");
    let frame = |at: Timestamp, from_station: bool, kind: &str, latency: Option<f64>, frame: String| {
        let mut line = json!({
            "at": format!("{at:.3}"), "event": "frame", "station": call.station, "version": call.version,
            "connection": call.connection, "from": if from_station { "station" } else { "csms" }, "kind": kind,
            "id": id, "action": action,
        });
        if let Some(tenant) = &call.tenant {
            line["tenant"] = json!(tenant);
        }
        if let Some(latency) = latency {
            line["latencyMs"] = json!(latency);
        }
        // The frame itself letter by letter, so that numbers keep their digits.
        let mut line = line.to_string();
        line.pop();
        line.push_str(",\"frame\":");
        line.push_str(&frame);
        line.push('}');
        line
    };
    let name = json!(action);
    let request = call.request.map_or("{}", RawValue::get);
    let number = if is_send { 6 } else { 2 };
    let mut lines = vec![frame(
        at,
        is_inward,
        if is_send { "send" } else { "call" },
        None,
        format!("[{number},{id},{name},{request}]"),
    )];
    let latency = call.latency_ms.unwrap_or_default();
    #[expect(clippy::cast_possible_truncation, reason = "a few seconds in microseconds")]
    let then = at + jiff::SignedDuration::from_micros((latency * 1e3) as i64);
    if call.outcome == Some("ok")
        && let Some(response) = call.response
    {
        lines.push(frame(then, !is_inward, "result", call.latency_ms, format!("[3,{id},{response}]")));
    }
    if let Some(Refusal { code, description, details }) = &call.error {
        let (code, description) = (json!(code), json!(description));
        let details = details.map_or("{}", RawValue::get);
        let text = format!("[4,{id},{code},{description},{details}]");
        lines.push(frame(then, !is_inward, "error", call.latency_ms, text));
    }
    Some(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn a_recorded_call_is_two_frames_again() {
        let line = r#"{"at":"2026-11-23T05:00:00.000Z","event":"call","station":"CP1","version":"1.6","connection":7,"direction":"out","id":"a","action":"Reset","outcome":"error","latencyMs":12.5,"request":{"n":1.10},"error":{"code":"NotSupported","description":"\"no\"","details":{}}}"#;
        let frames: Vec<Value> =
            of(line).unwrap().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(frames[0]["frame"].to_string(), r#"[2,"a","Reset",{"n":1.1}]"#);
        assert!(of(line).unwrap()[0].contains("1.10"));
        assert_eq!((&frames[0]["from"], &frames[1]["from"]), (&json!("csms"), &json!("station")));
        assert_eq!(frames[1]["frame"], json!([4, "a", "NotSupported", "\"no\"", {}]));
        assert_eq!(
            (&frames[1]["at"], &frames[1]["latencyMs"]),
            (&json!("2026-11-23T05:00:00.012Z"), &json!(12.5))
        );
        let send = line.replace("\"call\"", "\"send\"").replace("\"error\",\"lat", "\"sent\",\"lat");
        assert!(of(&send).unwrap()[0].contains("[6,"));
        assert!(of(r#"{"at":"2026-11-23T05:00:00.000Z","event":"connected"}"#).is_none());
    }
}
