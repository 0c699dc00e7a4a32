//! `switchboard profiles`.

use super::show::{done, list, moment_if, query, table, text};
use crate::{
    arguments::operations::{ClearProfiles, Cycle, Profiles, ProfilesAction, Purpose, Schedule, SetProfile},
    client::{Client, segment},
    exit::{Exit, Failure},
    output,
    settings::Settings,
};
use hyper::Method;
use serde_json::{Value, json};
use std::io::Read;

/// More is no schedule.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Sets, clears, reads and shows charging profiles.
pub(crate) async fn profiles(command: Profiles, settings: &Settings) -> Result<Exit, Failure> {
    let client = Client::new(settings);
    match command.action {
        Some(ProfilesAction::Set(profile)) => set(&client, &profile).await,
        Some(ProfilesAction::Clear(which)) => clear(&client, &which).await,
        Some(ProfilesAction::Schedule(which)) => schedule(&client, &which).await,
        Some(ProfilesAction::Read(one)) => {
            let path = format!("/v1/stations/{}/reports", segment(&one.station));
            let request = json!({"base": "profiles"}).to_string();
            let answer = client.request(Method::POST, &path, Some(request)).await?;
            done(&answer, one.json, &format!("asked; see: switchboard profiles {}", one.station))
        }
        None => show(&client, &command.station.unwrap_or_default(), command.json).await,
    }
}

const fn name(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::StationMax => "station-max",
        Purpose::TxDefault => "tx-default",
        Purpose::Tx => "tx",
    }
}

async fn set(client: &Client, profile: &SetProfile) -> Result<Exit, Failure> {
    let mut request = match (&profile.schedule, profile.limit) {
        (Some(path), _) => schedule_of(path)?,
        (None, limit) => {
            let (limit, unit) = limit.unwrap_or_default();
            let mut period = json!({"startPeriod": 0, "limit": limit});
            if let Some(phases) = profile.phases {
                period["numberPhases"] = phases.into();
            }
            json!({
                "chargingRateUnit": unit,
                "chargingSchedulePeriod": [period],
                "relative": profile.purpose != Purpose::StationMax,
            })
        }
    };
    request["connector"] = profile.connector.into();
    request["purpose"] = name(profile.purpose).into();
    request["stackLevel"] = profile.stack_level.into();
    request["transaction"] = profile.transaction.clone().into();
    request["validFrom"] = moment_if(profile.valid_from.as_ref(), 1)?.into();
    request["validTo"] = moment_if(profile.valid_to.as_ref(), 1)?.into();
    if let Some(cycle) = profile.recurring {
        request["recurring"] = match cycle {
            Cycle::Daily => "daily".into(),
            Cycle::Weekly => "weekly".into(),
        };
        request["relative"] = false.into();
    }
    let path = format!("/v1/stations/{}/profiles", segment(&profile.station));
    let answer = client.request(Method::POST, &path, Some(request.to_string())).await?;
    let sentence = format!(
        "profile {} is sent until {} has answered; see: switchboard profiles {}",
        answer.value["id"], profile.station, profile.station
    );
    done(&answer, profile.json, &sentence)
}

/// A schedule from a file.
fn schedule_of(path: &std::path::Path) -> Result<Value, Failure> {
    let wrong = |detail: String| Failure::new(Exit::Data, format!("{}: {detail}", path.display()));
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().take(FILE_BYTES_MAX).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text))
    };
    read.map_err(|error| wrong(error.to_string()))?;
    let schedule: Value =
        serde_json::from_str(&text).map_err(|error| wrong(format!("is not JSON: {error}")))?;
    if !schedule.is_object() {
        return Err(wrong("is no JSON object with chargingRateUnit and chargingSchedulePeriod".to_owned()));
    }
    Ok(schedule)
}

