//! The arguments of `switchboard simulate`.

use super::parse_duration;
use clap::{Args, ValueEnum};
use std::{path::PathBuf, time::Duration};

/// What `--help` shows at its end.
pub(crate) const EXAMPLES: &str = "Examples:
  switchboard simulate ws://127.0.0.1:8180/ocpp --stations 500 --scenario day --speed 60
      a day in 24 minutes; Ctrl-C ends it, with the bills sent first
  switchboard simulate ws://127.0.0.1:8180/ocpp --stations 500 --speed max --check http://127.0.0.1:8181
      as fast as the server keeps up; afterwards the stations' books are compared with the server's
  switchboard simulate ws://127.0.0.1:8180/ocpp --stations 10000 --scenario idle --for 10m
      many connections that do nothing
  switchboard simulate ws://127.0.0.1:8180/ocpp --versions 1.6=60,2.0.1=40 --quirks all --faults 0.05 --offline 4
      stations as they are in the field
  switchboard simulate ws://127.0.0.1:8180/ocpp --stations 50 --speed max --json | jq .energyWh
  switchboard simulate wss://csms.example.com/ocpp --stations 20 --password-file secret --ca-file authority.pem
      through TLS, as stations with security profile 2 connect
  switchboard simulate --scenarios
      what there is to choose from
  switchboard simulate --print-scenario day > mine.toml; switchboard simulate --scenario mine.toml
      a scenario of your own

The same seed gives the same stations, cars and faults, as far as the answers come in the same order.
Timestamps are true, whatever the speed, and so is everything that the server demands in seconds.
Exits with 9 if something was sold that the server was not told, or if --check finds a difference.";

/// Let many simulated stations live through a scenario.
#[derive(Args, Debug)]
pub(crate) struct Simulate {
    /// Where the stations connect, without their identity
    #[arg(default_value = "ws://127.0.0.1:8180/ocpp", value_name = "URL")]
    pub(crate) url: String,
    /// How many stations
    #[arg(long, default_value_t = 10, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) stations: u32,
    /// What they live through: a name from --scenarios, or a file
    #[arg(long, default_value = "day", value_name = "NAME|FILE")]
    pub(crate) scenario: String,
    /// List the scenarios that need no file, and end
    #[arg(long)]
    pub(crate) scenarios: bool,
    /// Print the text of a scenario, to make one of your own from it, and end
    #[arg(long, value_name = "NAME")]
    pub(crate) print_scenario: Option<String>,
    /// How much faster than the clock cars come and charge: a number, or max, which is as fast as the server answers 99 of
    /// 100 calls within 250 ms, and at most an hour a second
    #[arg(long, default_value = "1", value_name = "NUMBER|max", value_parser = parse_speed)]
    pub(crate) speed: Speed,
    /// From which all chance comes
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// What they speak, with shares if you like: 1.6,2.0.1 or 1.6=60,2.0.1=30,2.1=10 [default: as the scenario says]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = parse_share)]
    pub(crate) versions: Vec<(String, f64)>,
    /// What their names begin with; a number follows
    #[arg(long, default_value = "SIM")]
    pub(crate) prefix: String,
    /// How many connectors each has
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) connectors: u32,
    /// The password of them all. Other processes can see it here: better --password-file
    #[arg(long, conflicts_with = "password_file")]
    pub(crate) password: Option<String>,
    /// A file whose first line is the password of them all
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// For a wss:// URL: a file with the certificates of the authorities to be trusted, in PEM [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Let the stations offer compression (permessage-deflate)
    #[arg(long)]
    pub(crate) compress: bool,
    /// End after this long [default: when the scenario is over]
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) lasts: Option<Duration>,
    /// Let every station have a quirk of the field: all, names with commas, or list to see them
    #[arg(long, value_name = "all|LIST", value_delimiter = ',')]
    pub(crate) quirks: Vec<String>,
    /// The share of sessions that a fault ends, 0 to 1 [default: as the scenario says]
    #[arg(long, value_name = "SHARE")]
    pub(crate) faults: Option<f64>,
    /// How often a day each station loses its line [default: as the scenario says]
    #[arg(long, value_name = "A_DAY")]
    pub(crate) offline: Option<f64>,
    /// Within how many seconds they are switched on [default: as the scenario says]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) switch_on: Option<f64>,
    /// How long they may take to send their bills in the end
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
    pub(crate) finish: Duration,
    /// Compare with the books of the server behind this API in the end
    #[arg(long, value_name = "http://ADDRESS")]
    pub(crate) check: Option<String>,
    /// How to show how it goes; auto: a display on a terminal, lines otherwise
    #[arg(long, value_enum, default_value_t = Progress::Auto)]
    pub(crate) progress: Progress,
    /// Print the summary as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// How fast the stations' own time runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Speed {
    /// So many times as fast as the clock.
    Times(f64),
    /// As fast as the server keeps up.
    Max,
}

/// How to show how it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Progress {
    /// A display on a terminal, lines otherwise.
    Auto,
    /// A line every five seconds, on standard error.
    Lines,
    /// A JSON object every second, on standard output, before the summary.
    Json,
    /// Not at all.
    None,
}

fn parse_speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed::Max);
    }
    match text.parse::<f64>() {
        Ok(times) if (0.001..=1_000_000.0).contains(&times) => Ok(Speed::Times(times)),
        _ => Err("expected a number from 0.001 to 1000000, or max".to_owned()),
    }
}

fn parse_share(text: &str) -> Result<(String, f64), String> {
    let (version, share) = text.split_once('=').unwrap_or((text, "1"));
    let share = share.parse::<f64>().ok().filter(|share| *share >= 0.0 && share.is_finite());
    match share {
        Some(share) if ["1.6", "2.0.1", "2.1"].contains(&version) => Ok((version.to_owned(), share)),
        _ => Err("expected 1.6, 2.0.1 or 2.1, each with =SHARE if you like".to_owned()),
    }
}
