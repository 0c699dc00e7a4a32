//! `switchboard stations policy`.

use crate::{
    arguments::{PolicyName, StationPolicy},
    client::{Client, segment},
    exit::{Exit, Failure},
    output,
    settings::Settings,
};
use hyper::Method;
use serde_json::json;

/// Shows or lays down how a station's boots are answered.
pub(crate) async fn policy(command: StationPolicy, settings: &Settings) -> Result<Exit, Failure> {
    let path = format!("/v1/stations/{}/policy", segment(&command.station));
    let name = match command.policy {
        Some(PolicyName::Accepted) => Some("accepted"),
        Some(PolicyName::Pending) => Some("pending"),
        Some(PolicyName::Rejected) => Some("rejected"),
        Some(PolicyName::Default) | None => None,
    };
    let interval_ms = command.interval.map(|interval| interval.as_millis());
    let (method, body) = match (command.policy, name) {
        (None, _) => (Method::GET, None),
        (Some(_), None) if interval_ms.is_some() => {
            return Err(Failure::new(Exit::Data, "default takes no --interval: it means as configured"));
        }
        (Some(_), None) => (Method::DELETE, None),
        (Some(_), Some(name)) => {
            let mut body = json!({ "registration": name });
            if let Some(interval_ms) = interval_ms.and_then(|ms| u64::try_from(ms).ok()) {
                body["intervalMs"] = interval_ms.into();
            }
            (Method::PUT, Some(body.to_string()))
        }
    };
    let answer = Client::new(settings).request(method, &path, body).await?;
    if command.json {
        output::line(&answer.text)?;
        return Ok(Exit::Done);
    }
    let (view, station) = (&answer.value, output::printable(&command.station));
    let laid_down = view["policy"].as_str().unwrap_or("as configured");
    let interval =
        view["intervalMs"].as_u64().map(|ms| format!(", interval {} s", ms / 1000)).unwrap_or_default();
    let is = match view["registration"].as_str() {
        Some(registration) => format!("its last boot was {registration}"),
        None => "it has not booted here yet".to_owned(),
    };
    output::line(format!("{station}: {laid_down}{interval}; {is}"))?;
    if view["askedToBoot"] == true {
        output::note(format!("{station} was asked to boot now"))?;
    }
    Ok(Exit::Done)
}
