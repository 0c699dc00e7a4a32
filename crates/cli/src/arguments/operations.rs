//! `switchboard firmware`, `logs`, `reservations`, `profiles`, `trigger`, `reports`, `device-model`, `events`, `alarms`.

use super::{parse_duration, parse_schedule_limit};
use clap::{Args, Subcommand, ValueEnum};
use std::{path::PathBuf, time::Duration};

/// Firmware updates.
#[derive(Args, Debug)]
pub(crate) struct Firmware {
    /// What to do; without it: status
    #[command(subcommand)]
    pub(crate) action: Option<FirmwareAction>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to do about firmware.
#[derive(Debug, Subcommand)]
pub(crate) enum FirmwareAction {
    /// Have a station fetch and install firmware, as soon as it is there
    #[command(
        after_help = "Examples:\n  switchboard firmware update CP001 --url https://example.com/fw-2.bin\n  \
        switchboard firmware update CP001 --url ftp://user:password@example.com/fw.bin --retrieve-at 2026-12-01T02:00:00Z --retries 3\n  \
        switchboard firmware update CP001 --url https://example.com/fw.bin --certificate signer.pem --signature fw.sig\n\n\
        With certificate and signature a station of 1.6 gets SignedUpdateFirmware. A request that was not sent yet gives way to a later one."
    )]
    Update(UpdateFirmware),
    /// Show updates and what became of them
    #[command(
        after_help = "Examples:\n  switchboard firmware status\n  switchboard firmware status CP001 --json"
    )]
    Status(JobStatus),
    /// Take updates back that were not sent yet
    #[command(after_help = "Examples:\n  switchboard firmware cancel CP001")]
    Cancel(OneStation),
}

