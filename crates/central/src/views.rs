//! What the books tell: plain values for the command line, the API and tests.

use crate::books::{AlarmKind, TokenStatus};
use crate::decimal::Decimal;
use crate::details::Details;
use serde::{Serialize, Serializer};
use std::fmt;
use switchboard_messages::Timestamp;

mod charge;
mod jobs;
mod reports;

pub use charge::{TransactionDetail, TransactionEvent};
pub use jobs::{DesiredProfile, Job, Jobs, Profiles, ReportedProfile, Reservation, Step};
pub use reports::{Attribute, DeviceVariable, EventFilter, ReportState, StationEvent, WholeReport};

/// A moment of our own clock, in milliseconds since 1970. It is written out as people read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct When(pub i64);

impl Serialize for When {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Timestamp::from_unix_millis(self.0))
    }
}

/// A token as a station gave it (1.6: idTag). Personal data: it prints redacted, and is written out where it is asked for.
#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    pub(crate) fn new(token: String) -> Self {
        Self(token)
    }

    /// The token itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(…)")
    }
}

/// A moment as a station told it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Moment {
    /// The station's own text.
    pub text: String,
    /// Milliseconds since 1970; none if the text is no time.
    pub ms: Option<i64>,
}

/// A station.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Station {
    /// Whose it is.
    pub tenant: String,
    /// Its identity.
    pub identity: String,
    /// The version that it spoke last: `1.6`, `2.0.1`, `2.1`.
    pub version: String,
    /// When its first message came, in milliseconds since 1970.
    pub first_seen_ms: i64,
    /// When its last BootNotification came; none if it never booted with us.
    pub booted_ms: Option<i64>,
    /// How that was answered: `Accepted`, `Pending`, `Rejected`.
    pub registration: Option<String>,
    /// Its maker, as it says.
    pub vendor: Option<String>,
    /// Its model.
    pub model: Option<String>,
    /// Its serial number.
    pub serial: Option<String>,
    /// The version of its firmware.
    pub firmware: Option<String>,
    /// What its connectors said last, in order.
    pub connectors: Vec<Connector>,
    /// How many of its transactions have not ended.
    pub running: u64,
}

/// What a connector, an EVSE or the station itself said last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Connector {
    /// 1.6: the connectorId. 0 is the station itself.
    pub evse: i64,
    /// The connector of the EVSE; 0 in 1.6, which has none.
    pub connector: i64,
    /// Its status, as on the wire.
    pub status: String,
    /// 1.6: the error code, `NoError` if there is none.
    pub error_code: Option<String>,
    /// What the station adds to it.
    pub info: Option<String>,
    /// The maker's own error code.
    pub vendor_error: Option<String>,
    /// Since when, as the station says.
    pub at: Option<String>,
    /// When it came, in milliseconds since 1970.
    pub received_ms: i64,
}

/// A transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Transaction {
    /// Its number in the books; in 1.6 that is the transactionId.
    pub id: i64,
    /// Whose station.
    pub tenant: String,
    /// Which station.
    pub station: String,
    /// 2.x: the transactionId that the station gave it.
    pub remote_id: Option<String>,
    /// 1.6: the connectorId.
    pub evse: Option<i64>,
    /// 2.x: the connector of the EVSE.
    pub connector: Option<i64>,
    /// Who charges.
    pub token: Option<Token>,
    /// 2.x: what kind of token.
    pub token_type: Option<String>,
    /// What the station was told of the token.
    pub authorization: Option<TokenStatus>,
    /// When it began.
    pub started: Option<Moment>,
    /// The meter at the beginning, in Wh.
    pub meter_start: Option<Decimal>,
    /// When it ended.
    pub stopped: Option<Moment>,
    /// The meter at the end, in Wh.
    pub meter_stop: Option<Decimal>,
    /// Why it ended.
    pub stop_reason: Option<String>,
    /// Who ended it, if anybody did with a token.
    pub stop_token: Option<Token>,
    /// Whether it has ended.
    pub ended: bool,
    /// 2.x: what the station said of it last: `Charging`, `SuspendedEV`.
    pub charging_state: Option<String>,
    /// The reservation that it used.
    pub reservation: Option<i64>,
    /// 2.x: the remote start that it follows.
    pub remote_start: Option<i64>,
    /// The energy so far, in Wh: from the meter at the beginning to the one at the end, or to the latest reading.
    pub energy: Option<Decimal>,
    /// 2.x: the events that are there.
    pub events: Option<Events>,
    /// 2.x: what else its events say of it, the latest of each: `operationMode`, `tariffId`, `costDetails`.
    #[serde(skip_serializing_if = "Details::is_empty")]
    pub details: Details,
}

