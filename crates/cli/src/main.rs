//! The `switchboard` binary: everything in one process, and the commands that speak to a running one.
//!
//! This crate alone reads the environment and files of configuration, installs the log and the allocator, and decides
//! exit codes. What it runs is put together in [`run`]; what the commands do goes through the API of the running
//! process ([`client`]).

mod arguments;
mod client;
mod commands;
mod exit;
mod logging;
mod output;
mod run;
mod settings;

use arguments::{Arguments, Do, Flags};
use exit::{Exit, Failure};
use settings::{FILE_DEFAULT, Fault, Faults, Resolved, Role, Sources, resolve};
use std::{
    io::{ErrorKind, Write},
    path::PathBuf,
    process::ExitCode,
};
use switchboard_sqlite::killpoint;

/// Ten thousand small connections of many sizes: glibc's arenas keep what was freed, mimalloc gives it back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if killpoint::ENABLED && !arm_killpoint() {
        drop(writeln!(std::io::stderr(), "switchboard: KILLPOINT is not POINT:N"));
        return Exit::Usage.into();
    }
    let (arguments, flags) = match arguments::parse(std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(error) => {
            // Help and version are errors to clap; where they cannot be printed nobody reads them.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage as u8));
        }
    };
    match perform(arguments, flags) {
        Ok(exit) => exit.into(),
        // `switchboard stations | head -1` is no failure.
        Err(failure) if is_broken_pipe(&failure) => Exit::Done.into(),
        Err(failure) => {
            // Nobody to tell if standard error is gone too.
            drop(writeln!(std::io::stderr(), "switchboard: {failure}"));
            failure.exit.into()
        }
    }
}

/// Only in tests: the instant at which this process is to die as if killed. `false` if it cannot be read.
#[expect(clippy::disallowed_methods, reason = "a test's instruction is no setting")]
fn arm_killpoint() -> bool {
    std::env::var_os("KILLPOINT").is_none_or(|point| killpoint::arm(&point.to_string_lossy()))
}

fn perform(arguments: Arguments, flags: Flags) -> Result<Exit, Failure> {
    let Arguments { config, command } = arguments;
    if let Do::CheckConfig(command) = &command
        && command.print_reference
    {
        return commands::check_config::print_reference();
    }
    let resolved = match (load(config, flags), &command) {
        (Err(failure), Do::CheckConfig(command)) => {
            return commands::check_config::check_config(command, Err(failure));
        }
        (loaded, _) => loaded?,
    };
    match command {
        Do::Run => run::run(Role::Run, able(Role::Run, resolved)?),
        Do::Gateway => run::run(Role::Gateway, able(Role::Gateway, resolved)?),
        Do::Worker => run::run(Role::Worker, able(Role::Worker, resolved)?),
        Do::Send(command) => on_one_thread(commands::send::send(command, &resolved.settings)),
        Do::Cancel(command) => on_one_thread(commands::cancel::cancel(command, &resolved.settings)),
        Do::Stations(command) => on_one_thread(commands::stations::stations(command, &resolved)),
        Do::Transactions(command) => {
            on_one_thread(commands::transactions::transactions(command, &resolved.settings))
        }
        Do::Config(command) => on_one_thread(commands::config::config(command, &resolved.settings)),
        Do::Tags(command) => on_one_thread(commands::tags::tags(command, &resolved.settings)),
        Do::Trace(command) => on_one_thread(commands::trace::trace(command, &resolved)),
        Do::Journal(command) => on_one_thread(commands::journal::journal(command, &resolved.settings)),
        Do::Firmware(command) => on_one_thread(commands::jobs::firmware(command, &resolved.settings)),
        Do::Logs(command) => on_one_thread(commands::jobs::logs(command, &resolved.settings)),
        Do::Reservations(command) => {
            on_one_thread(commands::reservations::reservations(command, &resolved.settings))
        }
        Do::Profiles(command) => on_one_thread(commands::profiles::profiles(command, &resolved.settings)),
        Do::Trigger(command) => on_one_thread(commands::trigger::trigger(command, &resolved.settings)),
        Do::Reports(command) => on_one_thread(commands::reports::reports(command, &resolved.settings)),
        Do::DeviceModel(command) => {
            on_one_thread(commands::reports::device_model(command, &resolved.settings))
        }
        Do::Events(command) => on_one_thread(commands::events::events(command, &resolved.settings)),
        Do::Alarms(command) => on_one_thread(commands::events::alarms(command, &resolved.settings)),
        Do::Salvage(command) => commands::salvage::salvage(&command, &resolved.settings),
        Do::Simulate(command) => commands::simulate::simulate(&command, &resolved.settings),
        Do::CheckConfig(command) => commands::check_config::check_config(&command, Ok(resolved)),
    }
}

/// The settings, if they can work in this role.
fn able(role: Role, resolved: Resolved) -> Result<settings::Settings, Failure> {
    let faults = resolved.settings.faults_of(role);
    if faults.is_empty() {
        return Ok(resolved.settings);
    }
    Err(Failure { exit: Exit::Configuration, error: Faults(faults).into() })
}

/// Reads file and environment and merges them with the flags.
fn load(config: Option<PathBuf>, flags: Flags) -> Result<Resolved, Failure> {
    let named = config.is_some();
    let path = config.unwrap_or_else(|| PathBuf::from(FILE_DEFAULT));
    let place = path.display().to_string();
    let wrong = |faults: Faults| Failure { exit: Exit::Configuration, error: faults.into() };
    let file = match std::fs::read_to_string(&path) {
        Ok(text) => Some((place, text)),
        Err(error) if error.kind() == ErrorKind::NotFound && !named => None,
        Err(error) => return Err(wrong(Faults(vec![Fault::new(place, format!("cannot be read: {error}"))]))),
    };
    let mut environment: Vec<(String, String)> = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .filter(|(name, _)| name.starts_with("SWITCHBOARD_"))
        .collect();
    environment.sort();
    resolve(&Sources { file, environment, flags }).map_err(wrong)
}

/// Runs a short command; one thread is enough for it.
fn on_one_thread(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

fn is_broken_pipe(failure: &Failure) -> bool {
    failure
        .error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == ErrorKind::BrokenPipe)
}
