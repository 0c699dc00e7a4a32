//! `switchboard check-config`.

use crate::{
    arguments::CheckConfig,
    exit::{Exit, Failure},
    output,
    settings::{Fault, Faults, Resolved, effective_json, effective_toml, reference},
};

/// Prints what is in effect, if it can work. That it got this far means that nothing is wrong with the settings one by
/// one.
pub(crate) fn check_config(command: &CheckConfig, resolved: &Resolved) -> Result<Exit, Failure> {
    let settings = &resolved.settings;
    let mut faults: Vec<Fault> = Vec::new();
    for role in command.role.as_ref().map_or_else(|| settings.roles(), std::slice::from_ref) {
        for fault in settings.faults_of(*role) {
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
    }
    if !faults.is_empty() {
        return Err(Failure { exit: Exit::Configuration, error: Faults(faults).into() });
    }
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
