//! Reservations.

use super::request::{OperationError, Owed};
use super::{Answer, Operation, time};
use crate::books::Ledger;
use crate::central::Central;
use crate::duty::Settled;
use crate::store::StoreError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use switchboard_messages::Timestamp;
use switchboard_rpc::{StationId, Version};

/// A reservation to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct ReservationRequest {
    /// 1.6: the connector. 2.x: the EVSE. None: any.
    pub connector: Option<i64>,
    /// For whom.
    pub tag: String,
    /// 2.x: the type of the token; `ISO14443` if none is given.
    pub tag_type: Option<String>,
    /// Until when.
    pub until: String,
}

/// What the duty remembers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Context {
    id: i64,
    connector: i64,
    tag: String,
    tag_type: Option<String>,
    until_ms: i64,
}

/// The type of a token that nobody named one for: what readers of cards read.
const TYPE: &str = "ISO14443";

pub(super) struct Reserve;

impl Operation for Reserve {
    const KIND: &'static str = "reserve";
    type Context = Context;

    fn call(context: &Context, version: Version, _: i64) -> Result<(&'static str, Value), String> {
        let Context { id, connector, tag, tag_type, until_ms } = context;
        let payload = match version {
            Version::V16 => {
                json!({"reservationId": id, "connectorId": connector, "idTag": tag, "expiryDate": time(*until_ms)})
            }
            Version::V201 | Version::V21 => json!({
                "id": id,
                "evseId": (*connector != 0).then_some(connector),
                "idToken": {"idToken": tag, "type": tag_type.as_deref().unwrap_or(TYPE)},
                "expiryDateTime": time(*until_ms),
            }),
        };
        Ok(("ReserveNow", payload))
    }

    fn answered(ledger: &Ledger<'_>, context: &Context, answer: &Answer) -> Result<Settled, StoreError> {
        ledger.reservation_answered(context.id, answer.status(), &answer.words())?;
        Ok(match answer.status() {
            "Accepted" => Settled::Done(None),
            _ => Settled::Refused(answer.words()),
        })
    }

    fn failed(ledger: &Ledger<'_>, context: &Context, why: &str) -> Result<(), StoreError> {
        ledger.reservation_failed(context.id, why)
    }

    fn unknown(ledger: &Ledger<'_>, context: &Context, why: &str) -> Result<(), StoreError> {
        ledger.reservation_remark(context.id, why)
    }
}

pub(super) struct Cancel;

impl Operation for Cancel {
    const KIND: &'static str = "cancel-reservation";
    type Context = i64;

    fn call(id: &i64, _: Version, _: i64) -> Result<(&'static str, Value), String> {
        Ok(("CancelReservation", json!({"reservationId": id})))
    }

    fn answered(ledger: &Ledger<'_>, id: &i64, answer: &Answer) -> Result<Settled, StoreError> {
        ledger.reservation_cancelled(*id, answer.status())?;
        Ok(match answer.status() {
            "Accepted" => Settled::Done(None),
            _ => Settled::Refused(answer.words()),
        })
    }

    fn failed(ledger: &Ledger<'_>, id: &i64, why: &str) -> Result<(), StoreError> {
        ledger.reservation_not_cancelled(*id, why)
    }

    fn unknown(ledger: &Ledger<'_>, id: &i64, why: &str) -> Result<(), StoreError> {
        ledger.reservation_remark(*id, why)
    }
}

impl Central {
    /// Reserves a connector; gives out the number of the reservation.
    ///
    /// # Errors
    /// When the station was never here, or cannot be asked this.
    pub async fn reserve(
        &self,
        tenant: &str,
        station: &StationId,
        request: ReservationRequest,
    ) -> Result<i64, OperationError> {
        let invalid = |why: &str| Err(OperationError::Invalid(why.to_owned()));
        let Ok(until) = Timestamp::parse(&request.until) else {
            return invalid("the end is no time like 2026-11-23T10:00:00Z");
        };
        if until.unix_millis() <= self.0.clock.now_ms() {
            return invalid("the end of the reservation is over already");
        }
        if request.tag.is_empty() || request.connector.is_some_and(|connector| connector < 0) {
            return invalid("a reservation is for a tag, at a connector that is not negative");
        }
        let until_ms = until.unix_millis();
        self.request(tenant, station, move |desk| {
            let context = |id| Context {
                id,
                connector: request.connector.unwrap_or(0),
                tag: request.tag.clone(),
                tag_type: request.tag_type.clone(),
                until_ms,
            };
            if let Err(why) = desk.check::<Reserve>(&context(1))? {
                return Ok(Err(why));
            }
            let tag_type = request.tag_type.as_deref();
            let id = desk.ledger.reservation_new(
                request.connector.unwrap_or(0),
                &request.tag,
                tag_type,
                until_ms,
            )?;
            desk.owe::<Reserve>(&Owed {
                key: id.to_string(),
                context: context(id),
                // The same number again is the same reservation (C16 5.13).
                repeatable: true,
                expires_ms: Some(until_ms),
            })?;
            Ok(Ok(id))
        })
        .await
    }

    /// Cancels a reservation: at once if the station was not told of it yet, else when it agrees.
    ///
    /// # Errors
    /// When there is none of this number, or it is over.
    pub async fn cancel_reservation(
        &self,
        tenant: &str,
        station: &StationId,
        id: i64,
    ) -> Result<(), OperationError> {
        self.request(tenant, station, move |desk| {
            match desk.ledger.reservation_state(id)?.as_deref() {
                Some("requested" | "accepted" | "cancelling") => {}
                Some(state) => {
                    return Ok(Err(format!("reservation {id} is {state} and cannot be cancelled")));
                }
                None => return Ok(Err(format!("this station has no reservation {id}"))),
            }
            if desk.withdraw::<Reserve>(&id.to_string())? {
                desk.ledger.reservation_cancelled(id, "Accepted")?;
                return Ok(Ok(()));
            }
            desk.ledger.reservation_cancelling(id)?;
            desk.owe::<Cancel>(&Owed {
                key: id.to_string(),
                context: id,
                repeatable: true,
                expires_ms: None,
            })?;
            Ok(Ok(()))
        })
        .await
    }
}
