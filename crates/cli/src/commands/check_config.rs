//! `switchboard check-config`.

use crate::{
    arguments::CheckConfig,
    exit::{Exit, Failure},
    output, run,
    settings::{Fault, Faults, Resolved, effective_json, effective_toml, reference},
};
use serde_json::json;

/// Prints what is in effect, if it can work.
pub(crate) fn check_config(
    command: &CheckConfig,
    resolved: Result<Resolved, Failure>,
) -> Result<Exit, Failure> {
    let checked = resolved.and_then(|resolved| check(command, &resolved).map(|()| resolved));
    if command.json
        && let Err(failure) = &checked
        && let Some(Faults(faults)) = failure.error.downcast_ref()
    {
        let faults: Vec<_> =
            faults.iter().map(|one| json!({ "place": one.place, "problem": one.problem })).collect();
        output::line(format!("{:#}", json!({ "faults": faults })))?;
        return Ok(failure.exit);
    }
    let resolved = checked?;
    if command.json {
        output::line(format!("{:#}", effective_json(&resolved)))?;
    } else {
        output::line(effective_toml(&resolved).trim_end())?;
    }
    Ok(Exit::Done)
}

/// Whether settings that are right one by one can work together.
fn check(command: &CheckConfig, resolved: &Resolved) -> Result<(), Failure> {
    let settings = &resolved.settings;
    let mut faults: Vec<Fault> = Vec::new();
    for role in command.role.as_ref().map_or_else(|| settings.roles(), std::slice::from_ref) {
        let known = settings.faults_of(*role);
        let mut drivers = run::rehearse(*role, settings)?;
        drivers.retain(|fault| known.iter().all(|one| one.place != fault.place));
        for fault in known.into_iter().chain(drivers) {
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    Err(Failure { exit: Exit::Configuration, error: Faults(faults).into() })
}

/// Prints the reference of all settings.
pub(crate) fn print_reference() -> Result<Exit, Failure> {
    output::line(reference().trim_end())?;
    Ok(Exit::Done)
}
