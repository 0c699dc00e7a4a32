//! `switchboard trigger`.

use super::show::done;
use crate::{
    arguments::operations::Trigger,
    client::{Client, RequestError, segment},
    exit::{Exit, Failure},
    settings::Settings,
};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

/// Asks a station for a message, and tells whether it came.
pub(crate) async fn trigger(command: Trigger, settings: &Settings) -> Result<Exit, Failure> {
    let request = json!({
        "message": command.message,
        "connector": command.connector,
        "extended": command.extended,
        "waitMs": u64::try_from(command.wait.as_millis()).unwrap_or(u64::MAX),
    });
    let path = format!("/v1/stations/{}/trigger", segment(&command.station));
    let client = Client::new(settings).patient(command.wait + std::time::Duration::from_secs(60));
    let answer = match client.request(Method::POST, &path, Some(request.to_string())).await {
        Err(RequestError::Said { status: StatusCode::CONFLICT, body }) => {
            let detail = body["detail"].as_str().unwrap_or_default();
            return Err(Failure::new(Exit::Offline, detail));
        }
        other => other?,
    };
    let value = &answer.value;
    let (sentence, exit) = if value["came"] == true {
        (format!("{} has come", value["expected"].as_str().unwrap_or_default()), Exit::Done)
    } else if value["payload"]["status"] == "Accepted" {
        let expected = value["expected"].as_str().unwrap_or_default();
        (format!("{} agreed, and no {expected} came", command.station), Exit::Unknown)
    } else {
        (refusal(value), exit(value))
    };
    done(&answer, command.json, &sentence)?;
    Ok(exit)
}

/// Why a station did not do what it was asked, in a sentence.
pub(super) fn refusal(value: &Value) -> String {
    let text = |name: &str| value[name].as_str().unwrap_or_default();
    let station = text("station");
    match (text("outcome"), value["payload"]["status"].as_str()) {
        ("answered", Some(status)) => {
            let info = &value["payload"]["statusInfo"];
            let reason = info["reasonCode"].as_str().unwrap_or_default();
            format!("{station} answered {status} {reason}").trim_end().to_owned()
        }
        ("refused", _) => {
            format!("{station} refused with {} {}", text("code"), text("description")).trim_end().to_owned()
        }
        (outcome, _) => format!("{station}: {outcome}"),
    }
}

/// The exit code of a question that a station did not answer as it was hoped.
pub(super) fn exit(value: &Value) -> Exit {
    match value["outcome"].as_str().unwrap_or_default() {
        "offline" => Exit::Offline,
        "busy" => Exit::Busy,
        "expired" => Exit::Expired,
        "cancelled" => Exit::Cancelled,
        "notSent" => Exit::NotSent,
        "unknown" => Exit::Unknown,
        _ => Exit::Refused,
    }
}
