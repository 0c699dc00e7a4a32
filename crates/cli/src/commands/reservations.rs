//! `switchboard reservations`.

use super::show::{done, list, moment, query, table, text};
use crate::{
    arguments::operations::{MakeReservation, Reservations, ReservationsAction},
    client::{Client, segment},
    exit::{Exit, Failure},
    output,
    settings::Settings,
};
use hyper::Method;
use serde_json::json;

/// Lists, makes or cancels reservations.
pub(crate) async fn reservations(command: Reservations, settings: &Settings) -> Result<Exit, Failure> {
    let client = Client::new(settings);
    match command.action {
        Some(ReservationsAction::Make(reservation)) => make(&client, &reservation).await,
        Some(ReservationsAction::Cancel { station, id, json }) => {
            let path = format!("/v1/stations/{}/reservations/{id}", segment(&station));
            let answer = client.request(Method::DELETE, &path, None).await?;
            done(
                &answer,
                json,
                &format!("reservation {id} is to be cancelled; see: switchboard reservations"),
            )
        }
        None => show(&client, &command).await,
    }
}

async fn make(client: &Client, reservation: &MakeReservation) -> Result<Exit, Failure> {
    let request = json!({
        "connector": reservation.connector,
        "tag": reservation.tag,
        "tagType": reservation.tag_type,
        "until": moment(&reservation.until, 1)?,
    });
    let path = format!("/v1/stations/{}/reservations", segment(&reservation.station));
    let answer = client.request(Method::POST, &path, Some(request.to_string())).await?;
    let sentence = format!("reservation {} is asked for; see: switchboard reservations", answer.value["id"]);
    done(&answer, reservation.json, &sentence)
}

async fn show(client: &Client, command: &Reservations) -> Result<Exit, Failure> {
    let personal = command.show_personal.then(|| "true".to_owned());
    let query = query(&[("station", command.station.clone()), ("personal", personal)]);
    let answer = client.request(Method::GET, &format!("/v1/reservations{query}"), None).await?;
    if command.json {
        output::line(&answer.text)?;
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = list(&answer.value, "reservations")
        .iter()
        .map(|one| {
            vec![
                text(&one["id"]),
                text(&one["station"]),
                one["connector"].as_i64().map_or_else(|| "any".to_owned(), |number| number.to_string()),
                one["tag"].as_str().unwrap_or("…").to_owned(),
                text(&one["state"]),
                text(&one["until"]),
                text(&one["transaction"]),
                text(&one["detail"]),
            ]
        })
        .collect();
    let heading = ["ID", "STATION", "CONNECTOR", "TAG", "STATE", "UNTIL", "TRANSACTION", "DETAIL"];
    table(&heading, &rows, "no reservations yet")
}
