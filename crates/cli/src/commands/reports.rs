//! `switchboard reports` and `switchboard device-model`.

use super::show::{done, list, query, table, text};
use crate::{
    arguments::operations::{DeviceModel, Reports, ReportsAction},
    client::{Client, segment},
    exit::{Exit, Failure},
    output,
    settings::Settings,
};
use hyper::Method;
use serde_json::{Value, json};

/// Lists reports, asks for them and shows them.
pub(crate) async fn reports(command: Reports, settings: &Settings) -> Result<Exit, Failure> {
    let client = Client::new(settings);
    match command.action {
        Some(ReportsAction::Request { station, base, json }) => {
            let path = format!("/v1/stations/{}/reports", segment(&station));
            let request = json!({ "base": base.as_str() }).to_string();
            let answer = client.request(Method::POST, &path, Some(request)).await?;
            let number = &answer.value["request"];
            done(&answer, json, &format!("report {number} is asked for; see: switchboard reports {station}"))
        }
        Some(ReportsAction::Show { station, request, show_personal, json }) => {
            let personal = if show_personal { "?personal=true" } else { "" };
            let path = format!("/v1/stations/{}/reports/{request}{personal}", segment(&station));
            let answer = client.request(Method::GET, &path, None).await?;
            if json {
                output::line(&answer.text)?;
                return Ok(Exit::Done);
            }
            output::note(output::printable(&format!(
                "{}: {}",
                text(&answer.value["action"]),
                text(&answer.value["detail"])
            )))?;
            for payload in list(&answer.value, "payloads") {
                output::line(output::printable(&payload.to_string()))?;
            }
            Ok(Exit::Done)
        }
        None => show(&client, &command.station.unwrap_or_default(), command.json).await,
    }
}

async fn show(client: &Client, station: &str, json: bool) -> Result<Exit, Failure> {
    let path = format!("/v1/stations/{}/reports", segment(station));
    let answer = client.request(Method::GET, &path, None).await?;
    if json {
        output::line(&answer.text)?;
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = list(&answer.value, "reports")
        .iter()
        .map(|one| {
            vec![
                text(&one["request"]),
                text(&one["action"]),
                text(&one["base"]),
                text(&one["detail"]),
                text(&one["parts"]),
                text(&one["lastAt"]),
            ]
        })
        .collect();
    table(&["REQUEST", "MESSAGE", "BASE", "STATE", "PARTS", "LAST"], &rows, "no reports yet")
}

/// `switchboard device-model`
pub(crate) async fn device_model(command: DeviceModel, settings: &Settings) -> Result<Exit, Failure> {
    let query = query(&[("component", command.component.clone()), ("variable", command.variable.clone())]);
    let path = format!("/v1/stations/{}/device-model{query}", segment(&command.station));
    let answer = Client::new(settings).request(Method::GET, &path, None).await?;
    if command.json {
        output::line(&answer.text)?;
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = list(&answer.value, "variables").iter().flat_map(rows_of).collect();
    let nothing =
        format!("nothing is known; ask for it: switchboard reports request {} --base full", command.station);
    table(&["COMPONENT", "PLACE", "VARIABLE", "ATTRIBUTE", "VALUE", "MUTABILITY"], &rows, &nothing)
}

/// One line for each attribute of a variable.
fn rows_of(variable: &Value) -> Vec<Vec<String>> {
    let named = |name: &str, instance: &str| match variable[instance].as_str() {
        Some(instance) => format!("{}[{instance}]", text(&variable[name])),
        None => text(&variable[name]),
    };
    let place = match (variable["evse"].as_i64(), variable["connector"].as_i64()) {
        (Some(evse), Some(connector)) => format!("EVSE {evse}, connector {connector}"),
        (Some(evse), None) => format!("EVSE {evse}"),
        _ => "-".to_owned(),
    };
    list(variable, "attributes")
        .iter()
        .map(|attribute| {
            vec![
                named("component", "componentInstance"),
                place.clone(),
                named("variable", "variableInstance"),
                attribute["type"].as_str().unwrap_or("Actual").to_owned(),
                text(&attribute["value"]),
                attribute["mutability"].as_str().unwrap_or("ReadWrite").to_owned(),
            ]
        })
        .collect()
}
