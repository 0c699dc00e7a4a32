//! `switchboard config`.

use crate::{
    arguments::config::{Config, ConfigAction, RefreshConfig, SetConfig, UnsetConfig},
    client::{Answer, Client, segment},
    exit::{Exit, Failure},
    output,
    settings::Settings,
};
use hyper::Method;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// How often is looked whether a station was asked.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Does what was asked.
pub(crate) async fn config(command: Config, settings: &Settings) -> Result<Exit, Failure> {
    let client = Client::new(settings);
    match command.action {
        None => {
            let answer = client.request(Method::GET, &path(command.station.as_deref()), None).await?;
            show(&answer, command.json)
        }
        Some(ConfigAction::Set(what)) => set(&client, &what).await,
        Some(ConfigAction::Unset(what)) => unset(&client, &what).await,
        Some(ConfigAction::Refresh(what)) => refresh(&client, &what).await,
    }
}

fn path(station: Option<&str>) -> String {
    station.map_or_else(
        || "/v1/configuration".to_owned(),
        |station| format!("/v1/stations/{}/configuration", segment(station)),
    )
}

/// The station, unless all are meant, and the rest of the words.
fn split(words: &[String], all: bool) -> Result<(Option<&str>, &[String]), Failure> {
    let (station, rest) = match words {
        words if all => (None, words),
        [station, rest @ ..] => (Some(station.as_str()), rest),
        [] => (None, words),
    };
    if rest.is_empty() {
        return Err(Failure::new(Exit::Usage, "name a station, or give --all, and what to set"));
    }
    Ok((station, rest))
}

async fn set(client: &Client, what: &SetConfig) -> Result<Exit, Failure> {
    let (station, pairs) = split(&what.words, what.all)?;
    let mut values = Map::new();
    for pair in pairs {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(Failure::new(
                Exit::Usage,
                format!("{pair:?} is no NAME=VALUE, for example HeartbeatInterval=300"),
            ));
        };
        values.insert(name.to_owned(), value.into());
    }
    let body = json!({ "set": values, "reboot": what.reboot }).to_string();
    let answer = client.request(Method::PATCH, &path(station), Some(body)).await?;
    let owed = |answer: &Answer| {
        let settings = answer.value["settings"].as_array();
        settings.into_iter().flatten().any(|one| one["state"] == "owed" || one["state"] == "accepted")
    };
    let answer = wait(client, station, answer, what.wait, owed).await?;
    let shown = show(&answer, what.json)?;
    // It would never be asked, and nobody may read the table to its end.
    for one in answer.value["settings"].as_array().into_iter().flatten() {
        let name = one["name"].as_str().unwrap_or_default();
        if one["state"] == "otherVersion" && pairs.iter().any(|pair| is_named(pair, name)) {
            let why = one["reason"].as_str().unwrap_or_default();
            output::note(output::printable(&format!("{name} is kept and not sent: {why}")))?;
        }
    }
    Ok(shown)
}

/// Whether this NAME=VALUE names this setting, whose name is in the form that is kept.
fn is_named(pair: &str, name: &str) -> bool {
    pair.split_once('=').is_some_and(|(one, _)| one.trim() == name)
}

async fn unset(client: &Client, what: &UnsetConfig) -> Result<Exit, Failure> {
    let (station, names) = split(&what.words, what.all)?;
    let body = json!({ "unset": names }).to_string();
    let answer = client.request(Method::PATCH, &path(station), Some(body)).await?;
    show(&answer, what.json)
}

async fn refresh(client: &Client, what: &RefreshConfig) -> Result<Exit, Failure> {
    let station = Some(what.station.as_str());
    let refresh = format!("{}/refresh", path(station));
    let answer = client.request(Method::POST, &refresh, None).await?;
    let unread = |answer: &Answer| {
        let settings = answer.value["settings"].as_array();
        settings.is_none_or(|settings| {
            settings.is_empty() || settings.iter().any(|one| one["reportedAt"].is_null())
        })
    };
    let answer = wait(client, station, answer, what.wait, unread).await?;
    show(&answer, what.json)
}

/// Looks again until nothing is to be waited for, the time is over, or the station is not there.
async fn wait(
    client: &Client,
    station: Option<&str>,
    mut answer: Answer,
    limit: Duration,
    waits: impl Fn(&Answer) -> bool,
) -> Result<Answer, Failure> {
    let mut waited = Duration::ZERO;
    while waits(&answer) && answer.value["connected"] == true && waited < limit {
        tokio::time::sleep(LOOK_EVERY).await;
        waited += LOOK_EVERY;
        answer = client.request(Method::GET, &path(station), None).await?;
    }
    Ok(answer)
}

fn show(answer: &Answer, as_json: bool) -> Result<Exit, Failure> {
    if as_json {
        output::line(&answer.text)?;
        return Ok(Exit::Done);
    }
    let settings = answer.value["settings"].as_array().map(Vec::as_slice).unwrap_or_default();
    let station = answer.value["station"].as_str();
    if settings.is_empty() {
        output::note(match station {
            None => "nothing is desired of all stations; for example: switchboard config set --all HeartbeatInterval=300".to_owned(),
            Some(station) => format!(
                "nothing is desired of {0} and nothing is known of it; for example: switchboard config refresh {0}",
                output::printable(station)
            ),
        })?;
        return Ok(Exit::Done);
    }
    let text = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if station.is_none() {
        let rows: Vec<Vec<String>> =
            settings.iter().map(|one| vec![text(&one["name"]), text(&one["desired"])]).collect();
        output::line(output::table(&["NAME", "DESIRED"], &rows).trim_end())?;
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = settings
        .iter()
        .map(|one| {
            let mut desired = text(&one["desired"]);
            if one["forAll"] == true {
                desired.push_str(" (all)");
            }
            vec![
                text(&one["name"]),
                desired,
                text(&one["reported"]),
                state(one["state"].as_str().unwrap_or_default()).to_owned(),
                if one["readonly"] == true { "read-only" } else { "" }.to_owned(),
                one["reason"].as_str().unwrap_or_default().to_owned(),
            ]
        })
        .collect();
    let heading = ["NAME", "DESIRED", "REPORTED", "STATE", "", "REASON"];
    output::line(output::table(&heading, &rows).trim_end())?;
    if answer.value["connected"] == false && settings.iter().any(|one| one["state"] == "owed") {
        output::note("the station is not connected; it is asked as soon as it is")?;
    }
    Ok(Exit::Done)
}

/// A state in words.
fn state(name: &str) -> &str {
    match name {
        "reported" => "-",
        "rebootRequired" => "after a reboot",
        "otherVersion" => "not of its version",
        other => other,
    }
}
