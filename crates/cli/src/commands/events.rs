//! `switchboard events` and `switchboard alarms`.

use super::show::{list, moment_if, query, table, text};
use crate::{
    arguments::operations::{Alarms, Events},
    client::Client,
    exit::{Exit, Failure},
    output,
    settings::Settings,
};
use hyper::Method;

/// What stations told by themselves, the latest first.
pub(crate) async fn events(command: Events, settings: &Settings) -> Result<Exit, Failure> {
    let query = query(&[
        ("station", command.station.clone()),
        ("kind", command.kind.clone()),
        ("since", moment_if(command.since.as_ref(), -1)?),
        ("limit", Some(command.limit.to_string())),
        ("personal", command.show_personal.then(|| "true".to_owned())),
    ]);
    let answer = Client::new(settings).request(Method::GET, &format!("/v1/events{query}"), None).await?;
    if command.json {
        output::line(&answer.text)?;
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = list(&answer.value, "events")
        .iter()
        .map(|one| {
            vec![
                text(&one["receivedAt"]),
                text(&one["station"]),
                text(&one["kind"]),
                if one["critical"] == true { "critical".to_owned() } else { String::new() },
                text(&one["summary"]),
            ]
        })
        .collect();
    table(&["RECEIVED", "STATION", "KIND", "", "WHAT"], &rows, "no events yet")
}

/// What people should look at, the latest first.
pub(crate) async fn alarms(command: Alarms, settings: &Settings) -> Result<Exit, Failure> {
    let query = query(&[("station", command.station.clone()), ("limit", Some(command.limit.to_string()))]);
    let answer = Client::new(settings).request(Method::GET, &format!("/v1/alarms{query}"), None).await?;
    if command.json {
        output::line(&answer.text)?;
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = list(&answer.value, "alarms")
        .iter()
        .map(|one| {
            vec![
                text(&one["lastAt"]),
                text(&one["station"]),
                text(&one["kind"]),
                text(&one["count"]),
                text(&one["detail"]),
            ]
        })
        .collect();
    table(&["LAST", "STATION", "KIND", "TIMES", "WHAT"], &rows, "no alarms")
}
