//! `switchboard check-config`.

use crate::{
    arguments::CheckConfig,
    exit::{Exit, Failure},
    output,
    settings::{Resolved, effective_json, effective_toml, reference},
};

/// Prints what is in effect. That it got this far means that nothing is wrong.
pub(crate) fn check_config(command: &CheckConfig, resolved: &Resolved) -> Result<Exit, Failure> {
    if command.json {
        output::line(format!("{:#}", effective_json(resolved)))?;
    } else {
        output::line(effective_toml(resolved).trim_end())?;
    }
    Ok(Exit::Done)
}

/// Prints the reference of all settings.
pub(crate) fn print_reference() -> Result<Exit, Failure> {
    output::line(reference().trim_end())?;
    Ok(Exit::Done)
}
