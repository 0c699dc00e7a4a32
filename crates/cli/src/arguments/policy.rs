//! `switchboard stations policy`.

use super::parse_duration;
use clap::{Args, ValueEnum};
use std::time::Duration;

/// How a station's boots are answered.
#[derive(Args, Debug)]
pub(crate) struct StationPolicy {
    /// The station's id. It need not have connected yet
    pub(crate) station: String,
    /// How its next BootNotification is answered; without it, shows what is laid down
    #[arg(value_enum)]
    pub(crate) policy: Option<PolicyName>,
    /// The interval that it is told: of heartbeats if it is accepted, else how long it waits before it boots again
    #[arg(long, value_name = "DURATION", value_parser = parse_interval, requires = "policy")]
    pub(crate) interval: Option<Duration>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What can be laid down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PolicyName {
    /// It may do everything
    Accepted,
    /// It may be configured and asked, and may not charge yet
    Pending,
    /// It may do nothing but boot again
    Rejected,
    /// As central.registration says
    Default,
}

/// A duration; a bare number is seconds, as OCPP tells intervals.
fn parse_interval(text: &str) -> Result<Duration, String> {
    match text.parse::<u32>() {
        Ok(seconds) => Ok(Duration::from_secs(seconds.into())),
        Err(_) => parse_duration(text),
    }
}
