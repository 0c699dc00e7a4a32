//! `switchboard cancel`.

use crate::{
    arguments::Cancel,
    client::{Client, segment},
    exit::{Exit, Failure},
    output,
    settings::Settings,
};
use hyper::Method;
use serde_json::json;

/// Takes a command back through the API.
pub(crate) async fn cancel(command: Cancel, settings: &Settings) -> Result<Exit, Failure> {
    let Cancel { station, key, json } = command;
    let path = format!("/v1/stations/{}/commands/{}", segment(&station), segment(&key));
    Client::new(settings).request(Method::DELETE, &path, None).await?;
    if json {
        output::line(json!({ "station": station, "key": key, "outcome": "cancelled" }).to_string())?;
        return Ok(Exit::Done);
    }
    output::note(output::printable(&format!("{key} is taken back; {station} was not sent it")))?;
    Ok(Exit::Done)
}
