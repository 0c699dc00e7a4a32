//! What can be made of a message that could not be read into its type.
//!
//! The message itself is kept as it came; this takes from it what is there in spite of all, so that a transaction still
//! ends when a station forgets one member of the message that says so. What is not there is left out, never made up.

use super::readings::{Written, readings, stamp};
use crate::books::{Content, Event, EventKind, Stamp, Start, Stop};
use crate::decimal::Decimal;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;

/// The members of an object, unread. Of two of the same name the last.
#[derive(Default)]
struct Loose<'a>(HashMap<String, &'a RawValue>);

impl<'a> Loose<'a> {
    fn read(text: &'a str) -> Self {
        Self(serde_json::from_str(text).unwrap_or_default())
    }

    fn object(&self, name: &str) -> Self {
        self.0.get(name).map(|value| Self::read(value.get())).unwrap_or_default()
    }

    /// A string; a number counts as its digits. Empty counts as absent.
    fn text(&self, name: &str) -> Option<String> {
        let value = self.0.get(name)?.get();
        let text = match value.as_bytes().first()? {
            b'"' => serde_json::from_str::<Cow<'_, str>>(value).ok()?.into_owned(),
            b'-' | b'0'..=b'9' => value.to_owned(),
            _ => return None,
        };
        (!text.is_empty()).then_some(text)
    }

    fn decimal(&self, name: &str) -> Option<Decimal> {
        Decimal::parse(&self.text(name)?)
    }

    fn integer(&self, name: &str) -> Option<i64> {
        let number = self.decimal(name)?;
        // Exactly an integer, however it was written: `5`, `"5"`, `5.0`.
        let text = number.to_string();
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        if fraction.bytes().any(|digit| digit != b'0') {
            return None;
        }
        whole.parse().ok()
    }

    fn stamp(&self, name: &str) -> Option<Stamp> {
        self.text(name).map(|text| stamp(&text))
    }

    fn flag(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| value.get() == "true")
    }
}

/// The payload of a 1.6 StartTransaction.
pub(super) fn start(payload: &str) -> Start {
    let members = Loose::read(payload);
    Start {
        connector: members.integer("connectorId"),
        token: members.text("idTag"),
        at: members.stamp("timestamp"),
        meter: members.decimal("meterStart"),
        reservation: members.integer("reservationId"),
    }
}

/// The payload of a 1.6 StopTransaction, if it says which transaction.
pub(super) fn stop(payload: &str) -> Option<Stop> {
    let members = Loose::read(payload);
    Some(Stop {
        transaction: members.integer("transactionId")?,
        token: members.text("idTag"),
        at: members.stamp("timestamp"),
        meter: members.decimal("meterStop"),
        reason: members.text("reason"),
        readings: readings(payload).unwrap_or_default(),
    })
}

/// Where the readings of a MeterValues belong: the connector (2.x: the EVSE) and the transaction.
pub(super) fn place(payload: &str) -> (i64, Option<i64>) {
    let members = Loose::read(payload);
    let evse = members.integer("connectorId").or_else(|| members.integer("evseId"));
    (evse.unwrap_or(0), members.integer("transactionId"))
}

/// The payload of a 2.x TransactionEvent, if it says of which transaction, which number and what kind.
pub(super) fn event(payload: &str) -> Option<Event> {
    let members = Loose::read(payload);
    // OCPP 2.0, which nobody may use any more, had another name for it and for the id in it.
    let (info, id) = if members.0.contains_key("transactionInfo") {
        (members.object("transactionInfo"), "transactionId")
    } else {
        (members.object("transactionData"), "id")
    };
    let (evse, token) = (members.object("evse"), members.object("idToken"));
    let kind = match members.text("eventType")?.as_str() {
        "Started" => EventKind::Started,
        "Updated" => EventKind::Updated,
        "Ended" => EventKind::Ended,
        _ => return None,
    };
    let written = Written::find_in_unreadable(payload);
    Some(Event {
        offline: members.flag("offline"),
        readings: written.readings.unwrap_or_default(),
        content: Content {
            transaction: info.text(id)?,
            seq: members.integer("seqNo")?,
            kind,
            at: members.stamp("timestamp")?,
            trigger: members.text("triggerReason"),
            token: token.text("idToken"),
            token_type: token.text("type"),
            evse: evse.integer("id"),
            connector: evse.integer("connectorId"),
            charging_state: info.text("chargingState"),
            stopped_reason: info.text("stoppedReason"),
            remote_start: info.integer("remoteStartId"),
            reservation: members.integer("reservationId"),
            details: written.details,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::{event, place, start, stop};
    use crate::books::EventKind;

    #[test]
    fn what_is_there_is_taken_and_nothing_made_up() {
        let found = start(
            r#"{"connectorId":"1","idTag":4711,"meterStart":"12.50","timestamp":null,"reservationId":1.5}"#,
        );
        assert_eq!(found.connector, Some(1));
        assert_eq!(found.token.as_deref(), Some("4711"));
        assert_eq!(found.meter.unwrap().to_string(), "12.50");
        assert_eq!((found.at, found.reservation), (None, None));
        assert_eq!(start("{}").connector, None);
    }

    #[test]
    fn an_end_without_its_trigger_is_still_an_end() {
        let payload = r#"{"eventType":"Ended","timestamp":"2025-03-10T10:00:00.000Z","seqNo":2,"transactionInfo":{"transactionId":"f3c1b0e2"}}"#;
        let found = event(payload).unwrap();
        assert_eq!(found.content.kind, EventKind::Ended);
        assert_eq!((found.content.transaction.as_str(), found.content.seq), ("f3c1b0e2", 2));
        assert!(event(r#"{"eventType":"Ended","seqNo":2}"#).is_none());
        assert!(event(r#"{"eventType":"Over","timestamp":"2025-03-10T10:00:00Z","seqNo":2,"transactionInfo":{"transactionId":"x"}}"#).is_none());
    }

    #[test]
    fn an_event_of_2_0_says_its_transaction_under_other_names() {
        let payload = r#"{"eventType":"Started","timestamp":"2022-07-16T12:59:35Z","seqNo":"0","transactionData":{"id":"1","remoteStartId":"7","chargingState":"Charging"}}"#;
        let found = event(payload).unwrap().content;
        assert_eq!((found.transaction.as_str(), found.seq, found.remote_start), ("1", 0, Some(7)));
        assert_eq!(found.charging_state.as_deref(), Some("Charging"));
        // Where there is the right member, the wrong one is not looked at.
        let both = payload.replace("\"seqNo\"", "\"transactionInfo\":{},\"seqNo\"");
        assert!(event(&both).is_none());
    }

    #[test]
    fn a_stop_needs_to_say_which_transaction() {
        assert!(stop(r#"{"meterStop":7}"#).is_none());
        let found = stop(r#"{"transactionId":9,"meterStop":"x","transactionData":7}"#).unwrap();
        assert_eq!((found.transaction, found.meter, found.readings.len()), (9, None, 0));
    }

    #[test]
    fn readings_have_a_place_in_both_versions() {
        assert_eq!(place(r#"{"connectorId":2,"transactionId":9}"#), (2, Some(9)));
        assert_eq!(place(r#"{"evseId":3}"#), (3, None));
        assert_eq!(place("{}"), (0, None));
    }
}