/// The events of a transaction of 2.x.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Events {
    /// How many different numbers are there.
    pub count: u64,
    /// The lowest number.
    pub first: i64,
    /// The highest number.
    pub last: i64,
    /// It has a beginning and an end, and no number between them is missing.
    pub complete: bool,
}

/// Which transactions are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransactionFilter {
    /// Only of this tenant.
    pub tenant: Option<String>,
    /// Only of this station.
    pub station: Option<String>,
    /// Only those that have ended, or only those that have not.
    pub ended: Option<bool>,
    /// Only those of this token, at their beginning or end.
    pub token: Option<String>,
    /// Only those that began then or later, in milliseconds since 1970; where the station did not say when, as they came.
    pub since_ms: Option<i64>,
    /// Only those that began before.
    pub until_ms: Option<i64>,
    /// At most so many, the newest first.
    pub limit: usize,
}

impl Default for TransactionFilter {
    fn default() -> Self {
        Self {
            tenant: None,
            station: None,
            ended: None,
            token: None,
            since_ms: None,
            until_ms: None,
            limit: 100,
        }
    }
}

impl TransactionFilter {
    /// Those of one station.
    #[must_use]
    pub fn of_station(station: impl Into<String>) -> Self {
        Self { station: Some(station.into()), ..Self::default() }
    }
}

/// A meter reading.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MeterReading {
    /// When it was taken.
    pub at: Moment,
    /// 1.6: the connectorId.
    pub evse: i64,
    /// The import register over all phases in Wh, if it is among the samples.
    pub energy: Option<Decimal>,
    /// The samples as the station wrote them: a JSON array of `sampledValue` objects.
    pub samples: String,
}

/// Something for people to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Alarm {
    /// Its number.
    pub id: i64,
    /// Whose station.
    pub tenant: String,
    /// Which station.
    pub station: String,
    /// What it is about.
    pub kind: AlarmKind,
    /// What exactly: a transaction, an event.
    pub subject: String,
    /// In words.
    pub detail: String,
    /// When it was first raised, in milliseconds since 1970.
    pub first_ms: i64,
    /// When it was last raised.
    pub last_ms: i64,
    /// How often.
    pub count: u64,
}

/// Something that stations of this kind get wrong and that is forgiven, counted per place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Warning {
    /// Whose station.
    pub tenant: String,
    /// Which station.
    pub station: String,
    /// In which message.
    pub action: String,
    /// Where: a JSON pointer, positions in arrays as `*`.
    pub pointer: String,
    /// What.
    pub kind: String,
    /// What would have been right.
    pub expected: String,
    /// When it was last seen, in milliseconds since 1970.
    pub last_ms: i64,
    /// How often.
    pub count: u64,
}

/// A StopTransaction that ended nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct OddStop {
    /// Which station.
    pub station: String,
    /// The transactionId in it.
    pub claimed: i64,
    /// `orphan`: there is no such transaction. `variant`: it had ended, and differently.
    pub role: String,
    /// An orphan's likely transaction.
    pub candidate: Option<i64>,
    /// What it said: a JSON object.
    pub content: String,
}

/// A notification as it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Notice {
    /// Which station.
    pub station: String,
    /// Which message.
    pub action: String,
    /// Its payload.
    pub payload: String,
    /// When it came, in milliseconds since 1970.
    pub received_ms: i64,
}

/// An answer that came in parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The payloads, in order.
    pub parts: Vec<String>,
    /// The last part is there, and all before it.
    pub complete: bool,
}

/// A message that could not be read into its form.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct UnreadableMessage {
    /// Which station.
    pub station: String,
    /// Which message.
    pub action: String,
    /// Its payload as it came.
    pub payload: String,
    /// Why it cannot be read.
    pub violations: String,
    /// What it was answered with.
    pub answer: String,
}

impl fmt::Debug for UnreadableMessage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The payload may hold personal data.
        formatter
            .debug_struct("UnreadableMessage")
            .field("station", &self.station)
            .field("action", &self.action)
            .field("violations", &self.violations)
            .finish_non_exhaustive()
    }
}
