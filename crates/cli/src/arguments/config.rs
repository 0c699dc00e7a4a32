//! `switchboard config`.

use clap::{Args, Subcommand};
use std::time::Duration;

/// What stations are set to.
#[derive(Args, Debug)]
pub(crate) struct Config {
    /// What to do; without it: show
    #[command(subcommand)]
    pub(crate) action: Option<ConfigAction>,
    /// The station's id; without it, what is desired of all stations is shown
    pub(crate) station: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to do with settings.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigAction {
    /// Say what a station, or every station, shall be set to
    #[command(
        after_help = "Examples:\n  switchboard config set CP001 HeartbeatInterval=300 MeterValueSampleInterval=60\n  \
        switchboard config set CP201 OCPPCommCtrlr/HeartbeatInterval=300\n  switchboard config set --all HeartbeatInterval=300\n  \
        switchboard config set CP001 WebSocketPingInterval=30 --reboot\n\n\
        The station is asked now, or as soon as it is there, and again until it has the value or rejects it."
    )]
    Set(SetConfig),
    /// Desire nothing of a station, or of all, for these names; stations keep the values that they have
    #[command(
        after_help = "Examples:\n  switchboard config unset CP001 HeartbeatInterval\n  switchboard config unset --all HeartbeatInterval"
    )]
    Unset(UnsetConfig),
    /// Have a station report what it is set to
    #[command(after_help = "Examples:\n  switchboard config refresh CP001\n\n\
        A station of 1.6 reports everything, one of 2.x what is desired or was asked for before.")]
    Refresh(RefreshConfig),
}

/// Say what shall be set.
#[derive(Args, Debug)]
pub(crate) struct SetConfig {
    /// The station's id, unless --all is given; then NAME=VALUE, where a name of 2.x is
    /// Component[instance].evse.connector/Variable[instance]#Attribute
    #[arg(required = true, value_name = "STATION|NAME=VALUE", num_args = 1..)]
    pub(crate) words: Vec<String>,
    /// Of every station of which nothing else is desired
    #[arg(long)]
    pub(crate) all: bool,
    /// Reset a station, once, if it uses a value only after a reboot
    #[arg(long)]
    pub(crate) reboot: bool,
    /// How long to wait until the station was asked
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = super::parse_duration)]
    pub(crate) wait: Duration,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Desire nothing any more.
#[derive(Args, Debug)]
pub(crate) struct UnsetConfig {
    /// The station's id, unless --all is given; then names
    #[arg(required = true, value_name = "STATION|NAME", num_args = 1..)]
    pub(crate) words: Vec<String>,
    /// Of every station
    #[arg(long)]
    pub(crate) all: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Have a station report.
#[derive(Args, Debug)]
pub(crate) struct RefreshConfig {
    /// The station's id
    pub(crate) station: String,
    /// How long to wait for the report
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = super::parse_duration)]
    pub(crate) wait: Duration,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
