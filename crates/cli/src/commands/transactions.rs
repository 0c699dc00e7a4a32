//! `switchboard transactions`.

use super::show::{list, moment_if, query, text};
use crate::{
    arguments::transactions::{Transactions, TransactionsAction},
    client::{Client, segment},
    exit::{Exit, Failure},
    output,
    settings::Settings,
};
use hyper::Method;
use serde_json::Value;

/// The columns of the CSV: the members of the JSON.
const COLUMNS: [&str; 14] = [
    "id",
    "station",
    "transactionId",
    "connector",
    "token",
    "state",
    "startedAt",
    "endedAt",
    "durationSeconds",
    "energyWh",
    "meterStartWh",
    "meterStopWh",
    "reason",
    "reservation",
];

/// Lists transactions, the newest first, or shows one.
pub(crate) async fn transactions(command: Transactions, settings: &Settings) -> Result<Exit, Failure> {
    let client = Client::new(settings);
    if let Some(TransactionsAction::Show { id, show_personal, json }) = command.action {
        return show(&client, &id, show_personal, json).await;
    }
    let query = query(&[
        ("limit", Some(command.limit.to_string())),
        ("station", command.station.clone()),
        ("tag", command.tag.clone()),
        ("open", command.open.then(|| "true".to_owned())),
        ("since", moment_if(command.since.as_ref(), -1)?),
        ("until", moment_if(command.until.as_ref(), -1)?),
        ("personal", command.show_personal.then(|| "true".to_owned())),
    ]);
    let answer = client.request(Method::GET, &format!("/v1/transactions{query}"), None).await?;
    if command.json {
        output::line(&answer.text)?;
        return Ok(Exit::Done);
    }
    let list = list(&answer.value, "transactions");
    if command.csv {
        output::line(COLUMNS.join(","))?;
        for one in list {
            output::line(COLUMNS.map(|column| csv(&one[column])).join(","))?;
        }
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = list
        .iter()
        .map(|one| {
            vec![
                text(&one["station"]),
                text(&one["transactionId"]),
                text(&one["state"]),
                text(&one["token"]),
                text(&one["startedAt"]),
                text(&one["endedAt"]),
                energy(&one["energyWh"]),
                text(&one["reason"]),
            ]
        })
        .collect();
    let heading = ["STATION", "TRANSACTION", "STATE", "TOKEN", "STARTED", "ENDED", "ENERGY", "REASON"];
    super::show::table(&heading, &rows, "no such transactions")
}

/// A value as a field of CSV. What a spreadsheet would take for a formula is marked as a text.
fn csv(value: &Value) -> String {
    let field = match value {
        Value::Null => return String::new(),
        Value::String(text) if text.starts_with(['=', '+', '-', '@']) => format!("'{text}"),
        other => text(other),
    };
    if field.contains([',', '"', '\n', '\r']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field }
}

fn energy(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |energy| format!("{:.3} kWh", energy / 1000.0))
}

fn duration(value: &Value) -> String {
    value.as_i64().map_or_else(
        || "-".to_owned(),
        |seconds| format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
    )
}

async fn show(client: &Client, id: &str, personal: bool, json: bool) -> Result<Exit, Failure> {
    let personal = if personal { "?personal=true" } else { "" };
    let path = format!("/v1/transactions/{}{personal}", segment(id));
    let answer = client.request(Method::GET, &path, None).await?;
    if json {
        output::line(&answer.text)?;
        return Ok(Exit::Done);
    }
    let one = &answer.value;
    let facts: Vec<Vec<String>> = [
        ("station", text(&one["station"])),
        ("transaction", text(&one["transactionId"])),
        ("connector", text(&one["connector"])),
        ("token", text(&one["token"])),
        ("authorization", text(&one["authorization"])),
        ("state", text(&one["state"])),
        ("started", text(&one["startedAt"])),
        ("ended", text(&one["endedAt"])),
        ("duration", duration(&one["durationSeconds"])),
        ("energy", energy(&one["energyWh"])),
        ("reason", text(&one["reason"])),
        ("reservation", text(&one["reservation"])),
    ]
    .into_iter()
    .map(|(name, value)| vec![name.to_owned(), value])
    .collect();
    output::line(output::table(&["", ""], &facts).trim())?;
    let readings: Vec<Vec<String>> = list(one, "readings")
        .iter()
        .map(|reading| vec![text(&reading["at"]), energy(&reading["energyWh"]), samples(&reading["samples"])])
        .collect();
    section("Meter values", &["AT", "REGISTER", "OTHERS"], &readings)?;
    let events: Vec<Vec<String>> = list(one, "events")
        .iter()
        .map(|event| {
            vec![
                text(&event["seq"]),
                text(&event["kind"]),
                text(&event["at"]),
                text(&event["trigger"]),
                text(&event["chargingState"]),
                if event["offline"] == true { "offline".to_owned() } else { String::new() },
            ]
        })
        .collect();
    section("Events", &["SEQ", "KIND", "AT", "TRIGGER", "STATE", ""], &events)?;
    let oddities: Vec<Vec<String>> = list(one, "oddities")
        .iter()
        .map(|oddity| vec![text(&oddity["kind"]), text(&oddity["detail"])])
        .collect();
    section("Oddities", &["KIND", "WHAT"], &oddities)?;
    Ok(Exit::Done)
}

fn section(title: &str, heading: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
    if rows.is_empty() {
        return Ok(());
    }
    output::line(format!("\n{title}:\n{}", output::table(heading, rows).trim_end()))?;
    Ok(())
}

/// What else was measured, in a few words.
fn samples(samples: &Value) -> String {
    let register = "Energy.Active.Import.Register";
    let all = samples.as_array().map(Vec::as_slice).unwrap_or_default();
    let shown = |sample: &&Value| sample["measurand"].as_str().is_some_and(|measurand| measurand != register);
    let words: Vec<String> = all
        .iter()
        .filter(shown)
        .map(|sample| {
            let unit = sample["unit"].as_str().or_else(|| sample["unitOfMeasure"]["unit"].as_str());
            let phase = sample["phase"].as_str().map(|phase| format!(" {phase}")).unwrap_or_default();
            let measurand = text(&sample["measurand"]);
            format!("{measurand}{phase} {} {}", text(&sample["value"]), unit.unwrap_or_default())
                .trim_end()
                .to_owned()
        })
        .collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::{csv, duration};
    use serde_json::json;

    #[test]
    fn what_is_in_a_field_stays_in_it() {
        for (value, field) in [
            (json!(null), ""),
            (json!(1.5), "1.5"),
            (json!("a,\"b\""), "\"a,\"\"b\"\"\""),
            (json!("=1+1"), "'=1+1"),
        ] {
            assert_eq!(csv(&value), field);
        }
    }

    #[test]
    fn durations_are_told_in_hours() {
        assert_eq!(duration(&json!(5_403)), "1:30:03");
    }
}