/// An update.
#[derive(Args, Debug)]
pub(crate) struct UpdateFirmware {
    /// The station's id
    pub(crate) station: String,
    /// Where the station fetches the firmware
    #[arg(long)]
    pub(crate) url: String,
    /// When it may fetch it: a time, or a duration from now. Else at once
    #[arg(long, value_name = "TIME")]
    pub(crate) retrieve_at: Option<String>,
    /// When it may install it; of 1.6 only with a signature
    #[arg(long, value_name = "TIME")]
    pub(crate) install_at: Option<String>,
    /// How often it may try to fetch it
    #[arg(long)]
    pub(crate) retries: Option<u32>,
    /// How long it waits between attempts
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) retry_interval: Option<Duration>,
    /// A PEM file with the certificate of whoever signed the firmware
    #[arg(long, value_name = "FILE", requires = "signature")]
    pub(crate) certificate: Option<PathBuf>,
    /// A file with the signature in base64
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub(crate) signature: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which jobs to show.
#[derive(Args, Debug)]
pub(crate) struct JobStatus {
    /// The station's id; else of all
    pub(crate) station: Option<String>,
    /// At most this many, the latest first
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// One station.
#[derive(Args, Debug)]
pub(crate) struct OneStation {
    /// The station's id
    pub(crate) station: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Logs.
#[derive(Args, Debug)]
pub(crate) struct Logs {
    /// What to do; without it: status
    #[command(subcommand)]
    pub(crate) action: Option<LogsAction>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to do about logs.
#[derive(Debug, Subcommand)]
pub(crate) enum LogsAction {
    /// Have a station upload a log, as soon as it is there
    #[command(
        after_help = "Examples:\n  switchboard logs get CP001 --url ftp://user:password@example.com/logs/\n  \
        switchboard logs get CP001 --url https://example.com/logs/ --kind security --from 1d"
    )]
    Get(GetLog),
    /// Show uploads and what became of them
    #[command(after_help = "Examples:\n  switchboard logs status\n  switchboard logs status CP001 --json")]
    Status(JobStatus),
    /// Take requests back that were not sent yet
    #[command(after_help = "Examples:\n  switchboard logs cancel CP001")]
    Cancel(OneStation),
}

/// A log.
#[derive(Args, Debug)]
pub(crate) struct GetLog {
    /// The station's id
    pub(crate) station: String,
    /// Where the station puts the log
    #[arg(long)]
    pub(crate) url: String,
    /// Which log; security of 1.6 only with the security extension
    #[arg(long, value_enum, default_value_t = LogKind::Diagnostics)]
    pub(crate) kind: LogKind,
    /// Only what was written since: a time, or a duration ago
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<String>,
    /// Only what was written before
    #[arg(long, value_name = "TIME")]
    pub(crate) to: Option<String>,
    /// How often it may try
    #[arg(long)]
    pub(crate) retries: Option<u32>,
    /// How long it waits between attempts
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) retry_interval: Option<Duration>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which log.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogKind {
    /// What the station writes down about itself
    Diagnostics,
    /// Its security events
    Security,
}

/// Reservations.
#[derive(Args, Debug)]
pub(crate) struct Reservations {
    /// What to do; without it: list
    #[command(subcommand)]
    pub(crate) action: Option<ReservationsAction>,
    /// Only those of this station
    #[arg(long)]
    pub(crate) station: Option<String>,
    /// Show drivers' tags
    #[arg(long)]
    pub(crate) show_personal: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to do about reservations.
#[derive(Debug, Subcommand)]
pub(crate) enum ReservationsAction {
    /// Reserve a connector for a tag
    #[command(
        after_help = "Examples:\n  switchboard reservations make CP001 --connector 1 --tag A1 --until 30m\n  \
        switchboard reservations make CP001 --tag A1 --until 2026-12-01T10:00:00Z\n      any connector, where the station does that\n\n\
        What the station answered is shown by: switchboard reservations"
    )]
    Make(MakeReservation),
    /// Cancel a reservation
    #[command(after_help = "Examples:\n  switchboard reservations cancel CP001 5977001")]
    Cancel {
        /// The station's id
        station: String,
        /// The number of the reservation
        id: i64,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// A reservation.
#[derive(Args, Debug)]
pub(crate) struct MakeReservation {
    /// The station's id
    pub(crate) station: String,
    /// 1.6: the connector. 2.x: the EVSE. Else any
    #[arg(long)]
    pub(crate) connector: Option<i64>,
    /// For whom
    #[arg(long)]
    pub(crate) tag: String,
    /// 2.x: the type of the tag [default: ISO14443]
    #[arg(long, value_name = "TYPE")]
    pub(crate) tag_type: Option<String>,
    /// Until when: a time, or a duration from now
    #[arg(long, value_name = "TIME")]
    pub(crate) until: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Charging profiles.
#[derive(Args, Debug)]
pub(crate) struct Profiles {
    /// What to do; without it: show
    #[command(subcommand)]
    pub(crate) action: Option<ProfilesAction>,
    /// The station's id
    #[arg(required = true)]
    pub(crate) station: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to do about charging profiles.
#[derive(Debug, Subcommand)]
pub(crate) enum ProfilesAction {
    /// Give a station a charging profile, and send it until it is accepted or rejected
    #[command(
        after_help = "Examples:\n  switchboard profiles set CP001 --connector 0 --limit 16A --purpose tx-default\n  \
        switchboard profiles set CP001 --connector 0 --limit 22kW --purpose station-max --valid-to 2026-12-24T00:00:00Z\n  \
        switchboard profiles set CP001 --connector 1 --limit 8A --purpose tx --transaction 59770001\n  \
        switchboard profiles set CP001 --connector 0 --purpose tx-default --schedule night.json --recurring daily\n\n\
        A schedule is a JSON object with the names of the specification:\n  \
        {\"startSchedule\": \"2026-12-01T00:00:00Z\", \"chargingRateUnit\": \"A\",\n   \
        \"chargingSchedulePeriod\": [{\"startPeriod\": 0, \"limit\": 16}, {\"startPeriod\": 21600, \"limit\": 6}]}\n\n\
        A is per phase, W over all phases. With --limit alone tx-default and tx begin with each transaction, station-max now. \
        A profile for the same connector, purpose and stack level takes the place of the last one; of several the highest stack level rules."
    )]
    Set(Box<SetProfile>),
    /// Take charging profiles away: those that all of what is given is true of
    #[command(
        after_help = "Examples:\n  switchboard profiles clear CP001 --id 5977001\n  switchboard profiles clear CP001 --purpose tx-default --connector 1"
    )]
    Clear(ClearProfiles),
    /// Ask a station of 2.x which profiles it has
    #[command(
        after_help = "Examples:\n  switchboard profiles read CP001\n  switchboard profiles CP001\n      shows what it reported"
    )]
    Read(OneStation),
    /// Ask a station what a connector may take from now on
    #[command(
        after_help = "Examples:\n  switchboard profiles schedule CP001 --connector 1 --duration 3600\n  \
        switchboard profiles schedule CP001 --connector 0 --duration 1d --unit W --json"
    )]
    Schedule(Schedule),
}

