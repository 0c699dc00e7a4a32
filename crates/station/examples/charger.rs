//! A charging station in OCPP 2.0.1: it boots, asks whether a driver may charge, charges, bills, and obeys remote starts.
//!
//! ```sh
//! cargo run -- run &        # a central system; or name another one below
//! cargo run -p switchboard-station --example charger -- ws://127.0.0.1:8180/ocpp CP001
//! ```
//!
//! Kill it in the middle: what was not told waits in `CP001.queue` and is told at the next start.
#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::{env::args, error::Error, time::Duration};
use switchboard_messages::{Timestamp, v201::*};
use switchboard_router::{CallError, Router, State};
use switchboard_station::client::{Config, FileQueue, Station, Transaction as Charging};

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let url = args().nth(1).unwrap_or_else(|| "ws://127.0.0.1:8180/ocpp".to_owned());
    let id = args().nth(2).unwrap_or_else(|| "CP001".to_owned());
    let about = ChargingStation::new("One".to_owned(), "Example".to_owned());
    let config = Config::new(url, &id, &BootNotificationRequest::new(about, BootReason::PowerUp))?;
    let queue = FileQueue::open(format!("{id}.queue"))?;
    let station = Station::connect(config, queue, |station| {
        Router::new().on_command(remote_start).with_state(station)
    })?;

    // What an earlier life of the station has left: the car is gone.
    for left in station.transactions().iter().filter(|left| !left.ended) {
        let seq_no = left.seq_no.map_or(0, |seq_no| i64::try_from(seq_no).unwrap_or(0) + 1);
        bill(&station, &Charging::named(left.transaction.clone()), TransactionEvent::Ended, seq_no, None)?;
    }
    station.accepted().await;
    charge(&station, IdToken::new("04A1B2C3D4E5F6".to_owned(), IdTokenEnum::ISO14443)).await?;
    station.until(|status| status.unbilled == 0).await;
    println!("all is told; waiting for remote starts, end with Ctrl-C");
    tokio::signal::ctrl_c().await?;
    station.close().await;
    Ok(())
}

/// The central system lets somebody charge.
async fn remote_start(
    State(station): State<Station>,
    request: RequestStartTransactionRequest,
) -> Result<RequestStartTransactionResponse, CallError> {
    tokio::spawn(async move { charge(&station, request.id_token).await });
    Ok(RequestStartTransactionResponse::new(RequestStartStopStatus::Accepted))
}

/// Somebody charges for three seconds.
async fn charge(station: &Station, token: IdToken) -> Result<(), Failure> {
    // Offline nobody can say no; what is billed is kept until somebody listens.
    let answer = station.call(AuthorizeRequest::new(token.clone())).await;
    if answer.is_ok_and(|answer| answer.id_token_info.status != AuthorizationStatus::Accepted) {
        return Err("not authorised".into());
    }
    let charging = Charging::new();
    bill(station, &charging, TransactionEvent::Started, 0, Some(token))?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    bill(station, &charging, TransactionEvent::Ended, 1, None)?;
    println!("charged in transaction {}", charging.name());
    Ok(())
}

fn bill(
    station: &Station,
    charging: &Charging,
    kind: TransactionEvent,
    seq_no: i64,
    token: Option<IdToken>,
) -> Result<(), Failure> {
    let now = Timestamp::from_unix_millis(jiff::Timestamp::now().as_millisecond());
    let about = Transaction::new(charging.name().to_owned());
    let mut event = TransactionEventRequest::new(kind, now, TriggerReason::Authorized, seq_no, about);
    event.id_token = token;
    station.bill(charging, &event)?;
    Ok(())
}
