//! The command line. Flags that are settings come from the table of settings; the rest stands here.

pub(crate) mod config;
pub(crate) mod journal;
pub(crate) mod operations;
mod policy;
pub(crate) mod simulate;
pub(crate) mod tags;
mod trace;
pub(crate) mod transactions;

pub(crate) use policy::{PolicyName, StationPolicy};

use crate::{
    exit::Exit,
    settings::{Role, Setting, TABLE, duration},
};
pub(crate) use trace::Trace;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::{path::PathBuf, time::Duration};

/// What was asked for.
#[derive(Debug, Parser)]
#[command(
    name = "switchboard",
    version,
    about = "Keeps the lines to charging stations open and routes their OCPP calls",
    after_help = root_help(),
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 110
)]
pub(crate) struct Arguments {
    /// The configuration file. It need not exist unless it is named here or in SWITCHBOARD_CONFIG.
    #[arg(long, global = true, value_name = "FILE", env = "SWITCHBOARD_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Do,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Do {
    /// Run everything in one process: gateway, bus, processing, API, and simulated stations if you like
    #[command(
        after_help = "Examples:\n  switchboard run --demo 5\n      everything on this machine, with five simulated stations\n  \
        switchboard run --listen 0.0.0.0:8180 --data-dir /var/lib/switchboard\n      for real stations; register them first: switchboard stations add CP001\n  \
        SWITCHBOARD_LISTEN=0.0.0.0:8180 switchboard run --accept-unknown\n      for real stations, whichever come; only in a network that you trust"
    )]
    Run,
    /// Hold the sockets of stations, and hand their calls to workers over a broker
    #[command(
        after_help = "Examples:\n  switchboard gateway --bus nats://127.0.0.1:4222 --directory postgres://switchboard@127.0.0.1/switchboard\n      \
        on this machine; then switchboard worker with the same --bus and --directory\n  \
        switchboard gateway --config /etc/switchboard.toml --listen 0.0.0.0:8180 --gateway-id rotterdam-1\n      \
        for real stations; any number of gateways, all with the same file\n  \
        switchboard trace --all --api 127.0.0.1:8182\n      its traffic, at its admin port\n\n\
        Stations stay connected whatever becomes of the broker and the workers. What is away at the start is waited for; /readyz\n\
        of the admin port says what. A directory in SQLite (sqlite:PATH) is for one gateway whose workers are not ours."
    )]
    Gateway,
    /// Process the calls of stations that gateways hand over, and serve the API
    #[command(
        after_help = "Examples:\n  switchboard worker --bus nats://127.0.0.1:4222 --directory postgres://switchboard@127.0.0.1/switchboard\n      \
        on this machine, with its books in the data directory\n  \
        switchboard worker --bus nats://a:4222,nats://b:4222 --directory postgres://switchboard@db/switchboard --database postgres://switchboard@db/books\n      \
        any number of them, which share their books\n  \
        switchboard worker --config /etc/switchboard.toml --admin-listen 127.0.0.1:8183\n      \
        beside a gateway on one machine: each has an admin port\n  \
        switchboard worker --bus http://127.0.0.1:8090/ocpp --directory postgres://switchboard@127.0.0.1/switchboard\n      \
        as an HTTP function; the gateway has --bus 'http://127.0.0.1:8090/ocpp?idempotent=true&health=/ocpp'\n\n\
        Workers come and go as they like: what one had in hand is handed to another, and has its effect once. What is away at\n\
        the start is waited for; /readyz of the admin port says what."
    )]
    Worker,
    /// Send one command to a station and print its true outcome
    #[command(after_help = send_help())]
    Send(Send),
    /// Take back a command that was sent with a key and still waits for its turn or its station
    #[command(
        after_help = "Examples:\n  switchboard send CP001 Reset '{\"type\":\"Soft\"}' --ttl 1h --key nightly-reset\n  switchboard cancel CP001 nightly-reset\n\n\
        Exits with 0 if it was taken back: whoever waits for it is told so, and nobody sends it. With 65 if it was written already, or has ended."
    )]
    Cancel(Cancel),
    /// List, register or remove stations
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:\n  switchboard stations\n  switchboard stations --json\n  switchboard stations add CP001 --password 'sixteen or more characters'\n  \
            switchboard stations add CP001\n      makes a password and shows it once\n  pass show cp001 | switchboard stations add CP001 --password-stdin\n  \
            switchboard stations remove CP001"
    )]
    Stations(Stations),
    /// List transactions, or show one with all that belongs to it
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:\n  switchboard transactions\n  switchboard transactions --station CP001 --since 7d --json\n  \
        switchboard transactions --open\n  switchboard transactions --tag A1 --since 2026-11-01T00:00:00Z --csv > november.csv\n  \
        switchboard transactions show 59770001"
    )]
    Transactions(transactions::Transactions),
    /// Update the firmware of stations, and see how far that is
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:\n  switchboard firmware\n  switchboard firmware update CP001 --url https://example.com/fw-2.bin\n  switchboard firmware status CP001 --json"
    )]
    Firmware(operations::Firmware),
    /// Have stations upload their logs, and see how far that is
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:\n  switchboard logs\n  switchboard logs get CP001 --url ftp://user:password@example.com/logs/\n  switchboard logs status CP001 --json"
    )]
    Logs(operations::Logs),
    /// List, make and cancel reservations
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:\n  switchboard reservations\n  switchboard reservations make CP001 --connector 1 --tag A1 --until 30m\n  switchboard reservations cancel CP001 5977001"
    )]
    Reservations(operations::Reservations),
    /// Say how much stations may take, and see what they say about it
    #[command(
        args_conflicts_with_subcommands = true,
        subcommand_negates_reqs = true,
        after_help = "Examples:\n  switchboard profiles CP001\n  switchboard profiles set CP001 --connector 0 --limit 16A --purpose tx-default\n  switchboard profiles schedule CP001 --connector 1 --duration 1h"
    )]
    Profiles(operations::Profiles),
    /// Ask a station to send a message now, and see whether it comes
    #[command(
        after_help = "Examples:\n  switchboard trigger CP001 StatusNotification --connector 1\n  switchboard trigger CP001 BootNotification --wait 30s --json\n\n\
        Exits with 0 if the message came, with 1 if the station refused, with 8 if it agreed and nothing came."
    )]
    Trigger(operations::Trigger),
    /// List what stations of 2.x report in parts, or ask for it
    #[command(
        args_conflicts_with_subcommands = true,
        subcommand_negates_reqs = true,
        after_help = "Examples:\n  switchboard reports request CP001 --base full\n  switchboard reports CP001\n  switchboard reports show CP001 5977001 --json"
    )]
    Reports(operations::Reports),
    /// Show the device model of a station of 2.x, as its reports told it
    #[command(
        after_help = "Examples:\n  switchboard device-model CP001\n  switchboard device-model CP001 --component OCPPCommCtrlr --json"
    )]
    DeviceModel(operations::DeviceModel),
    /// Show what stations told by themselves: security events, monitors and other notifications
    #[command(
        after_help = "Examples:\n  switchboard events CP001\n  switchboard events --all --kind security --since 1d --json"
    )]
    Events(operations::Events),
    /// Show what people should look at
    #[command(after_help = "Examples:\n  switchboard alarms\n  switchboard alarms CP001 --json")]
    Alarms(operations::Alarms),
    /// Say who may charge: register tags, group them, let them expire, and have stations keep lists of them
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:\n  switchboard tags\n  switchboard tags add A1 --group fleet --expires 2027-01-01\n  switchboard tags block A1\n  \
        switchboard tags import tags.csv\n  switchboard tags lists CP001 on\n\n\
        Until the first tag is registered whoever comes may charge; from then on only registered tags (central.unknown_tokens)."
    )]
    Tags(tags::Tags),
    /// Say what stations shall be set to, and see what they report
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:\n  switchboard config CP001\n  switchboard config set CP001 HeartbeatInterval=300\n  \
        switchboard config set --all OCPPCommCtrlr/HeartbeatInterval=300\n  switchboard config refresh CP001 --json"
    )]
    Config(config::Config),
    /// Show the traffic of stations: what they say and are told, live or looking back
    #[command(after_help = trace::HELP)]
    Trace(Trace),
    /// List calls that were answered before they were processed, and that processing then refused
    #[command(args_conflicts_with_subcommands = true, after_help = journal::EXAMPLES)]
    Journal(journal::Journal),
    /// Save what can still be read of damaged databases, while no process runs
    #[command(
        after_help = "Examples:\n  switchboard salvage --data-dir /var/lib/switchboard\n  switchboard salvage --json\n\n\
        Looks at directory.sqlite3 and central.db. A sound one is left alone. In the place of a damaged one comes a new one\n\
        with every row that can be read; the damaged one is kept beside it. A copy made before the damage is better."
    )]
    Salvage(Salvage),
    /// Let many simulated stations live through a scenario, and see whether the books add up
    #[command(after_help = simulate::EXAMPLES)]
    Simulate(simulate::Simulate),
    /// Show the configuration that is in effect, or everything that is wrong with it
    #[command(
        after_help = "Examples:\n  switchboard check-config\n  switchboard check-config --config /etc/switchboard.toml --json\n  \
        switchboard check-config --role worker\n  switchboard check-config --print-reference\n\nExits with 0 if all is well, with 64 if anything is wrong; everything wrong is named at once."
    )]
    CheckConfig(CheckConfig),
}

