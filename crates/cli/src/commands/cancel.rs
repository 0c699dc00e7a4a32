//! `switchboard cancel`.

use crate::{
    arguments::Cancel,
    client::{Client, segment},
    exit::{Exit, Failure},
    output,
    settings::Settings,
};
use hyper::Method;

/// Takes a command back through the API.
pub(crate) async fn cancel(command: Cancel, settings: &Settings) -> Result<Exit, Failure> {
    let Cancel { station, key } = command;
    let path = format!("/v1/stations/{}/commands/{}", segment(&station), segment(&key));
    Client::new(settings).request(Method::DELETE, &path, None).await?;
    output::note(output::printable(&format!("{key} is taken back; {station} was not sent it")))?;
    Ok(Exit::Done)
}
