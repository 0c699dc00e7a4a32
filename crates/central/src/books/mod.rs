//! The books: what is written down for each message, as plain functions on plain values inside a transaction of the
//! store. They know no OCPP types; handlers bring these into the forms here.
//!
//! Everything here may run again after a rollback and keeps nothing outside of the transaction.

mod alarm;
mod charge;
pub(crate) mod configuring;
mod counterpart;
mod event;
mod follow;
mod inventory;
mod job;
pub(crate) mod local_list;
mod notice;
mod profile;
pub(crate) mod query;
pub(crate) mod query_charge;
pub(crate) mod query_jobs;
pub(crate) mod query_reports;
mod reading;
pub(crate) mod reading_key;
pub(crate) mod registration;
mod report;
mod reservation;
mod security;
pub(crate) mod setting;
mod stamp;
mod station;
mod status;
pub(crate) mod tags;
mod token;
mod unreadable;
pub(crate) mod variable;

pub use alarm::AlarmKind;
pub(crate) use alarm::Forgiven;
pub(crate) use charge::{Start, Started, Stop};
pub(crate) use event::{Content, Event, EventKind};
pub(crate) use job::NewJob;
pub(crate) use profile::ProfileKey;
pub use profile::{ProfileMatch, Purpose};
pub(crate) use reading::Reading;
pub(crate) use report::{Part, missing};
pub(crate) use security::is_critical;
pub use setting::{Setting, SettingState};
pub(crate) use stamp::Stamp;
pub(crate) use station::Boot;
pub(crate) use status::Status;
pub use token::TokenStatus;
pub(crate) use token::Verdict;

use crate::config::UnknownTokens;
use crate::store::Connection;

/// The rules by which messages are answered; a part of the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) unknown_tokens: UnknownTokens,
    pub(crate) refuse_concurrent: bool,
}

/// One station's books, open inside a transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ledger<'t> {
    db: &'t Connection,
    tenant: &'t str,
    station: i64,
    now_ms: i64,
    rules: Rules,
}