/// One command to a station.
#[derive(Args, Debug)]
pub(crate) struct Send {
    /// The station's id, as in the URL it connects to
    pub(crate) station: String,
    /// The action, for example Reset. Its spelling is the specification's
    pub(crate) action: String,
    /// The payload: a JSON object, or - to read it from standard input
    #[arg(default_value = "{}")]
    pub(crate) payload: String,
    /// How long to wait for the station's answer once the command is sent
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
    /// Keep the command this long for a station that is not connected
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) ttl: Option<Duration>,
    /// Names the command: the same key twice sends it once, and both callers get its outcome
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// Send it before other commands that wait
    #[arg(long)]
    pub(crate) urgent: bool,
    /// Send it unchecked, whatever the action and the payload
    #[arg(long)]
    pub(crate) raw: bool,
    /// Print the outcome as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Take back a command.
#[derive(Args, Debug)]
pub(crate) struct Cancel {
    /// The station's id, as in the URL it connects to
    pub(crate) station: String,
    /// The key that the command was sent with
    pub(crate) key: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// List, register or remove stations.
#[derive(Args, Debug)]
pub(crate) struct Stations {
    /// What to do; without it: list
    #[command(subcommand)]
    pub(crate) action: Option<StationsAction>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to do with stations.
#[derive(Debug, Subcommand)]
pub(crate) enum StationsAction {
    /// List all stations that are registered or connected
    #[command(after_help = "Examples:\n  switchboard stations list\n  switchboard stations list --json")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Register a station, or give it a new password
    #[command(
        after_help = "Examples:\n  switchboard stations add CP001 --password 'sixteen or more characters'\n  switchboard stations add CP001\n  \
        printf %s \"$PASSWORD\" | switchboard stations add CP001 --password-stdin\n\n\
        Works through the running process, or directly on the data directory when none runs."
    )]
    Add(AddStation),
    /// Remove a station's registration
    #[command(after_help = "Examples:\n  switchboard stations remove CP001")]
    Remove {
        /// The station's id
        station: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show or lay down how a station's BootNotifications are answered
    #[command(
        after_help = "Examples:\n  switchboard stations policy CP001\n  switchboard stations policy CP001 pending --interval 60\n  \
        switchboard stations policy CP001 accepted --json\n  switchboard stations policy CP001 default\n\n\
        Takes effect with the station's next boot: OCPP has no other way to take a registration back. One that is pending\n\
        and connected is asked to boot at once. Needs a running process."
    )]
    Policy(StationPolicy),
}

