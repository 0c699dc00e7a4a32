//! What the commands do that speak to a running process.

pub(crate) mod check_config;
pub(crate) mod config;
pub(crate) mod journal;
pub(crate) mod salvage;
pub(crate) mod send;
pub(crate) mod simulate;
pub(crate) mod stations;
pub(crate) mod tags;
pub(crate) mod trace;
pub(crate) mod transactions;
