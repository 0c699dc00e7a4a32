//! `switchboard journal`.

use crate::{
    arguments::journal::{Journal, JournalAction},
    client::Client,
    exit::{Exit, Failure},
    output,
    settings::Settings,
};
use hyper::Method;
use serde_json::Value;

/// Lists the calls of the journal that were refused, or removes one.
pub(crate) async fn journal(command: Journal, settings: &Settings) -> Result<Exit, Failure> {
    let client = Client::new(settings);
    if let Some(JournalAction::Settle { id }) = command.action {
        client.request(Method::DELETE, &format!("/v1/journal/{id}"), None).await?;
        output::note(format!("{id} is settled"))?;
        return Ok(Exit::Done);
    }
    let path = format!("/v1/journal?limit=1000&personal={}", command.show_personal);
    let answer = client.request(Method::GET, &path, None).await?;
    if command.json {
        output::line(&answer.text)?;
        return Ok(Exit::Done);
    }
    output::note(format!("{} calls wait to be processed", answer.value["waiting"]))?;
    let list = answer.value["refused"].as_array().map(Vec::as_slice).unwrap_or_default();
    if list.is_empty() {
        output::note("none was refused")?;
        return Ok(Exit::Done);
    }
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut columns = vec!["id", "station", "action", "receivedAt", "why"];
    let mut heading = vec!["NUMBER", "STATION", "ACTION", "RECEIVED", "REFUSED WITH"];
    if command.show_personal {
        columns.push("frame");
        heading.push("CALL");
    }
    let rows: Vec<Vec<String>> =
        list.iter().map(|one| columns.iter().map(|column| text(&one[*column])).collect()).collect();
    output::line(output::table(&heading, &rows).trim_end())?;
    Ok(Exit::Done)
}
