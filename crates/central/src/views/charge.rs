//! A transaction with all that belongs to it.

use super::{Alarm, MeterReading, OddStop, Transaction};
use serde::Serialize;

/// A transaction and what is in the books about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TransactionDetail {
    /// The transaction itself.
    pub transaction: Transaction,
    /// Its meter readings, in order of time.
    pub readings: Vec<MeterReading>,
    /// 2.x: its events, in order of their numbers.
    pub events: Vec<TransactionEvent>,
    /// Stops that ended nothing and that are about it, or are likely to be.
    pub odd_stops: Vec<OddStop>,
    /// Alarms that are about it.
    pub alarms: Vec<Alarm>,
}

/// An event of a transaction of 2.x.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct TransactionEvent {
    /// Its seqNo.
    pub seq: i64,
    /// Another one of the same number came before.
    pub is_variant: bool,
    /// `Started`, `Updated` or `Ended`.
    pub kind: String,
    /// When it happened, as the station says.
    pub at: String,
    /// Whether the station was offline when it happened.
    pub offline: bool,
    /// Why it was sent: the triggerReason.
    pub trigger: Option<String>,
    /// The chargingState in it.
    pub charging_state: Option<String>,
}
