//! What all processes of an installation have in common: the first to say it decides.

use super::fault::Fault;
use rusqlite::{Connection, params};

/// Records a value unless there is one; the one that holds.
pub(super) fn agree(connection: &Connection, name: &str, value: &str) -> Result<String, Fault> {
    connection
        .prepare_cached("INSERT INTO agreement (name, value) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
        .execute(params![name, value])?;
    Ok(connection
        .prepare_cached("SELECT value FROM agreement WHERE name = ?1")?
        .query_one(params![name], |row| row.get(0))?)
}