/// A charging profile.
#[derive(Args, Debug)]
pub(crate) struct SetProfile {
    /// The station's id
    pub(crate) station: String,
    /// 1.6: the connector. 2.x: the EVSE. 0: the whole station, or all of them
    #[arg(long)]
    pub(crate) connector: i64,
    /// What it is for
    #[arg(long, value_enum)]
    pub(crate) purpose: Purpose,
    /// One limit, for example 16A, 11kW or 11000W
    #[arg(long, value_parser = parse_schedule_limit, required_unless_present = "schedule", conflicts_with = "schedule")]
    pub(crate) limit: Option<(f64, &'static str)>,
    /// How many phases may be used, with --limit
    #[arg(long, requires = "limit", value_parser = clap::value_parser!(u8).range(1..=3))]
    pub(crate) phases: Option<u8>,
    /// A file with a schedule, or - for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) schedule: Option<PathBuf>,
    /// Of several profiles the one with the highest level rules
    #[arg(long, default_value_t = 0)]
    pub(crate) stack_level: i64,
    /// From when it counts: a time, or a duration from now
    #[arg(long, value_name = "TIME")]
    pub(crate) valid_from: Option<String>,
    /// Until when it counts
    #[arg(long, value_name = "TIME")]
    pub(crate) valid_to: Option<String>,
    /// Whether the schedule begins again and again
    #[arg(long, value_enum)]
    pub(crate) recurring: Option<Cycle>,
    /// Of purpose tx: the id of the transaction, as the station knows it
    #[arg(long, value_name = "ID")]
    pub(crate) transaction: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a profile is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Purpose {
    /// The most that the whole station may take
    StationMax,
    /// What each transaction gets unless it has a profile of its own
    TxDefault,
    /// What one transaction gets
    Tx,
}

/// How often a schedule begins again.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Cycle {
    /// Every 24 hours from its start
    Daily,
    /// Every seven days from its start
    Weekly,
}

/// Which profiles to clear.
#[derive(Args, Debug)]
pub(crate) struct ClearProfiles {
    /// The station's id
    pub(crate) station: String,
    /// The number of the profile
    #[arg(long)]
    pub(crate) id: Option<i64>,
    /// 1.6: the connector. 2.x: the EVSE
    #[arg(long)]
    pub(crate) connector: Option<i64>,
    /// What they are for
    #[arg(long, value_enum)]
    pub(crate) purpose: Option<Purpose>,
    /// Their stack level
    #[arg(long)]
    pub(crate) stack_level: Option<i64>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to ask for.
#[derive(Args, Debug)]
pub(crate) struct Schedule {
    /// The station's id
    pub(crate) station: String,
    /// 1.6: the connector. 2.x: the EVSE. 0: the whole station
    #[arg(long)]
    pub(crate) connector: i64,
    /// Over which time: seconds, or a duration like 1h
    #[arg(long, default_value = "1d", value_parser = parse_seconds)]
    pub(crate) duration: u64,
    /// In A or W; else as the station likes
    #[arg(long, value_parser = ["A", "W"])]
    pub(crate) unit: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn parse_seconds(text: &str) -> Result<u64, String> {
    text.parse().or_else(|_| parse_duration(text).map(|duration| duration.as_secs()))
}

/// A trigger.
#[derive(Args, Debug)]
pub(crate) struct Trigger {
    /// The station's id
    pub(crate) station: String,
    /// Which message, for example StatusNotification. Its spelling is the specification's
    pub(crate) message: String,
    /// 1.6: the connector. 2.x: the EVSE
    #[arg(long)]
    pub(crate) connector: Option<i64>,
    /// 1.6: ask with the security extension's trigger also where the plain one would do
    #[arg(long)]
    pub(crate) extended: bool,
    /// How long to wait for the message once the station has agreed
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub(crate) wait: Duration,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Reports.
#[derive(Args, Debug)]
pub(crate) struct Reports {
    /// What to do; without it: list
    #[command(subcommand)]
    pub(crate) action: Option<ReportsAction>,
    /// The station's id
    #[arg(required = true)]
    pub(crate) station: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to do about reports.
#[derive(Debug, Subcommand)]
pub(crate) enum ReportsAction {
    /// Ask a station of 2.x for a report
    #[command(
        after_help = "Examples:\n  switchboard reports request CP001\n  switchboard reports request CP001 --base configuration"
    )]
    Request {
        /// The station's id
        station: String,
        /// What it shall report
        #[arg(long, value_enum, default_value_t = Base::Full)]
        base: Base,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what is in a report
    #[command(
        after_help = "Examples:\n  switchboard reports show CP001 5977001\n  switchboard reports show CP001 5977001 --json"
    )]
    Show {
        /// The station's id
        station: String,
        /// The number of the report
        request: i64,
        /// Show drivers' tags and what is known of customers
        #[arg(long)]
        show_personal: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// What a station shall report.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Base {
    /// Its whole device model
    Full,
    /// What can be set
    Configuration,
    /// What is not as it should be
    Summary,
    /// Its monitors
    Monitoring,
    /// Its charging profiles
    Profiles,
}

impl Base {
    /// Its name in the API.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Configuration => "configuration",
            Self::Summary => "summary",
            Self::Monitoring => "monitoring",
            Self::Profiles => "profiles",
        }
    }
}

/// Which part of a device model.
#[derive(Args, Debug)]
pub(crate) struct DeviceModel {
    /// The station's id
    pub(crate) station: String,
    /// Only this component
    #[arg(long)]
    pub(crate) component: Option<String>,
    /// Only variables of this name
    #[arg(long)]
    pub(crate) variable: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which events.
#[derive(Args, Debug)]
pub(crate) struct Events {
    /// The station's id
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) station: Option<String>,
    /// Of all stations
    #[arg(long)]
    pub(crate) all: bool,
    /// Only of this kind
    #[arg(long, value_parser = ["security", "monitoring", "charging", "firmware", "log", "reservation", "data", "other"])]
    pub(crate) kind: Option<String>,
    /// Only those that came since: a time, or a duration ago
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// At most this many, the latest first
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
    /// Show drivers' tags and tokens
    #[arg(long)]
    pub(crate) show_personal: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which alarms.
#[derive(Args, Debug)]
pub(crate) struct Alarms {
    /// The station's id; else of all
    pub(crate) station: Option<String>,
    /// At most this many, the latest first
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
