//! What jobs, reservations and charging profiles look like from outside.

use super::{Token, When};
use serde::Serialize;
use serde_json::value::RawValue;

/// A firmware update or a log upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Job {
    /// Its number: the requestId where the message has one.
    pub id: i64,
    /// Which station.
    pub station: String,
    /// `firmware` or `log`.
    pub kind: String,
    /// Of a log: `diagnostics` or `security`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
    /// Where the file is or goes. A user and a password in it are left out.
    pub url: String,
    /// How far it is: `requested`, `unknown` (sent, and no answer came), `accepted`, `running`, `done`, `failed`,
    /// `rejected`, `cancelled`, `replaced`.
    pub phase: String,
    /// The station's latest word that counted.
    pub status: Option<String>,
    /// What else there is to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Of a log: the name that the station gave the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The firmware when the update was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware_before: Option<String>,
    /// The firmware that the station booted with since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware_after: Option<String>,
    /// When it was asked for.
    pub requested_at: When,
    /// When it last went on.
    pub updated_at: When,
    /// What happened, in order.
    pub steps: Vec<Step>,
}

/// Something that happened to a job, or a status that belongs to none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Step {
    /// Which station.
    pub station: String,
    /// The station's word; `Boot` of a boot.
    pub status: String,
    /// The requestId in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<i64>,
    /// Why it changed nothing, or what it was: `late`, `repeated`, `answer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
    /// When it came.
    pub at: When,
}

/// Jobs, and statuses of no job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Jobs {
    /// The jobs, the latest first.
    pub jobs: Vec<Job>,
    /// Statuses that belong to no job, the latest first.
    pub stray: Vec<Step>,
}

/// A reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Reservation {
    /// The reservationId.
    pub id: i64,
    /// Which station.
    pub station: String,
    /// 1.6: the connector. 2.x: the EVSE. None: any.
    pub connector: Option<i64>,
    /// For whom.
    pub tag: Option<Token>,
    /// Until when.
    pub until: When,
    /// `requested`, `accepted`, `refused`, `used`, `expired`, `removed`, `cancelling` or `cancelled`.
    pub state: String,
    /// The station's word, or why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The transaction that used it, by its number in the books.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction: Option<i64>,
    /// When it was asked for.
    pub requested_at: When,
    /// When it last changed.
    pub updated_at: When,
}

impl Reservation {
    /// Without whose it is.
    #[must_use]
    pub fn anonymous(mut self) -> Self {
        self.tag = None;
        self
    }
}

/// A charging profile that a station shall have.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DesiredProfile {
    /// The chargingProfileId.
    pub id: i64,
    /// 1.6: the connector. 2.x: the EVSE. 0: the station.
    pub connector: i64,
    /// `station-max`, `tx-default` or `tx`.
    pub purpose: String,
    /// The highest one rules.
    pub stack_level: i64,
    /// `requested`, `accepted`, `rejected`, `clearing` or `cleared`.
    pub state: String,
    /// The station's word, or why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The profile, in no version's form.
    pub profile: Box<RawValue>,
    /// When it was asked for.
    pub requested_at: When,
    /// When it last changed.
    pub updated_at: When,
}

/// A charging profile that a station reported (2.x).
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ReportedProfile {
    /// Its number, as the station says.
    pub id: i64,
    /// The EVSE; 0: the station.
    pub connector: i64,
    /// Who wants it: `CSO` is us.
    pub source: String,
    /// As it came.
    pub profile: Box<RawValue>,
    /// When it was reported.
    pub reported_at: When,
}

/// The profiles of a station.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Profiles {
    /// Those that it shall have, and what became of that.
    pub desired: Vec<DesiredProfile>,
    /// Those that it reported last; stations of 1.6 cannot.
    pub reported: Vec<ReportedProfile>,
}
