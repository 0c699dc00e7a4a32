//! The log: installed once, here only.

mod limit;

pub(crate) use limit::Limit;

use crate::settings::{Fault, Faults, LogFormat, Settings};
use std::{io::IsTerminal, sync::Arc};
use tracing_subscriber::{EnvFilter, Layer, fmt, layer::SubscriberExt, registry, util::SubscriberInitExt};

/// Installs the log as the settings want it. It goes to standard error; standard output is for data. What says the same
/// again and again is counted instead of written: [`Limit::report`] tells how often.
///
/// # Errors
/// When the directives cannot be understood.
pub(crate) fn install(settings: &Settings) -> Result<Arc<Limit>, Faults> {
    let filter = EnvFilter::builder()
        .parse(&settings.log.0)
        .map_err(|error| Faults(vec![Fault::new("log", format!("{:?}: {error}", settings.log.0))]))?;
    let limit = Arc::new(Limit::default());
    // What cannot be written would else be told on standard error, which is what cannot be written; and that panics.
    let lines = fmt::layer().with_writer(std::io::stderr).log_internal_errors(false);
    let log = match settings.log_format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let log = log.with_filter(limit::Filtered(Arc::clone(&limit)));
    // Somebody installed one already: only in tests, which want theirs.
    drop(registry().with(filter).with(log).try_init());
    Ok(limit)
}
