//! The log: installed once, here only.

use crate::settings::{Fault, Faults, LogFormat, Settings};
use std::io::IsTerminal;
use tracing_subscriber::{EnvFilter, fmt, util::SubscriberInitExt};

/// Installs the log as the settings want it. It goes to standard error; standard output is for data.
///
/// # Errors
/// When the directives cannot be understood.
pub(crate) fn install(settings: &Settings) -> Result<(), Faults> {
    let filter = EnvFilter::builder()
        .parse(&settings.log.0)
        .map_err(|error| Faults(vec![Fault::new("log", format!("{:?}: {error}", settings.log.0))]))?;
    let builder = fmt::Subscriber::builder().with_env_filter(filter).with_writer(std::io::stderr);
    // Somebody installed one already: only in tests, which want theirs.
    drop(match settings.log_format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    });
    Ok(())
}