async fn clear(client: &Client, which: &ClearProfiles) -> Result<Exit, Failure> {
    let text = |number: Option<i64>| number.map(|number| number.to_string());
    let query = query(&[
        ("id", text(which.id)),
        ("connector", text(which.connector)),
        ("purpose", which.purpose.map(|purpose| name(purpose).to_owned())),
        ("stackLevel", text(which.stack_level)),
    ]);
    let path = format!("/v1/stations/{}/profiles{query}", segment(&which.station));
    let answer = client.request(Method::DELETE, &path, None).await?;
    let sentence = format!("cleared as soon as {} has answered: {}", which.station, answer.value["clearing"]);
    done(&answer, which.json, &sentence)
}

async fn show(client: &Client, station: &str, json: bool) -> Result<Exit, Failure> {
    let path = format!("/v1/stations/{}/profiles", segment(station));
    let answer = client.request(Method::GET, &path, None).await?;
    if json {
        output::line(&answer.text)?;
        return Ok(Exit::Done);
    }
    let desired: Vec<Vec<String>> = list(&answer.value, "desired")
        .iter()
        .map(|one| {
            vec![
                text(&one["id"]),
                text(&one["connector"]),
                text(&one["purpose"]),
                text(&one["stackLevel"]),
                limits(&one["profile"]),
                text(&one["state"]),
                text(&one["detail"]),
            ]
        })
        .collect();
    let heading = ["ID", "CONNECTOR", "PURPOSE", "LEVEL", "LIMITS", "STATE", "DETAIL"];
    table(&heading, &desired, "no profile was set from here")?;
    let reported: Vec<Vec<String>> = list(&answer.value, "reported")
        .iter()
        .map(|one| {
            let profile = &one["profile"];
            let schedules = list(profile, "chargingSchedule").iter().map(limits).collect::<Vec<_>>();
            vec![
                text(&one["id"]),
                text(&one["connector"]),
                text(&profile["chargingProfilePurpose"]),
                text(&profile["stackLevel"]),
                schedules.join(" | "),
                text(&one["source"]),
                text(&one["reportedAt"]),
            ]
        })
        .collect();
    if !reported.is_empty() {
        output::line("\nAs the station reported:")?;
        let heading = ["ID", "CONNECTOR", "PURPOSE", "LEVEL", "LIMITS", "SOURCE", "AT"];
        table(&heading, &reported, "")?;
    }
    Ok(Exit::Done)
}

/// The limits of a schedule in a few words.
fn limits(schedule: &Value) -> String {
    let unit = schedule["chargingRateUnit"].as_str().unwrap_or_default();
    let periods: Vec<String> = list(schedule, "chargingSchedulePeriod")
        .iter()
        .map(|period| match period["startPeriod"].as_i64() {
            Some(0) | None => format!("{} {unit}", text(&period["limit"])),
            Some(start) => format!("{} {unit} from {start} s", text(&period["limit"])),
        })
        .collect();
    periods.join(", ")
}

async fn schedule(client: &Client, which: &Schedule) -> Result<Exit, Failure> {
    let query = query(&[
        ("connector", Some(which.connector.to_string())),
        ("duration", Some(which.duration.to_string())),
        ("unit", which.unit.clone()),
    ]);
    let path = format!("/v1/stations/{}/schedule{query}", segment(&which.station));
    let answer = client.request(Method::GET, &path, None).await?;
    let value = &answer.value;
    let accepted = value["outcome"] == "answered" && value["payload"]["status"] == "Accepted";
    if which.json {
        output::line(&answer.text)?;
    } else if accepted {
        let schedule = &value["schedule"];
        let unit = text(&schedule["unit"]);
        output::note(format!("from {}, for {} s", text(&schedule["start"]), text(&schedule["duration"])))?;
        let rows: Vec<Vec<String>> = list(schedule, "periods")
            .iter()
            .map(|period| {
                vec![
                    text(&period["startPeriod"]),
                    format!("{} {unit}", text(&period["limit"])),
                    text(&period["numberPhases"]),
                ]
            })
            .collect();
        table(&["FROM (s)", "LIMIT", "PHASES"], &rows, "the station accepted and told no schedule")?;
    } else {
        output::note(output::printable(&super::trigger::refusal(value)))?;
    }
    Ok(if accepted { Exit::Done } else { super::trigger::exit(value) })
}
