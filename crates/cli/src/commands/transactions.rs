//! `switchboard transactions`.

use crate::{
    arguments::Transactions,
    client::{Client, segment},
    exit::{Exit, Failure},
    output,
    settings::Settings,
};
use hyper::Method;
use serde_json::Value;

/// Lists transactions, the newest first.
pub(crate) async fn transactions(command: Transactions, settings: &Settings) -> Result<Exit, Failure> {
    let mut path = format!("/v1/transactions?limit={}", command.limit);
    if let Some(station) = &command.station {
        path.push_str(&format!("&station={}", segment(station)));
    }
    if command.show_personal {
        path.push_str("&personal=true");
    }
    let answer = Client::new(settings).request(Method::GET, &path, None).await?;
    if command.json {
        output::line(&answer.text)?;
        return Ok(Exit::Done);
    }
    let list = answer.value["transactions"].as_array().map(Vec::as_slice).unwrap_or_default();
    if list.is_empty() {
        output::note("no transactions yet")?;
        return Ok(Exit::Done);
    }
    let text = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
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
                one["energyWh"]
                    .as_f64()
                    .map_or_else(|| "-".to_owned(), |energy| format!("{:.3} kWh", energy / 1000.0)),
            ]
        })
        .collect();
    let heading = ["STATION", "TRANSACTION", "STATE", "TOKEN", "STARTED", "ENDED", "ENERGY"];
    output::line(output::table(&heading, &rows).trim_end())?;
    Ok(Exit::Done)
}
