//! `switchboard run`: everything in one process.

pub(crate) mod store;

use crate::{
    exit::{Exit, Failure},
    settings::Settings,
};

/// Runs until it is told to stop.
pub(crate) fn run(settings: Settings) -> Result<Exit, Failure> {
    crate::logging::install(&settings)
        .map_err(|faults| Failure { exit: Exit::Configuration, error: faults.into() })?;
    Ok(Exit::Done)
}