/// Register a station.
#[derive(Args, Debug)]
pub(crate) struct AddStation {
    /// The station's id, as in the URL it connects to
    pub(crate) station: String,
    /// Its password for Basic authentication. Other processes can see it here: better --password-stdin. Without
    /// either, one is made and shown once
    #[arg(long, conflicts_with_all = ["password_stdin", "no_password"])]
    pub(crate) password: Option<String>,
    /// Read the password from the first line of standard input
    #[arg(long, conflicts_with = "no_password")]
    pub(crate) password_stdin: bool,
    /// Let the station in without credentials
    #[arg(long)]
    pub(crate) no_password: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Save what can be read of damaged databases.
#[derive(Args, Debug)]
pub(crate) struct Salvage {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show the configuration.
#[derive(Args, Debug)]
pub(crate) struct CheckConfig {
    /// Whether the settings can work in this role. Without it: run if the bus is embedded:, else gateway and worker
    #[arg(long)]
    pub(crate) role: Option<Role>,
    /// Print the reference of all settings as Markdown instead
    #[arg(long)]
    pub(crate) print_reference: bool,
    /// Print JSON: path to value and source
    #[arg(long)]
    pub(crate) json: bool,
}

/// Settings that were given as flags: path and text.
pub(crate) type Flags = Vec<(&'static str, String)>;

/// The arguments, and the settings among them by path.
pub(crate) fn parse(
    words: impl IntoIterator<Item = std::ffi::OsString>,
) -> Result<(Arguments, Flags), clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(words)?;
    let arguments = Arguments::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    let mut flags = Vec::new();
    collect(&matches, &mut flags);
    Ok((arguments, flags))
}

/// The whole command line with the flags of the table.
fn command() -> Command {
    let mut command = Arguments::command();
    for name in ["run", "gateway", "worker", "check-config"] {
        command = command.mut_subcommand(name, |command| command.args(TABLE.iter().map(setting_flag)));
    }
    command = command
        .mut_subcommand("salvage", |command| command.args(Setting::find("data_dir").map(setting_flag)));
    for name in [
        "send",
        "cancel",
        "stations",
        "transactions",
        "firmware",
        "logs",
        "reservations",
        "profiles",
        "trigger",
        "reports",
        "device-model",
        "events",
        "alarms",
        "tags",
        "config",
        "trace",
        "journal",
    ] {
        command = command.mut_subcommand(name, |command| {
            let command = command.args(client_flags());
            command.mut_subcommands(|inner| inner.args(client_flags()))
        });
    }
    command
}

/// The flags that find the running process.
fn client_flags() -> impl Iterator<Item = Arg> {
    ["api.listen", "api.token", "data_dir"].into_iter().filter_map(Setting::find).map(|setting| {
        let flag = setting_flag(setting).help_heading("The running process").hide_short_help(false);
        match setting.path {
            "api.listen" => flag.visible_alias("api").help(
                "The address of the running process's API [env: SWITCHBOARD_API_LISTEN] [default: \"127.0.0.1:8181\"]",
            ),
            _ => flag,
        }
    })
}

/// A setting as a flag. Its value is judged with all others, so that every fault is told at once.
fn setting_flag(setting: &'static Setting) -> Arg {
    let default = (setting.show)(&crate::settings::Settings::default())
        .filter(|_| !setting.secret)
        .map_or_else(String::new, |shown| format!(" [default: {shown}]"));
    let flag = Arg::new(setting.path)
        .long(setting.flag())
        .value_name(value_name(setting))
        .help(format!("{} [env: {}]{default}", setting.help, setting.variable()))
        .help_heading(if is_main(setting) { "Settings" } else { "Fine settings" })
        .hide_short_help(!is_main(setting))
        .action(ArgAction::Set);
    if setting.switch {
        flag.num_args(0..=1).require_equals(true).default_missing_value("true")
    } else {
        flag
    }
}

/// Whether short help shows it.
fn is_main(setting: &Setting) -> bool {
    let fine = ["_file", "_user", "_password"];
    match setting.path.rsplit_once('.') {
        None => setting.path == "ports_file" || !fine.iter().any(|end| setting.path.ends_with(end)),
        Some((section, _)) => matches!(section, "api" | "admin") || setting.path == "gateway.id",
    }
}

fn value_name(setting: &Setting) -> &'static str {
    let expected = (setting.expected)();
    [
        ("an address", "ADDRESS"),
        ("a path", "PATH"),
        ("a whole number", "NUMBER"),
        ("a number", "NUMBER"),
        ("a duration", "DURATION"),
        ("true or false", "BOOL"),
    ]
    .iter()
    .find(|(start, _)| expected.starts_with(start))
    .map_or("TEXT", |(_, name)| name)
}

/// Takes the settings out of the matches of the innermost command.
fn collect(matches: &ArgMatches, flags: &mut Flags) {
    for setting in TABLE {
        if let Ok(Some(value)) = matches.try_get_one::<String>(setting.path) {
            flags.push((setting.path, value.clone()));
        }
    }
    if let Some((_, inner)) = matches.subcommand() {
        collect(inner, flags);
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    duration(text).ok_or_else(|| "expected a duration, for example 30s, 500ms or 1m30s".to_owned())
}

/// A limit as people write it: amount and unit.
fn parse_schedule_limit(text: &str) -> Result<(f64, &'static str), String> {
    let wrong = || "expected a limit, for example 16A, 11kW or 11000W".to_owned();
    let (number, factor, unit) = if let Some(number) = text.strip_suffix("kW") {
        (number, 1000.0, "W")
    } else if let Some(number) = text.strip_suffix('W') {
        (number, 1.0, "W")
    } else {
        (text.strip_suffix('A').ok_or_else(wrong)?, 1.0, "A")
    };
    let amount: f64 = number.trim().parse().map_err(|_| wrong())?;
    // A tenth is as fine as the wire has it; 7.4 kW must not become 7400.000000000001 W.
    let tenths = amount * factor * 10.0;
    let rounded = tenths.round();
    let fine = (tenths - rounded).abs() < 1e-6;
    (fine && amount >= 0.0).then_some((rounded / 10.0, unit)).ok_or_else(|| {
        "the limit must be 0 or more, with at most one digit after the point in A or W".to_owned()
    })
}

fn root_help() -> String {
    format!(
        "Try it, without any set-up:\n  switchboard run --demo 5\n  switchboard stations\n  switchboard trace --all\n  \
         switchboard send DEMO001 RemoteStartTransaction '{{\"idTag\":\"A1\"}}'\n\n{}",
        Exit::help()
    )
}

fn send_help() -> String {
    format!(
        "Examples:\n  switchboard send CP001 RemoteStartTransaction '{{\"idTag\":\"A1\"}}'\n  \
         switchboard send CP001 Reset '{{\"type\":\"Soft\"}}' --ttl 1h --key nightly-reset\n  \
         jq -n '{{type:\"Hard\"}}' | switchboard send CP001 Reset - --json\n\n{}",
        Exit::help()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> impl Iterator<Item = std::ffi::OsString> {
        line.split(' ').map(Into::into).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn every_command_shows_examples() {
        let mut pending = vec![command()];
        while let Some(next) = pending.pop() {
            let help = next.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("switchboard "), "{} has no examples", next.get_name());
            pending.extend(next.get_subcommands().filter(|inner| inner.get_name() != "help").cloned());
        }
    }

    #[test]
    fn settings_are_found_among_the_arguments() {
        for (line, expected) in [
            ("switchboard run --listen 127.0.0.1:1 --demo 3", vec![("listen", "127.0.0.1:1"), ("demo", "3")]),
            ("switchboard run --accept-unknown", vec![("accept_unknown", "true")]),
            ("switchboard run --accept-unknown=false", vec![("accept_unknown", "false")]),
            ("switchboard stations --api 127.0.0.1:1", vec![("api.listen", "127.0.0.1:1")]),
            ("switchboard stations add CP1 --data-dir x", vec![("data_dir", "x")]),
            ("switchboard send CP1 Reset --api-listen 127.0.0.1:1", vec![("api.listen", "127.0.0.1:1")]),
        ] {
            let (_, flags) = parse(words(line)).unwrap();
            let flags: Vec<_> = flags.iter().map(|(path, value)| (*path, value.as_str())).collect();
            assert_eq!(flags, expected, "{line}");
        }
    }

    #[test]
    fn limits_are_read_as_people_write_them() {
        for (text, expected) in
            [("16A", (16.0, "A")), ("7.4kW", (7400.0, "W")), ("0W", (0.0, "W")), ("6.5A", (6.5, "A"))]
        {
            assert_eq!(parse_schedule_limit(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn wrong_command_lines_are_refused_with_exit_code_2() {
        for line in [
            "switchboard send CP1",
            "switchboard send CP1 Reset {} --timeout 5",
            "switchboard trace",
            "switchboard trace CP1 --all",
            "switchboard trace CP1 --direction up",
            "switchboard trace CP1 --slow 5",
            "switchboard stations add CP1 --password x --password-stdin",
            "switchboard fly",
            "switchboard profiles set CP1 --connector 0 --purpose tx-default",
            "switchboard profiles set CP1 --connector 0 --purpose tx-default --limit 16",
            "switchboard profiles set CP1 --connector 0 --purpose tx-default --limit 16.25A",
            "switchboard events",
            "switchboard reports",
            "switchboard profiles --json",
            "switchboard firmware update CP1 --url x --signature y",
            "switchboard run --lisen x",
        ] {
            let error = parse(words(line)).unwrap_err();
            assert_eq!(error.exit_code(), Exit::Usage as i32, "{line}");
        }
    }
}
