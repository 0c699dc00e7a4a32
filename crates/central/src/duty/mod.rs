//! Work that is owed to stations: calls from our side that must reach a station once it is there, and whose true outcome
//! is kept.
//!
//! Whoever owes something writes a row ([`NewDuty`], [`owe`]), in the same transaction as what made it necessary. The
//! [attendant](attend) takes due rows of stations that are there, marks them as being sent, sends, and writes down what
//! became of it together with what follows from it. So at any moment the table tells the truth: what is open is owed,
//! what is `sending` may or may not have reached the station, what has ended has the outcome that the gateway told.
//!
//! Each [`Kind`] makes the calls of its duties, at the moment when they are sent, and judges what the station answered.

mod agenda;
mod attend;
mod kind;
mod line;
mod table;
#[cfg(test)]
mod tests;
/// The same over PostgreSQL.
#[cfg(test)]
#[path = "tests.rs"]
#[allow(clippy::duplicate_mod, reason = "they look where they are")]
mod tests_on_postgres;
mod turn;

pub(crate) use agenda::{Agenda, Counts};
pub use attend::Attendance;
pub(crate) use kind::{At, Kind, Make, Settled, words};
pub use line::{Line, Order};
pub(crate) use table::{booted, is_owed, list, owe, withdraw};

use serde::Serialize;
use std::time::Duration;
use switchboard_rpc::Version;

/// How far a duty is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum DutyState {
    /// It waits for its time, or for its station.
    Open,
    /// It has been handed over, and what became of it is not known yet.
    Sending,
    /// The station did it.
    Done,
    /// The station said no.
    Refused,
    /// It was sent, nobody knows whether the station did it, and it must not be sent twice.
    Unknown,
    /// It was never sent, and its time is over.
    Expired,
    /// It was tried as often as it may be.
    GivenUp,
    /// Whoever owed it took it back.
    Withdrawn,
}

impl DutyState {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Open,
        Self::Sending,
        Self::Done,
        Self::Refused,
        Self::Unknown,
        Self::Expired,
        Self::GivenUp,
        Self::Withdrawn,
    ];

    /// Its name, as it is kept and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Sending => "sending",
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::GivenUp => "givenUp",
            Self::Withdrawn => "withdrawn",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether nothing more will happen to it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Open | Self::Sending)
    }
}

/// A duty as it is in the books.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Duty {
    /// Its number.
    pub id: i64,
    /// Whose station.
    pub tenant: String,
    /// Which station.
    pub station: String,
    /// What makes its call and judges the outcome.
    pub kind: String,
    /// Names it among the station's duties of its kind.
    pub key: String,
    /// The action, if it does not depend on the moment of sending.
    pub action: Option<String>,
    /// How far it is.
    pub state: DutyState,
    /// How often it was handed over.
    pub attempts: u32,
    /// What became of the last attempt: `answered`, `refused`, `offline`, `busy`, `notSent`, `unknown`, `expired`.
    pub outcome: Option<String>,
    /// The same, or what follows from it, in words.
    pub reason: Option<String>,
    /// When it is tried next, in milliseconds since 1970.
    pub due_ms: i64,
    /// When it ends unless it was sent.
    pub expires_ms: Option<i64>,
    /// When it came to be owed.
    pub owed_ms: i64,
    /// When it last changed.
    pub changed_ms: i64,
    #[serde(skip)]
    pub(crate) version: Option<Version>,
    #[serde(skip)]
    pub(crate) payload: Option<String>,
    /// What its kind wanted to remember.
    #[serde(skip)]
    pub(crate) context: String,
    #[serde(skip)]
    pub(crate) repeatable: bool,
    #[serde(skip)]
    pub(crate) timeout: Duration,
    #[serde(skip)]
    pub(crate) not_before_ms: i64,
    #[serde(skip)]
    pub(crate) attempts_max: Option<u32>,
    #[serde(skip)]
    pub(crate) revision: i64,
    #[serde(skip)]
    pub(crate) failures: u32,
}

/// Something to be owed. The same kind and key again is the same duty, owed anew: it is sent once more even if it is just
/// being sent.
#[derive(Clone, Debug)]
pub(crate) struct NewDuty<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) station: &'a str,
    /// The name of its [`Kind`].
    pub(crate) kind: &'static str,
    pub(crate) key: &'a str,
    /// The call, where it does not depend on the moment of sending; else the kind makes it.
    pub(crate) fixed: Option<Fixed>,
    /// Whatever the kind wants to remember.
    pub(crate) context: String,
    /// Whether it may be sent again when nobody knows whether it had its effect. Off: it then ends as unknown.
    pub(crate) repeatable: bool,
    /// How long the station may take to answer.
    pub(crate) timeout: Duration,
    /// In milliseconds since 1970; 0: at once.
    pub(crate) not_before_ms: i64,
    /// None: it is owed for ever.
    pub(crate) expires_ms: Option<i64>,
    /// How often it may be handed over; none: until it has an outcome.
    pub(crate) attempts_max: Option<u32>,
}

/// A call that is known when it comes to be owed.
#[derive(Clone, Debug)]
pub(crate) struct Fixed {
    /// That the payload is written in. To a station that speaks another one by then it is not sent.
    pub(crate) version: Version,
    pub(crate) action: &'static str,
    /// A JSON object.
    pub(crate) payload: String,
}

/// How long a station may take to answer, unless whoever owes the call says otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);

impl<'a> NewDuty<'a> {
    /// Something that is due at once and for ever, may be repeated, and whose call its kind makes when it is sent.
    pub(crate) const fn new(tenant: &'a str, station: &'a str, kind: &'static str, key: &'a str) -> Self {
        Self {
            tenant,
            station,
            kind,
            key,
            fixed: None,
            context: String::new(),
            repeatable: true,
            timeout: TIMEOUT,
            not_before_ms: 0,
            expires_ms: None,
            attempts_max: None,
        }
    }
}
