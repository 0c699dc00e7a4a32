//! What the commands do that speak to a running process.

pub(crate) mod cancel;
pub(crate) mod check_config;
pub(crate) mod config;
pub(crate) mod events;
pub(crate) mod jobs;
pub(crate) mod journal;
mod policy;
pub(crate) mod profiles;
pub(crate) mod reports;
pub(crate) mod reservations;
pub(crate) mod salvage;
pub(crate) mod send;
mod show;
pub(crate) mod simulate;
pub(crate) mod stations;
pub(crate) mod tags;
pub(crate) mod trace;
pub(crate) mod transactions;
pub(crate) mod trigger;
