//! What an operator has a station do beyond charging, and what the station tells of it: reports, firmware and log jobs,
//! reservations, charging profiles, events.
//!
//! Each request becomes a row in the books and a duty in one transaction. An [`Operation`] makes the duty's call in the
//! version that the station speaks when it is sent, and takes the answer into the row.

mod firmware;
mod log;
mod profile;
mod read;
mod report;
mod request;
mod reservation;
mod schedule;
mod trigger;

pub use firmware::FirmwareRequest;
pub use log::{LogKind, LogRequest};
pub use profile::ProfileRequest;
pub use report::ReportBase;
pub use request::OperationError;
pub use reservation::ReservationRequest;
pub use schedule::{Cycle, Period, Unit};
pub(crate) use trigger::Watches;
pub use trigger::{Trigger, Watch};

use crate::books::Ledger;
use crate::duty::{self, Duty, Kind, Make, Settled};
use crate::store::StoreError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use switchboard_messages::{Violation, v16, v21, v201};
use switchboard_router::Outcome;
use switchboard_rpc::Version;

/// The kinds of duties that come of requests.
pub(crate) static KINDS: &[&dyn Kind] = &[
    &Of(firmware::Update),
    &Of(log::Upload),
    &Of(profile::Set),
    &Of(profile::Clear),
    &Of(report::Ask),
    &Of(reservation::Reserve),
    &Of(reservation::Cancel),
];

/// One sort of request, from its call to its answer.
trait Operation: Sync {
    /// The name of its kind of duty.
    const KIND: &'static str;
    /// What the duty remembers of the request.
    type Context: Serialize + DeserializeOwned;

    /// The call in this version: action and payload; else why there is none, in words.
    fn call(context: &Self::Context, version: Version, now_ms: i64) -> Result<(&'static str, Value), String>;

    /// The station answered.
    fn answered(ledger: &Ledger<'_>, context: &Self::Context, answer: &Answer)
    -> Result<Settled, StoreError>;

    /// It came to nothing, and why.
    fn failed(ledger: &Ledger<'_>, context: &Self::Context, why: &str) -> Result<(), StoreError>;

    /// It was sent, and nobody knows whether the station acted on it.
    fn unknown(ledger: &Ledger<'_>, context: &Self::Context, why: &str) -> Result<(), StoreError>;
}

/// What a station answered.
struct Answer(Value);

impl Answer {
    /// The status; Accepted where the version has none.
    fn status(&self) -> &str {
        self.0["status"].as_str().unwrap_or("Accepted")
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0[name].as_str().filter(|text| !text.is_empty())
    }

    /// The status, and what the station adds to it (2.x).
    fn words(&self) -> String {
        let info = &self.0["statusInfo"];
        let mut words = self.status().to_owned();
        for text in ["reasonCode", "additionalInfo"].iter().filter_map(|name| info[name].as_str()) {
            words.push_str(": ");
            words.push_str(text);
        }
        words
    }
}

/// An operation as a kind of duty.
struct Of<O>(O);

impl<O: Operation> Of<O> {
    fn context(duty: &Duty) -> Result<O::Context, StoreError> {
        serde_json::from_str(&duty.context).map_err(|error| StoreError::Invalid(error.to_string()))
    }
}

impl<O: Operation> Kind for Of<O> {
    fn name(&self) -> &'static str {
        O::KIND
    }

    fn make(&self, at: duty::At<'_>, duty: &Duty, version: Version) -> Result<Make, StoreError> {
        let context = Self::context(duty)?;
        let why = match checked_call::<O>(&context, version, at.now_ms) {
            Ok((action, payload)) => return Ok(Make::Call(action.into(), payload)),
            Err(why) => why,
        };
        if let Some(ledger) = Ledger::of_known(at.db, &duty.tenant, &duty.station, at.now_ms)? {
            O::failed(&ledger, &context, &why)?;
        }
        Ok(Make::Cannot(why))
    }

    fn settle(
        &self,
        at: duty::At<'_>,
        duty: &Duty,
        _: Option<Version>,
        outcome: &Outcome,
        proposed: Settled,
    ) -> Result<Settled, StoreError> {
        let Some(ledger) = Ledger::of_known(at.db, &duty.tenant, &duty.station, at.now_ms)? else {
            return Ok(proposed);
        };
        let context = Self::context(duty)?;
        match outcome {
            Outcome::Answered(payload) => {
                let answer = Answer(serde_json::from_str(payload).unwrap_or(Value::Null));
                return O::answered(&ledger, &context, &answer);
            }
            Outcome::Refused { .. } | Outcome::Expired => {
                O::failed(&ledger, &context, &duty::words(outcome))?;
            }
            _ => O::unknown(&ledger, &context, &duty::words(outcome))?,
        }
        Ok(proposed)
    }
}

/// The call of an operation as it would go out: valid, or why it is not.
fn checked_call<O: Operation>(
    context: &O::Context,
    version: Version,
    now_ms: i64,
) -> Result<(&'static str, String), String> {
    let (action, payload) = O::call(context, version, now_ms)?;
    Ok((action, checked(action, payload, version)?))
}

/// The text of a payload that is valid, or why it is not.
fn checked(action: &str, payload: Value, version: Version) -> Result<String, String> {
    let payload = without_nulls(payload).to_string();
    let violations = match version {
        Version::V16 => v16::validate(action, false, payload.as_bytes()),
        Version::V201 => v201::validate(action, false, payload.as_bytes()),
        Version::V21 => v21::validate(action, false, payload.as_bytes()),
    };
    match violations.as_deref() {
        Some([]) => Ok(payload),
        Some(violations) => {
            let place =
                |violation: &Violation| format!("{}: expected {}", violation.pointer, violation.expected);
            let places: Vec<String> = violations.iter().map(place).collect();
            Err(format!("it makes no {action} of OCPP {version}: {}", places.join("; ")))
        }
        None => Err(format!("OCPP {version} has no {action}")),
    }
}

/// The call that asks a station what it would let a connector have over some time: action and payload.
///
/// # Errors
/// Why there is none, in words.
pub fn composite_schedule(
    version: Version,
    connector: i64,
    duration: i64,
    unit: Option<Unit>,
) -> Result<(&'static str, String), String> {
    let name = if version == Version::V16 { "connectorId" } else { "evseId" };
    let payload = json!({name: connector, "duration": duration, "chargingRateUnit": unit.map(Unit::as_str)});
    Ok(("GetCompositeSchedule", checked("GetCompositeSchedule", payload, version)?))
}

/// A payload without the members that are null, so that what is optional can be written down as it comes.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(
            members
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| (name, without_nulls(value)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

/// Our own time as the wire has it.
fn time(ms: i64) -> String {
    switchboard_messages::Timestamp::from_unix_millis(ms).to_string()
}
