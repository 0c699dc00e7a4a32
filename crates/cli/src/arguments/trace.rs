//! The arguments of `switchboard trace`.

use super::parse_duration;
use clap::{Args, ValueEnum};

/// What `--help` says at its end.
pub(super) const HELP: &str = "\
Examples:
  switchboard trace CP001
      each call with its answer, as it happens; Ctrl-C ends it
  switchboard trace --all --errors
      what goes wrong: refusals, missing answers, bad frames, refused connections
  switchboard trace 'CP*' --action MeterValues --action 'Boot*' --slow 500ms
  switchboard trace CP001 --since 10m
      what was recorded; with --follow it then goes on with what happens
  switchboard trace CP001 --last 50 --full
  switchboard trace --all --json | jq 'select(.outcome == \"error\")'
  switchboard trace CP001 --since 1d --data-dir /var/lib/switchboard
      also when no process runs there

Columns: time (UTC), station, → the station calls, ← we call the station, action, how long the answer took, outcome,
request ⇒ response. docs/trace.md lists the members of --json.

Tags, tokens and other personal data are shown as a short digest, the same for the same, unless --show-personal is
given; what was recorded holds digests only, unless trace.personal = \"keep\". Passwords are never shown.
Colours follow NO_COLOR and whether the output is a terminal; lines are cut to its width, and whole elsewhere.";

/// Show the traffic of stations.
#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub(crate) struct Trace {
    /// The stations' ids, or patterns with * and ?
    #[arg(value_name = "STATION", required_unless_present_any = ["all", "more_stations"], conflicts_with = "all")]
    stations: Vec<String>,
    /// Of all stations, and of whoever was refused
    #[arg(long, conflicts_with = "more_stations")]
    pub(crate) all: bool,
    /// The same as STATION; may be given several times
    #[arg(long = "station", value_name = "STATION")]
    more_stations: Vec<String>,
    /// Only calls of this action, or pattern; may be given several times
    #[arg(long = "action", value_name = "ACTION", help_heading = "What of it")]
    actions: Vec<String>,
    /// Only what went wrong: CALLERRORs, missing answers, bad frames, refused connections
    #[arg(long, help_heading = "What of it")]
    errors: bool,
    /// Only calls of stations (in), or calls to stations (out)
    #[arg(long, help_heading = "What of it")]
    direction: Option<Direction>,
    /// Only calls whose answers took at least so long
    #[arg(long, value_name = "DURATION", value_parser = checked_duration, help_heading = "What of it")]
    slow: Option<String>,
    /// Only this version of OCPP; may be given several times
    #[arg(long = "version", value_name = "VERSION", value_parser = ["1.6", "2.0.1", "2.1"], help_heading = "What of it")]
    versions: Vec<String>,
    /// Single frames as they pass instead of calls with their answers
    #[arg(long, help_heading = "What of it")]
    frames: bool,
    /// What was recorded since then: an age such as 10m, or a time such as 2026-11-23T05:00:00Z
    #[arg(long, value_name = "WHEN", help_heading = "Looking back")]
    since: Option<String>,
    /// What was recorded until then
    #[arg(long, value_name = "WHEN", help_heading = "Looking back")]
    until: Option<String>,
    /// The newest so many of what was recorded
    #[arg(long, value_name = "NUMBER", help_heading = "Looking back")]
    last: Option<u32>,
    /// Go on with what happens after what was recorded
    #[arg(long, short, help_heading = "Looking back")]
    pub(crate) follow: bool,
    /// Show drivers' tags and other personal data
    #[arg(long)]
    pub(crate) show_personal: bool,
    /// Show requests and responses in full, on lines of their own
    #[arg(long)]
    pub(crate) full: bool,
    /// Print one JSON object a line
    #[arg(long, conflicts_with = "full")]
    pub(crate) json: bool,
}

/// Who calls.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Direction {
    /// The station
    In,
    /// We
    Out,
}

impl Trace {
    /// What is asked for, as pairs of a name and a text.
    pub(crate) fn query(&self) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        let mut put = |name: &str, value: &str| pairs.push((name.to_owned(), value.to_owned()));
        for station in self.stations.iter().chain(&self.more_stations) {
            put("station", station);
        }
        for action in &self.actions {
            put("action", action);
        }
        for version in &self.versions {
            put("version", version);
        }
        match self.direction {
            Some(Direction::In) => put("direction", "in"),
            Some(Direction::Out) => put("direction", "out"),
            None => {}
        }
        for (name, value) in [("slow", &self.slow), ("since", &self.since), ("until", &self.until)] {
            if let Some(value) = value {
                put(name, value);
            }
        }
        if let Some(last) = self.last {
            put("last", &last.to_string());
        }
        let switches = [
            ("errors", self.errors),
            ("frames", self.frames),
            ("personal", self.show_personal),
            ("follow", self.follow),
        ];
        for (name, on) in switches {
            if on {
                put(name, "true");
            }
        }
        pairs
    }

    /// Whether what was recorded is asked for.
    pub(crate) const fn looks_back(&self) -> bool {
        self.since.is_some() || self.until.is_some() || self.last.is_some()
    }

    /// Whose traffic it is, in words.
    pub(crate) fn whose(&self) -> String {
        let stations: Vec<&str> =
            self.stations.iter().chain(&self.more_stations).map(String::as_str).collect();
        if stations.is_empty() { "all stations".to_owned() } else { stations.join(", ") }
    }
}

/// A duration, as it was written: the process reads it again.
fn checked_duration(text: &str) -> Result<String, String> {
    parse_duration(text).map(|_| text.to_owned())
}
