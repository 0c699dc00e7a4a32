//! `switchboard salvage`.

use crate::{
    arguments::Salvage,
    exit::{Exit, Failure},
    output,
    run::store,
    settings::Settings,
};
use serde_json::{Value, json};
use std::path::Path;
use switchboard_central::Central;
use switchboard_directory::{Embedded, embedded};
use switchboard_sqlite::Saved;

/// Saves what can be read of both databases; the second also where nothing can be saved of the first.
pub(crate) fn salvage(command: &Salvage, settings: &Settings) -> Result<Exit, Failure> {
    let folder = &settings.data_dir;
    if !folder.is_dir() {
        return Err(Failure::new(
            Exit::Data,
            format!("{} is no directory; name the right one with --data-dir", folder.display()),
        ));
    }
    let books = folder.join("central.db");
    let directory =
        Embedded::salvage(&embedded::Config::in_dir(folder)).map_err(|error| store::failure(folder, error));
    let central = Central::salvage(&books).map_err(store::books_failure);
    let mut list = Vec::new();
    let mut failure = None;
    for (name, saved) in [("directory.sqlite3", directory), ("central.db", central)] {
        match saved {
            Ok(saved) => {
                if !command.json {
                    tell(&folder.join(name), saved.as_ref())?;
                }
                list.push(view(name, saved.as_ref()));
            }
            Err(error) => {
                if failure.is_some() {
                    output::note(error.to_string())?;
                }
                failure.get_or_insert(error);
            }
        }
    }
    if command.json {
        output::line(format!("{:#}", json!({ "databases": list })))?;
    }
    failure.map_or(Ok(Exit::Done), Err)
}

fn view(name: &str, saved: Option<&Saved>) -> Value {
    let Some(saved) = saved else { return json!({ "file": name, "damaged": false }) };
    let tables: Vec<Value> = saved
        .tables
        .iter()
        .map(|table| json!({ "table": table.name, "rows": table.rows, "whole": table.whole }))
        .collect();
    json!({ "file": name, "damaged": true, "keptAs": saved.kept.display().to_string(), "tables": tables })
}

fn tell(path: &Path, saved: Option<&Saved>) -> std::io::Result<()> {
    let Some(saved) = saved else {
        return output::line(format!("{}: sound, or not there; left alone", path.display()));
    };
    output::line(format!("{}: was damaged", path.display()))?;
    let rows: Vec<Vec<String>> = saved
        .tables
        .iter()
        .map(|table| {
            let verdict = if table.whole { "all that was there" } else { "some could not be read" };
            vec![table.name.clone(), table.rows.to_string(), verdict.to_owned()]
        })
        .collect();
    output::line(output::table(&["TABLE", "ROWS SAVED", ""], &rows).trim_end())?;
    output::line(format!("the damaged file is kept as {}", saved.kept.display()))
}
